from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.errors import InputError
from isoflop.tokens.mixture import Sampler, Turns, resolve, validation_origins, validation_windows
from isoflop.tokens.shards import Corpus, Document, write_corpus
from isoflop.tokens.stream import Layout, Utterance

LENGTH = 16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    generator = np.random.default_rng(0)
    documents = [
        Document(f"{n}", (Utterance(generator.integers(0, 9, 7), generator.integers(0, 300, (5, 2))),), 1.0)
        for n in range(400)
    ]
    directory: Path = tmp_path_factory.mktemp("corpus")
    layout = Layout(9, (300, 300), 0)
    return write_corpus(directory, documents, layout, fingerprint="x", frame_rate=25.0, holdout=0.2)


def windows(corpus: Corpus, number: int = 0, source: str | None = None) -> np.ndarray:
    """Every window of a pass, cut by hand."""
    stream = corpus.tokens("train", number, source)
    count = (len(stream) - 1) // LENGTH
    return np.stack([stream.read(place * LENGTH, (place + 1) * LENGTH + 1) for place in range(count)])


def rows(array: np.ndarray) -> list[bytes]:
    return sorted(row.tobytes() for row in array)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_a_pass_reads_every_window_once_and_the_next_one_its_twins(corpus: Corpus, batch_size: int) -> None:
    sampler = Sampler(corpus, LENGTH, batch_size, seed=0)
    count = sampler.windows_per_pass["speech"]
    assert count == (corpus.unique_tokens - 1) // LENGTH > 400
    drawn = np.concatenate([sampler.batch(step) for step in range(-(-3 * count // batch_size))])
    assert drawn.dtype == np.int64
    first, second = (windows(corpus, number) for number in range(2))
    assert rows(drawn[:count]) == rows(first)
    assert rows(drawn[count : 2 * count]) == rows(second)
    assert rows(drawn[2 * count : 3 * count]) == rows(first)
    assert drawn[2 * count : 3 * count].tobytes() != drawn[:count].tobytes()


@settings(deadline=None)  # the first example maps the files
@given(step=st.integers(0, 2000), batch_size=st.integers(1, 9), seed=st.integers(-5, 2**40))
def test_a_batch_depends_on_nothing_that_was_read_before(corpus: Corpus, step: int, batch_size: int, seed: int) -> None:
    fresh = Sampler(corpus, LENGTH, batch_size, seed).batch(step)
    used = Sampler(corpus, LENGTH, batch_size, seed)
    for other in (step + 1, 0, max(step - 1, 0)):
        used.batch(other)
    np.testing.assert_array_equal(used.batch(step), fresh)
    # The stream of windows does not depend on the batch either.
    single = Sampler(corpus, LENGTH, 1, seed)
    np.testing.assert_array_equal(single.batch(step * batch_size), fresh[:1])


def test_a_longer_run_sees_the_same_prefix_across_blocks_and_passes(corpus: Corpus) -> None:
    # 5,000 windows: more than a block of places, and a dozen passes.
    single = Sampler(corpus, LENGTH, 1, seed=3)
    run = np.concatenate([single.batch(step) for step in range(5_000)])
    for batch_size in (7, 100, 2500):
        sampler = Sampler(corpus, LENGTH, batch_size, seed=3)
        again = np.concatenate([sampler.batch(step) for step in range(5_000 // batch_size)])
        np.testing.assert_array_equal(again, run[: len(again)])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Three sources of a few shards' worth of documents, one of them text."""
    generator = np.random.default_rng(0)
    documents = [
        Document(
            f"{source} {n}",
            (Utterance(generator.integers(0, 9, 7), generator.integers(0, 300, (5, 2)) if seconds else None),),
            seconds,
            source,
        )
        for source, count, seconds in (("calls", 300, 1.0), ("books", 150, 2.0), ("prose", 200, 0.0))
        for n in range(count)
    ]
    layout = Layout(9, (300, 300), 0)
    directory: Path = tmp_path_factory.mktemp("mixed")
    return write_corpus(directory, documents, layout, fingerprint="x", frame_rate=25.0, holdout=0.2)


@pytest.mark.parametrize(
    "weights",
    [{"a": 131, "b": 73, "c": 37, "text": 12.684}, {"a": 1}, {"a": 0.05, "b": 0.95}, {"b": 1, "c": 1, "d": 1}],
)
def test_a_million_draws_are_in_the_shares_asked_for(weights: dict[str, float]) -> None:
    source, rank = Turns(weights).of(np.arange(1_000_000))
    total = sum(weights.values())
    for number, weight in enumerate(weights.values()):
        own = source == number
        assert own.mean() == pytest.approx(weight / total, rel=1e-4)
        # And after any number of draws, to within one for each source.
        ahead = np.cumsum(own) - weight / total * np.arange(1, 1_000_001)
        assert np.abs(ahead).max() < len(weights)
        np.testing.assert_array_equal(rank[own], np.arange(own.sum()))


@given(start=st.integers(0, 2**38), count=st.integers(1, 50))
def test_turns_depend_on_the_window_alone(start: int, count: int) -> None:
    turns = Turns({"a": 0.2, "b": 0.5, "c": 0.3})
    whole = turns.of(np.arange(start, start + count))
    alone = turns.of(np.array([start + count - 1]))
    assert (whole[0][-1], whole[1][-1]) == (alone[0][0], alone[1][0])
    assert (np.diff(whole[1][whole[0] == 1]) == 1).all()


def test_a_mixture_reads_each_source_through_its_own_passes(mixed: Corpus) -> None:
    shares = resolve(mixed, {"calls": 1, "books": 2, "prose": 1})
    sampler = Sampler(mixed, LENGTH, 8, 5, shares)
    drawn = np.concatenate([sampler.batch(step) for step in range(200)])
    source, _ = Turns(shares).of(np.arange(len(drawn)))
    for number, name in enumerate(shares):
        own = drawn[source == number]
        count = sampler.windows_per_pass[name]
        assert len(own) == pytest.approx(1600 * shares[name], abs=2)
        assert {row.tobytes() for row in own[:count]} <= {row.tobytes() for row in windows(mixed, 0, name)}
        if len(own) >= count:
            assert rows(own[:count]) == rows(windows(mixed, 0, name))
        if len(own) >= 2 * count:
            assert rows(own[count : 2 * count]) == rows(windows(mixed, 1, name))
    # Another mixture reads a source in the same order: only its turns come sooner or later.
    other = Sampler(mixed, LENGTH, 8, 5, {"books": 0.9, "calls": 0.1})
    again = np.concatenate([other.batch(step) for step in range(50)])
    books = again[Turns({"books": 0.9, "calls": 0.1}).of(np.arange(400))[0] == 0]
    np.testing.assert_array_equal(books, drawn[source == 1][: len(books)])


def test_shares_are_resolved(mixed: Corpus) -> None:
    tokens = {name: counts["train"]["tokens"] for name, counts in mixed.sources.items()}
    natural = resolve(mixed, {})
    assert natural == {name: pytest.approx(count / mixed.unique_tokens, abs=1e-8) for name, count in tokens.items()}
    assert resolve(mixed, {"calls": 131, "books": 73, "prose": 37}) == resolve(
        mixed, {"calls": 13.1, "books": 7.3, "prose": 3.7}
    )
    with_text = resolve(mixed, {"calls": 3, "books": 1, "prose": 9}, text_share=0.05)
    assert with_text == {"calls": 0.7125, "books": 0.2375, "prose": 0.05}
    of_tokens = resolve(mixed, {}, text_share=0.0)
    assert set(of_tokens) == {"calls", "books"}
    assert of_tokens["calls"] / of_tokens["books"] == pytest.approx(tokens["calls"] / tokens["books"])
    assert resolve(mixed, {"calls": 0, "books": 2, "prose": 0}) == {"books": 1.0}
    for weights, text_share, message in [
        ({"calls": 1}, None, "for the sources calls, books, prose, but got calls"),
        ({"calls": -1, "books": 1, "prose": 1}, None, "0 or more"),
        ({"calls": 0, "books": 0, "prose": 0}, None, "not all 0"),
        ({"calls": 1, "books": 1, "prose": 0}, 0.1, "with sources of text and of sound"),
        ({}, 1.5, "0 <= text_share <= 1"),
    ]:
        with pytest.raises(InputError, match=message):
            resolve(mixed, weights, text_share)
    with pytest.raises(InputError, match="the share of every source must be over 6e-08"):
        Turns({"a": 1, "b": 0})


def test_validation_is_the_first_held_out_tokens(corpus: Corpus) -> None:
    stream = corpus.tokens("validation")
    held = stream.read(0, len(stream))
    found = validation_windows(corpus, LENGTH, 10 * LENGTH + 3)
    assert found.shape == (10, LENGTH + 1)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found[:, 1:].reshape(-1), held[1 : 10 * LENGTH + 1])
    assert len(validation_windows(corpus, LENGTH, len(held) - 1)) == (len(held) - 1) // LENGTH
    with pytest.raises(InputError, match=rf"must be held out for {len(held) + LENGTH} .* holds {len(held)}"):
        validation_windows(corpus, LENGTH, len(held) + LENGTH)
    with pytest.raises(InputError, match="1 <= sequence_length <= validation tokens must hold, but got 16 and 15"):
        validation_windows(corpus, LENGTH, LENGTH - 1)


def test_validation_is_mixed_as_training_is(mixed: Corpus) -> None:
    shares = {"calls": 0.5, "prose": 0.5}
    found = validation_windows(mixed, LENGTH, 20 * LENGTH, shares)
    for name, own in (("calls", found[::2]), ("prose", found[1::2])):
        held = mixed.tokens("validation", source=name)
        alternatives = [own, found[1::2] if name == "calls" else found[::2]]
        expected = held.read(1, 10 * LENGTH + 1)
        assert any(np.array_equal(each[:, 1:].reshape(-1), expected) for each in alternatives)


def test_every_held_out_window_has_its_source(mixed: Corpus) -> None:
    names, origins = validation_origins(mixed, 20, {"calls": 0.75, "prose": 0.25})
    found = validation_windows(mixed, LENGTH, 20 * LENGTH, {"calls": 0.75, "prose": 0.25})
    assert names == ("calls", "prose")
    assert np.bincount(origins).tolist() == [15, 5]
    for number, name in enumerate(names):
        alone = validation_windows(mixed, LENGTH, int((origins == number).sum()) * LENGTH, {name: 1.0})
        np.testing.assert_array_equal(found[origins == number], alone)


def test_impossible_samplers_are_refused(corpus: Corpus) -> None:
    for length, batch_size in [(0, 1), (1, 0)]:
        with pytest.raises(InputError, match=f"must hold, but got {length} and {batch_size}"):
            Sampler(corpus, length, batch_size, seed=0)
    with pytest.raises(InputError, match=r"sequence_length \+ 1 = 1000001 tokens, but holds"):
        Sampler(corpus, 1_000_000, 1, seed=0)
    with pytest.raises(InputError, match="step >= 0"):
        Sampler(corpus, LENGTH, 1, seed=0).batch(-1)
