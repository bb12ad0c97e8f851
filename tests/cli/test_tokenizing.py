"""`tokenize`: what is said of bad input, and that the rest is finished."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

RATE = 16_000
SMALL = ["--codec-set", "semantic_entries=8", "--codec-set", "acoustic_entries=8", "--holdout", "0.3", "--workers", "1"]


@pytest.fixture
def folder(tmp_path):
    """A manifest of twelve good clips and of everything that can be wrong with one."""
    place = tmp_path / "sounds"
    place.mkdir()
    generator = np.random.default_rng(0)

    def noise(seconds, channels=1):
        shape = (round(seconds * RATE), channels)
        return generator.uniform(-0.5, 0.5, shape) * np.linspace(0.1, 1, shape[0])[:, None]

    rows = [(f"good-{n}.wav", "fine") for n in range(12)]
    for name, _ in rows:
        soundfile.write(place / name, noise(0.7), RATE)
    (place / "empty.wav").write_bytes(b"")
    soundfile.write(place / "cut.wav", noise(1.0), RATE)
    (place / "cut.wav").write_bytes((place / "cut.wav").read_bytes()[:9000])
    soundfile.write(place / "wrong.mp3", noise(0.5), RATE, format="FLAC")  # not what it says, and read all the same
    (place / "words.wav").write_text("these are words")
    soundfile.write(place / "eight.wav", noise(0.5, 8), RATE)
    samples = noise(0.5)
    samples[100] = np.nan
    soundfile.write(place / "nan.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(place / "hour.flac", np.zeros(3600 * 8000, dtype=np.int16), 8000)
    soundfile.write(place / "mute.wav", noise(0.5), RATE)
    soundfile.write(place.parent / "outside.wav", noise(0.5), RATE)
    names = ("empty.wav", "cut.wav", "wrong.mp3", "words.wav", "eight.wav", "nan.wav", "hour.flac")
    rows += [(name, "fine") for name in names]
    rows += [("mute.wav", ""), ("../outside.wav", "fine"), ("good-1.wav", "again"), ("gone.wav", "fine")]
    lines = ["path,text", *(f"{name},{text}" for name, text in rows)]
    (place / "all.csv").write_bytes("\n".join(lines).encode() + b"\ngood-2.wav,\xff\xfe\n")
    return place


def test_each_bad_clip_is_named_and_the_rest_finishes(isoflop, folder, tmp_path):
    code, out, err = isoflop("tokenize", folder / "all.csv", "--out", tmp_path / "corpus", *SMALL, "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["tokenized"] == 13
    reasons = {failure["id"]: failure["reason"] for failure in facts["failed"]}
    for name, words in {
        "empty": "is empty",
        "cut": "cut short",
        "words": "known format",
        "eight": "but has 8",
        "nan": "finite",
        "hour": "lasts 3600.0 s",
        "mute": "text must be given",
        "good-1": "distinct",
    }.items():
        assert words in reasons[name]
    for words in ("must lie in", "must be a file", "UTF-8"):  # of such a row, its line is all that is known
        assert any(words in reason for name, reason in reasons.items() if name.startswith("all.csv:")), reasons
    assert len(facts["failed"]) == 11
    assert err.count("failed: ") == 11
    assert facts["tokens"]["text"] == 13 * len("fine")
    assert facts["tokens"]["semantic"] == facts["tokens"]["acoustic_2"] > 13 * 0.4 * 25
    code, out, _ = isoflop("tokenize", folder / "all.csv", "--out", tmp_path / "corpus", *SMALL)
    assert code == 0
    assert "13 clips, 0.00 hours" in out
    assert "11 clips could not be used" in out


def test_strict_stops_and_says_why(isoflop, folder, tmp_path):
    code, _, err = isoflop("tokenize", folder / "all.csv", "--out", tmp_path / "corpus", *SMALL, "--strict")
    assert code == 1
    assert "cannot be used: " in err
    assert not (tmp_path / "corpus" / "index.json").exists()


def test_a_corpus_that_was_made_is_described_and_heard(isoflop, folder, tmp_path):
    (folder / "prose.txt").write_text("\n\n".join(f"Paragraph {number}." for number in range(12)))
    sources = [f"noise={folder / 'all.csv'}", f"prose={folder / 'prose.txt'}"]
    assert isoflop("tokenize", *sources, "--out", "corpus", *SMALL, "--text", "bytes")[0] == 0
    code, out, _ = isoflop("corpus", "info", "corpus")
    assert code == 0
    assert "noise: " in out
    assert "prose: " in out
    assert "acoustic of 2 codebooks" in out
    assert "1 more; --json names them all" in out
    facts = json.loads(isoflop("corpus", "info", "corpus", "--json")[1])
    assert set(facts["sources"]) == {"noise", "prose"}
    assert facts["codec"]["name"] == "mfcc"
    assert all(
        text in ("fine", *(f"Paragraph {n}." for n in range(12))) for e in facts["examples"] for text in e["text"]
    )
    code, out, _ = isoflop("corpus", "listen", "corpus", "good-7", "--out", "7.wav", "--json")
    assert code == 0
    assert json.loads(out)["text"] == ["fine"]
    assert soundfile.info("7.wav").duration == pytest.approx(0.7 + 0.25, abs=0.05)
    code, _, err = isoflop("corpus", "listen", "corpus", "good-99")
    assert code == 2
    assert "a document must be the id of one in corpus, or a number under" in err


def test_stopped_by_hand_it_says_how_to_go_on(isoflop, folder, tmp_path, monkeypatch):
    from isoflop.tokens import processes

    def interrupted(tasks, workers, told):
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "run", interrupted)
    code, _, err = isoflop("tokenize", folder / "all.csv", "--out", tmp_path / "corpus", *SMALL)
    assert (code, err) == (130, "stopped; call it again to carry on\n")
    assert [path.name for path in tmp_path.iterdir() if "corpus" in path.name] == []


def test_wrong_calls_are_refused(isoflop, folder, tmp_path):
    for arguments, message in [
        (["--codec-set", "entries"], "--codec-set must be KEY=VALUE, but got 'entries'"),
        (["--codec-set", "a=[1"], "a value that is YAML"),
        (["--codec-set", "a=2024-01-01"], "text or a number as its value"),
        (["--codec-set", "entries=3"], "options of mfcc must be among"),
        (["--codec", "opus"], "a codec must be one of mfcc, mimi"),
        (["--codec", "mimi", "--codec-set", f"weights={tmp_path}"], str(tmp_path)),
        (["--text", "words"], "a tokeniser must be one of"),
        (["--composition", "music"], "the composition must be one of"),
        (["--holdout", "1"], "0 < holdout < 1"),
    ]:
        code, _, err = isoflop(
            "tokenize", folder / "all.csv", "--out", tmp_path / "corpus", "--workers", "1", *arguments
        )
        assert (code, message in err) == (2, True), err
        assert not (tmp_path / "corpus").exists()


def test_where_there_is_no_cluster_nothing_is_begun_for_one(isoflop, folder, tmp_path, monkeypatch):
    (tmp_path / "cluster.yaml").write_text("launcher: slurm\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    call = ["tokenize", folder / "all.csv", "--out", tmp_path / "corpus", "--launcher", tmp_path / "cluster.yaml"]
    code, _, err = isoflop(*call)
    assert code == 2
    assert "SLURM's commands must be on the PATH, but sbatch is not found" in err
    assert not (tmp_path / "corpus").exists()
