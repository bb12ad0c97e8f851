from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.errors import InputError
from isoflop.tokens.stream import CONTROLS, Layout, Order, Utterance, compose, interleave, split

SMALL = Layout(text_entries=5, codebook_sizes=(4, 3, 3), semantic=0)


@st.composite
def documents(draw: st.DrawFn) -> list[Utterance]:
    entry = st.integers(0, 4)
    frame = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2))
    pairs = draw(st.lists(st.tuples(st.lists(entry, max_size=6), st.lists(frame, max_size=5)), max_size=4))
    return [Utterance(np.array(text, dtype=int), np.array(codes, dtype=int).reshape(-1, 3)) for text, codes in pairs]


def test_a_document_by_hand() -> None:
    utterance = Utterance(np.array([2, 4]), np.array([[3, 0, 2], [1, 2, 1]]))
    # Text 0–4, controls 5–10 (BOS, EOS, text start and end, audio start and end), codebooks from 11, 15 and 18.
    audio = [9, 14, 15, 20, 12, 17, 19, 10]
    text = [7, 2, 4, 8]
    assert interleave([utterance], SMALL, "text_first").tolist() == [5, *text, *audio, 6]
    assert interleave([utterance], SMALL, "audio_first").tolist() == [5, *audio, *text, 6]
    assert interleave([utterance] * 2, SMALL, "audio_first").tolist() == [5, *(audio + text) * 2, 6]
    assert SMALL.vocabulary == 21


def test_token_types_by_hand() -> None:
    assert SMALL.types == ("text", "control", "semantic", "acoustic_1", "acoustic_2")
    assert SMALL.token_types.tolist() == [0] * 5 + [1] * 6 + [2] * 4 + [3] * 3 + [4] * 3
    late = Layout(text_entries=1, codebook_sizes=(2, 2), semantic=1)
    assert late.types == ("text", "control", "semantic", "acoustic_1")
    assert late.token_types.tolist() == [0] + [1] * 6 + [3] * 2 + [2] * 2
    assert Layout(1, (2, 2), None).types == ("text", "control", "acoustic_1", "acoustic_2")


def test_a_known_frame_has_the_ids_of_soda() -> None:
    # arXiv 2602.16687: Llama-3's BPE with its BOS and EOS, four marks, Mimi's 8 codebooks of 2,048.
    composition = compose("semantic+acoustic+text", (2048,) * 8, 1, 128_256, bos=128_000, eos=128_001, order="both")
    soda = composition.layout
    assert soda == Layout(128_256, (2048,) * 8, 0, bos=128_000, eos=128_001)
    assert soda.vocabulary == 144_644
    frames = np.array([[0, 1, 2, 3, 4, 5, 6, 7], [2047] * 8])
    text = np.array([9906, 1917])
    audio = [128_258, *[128_260 + 2048 * book + book for book in range(8)]]
    audio += [*range(128_260 + 2047, 144_644, 2048), 128_259]
    document = interleave([Utterance(text, frames)], soda, "text_first")
    assert document.tolist() == [128_000, 128_256, 9906, 1917, 128_257, *audio, 128_001]
    assert len(audio) == 8 * len(frames) + 2
    assert audio[-2] == 144_643
    types = [soda.types[kind] for kind in soda.token_types[[127_999, 128_000, 128_001, 128_002, 128_256, 130_307]]]
    assert types == ["text", "control", "control", "text", "control", "semantic"]
    assert soda.types[soda.token_types[130_308]] == "acoustic_1"
    assert Layout.from_dict(json.loads(json.dumps(soda.to_dict()))) == soda
    with pytest.raises(InputError, match="must not hold the ids of BOS and EOS"):
        interleave([Utterance(np.array([128_001]), frames)], soda, "text_first")


def test_the_compositions_keep_what_they_name() -> None:
    sizes, entries = (16, 8, 8, 8), 5
    semantic = compose("semantic", sizes, 1, entries)
    assert semantic.layout == Layout(0, (16,), 0)
    assert (semantic.codebooks, semantic.orders, semantic.text) == ((0,), ("audio_first",), False)
    audio = compose("semantic+acoustic", sizes, 1, entries, codebooks=3)
    assert audio.layout == Layout(0, (16, 8, 8), 0)
    assert audio.codebooks == (0, 1, 2)
    whole = compose("semantic+acoustic+text", sizes, 0, entries, order="audio_first")
    assert whole.layout == Layout(5, sizes, None)
    assert (whole.orders, whole.text) == (("audio_first",), True)
    assert compose("semantic+acoustic+text", sizes, 1, entries).orders == ("text_first", "audio_first")
    # One of four audio tokens is semantic: SODA's first ablation reads every eighth.
    codes = np.zeros((10, 4), dtype=int)
    alone, both = (
        interleave([Utterance(None, codes[:, each.codebooks])], each.layout, "audio_first")
        for each in (semantic, compose("semantic+acoustic", sizes, 1, entries))
    )
    assert (len(alone) - 4) * 4 == len(both) - 4 == 40
    for arguments, message in [
        (("music", sizes, 1, 5), "must be one of semantic, semantic\\+acoustic, .*'music'"),
        (("semantic", sizes, 0, 5), "codec with a semantic codebook"),
    ]:
        with pytest.raises(InputError, match=message):
            compose(*arguments)
    with pytest.raises(InputError, match=r"1 <= codebooks <= 4 must hold for a semantic\+acoustic stream, but got 5"):
        compose("semantic+acoustic", sizes, 1, 5, codebooks=5)
    with pytest.raises(InputError, match="the order must be one of text_first, audio_first, both, but got 'random'"):
        compose("semantic+acoustic", sizes, 1, 5, order="random")


