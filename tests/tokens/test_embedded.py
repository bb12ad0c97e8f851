from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from isoflop.errors import InputError, MissingExtraError, RunError
from isoflop.tokens import embedded, listening, speech, text, units
from isoflop.tokens.codecs.mfcc import MfccCodec
from isoflop.tokens.prose import Prose
from isoflop.tokens.shards import Corpus
from isoflop.tokens.speech import Voice
from isoflop.tokens.stream import split

VOICES = (Voice("en", 165), Voice("en-us+f3", 180))
WORDS = "the quick brown fox jumps over a lazy dog and then reads every number of this long list again".split()  # noqa: SIM905
PROSE = [
    Prose(f"tale {tale}", tuple(" ".join([*WORDS[k : k + 6], str(100 * tale + k)]) + "." for k in range(tale % 3 + 1)))
    for tale in range(50)
]
#: The same in a process of its own, to be killed there: a plain script, without a guard for being imported again.
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import test_embedded
test_embedded.make(test_embedded.Path(sys.argv[2]), workers=2)
"""


def make(directory: Path, workers: int, progress: embedded.Progress | None = None) -> Corpus:
    return embedded.make(
        directory, PROSE, fingerprint="tales", voices=VOICES, calibration=12, progress=progress, workers=workers
    )


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make(tmp_path_factory.mktemp("made") / "corpus", workers=1)


def test_every_sentence_is_spoken_once_and_its_text_kept(corpus: Corpus) -> None:
    corpus.verify()
    heard: list[str] = []
    for part in ("train", "validation"):
        for number in range(corpus.index["splits"][part]["documents"]):
            for utterance in split(corpus.document(part, number), corpus.layout):
                heard.append(text.decode(utterance.text))
                # 25 frames a second, and speech has between 8 and 25 characters a second.
                assert 1 < len(heard[-1]) / len(utterance.codes) * 25 / 8 < 25 / 8
    assert sorted(heard) == sorted(text.normalise(sentence) for prose in PROSE for sentence in prose.sentences)
    assert corpus.vocabulary == embedded.VOCABULARY == 247
    assert corpus.fingerprint == "tales"


def test_the_bytes_do_not_depend_on_the_number_of_workers(corpus: Corpus, tmp_path: Path) -> None:
    assert content(make(tmp_path / "again", workers=3).directory) == content(corpus.directory)


def test_progress_counts_every_sentence(corpus: Corpus, tmp_path: Path) -> None:
    told: list[tuple[float, float, str]] = []
    make(tmp_path / "corpus", 2, lambda *news: told.append(news))
    total = sum(len(prose.sentences) for prose in PROSE) + 24
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (total, total, "speaking")
    assert {total_told for _, total_told, _ in told} == {total}
    assert told[0][2] == "fitting the codec"


def test_killed_at_any_moment_it_leaves_no_half_corpus_and_no_process(corpus: Corpus, tmp_path: Path) -> None:
    for seconds in (0.0, 0.5):
        command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path / "corpus")]
        parent = subprocess.Popen(command)
        _wait(lambda: _processes(tmp_path) > 0)
        time.sleep(seconds)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        _wait(lambda: _processes(tmp_path) == 0)
        assert not (tmp_path / "corpus").exists()
    make(tmp_path / "corpus", workers=2)
    assert content(tmp_path / "corpus") == content(corpus.directory)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_an_interrupt_ends_its_processes_and_cleans_up(tmp_path: Path) -> None:
    def interrupt(done: float, total: float, message: str) -> None:
        if message == "speaking":
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "corpus", 2, interrupt)
    assert _processes(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - start < 60


def test_a_unit_that_dies_is_named(tmp_path: Path) -> None:
    nobody = (units.Script(Voice("xx-nobody", 160), ("Hello there.",)),)
    with pytest.raises(RunError, match=r"unit seven ended with status 1: .*one of espeak-ng's, but got 'xx-nobody'"):
        units.run([units.Unit("unit seven", nobody, tmp_path / "7.npz")], 1, lambda count: None)

    def kill(count: int) -> None:
        for process in _process_ids(tmp_path):
            os.kill(process, signal.SIGKILL)

    long = (units.Script(VOICES[0], ("This takes a while.",) * 2000),)
    with pytest.raises(RunError, match="unit eight ended with signal 9: without a word"):
        units.run([units.Unit("unit eight", long, tmp_path / "8.npz")], 1, kill)


def test_a_unit_survives_json(tmp_path: Path) -> None:
    script = units.Script(VOICES[0], ("One.", "„Zwei“"))
    for codec in (None, tmp_path / "codec.npz"):
        unit = units.Unit("name", (script,), tmp_path / "out.npz", codec)
        assert units.Unit.from_json(unit.to_json()) == unit


def test_the_codec_keeps_held_out_speech_recognisable(corpus: Corpus) -> None:
    codec = MfccCodec.load(corpus.directory)
    heard = listening.listen(corpus, "validation", 0)
    wave, rate = heard.wave, heard.rate
    documents = split(corpus.document("validation", 0), corpus.layout)
    frames = sum(len(utterance.codes) for utterance in documents)
    pauses = len(documents) * round(listening.PAUSE_SECONDS * rate)
    assert (rate, len(wave)) == (22_050, frames * 882 + pauses)
    first = documents[0].codes
    (again,) = codec.encode([wave[: len(first) * 882]], rate)
    assert (again == first)[:, 1].mean() > 0.9


def test_a_wav_is_written_whole(corpus: Corpus, tmp_path: Path) -> None:
    heard = listening.listen(corpus, "train", 0)
    wave, rate = heard.wave, heard.rate
    listening.write_wav(tmp_path / "document.wav", wave, rate)
    back, back_rate = soundfile.read(tmp_path / "document.wav", dtype="float32")
    assert back_rate == rate
    np.testing.assert_allclose(back, wave, atol=1 / 32_000)
    assert [path.name for path in tmp_path.iterdir()] == ["document.wav"]


def test_the_fingerprint_is_quick_stable_and_follows_what_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    first = embedded.fingerprint()
    start = time.process_time()
    assert embedded.fingerprint() == first
    assert time.process_time() - start < 0.3
    assert first.startswith("embedded-")
    found = {first}
    for name, value in [
        ("source_digest", lambda: "other"),
        ("LIBRARY_VERSION", "9.9"),
        ("VOICES", VOICES),
        ("RECIPE", embedded.RECIPE + 1),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(embedded, name, value)
            found.add(embedded.fingerprint())
    assert len(found) == 5
    assert embedded.fingerprint() == first


def test_without_the_voice_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(speech, "_PACKAGE", "espeakng-loader-that-is-not-there")
    with pytest.raises(MissingExtraError, match=r"is not installed: pip install 'isoflop\[demo\]'"):
        embedded.build(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_workers_must_be_positive_and_the_place_free(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="workers >= 1 must hold, but got 0"):
        make(tmp_path / "corpus", workers=0)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "mine").write_text("")
    with pytest.raises(InputError, match="exists; give another"):
        make(tmp_path / "corpus", workers=1)


def _process_ids(place: Path) -> list[int]:
    """Processes whose command line names a unit in `place`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"isoflop.tokens.units" in command and str(place).encode() in command:
            found.append(int(entry.name))
    return found


def _processes(place: Path) -> int:
    return len(_process_ids(place))


def _wait(condition: object, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)
