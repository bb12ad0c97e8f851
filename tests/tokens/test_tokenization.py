from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from isoflop import workflow
from isoflop.errors import InputError, RunError
from isoflop.study import Study
from isoflop.tokens import listening
from isoflop.tokens.clips import Clip, Rejected
from isoflop.tokens.codecs import open_codec
from isoflop.tokens.encoding import encode
from isoflop.tokens.job import Job, Options, work
from isoflop.tokens.publishing import claimed
from isoflop.tokens.shard_files import orders_of
from isoflop.tokens.shards import UNFINISHED, Corpus
from isoflop.tokens.sources import read
from isoflop.tokens.stream import split
from isoflop.tokens.tokenization import begin, tokenize
from isoflop.tokens.tokenizers import open_tokenizer

RATE = 16_000
SMALL = {"semantic_entries": 8, "acoustic_entries": 8, "acoustic_codebooks": 2}
OPTIONS = Options(codec_options=SMALL, clips_per_shard=6, holdout=0.25, calibration_seconds=10.0)
#: A shard for every recording.
MANY = replace(OPTIONS, clips_per_shard=1)
#: The same in a process of its own, to be killed there.
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import test_tokenization
test_tokenization.made(*map(test_tokenization.Path, sys.argv[2:]), options=test_tokenization.MANY)
"""


def sing(seed: int, seconds: float) -> np.ndarray:
    """A tone that glides, over noise: every frame is another."""
    generator = np.random.default_rng(seed)
    time_ = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (200 + 150 * seed % 1700 + 300 * time_) * time_)
    return (0.3 * tone + 0.05 * generator.standard_normal(len(time_))).astype(np.float32)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty songs with what is sung, one of three utterances, and one that is broken."""
    folder = tmp_path_factory.mktemp("songs")
    rows = ["path,text,id,start,end"]
    for number in range(30):
        soundfile.write(folder / f"{number}.wav", sing(number, 0.3 + 0.02 * number), RATE)
        rows.append(f"{number}.wav,song number {number},song {number},,")
    soundfile.write(folder / "long.wav", sing(77, 3.0), RATE)
    rows += [f"long.wav,verse {verse},verse {verse},{verse},{verse + 1}" for verse in range(3)]
    (folder / "broken.wav").write_bytes(b"RIFF")
    rows.append("broken.wav,nothing,broken,,")
    (folder / "songs.csv").write_text("\n".join(rows))
    (folder / "prose.txt").write_text("\n\n".join(f"Paragraph {number}, and no sound." for number in range(20)))
    return folder


def clips(folder: Path) -> tuple[list[Clip], list[Rejected]]:
    found = [read(folder / name) for name in ("songs.csv", "prose.txt")]
    return [clip for part, _ in found for clip in part], [lost for _, part in found for lost in part]


def made(folder: Path, directory: Path, workers: int = 2, options: Options = OPTIONS) -> Corpus:
    outcome = tokenize(*clips(folder), directory, options, workers=workers)
    assert outcome.corpus is not None
    return outcome.corpus


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return made(recorded, tmp_path_factory.mktemp("made") / "corpus")


def test_every_clip_is_in_the_corpus_as_the_codec_hears_it(corpus: Corpus, recorded: Path) -> None:
    corpus.verify()
    codec, tokenizer = open_codec(corpus.directory), open_tokenizer(corpus.directory)
    heard = {clip.id: clip for clip in clips(recorded)[0]}
    expected = {
        encoded.clip.id: encoded.codes
        for encoded in encode([clip for clip in heard.values() if clip.path], codec)
        if not isinstance(encoded, Rejected)
    }
    found: set[str] = set()
    for part in ("train", "validation"):
        for name, ids in corpus.documents(part):
            utterances = split(ids, corpus.layout)
            names = [f"verse {verse}" for verse in range(3)] if name == "verse 0" else [name]
            found |= set(names)
            for each, utterance in zip(names, utterances, strict=True):
                assert utterance.text is not None
                assert tokenizer.decode(utterance.text) == (heard[each].text or "").lower()
                assert (utterance.codes is None) == (heard[each].path is None)
                if utterance.codes is not None:
                    np.testing.assert_array_equal(utterance.codes, expected[each])
    assert found == set(heard) - {"broken"}


