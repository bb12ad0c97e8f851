"""`corpus info` and `corpus listen`."""

from __future__ import annotations

import json

import numpy as np
import soundfile


def test_info_counts_tokens_by_type(isoflop, small_corpus):
    code, out, _ = isoflop("corpus", "info", small_corpus, "--json")
    assert code == 0
    facts = json.loads(out)
    train = facts["splits"]["train"]
    assert facts["unique_tokens"] == train["tokens"] == sum(train["tokens_by_type"].values())
    assert facts["vocabulary"] == 40
    code, out, _ = isoflop("corpus", "info", small_corpus)
    assert "small-corpus, vocabulary of 40" in out


def test_a_corpus_without_its_codec_cannot_be_heard(isoflop, small_corpus, tmp_path):
    code, _, err = isoflop("corpus", "listen", small_corpus, 0, "--out", tmp_path / "0.wav")
    assert code == 2
    assert "a saved codec must be a folder that holds" in err
    assert not (tmp_path / "0.wav").exists()


def test_what_is_no_corpus_is_named(isoflop, tmp_path):
    code, _, err = isoflop("corpus", "info", tmp_path)
    assert code == 2
    assert "must be a folder that holds index.json" in err


def test_a_transcript_cannot_steer_the_terminal(isoflop, tmp_path):
    texts = tmp_path / "texts.jsonl"
    evil = "clear \x1b[2J the \x9b screen é"
    texts.write_text("\n".join(json.dumps({"id": f"a{n}", "text": f"{evil} {n}"}) for n in range(8)))
    call = ["tokenize", texts, "--text", "bytes", "--composition", "semantic+acoustic+text", "--holdout", 0.5]
    sound = tmp_path / "sound"
    sound.mkdir()
    soundfile.write(sound / "b.wav", 0.1 * np.random.default_rng(0).standard_normal(32_000), 16_000)
    (sound / "b.txt").write_text(evil)
    small = [f"--codec-set={name}=8" for name in ("semantic_entries", "acoustic_entries")]
    assert isoflop(*call, sound, *small, "--out", tmp_path / "corpus")[0] == 0
    code, out, _ = isoflop("corpus", "info", tmp_path / "corpus")
    assert code == 0
    assert r"clear \x1b[2J the \x9b screen é" in out
    assert not any(sign in out for sign in "\x1b\x9b")
    assert isoflop("corpus", "info", tmp_path / "corpus", "--json")[1].isascii()