def test_sound_without_text_and_text_without_sound() -> None:
    codes = np.array([[3, 0, 2]])
    sound = interleave([Utterance(None, codes)] * 2, SMALL, "text_first")
    assert sound.tolist() == [5, *[9, 14, 15, 20, 10] * 2, 6]
    np.testing.assert_array_equal(sound, interleave([Utterance(None, codes)] * 2, SMALL, "audio_first"))
    prose = interleave([Utterance(np.array([1, 2]), None)], SMALL, "text_first")
    assert prose.tolist() == [5, 1, 2, 6]
    for ids in (sound, prose):
        again = interleave(split(ids, SMALL), SMALL, "audio_first")
        np.testing.assert_array_equal(again, ids)
    assert split(sound, SMALL)[1].text is None
    assert split(prose, SMALL)[0].codes is None
    spoken = Utterance(np.array([1]), codes)
    for mixed in ([spoken, Utterance(None, codes)], [Utterance(np.array([1]), None)] * 2, [Utterance(None, None)]):
        with pytest.raises(InputError, match="must all have text and codes, or codes alone, or be one text"):
            interleave(mixed, SMALL, "text_first")


@given(documents(), st.sampled_from(["text_first", "audio_first"]))
def test_split_gives_back_the_utterances(utterances: list[Utterance], order: Order) -> None:
    ids = interleave(utterances, SMALL, order)
    again = split(ids, SMALL)
    assert len(again) == len(utterances)
    for before, after in zip(utterances, again, strict=True):
        np.testing.assert_array_equal(before.text, after.text)
        np.testing.assert_array_equal(before.codes, after.codes)


@given(documents())
def test_twins_are_permutations_of_equal_length(utterances: list[Utterance]) -> None:
    first, second = (interleave(utterances, SMALL, order) for order in ("text_first", "audio_first"))
    assert sorted(first) == sorted(second)
    assert len(first) == 2 + sum(4 + len(each.text) + each.codes.size for each in utterances)


@given(documents(), st.data())
def test_split_refuses_what_is_not_a_whole_document(utterances: list[Utterance], data: st.DataObject) -> None:
    ids = interleave(utterances, SMALL, "text_first")
    place = data.draw(st.integers(0, len(ids) - 1))
    damaged = np.delete(ids, place)
    if SMALL.token_types[ids[place]] != 0:  # a text may lose a letter
        with pytest.raises(InputError, match="one document, from BOS to EOS"):
            split(damaged, SMALL)


def test_a_layout_survives_json_and_refuses_another_order_of_controls() -> None:
    record = json.loads(json.dumps(SMALL.to_dict()))
    assert Layout.from_dict(record) == SMALL
    assert record["controls"] == dict(zip(CONTROLS, range(5, 11), strict=True))
    record["controls"]["bos"], record["controls"]["eos"] = 6, 5
    with pytest.raises(InputError, match="a layout's fields must be"):
        Layout.from_dict(record)
    with pytest.raises(InputError, match="must have text_entries"):
        Layout.from_dict({"text_entries": 5})


@pytest.mark.parametrize(("entries", "kind"), [(49, np.uint8), (59, np.uint16), (70_000, np.uint32)])
def test_the_smallest_integer_type_that_holds_the_vocabulary(entries: int, kind: type) -> None:
    assert Layout(entries, (64, 64, 64), 0).dtype == kind


def test_what_does_not_fit_is_refused() -> None:
    fine = np.zeros((1, 3), int)
    for text, codes, message in [
        ([5], fine, "0 <= text id < 5 must hold, but got up to 5"),
        ([-1], fine, "0 <= text id < 5"),
        ([0], np.array([[4, 0, 0]]), r"0 <= code < \(4, 3, 3\) must hold"),
        ([0], np.zeros((1, 2), int), r"shape \(frames, 3\), but have \(1, 2\)"),
    ]:
        with pytest.raises(InputError, match=message):
            interleave([Utterance(np.array(text), codes)], SMALL, "text_first")
    with pytest.raises(InputError, match="the order must be one of text_first, audio_first, but got 'both'"):
        interleave([], SMALL, "both")  # type: ignore[arg-type]
    for arguments in [(-1, (4,), 0), (5, (), None), (5, (4, 0), 0), (5, (4,), 1), (5, (4,), 0, 5), (5, (4,), 0, 1, 1)]:
        with pytest.raises(InputError, match="must"):
            Layout(*arguments)
