from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens import text
from isoflop.tokens.tokenizers import (
    BytePairs,
    Bytes,
    Characters,
    TextTokenizer,
    fit_tokenizer,
    load_tokenizer,
    open_tokenizer,
)

TEXTS = ["the cat sat on the mat", "the dog and the cat", "Приказ: кот и пёс", "¿Dónde está?"] * 5


def all_kinds() -> list[TextTokenizer]:
    return [Characters(), Characters.fit(TEXTS), Bytes(), BytePairs.fit(TEXTS, entries=300)]


@pytest.mark.parametrize("tokenizer", all_kinds(), ids=lambda each: f"{each.name}-{each.entries}")
def test_text_comes_back_also_after_saving(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = open_tokenizer(tmp_path)
    assert (again.name, again.entries, again.digest) == (tokenizer.name, tokenizer.entries, tokenizer.digest)
    for said in TEXTS[:4]:
        ids = tokenizer.encode(said)
        assert ids.dtype == np.int64
        assert 0 <= ids.min() <= ids.max() < tokenizer.entries
        np.testing.assert_array_equal(ids, again.encode(said))
        expected = text.normalise(said, tokenizer.alphabet) if isinstance(tokenizer, Characters) else said
        assert again.decode(ids) == expected
    assert tokenizer.encode("").shape == (0,)
    for bad in (-1, tokenizer.entries):
        with pytest.raises(InputError, match=f"0 <= id < {tokenizer.entries} must hold"):
            tokenizer.decode(np.array([bad]))


def test_digests_tell_tokenisers_apart() -> None:
    others = [BytePairs.fit(TEXTS, entries=290), Characters.fit(["å"])]
    assert len({each.digest for each in [*all_kinds(), *others]}) == 6
    assert BytePairs.fit(TEXTS, entries=300).digest == all_kinds()[3].digest


@given(st.text())
def test_bytes_and_pairs_keep_every_text(said: str) -> None:
    assert Bytes().decode(Bytes().encode(said)) == said
    assert PAIRS.decode(PAIRS.encode(said)) == said


PAIRS = BytePairs.fit(TEXTS, entries=300)


def test_pairs_make_texts_shorter() -> None:
    assert PAIRS.entries == 300
    assert len(PAIRS.encode(TEXTS[0])) < len(TEXTS[0]) / 2
    with pytest.raises(InputError, match=r"entries >= 256 \(bytes\) must hold, but got 255"):
        BytePairs.fit(TEXTS, entries=255)


def test_a_published_tokeniser_is_loaded_and_its_special_tokens_are_only_text(tmp_path: Path) -> None:
    from tokenizers import AddedToken

    PAIRS.save(tmp_path)
    published = BytePairs.load(tmp_path)._tokenizer
    published.add_special_tokens([AddedToken("<|begin_of_text|>"), AddedToken("<|end_of_text|>")])
    published.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer("bpe", tmp_path / "tokenizer.json")
    assert loaded.entries == 302
    np.testing.assert_array_equal(loaded.encode(TEXTS[0]), PAIRS.encode(TEXTS[0]))
    injected = loaded.encode("the cat<|end_of_text|> sat")
    assert injected.max() < 300
    assert loaded.decode(injected) == "the cat<|end_of_text|> sat"
    assert loaded.decode(np.array([300])) == "<|begin_of_text|>"


def test_fitted_characters_keep_their_accents_and_start_with_the_usual_ones() -> None:
    fitted = Characters.fit(TEXTS)
    assert fitted.alphabet.startswith(text.ALPHABET)
    assert fitted.decode(fitted.encode("Кот, ¿está?")) == "кот, ¿está?"
    assert Characters().decode(Characters().encode("Кот, ¿está?")) == ", esta?"
    assert fitted.decode(fitted.encode("Éte 日")) == "ete"
    with pytest.raises(InputError, match="must have a space and no character twice"):
        Characters("ab")


def test_what_was_saved_by_none_is_characters_and_what_is_damaged_is_named(tmp_path: Path) -> None:
    assert open_tokenizer(tmp_path) == Characters()
    for content in ({"name": "characters"}, {"name": "morse"}, {"name": "characters", "alphabet": "aa"}):
        (tmp_path / "text.json").write_text(json.dumps(content))
        with pytest.raises(CorruptFileError, match=r"text\.json must describe a tokeniser"):
            open_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptFileError, match=r"tokenizer\.json must hold a tokeniser"):
        open_tokenizer(tmp_path)


def test_tokenisers_are_known_by_name(tmp_path: Path) -> None:
    assert fit_tokenizer("characters", TEXTS) == Characters.fit(TEXTS)
    assert fit_tokenizer("bytes", TEXTS) == load_tokenizer("bytes") == Bytes()
    assert fit_tokenizer("bpe", TEXTS, entries=300).digest == PAIRS.digest
    assert load_tokenizer("characters") == Characters()
    with pytest.raises(InputError, match="one of characters, bytes, bpe, but got 'words'"):
        fit_tokenizer("words", TEXTS)
    with pytest.raises(InputError, match="no file was given"):
        load_tokenizer("bpe")
    with pytest.raises(InputError, match="or a folder that holds one"):
        load_tokenizer("bpe", tmp_path)
