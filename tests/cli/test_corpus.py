"""`corpus info` and `corpus listen`."""

from __future__ import annotations

import json


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
