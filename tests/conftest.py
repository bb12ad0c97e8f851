"""A small corpus and a study of seconds on it, for the tests that run whole studies; and real speech."""

from __future__ import annotations

import csv
import gzip
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from isoflop.study import Study
from isoflop.tokens.shards import Document, publishing, write_corpus
from isoflop.tokens.stream import Layout, Utterance


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have torch keep what it compiles, here and in the processes that tests start, as long as the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some ten thousand tokens whose codes follow from their text, with noise."""
    generator = np.random.default_rng(0)
    documents = []
    for number in range(120):
        text = generator.integers(0, 10, 12)
        codes = (np.repeat(text, 2)[:, None] + np.arange(3) + generator.integers(0, 2, (24, 3))) % 8
        documents.append(Document(f"document-{number}", (Utterance(text, codes),), 1.0))
    layout = Layout(text_entries=10, codebook_sizes=(8, 8, 8), semantic=0)
    directory = tmp_path_factory.mktemp("tokens") / "corpus"
    with publishing(directory) as place:
        write_corpus(place, documents, layout, fingerprint="small-corpus", frame_rate=25.0, holdout=0.2)
    return directory


@pytest.fixture(scope="session")
def mixed_corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Speech beside text alone, tokenised twice: with two codebooks of sound, and with one of them at half the rate."""
    generator = np.random.default_rng(1)
    talks = [generator.integers(0, 10, 12) for _ in range(120)]
    noise = generator.integers(0, 2, (120, 24, 2))
    folder = tmp_path_factory.mktemp("tokens")
    found = []
    for name, books, every in (("two", 2, 1), ("one", 1, 2)):
        documents = []
        for number, text in enumerate(talks):
            codes = ((np.repeat(text, 2)[:, None] + np.arange(2) + noise[number]) % 8)[::every, :books]
            documents.append(Document(f"talk-{number}", (Utterance(text, codes),), 1.0, "speech"))
            documents.append(
                Document(f"prose-{number}", (Utterance((text[0] + np.arange(40)) % 10, None),), 0.0, "text")
            )
        layout = Layout(text_entries=10, codebook_sizes=(8,) * books, semantic=0)
        with publishing(folder / name) as place:
            write_corpus(place, documents, layout, fingerprint=f"mixed-{name}", frame_rate=24.0 / every, holdout=0.25)
        found.append(folder / name)
    return found[0], found[1]


@pytest.fixture(scope="session")
def small_content(small_corpus: Path) -> dict[str, object]:
    """A study file of fifteen runs of a fraction of a second, as plain values."""
    return {
        "name": "small",
        "data": {"corpus": str(small_corpus)},
        "model": {"sequence_length": 16},
        "recipe": {"base": "tiny", "tokens_per_step": 32, "warmup_steps": 4},
        "grid": {"budgets": [2e8, 4e8, 8e8], "sizes": [8, 12, 16, 24, 32], "tolerance": 0.05},
        "training": {"validation_tokens": 640},
        "limits": {"epochs": 10},
    }


@pytest.fixture
def small_study(small_content: dict[str, object]) -> Callable[..., Study]:
    """Make that study; keywords replace sections."""
    return lambda **sections: Study.parse({**small_content, **sections})


@dataclass(frozen=True)
class Prompts:
    """Real speech in five languages with its transcripts: a manifest, and the folder that its paths start from."""

    manifest: Path
    root: Path
    languages: tuple[str, ...]


#: Debian's asterisk-core-sounds-*: the voice of each language (`make prompts` installs them).
VOICES = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
SOUNDS = Path("/usr/share/asterisk/sounds")
#: G.722 has 8,000 bytes a second: prompts of 1.5 to 6 seconds.
SIZES = range(12_000, 48_000)


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Prompts:
    """All prompts with a transcript, of a few seconds each; skips where they are not installed, but not in CI."""
    if not all((SOUNDS / voice).is_dir() for voice in VOICES.values()):
        words = "real speech must be installed: make prompts (Debian's asterisk-core-sounds)"
        assert "CI" not in os.environ, words
        pytest.skip(words)
    manifest = tmp_path_factory.mktemp("prompts") / "prompts.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "path", "text", "speaker", "language"])
        for language, voice in VOICES.items():
            script = Path(f"/usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz")
            lines = gzip.decompress(script.read_bytes()).decode("utf-8-sig").splitlines()
            for name, text in re.findall(r"^([\w/-]+): *([^\[\n]+)$", "\n".join(lines), re.MULTILINE):
                sound = SOUNDS / voice / f"{name}.g722"
                if sound.is_file() and sound.stat().st_size in SIZES:
                    table.writerow([f"{language}/{name}", sound.relative_to(SOUNDS), text.strip(), voice, language])
    return Prompts(manifest, SOUNDS, tuple(VOICES))