def test_the_index_counts_by_source_and_names_what_failed(corpus: Corpus) -> None:
    assert set(corpus.sources) == {"songs", "prose"}
    assert corpus.passes == 2
    (failure,) = corpus.index["failed"]
    assert failure["id"] == "broken"
    assert "broken.wav" in failure["reason"]
    songs = [counts["utterances"] for counts in corpus.sources["songs"].values()]
    assert (sum(songs), min(songs) > 0) == (33, True)
    seconds = sum(counts["seconds"] for counts in corpus.sources["songs"].values())
    assert seconds == pytest.approx(3 + sum(0.3 + 0.02 * number for number in range(30)), abs=0.01)
    assert sum(counts["tokens_by_type"]["semantic"] for counts in corpus.sources["prose"].values()) == 0
    assert len({shard["name"] for shard in corpus.index["shards"]}) == 10
    assert {path.name for path in corpus.directory.iterdir()} == {"codec.npz", "text.json", "index.json", "shards"}


def test_the_outcome_says_it_in_json(corpus: Corpus, recorded: Path) -> None:
    again = tokenize(*clips(recorded), corpus.directory, OPTIONS).to_json()
    assert again["tokenized"] == 53
    assert [failure["id"] for failure in again["failed"]] == ["broken"]
    assert sum(again["tokens"].values()) == corpus.unique_tokens + corpus.held_out_tokens
    assert again["seconds"] == pytest.approx(20.7, abs=0.1)
    assert again["times_real_time"] is None  # it was there


@pytest.mark.slow
def test_killed_ten_times_at_random_it_carries_on_to_the_same_bytes(recorded: Path, tmp_path: Path) -> None:
    place, here = tmp_path / "corpus", str(Path(__file__).parent)
    command = [sys.executable, "-c", SCRIPT, here, str(recorded), str(place)]
    generator = np.random.default_rng(int(os.environ.get("ISOFLOP_TEST_SEED", "0")))
    made_by_then = []
    for kill in range(10):
        process = subprocess.Popen(command)
        # The first three wherever it is after some seconds, which may be in the fitting; the others among the shards.
        end = time.monotonic() + (generator.uniform(0.3, 3.0) if kill < 3 else 60.0)
        enough = len(list(place.glob("shards/*.json"))) + int(generator.integers(1, 4))
        while time.monotonic() < end and len(list(place.glob("shards/*.json"))) < enough:
            time.sleep(generator.uniform(0.0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.wait()
        made_by_then.append(len(list(place.glob("shards/*.json"))))
    assert not Corpus.stands(place)
    assert 0 < made_by_then[-1] < 51
    interrupted = made(recorded, place, options=MANY)
    assert content(interrupted.directory) == content(made(recorded, tmp_path / "whole", options=MANY).directory)
    assert len(interrupted.index["shards"]) == 52


def test_the_bytes_do_not_depend_on_the_number_of_workers(corpus: Corpus, recorded: Path, tmp_path: Path) -> None:
    assert content(made(recorded, tmp_path / "corpus", workers=1).directory) == content(corpus.directory)


def test_a_shard_is_a_function_of_the_job_and_its_name(
    corpus: Corpus, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a launcher needs: begin, any shards in any order by anybody, and the last one writes the index."""
    place = tmp_path / "corpus"
    options = OPTIONS
    stopped = RuntimeError("begun")

    def stop(done: float, total: float, message: str) -> None:
        if message == "tokenising":
            raise stopped

    with pytest.raises(RuntimeError, match="begun"):
        tokenize(*clips(recorded), place, options, workers=1, progress=stop)
    job = Job.open(place)
    codec, tokenizer = open_codec(place), open_tokenizer(place)
    for name in job.shards[::-1]:
        assert name in job.missing()
        job.make(name, codec, tokenizer)
    assert job.missing() == []
    with pytest.raises(InputError, match="must be finished to be read"):
        Corpus.open(place)
    finish, finished = Job.finish, []

    def slow(each: Job) -> Corpus:
        finished.append(each)
        time.sleep(0.2)
        return finish(each)

    monkeypatch.setattr(Job, "finish", slow)
    with ThreadPoolExecutor(2) as workers:
        list(workers.map(work, [place, place]))
    assert len(finished) == 1  # the other waited for it
    assert content(place) == content(corpus.directory)
    work(place)  # and that is all


def test_other_arguments_are_refused_and_nothing_is_touched(corpus: Corpus, recorded: Path, tmp_path: Path) -> None:
    before = content(corpus.directory)
    other = Options(codec_options=SMALL, clips_per_shard=7, holdout=0.25)
    with pytest.raises(InputError, match="begun with the same sources and options"):
        tokenize(*clips(recorded), corpus.directory, other)
    assert content(corpus.directory) == before
    (tmp_path / "mine").write_text("")
    with pytest.raises(InputError, match="made where nothing is"):
        tokenize(*clips(recorded), tmp_path, OPTIONS)
    with pytest.raises(InputError, match="workers >= 1"):
        tokenize(*clips(recorded), tmp_path / "corpus", OPTIONS, workers=0)


def test_strict_stops_at_the_first_failure_and_names_it(recorded: Path, tmp_path: Path) -> None:
    options = Options(codec_options=SMALL, calibration_seconds=5.0, holdout=0.25, strict=True)
    with pytest.raises(RunError, match=r"^broken cannot be used: .*broken\.wav"):
        tokenize(*clips(recorded), tmp_path / "corpus", options, workers=1)
    assert not Corpus.stands(tmp_path / "corpus")
    with pytest.raises(RunError, match=r"^x cannot be used: y$"):
        tokenize([], [Rejected("x", "y")], tmp_path / "other", options)


def test_where_no_clip_can_be_used_that_is_the_answer(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    text_only = Options(text="bytes", codec="mfcc", composition="semantic+acoustic")
    with pytest.raises(RunError, match="none of 1 can be used; a: a stream without text must be made of sound"):
        tokenize([Clip("a", text="x", source="s")], [], tmp_path / "one", text_only)
    assert not (tmp_path / "one").exists()
    with pytest.raises(InputError, match=r"a codec must be fitted to .* \(of 0 clips, 0\.0 s; a: broken\.wav"):
        tokenize([Clip("a", tmp_path / "broken.wav", "x", source="s")], [], tmp_path / "two", Options())
    assert not (tmp_path / "two").exists()


def test_a_disk_that_fills_is_named_and_what_is_done_stays(corpus: Corpus, tmp_path: Path) -> None:
    prose = tmp_path / "prose.txt"
    # Two passes: the tokens are larger than anything that is written before.
    prose.write_text("\n\n".join("All work and no play. " * 500 for _ in range(20)))
    options = {"text": "characters", "codec_options": {"folder": str(corpus.directory)}, "clips_per_shard": 20}
    command = (
        "import resource, sys; from pathlib import Path; from isoflop.tokens.sources import read\n"
        "from isoflop.tokens.job import Options; from isoflop.tokens.tokenization import tokenize\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (350_000, resource.RLIM_INFINITY))\n"
        f"tokenize(*read(Path({str(prose)!r})), Path(sys.argv[1]), Options(**{options!r}), workers=1)"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    full = subprocess.run(
        [sys.executable, "-c", command, str(tmp_path / "full")], capture_output=True, text=True, check=False
    )
    assert full.returncode == 1
    assert "RunError: shard 0000" in full.stderr
    assert "could not be written: File too large; make room and run again, what is done stays" in full.stderr
    assert list((tmp_path / "full").rglob("shards/.*")) == []
    assert Job.begun(tmp_path / "full")
    again = tokenize(*read(prose), tmp_path / "full", Options(**options), workers=1)  # type: ignore[arg-type]
    whole = tokenize(*read(prose), tmp_path / "whole", Options(**options), workers=1)  # type: ignore[arg-type]
    assert again.corpus is not None
    assert whole.corpus is not None
    assert again.corpus.digest == whole.corpus.digest


@pytest.mark.parametrize("files", [0, 1, 3])
def test_a_job_killed_while_it_is_removed_is_ended_by_the_next_worker(
    corpus: Corpus, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    options = Options(codec_options={"folder": str(corpus.directory)}, clips_per_shard=3)
    place = tmp_path / "corpus"
    begin(read(recorded / "songs.csv")[0], [], place, options)
    removed: list[Path] = []
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == UNFINISHED:
            if len(removed) == files:
                raise KeyboardInterrupt
            removed.append(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        work(place)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert Corpus.stands(place)
    digest = Corpus.open(place).digest
    # A worker that still goes through the shards finds what is left of the job, and adds nothing to it.
    with claimed(place / UNFINISHED / "00000.json") as mine:
        assert mine == (place / UNFINISHED / "00000.json").is_file()
    work(place)
    assert not (place / UNFINISHED).exists()
    assert Corpus.open(place).digest == digest


def test_a_document_can_be_heard(corpus: Corpus) -> None:
    part, number = corpus.named("verse 0")
    heard = listening.listen(corpus, part, number)
    pauses = 3 * round(listening.PAUSE_SECONDS * heard.rate)
    assert heard.rate == RATE
    assert len(heard.wave) - pauses == pytest.approx(3 * RATE, abs=3 * RATE / 25)
    assert heard.text == ("verse 0", "verse 1", "verse 2")
    part, number = corpus.named("prose.txt:3")
    with pytest.raises(InputError, match="must hold sound to be heard"):
        listening.listen(corpus, part, number)


@pytest.mark.parametrize(
    ("composition", "order"),
    [("semantic", "both"), ("semantic+acoustic", "both"), ("semantic+acoustic+text", "text_first")],
)
def test_compositions_and_orders(corpus: Corpus, recorded: Path, tmp_path: Path, composition: str, order: str) -> None:
    folder = {"folder": str(corpus.directory)}
    options = Options(codec_options=folder, composition=composition, order=order, holdout=0.25)
    found, _ = read(recorded / "songs.csv")
    outcome = tokenize(found, [], tmp_path / "corpus", options, workers=1)
    assert outcome.corpus is not None
    made_of = outcome.corpus
    assert made_of.passes == 1
    kept = 1 if composition == "semantic" else 3
    assert made_of.layout.codebook_sizes == (8,) * kept
    for name, ids in made_of.documents("train"):
        spoken = name, corpus.document(*corpus.named(name))
        for utterance, whole in zip(split(ids, made_of.layout), split(spoken[1], corpus.layout), strict=True):
            assert utterance.codes is not None
            assert whole.codes is not None
            np.testing.assert_array_equal(utterance.codes, whole.codes[:, :kept])
            assert (utterance.text is None) == (composition != "semantic+acoustic+text")
        if order == "text_first":
            assert ids[1] == made_of.layout.controls["text_start"]
    assert orders_of("anything", ("audio_first",)) == ("audio_first",)
    assert not (made_of.directory / UNFINISHED).exists()


@pytest.mark.slow
def test_mimi_gives_the_ids_of_soda(recorded: Path, mimi_folder: Path, tmp_path: Path) -> None:
    """Mimi's real class, 8 codebooks of 2,048, beside a text vocabulary of Llama-3's size and marks."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {"song": 0, "end": 128_255}  # ids of Llama-3's range, not its many words
    tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="song")).save(str(tmp_path / "tokenizer.json"))
    options = Options(
        codec="mimi",
        codec_options={"weights": str(mimi_folder), "device": "cpu"},
        text="bpe",
        text_file=str(tmp_path / "tokenizer.json"),
        bos=128_000,
        eos=128_001,
        holdout=0.25,
    )
    found = read(recorded / "songs.csv")[0][:8]
    corpus = tokenize(found, [], tmp_path / "corpus", options, workers=1).corpus
    assert corpus is not None
    assert corpus.vocabulary == 144_644
    assert corpus.layout.controls == {
        "bos": 128_000, "eos": 128_001, "text_start": 128_256, "text_end": 128_257, "audio_start": 128_258,
        "audio_end": 128_259,
    }  # fmt: skip
    seconds = {clip.id: 0.3 + 0.02 * number for number, clip in enumerate(found)}
    for part in ("train", "validation"):
        for name, ids in corpus.documents(part):
            audio = ids[ids >= 128_260]
            assert len(audio) == 8 * np.ceil(seconds[name] * 12.5)
            # Frame by frame, codebook 0 first.
            assert ((audio - 128_260) // 2048).tolist() == list(range(8)) * (len(audio) // 8)
            assert len(ids) == len(audio) + 1 + 6
    assert corpus.index["frame_rate"] == 12.5


def test_the_speech_grid_plans_on_real_prompts_in_five_languages(prompts: Any, tmp_path: Path) -> None:
    found, lost = read(prompts.manifest, root=prompts.root)
    assert lost == []
    by_language = {language: [clip for clip in found if clip.language == language] for language in prompts.languages}
    some = [replace(clip, source=language) for language, clips_ in by_language.items() for clip in clips_[:30]]
    options = Options(
        # What the grid's description says: 512 semantic units, 2 acoustic codebooks of 256.
        codec_options={"semantic_entries": 512, "acoustic_entries": 256, "acoustic_codebooks": 2},
        calibration_seconds=120.0,
        holdout=0.3,
    )
    corpus = tokenize(some, lost, tmp_path / "corpus", options).corpus
    assert corpus is not None
    assert corpus.index["failed"] == []
    assert set(corpus.sources) == {"en", "es", "fr", "it", "ru"}
    assert corpus.index["splits"]["train"]["utterances"] + corpus.index["splits"]["validation"]["utterances"] == 150
    alphabet = open_tokenizer(corpus.directory).entries
    assert corpus.vocabulary == alphabet + 6 + 512 + 2 * 256
    overrides = [
        f"data={{corpus: {corpus.directory}, weights: {{en: 2, es: 1, fr: 1, it: 1, ru: 1}}}}",
        "limits.beyond_epochs=flag",
        "training.validation_tokens=2048",
    ]
    planned = workflow.plan(Study.load(Path(__file__).parents[2] / "grids" / "speech.yaml", overrides))
    assert len(planned.runs) == 35
    assert dict(planned.runs[0].mixture)["en"] == pytest.approx(1 / 3)
    assert planned.runs[0].shape.vocabulary == corpus.vocabulary
    # Minutes of speech are not the thousands of hours that it wants, and it says so.
    assert "35 runs make more than 4 epochs" in " ".join(planned.notes())
