"""Which tokens a run sees at which step: a pure function of corpus, mixture, seed and step.

The packed training stream of each source is cut into windows of `sequence_length` targets. The *mixture* says which
source the n-th window of a run is from: sources take turns so evenly that after any number of windows each is within
a few of its share. Within a source, every pass reads the windows in a new order (see `isoflop.tokens.permutation`):
the even passes each document once, the odd ones its twin, where the corpus has twins. So content repeats from the
second pass on, and with twins nothing repeats exactly before the third.

Nothing is drawn and nothing remembered. So resuming is free, two runs that differ only in length see the same
prefix, and a corpus of any size takes the same little memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError
from isoflop.tokens.permutation import key, permuted
from isoflop.tokens.reading import Piece, TokenStream
from isoflop.tokens.shards import Corpus

#: Shares are whole parts of this many: fine enough for any weight, and 2^39 windows times it are an int64.
_PARTS = 2**24
#: Windows that are placed at once.
_BLOCK = 4096


class Turns:
    """Whose turn it is: sources in shares, as evenly as whole numbers can be.

    The first source has every window at which i·share rounds to a new whole number; those left are numbered again and
    shared by the others in the same way. After any number of windows, a source's count is its share to within the
    number of sources.

    Parameters
    ----------
    shares
        By source; they are scaled to sum to one, and kept to one part in 2^24.

    Raises
    ------
    InputError
        If none is positive, or one is negative or less than that part.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        total = sum(shares.values())
        parts = {name: round(share / total * _PARTS) if total > 0 else 0 for name, share in shares.items()}
        if not parts or min(parts.values()) < 1:
            raise InputError(f"the share of every source must be over {1 / _PARTS:.1g}, but got {dict(shares)}")
        self.parts = parts

    def of(self, windows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of the source of each of these windows of a run, and how many the source has had before."""
        source = np.full(len(windows), len(self.parts) - 1)
        rank = windows.copy()
        left = np.arange(len(windows))
        remaining = sum(self.parts.values())
        for number, part in enumerate(list(self.parts.values())[:-1]):
            before = (rank[left] * part + remaining // 2) // remaining
            after = ((rank[left] + 1) * part + remaining // 2) // remaining
            own = after > before
            source[left[own]] = number
            rank[left] = np.where(own, before, rank[left] - before)
            left = left[~own]
            remaining -= part
        return source, rank


def resolve(corpus: Corpus, weights: Mapping[str, float], text_share: float | None = None) -> dict[str, float]:
    """The share of a run's tokens that each source of `corpus` gives.

    Parameters
    ----------
    corpus
        Whose sources are mixed.
    weights
        By source, in any unit (131 : 73 : 37, or hours); a source at 0 is left out. Empty: each by its tokens, so that
        all come to their end together.
    text_share
        Of the sources without sound, together; their weights and those of the others then count among themselves.

    Returns
    -------
    dict
        Shares that sum to one, to nine digits, so that equal mixtures are equal values.

    Raises
    ------
    InputError
        If a source is unknown or not weighted, a weight negative, or a share of text asked for that cannot be.
    """
    sources = {name: counts["train"] for name, counts in corpus.sources.items()}
    if weights and set(weights) != set(sources):
        raise InputError(
            f"weights must be given for the sources {', '.join(sources)}, but got {', '.join(map(str, weights))}"
        )
    given = {name: float(weights[name] if weights else counts["tokens"]) for name, counts in sources.items()}
    if min(given.values()) < 0 or not sum(given.values()) > 0:
        raise InputError(f"weights must be 0 or more, and not all 0, but got {given}")
    text = {name for name, counts in sources.items() if not counts["seconds"]}
    return shared(given, text, text_share)


def shared(given: Mapping[str, float], text: Collection[str], text_share: float | None) -> dict[str, float]:
    """Shares that sum to one, of sources by the weights `given`, those of `text` to have `text_share` together.

    Sources without a share are left out; errors are those of `resolve`.
    """
    weights = dict(given)
    if text_share is not None:
        of_text = sum(weight for name, weight in weights.items() if name in text)
        of_sound = sum(weight for name, weight in weights.items() if name not in text)
        if not 0 <= text_share <= 1 or (text_share > 0 and not of_text) or (text_share < 1 and not of_sound):
            raise InputError(
                "0 <= text_share <= 1 must hold, with sources of text and of sound for what is over 0, but got "
                f"{text_share:g} and the text sources {sorted(text)} of {', '.join(weights)}"
            )
        scale = {True: text_share / (of_text or 1), False: (1 - text_share) / (of_sound or 1)}
        weights = {name: weight * scale[name in text] for name, weight in weights.items()}
    total = sum(weights.values())
    return {name: float(f"{weight / total:.9g}") for name, weight in weights.items() if weight > 0}


class Sampler:
    """Training batches of a corpus.

    Parameters
    ----------
    corpus
        Whose training split is read.
    sequence_length
        Targets of one sequence; a sequence has one token more, the first input.
    batch_size
        Sequences per step.
    seed
        Of the orders.
    mixture
        Share by source (see `resolve`); empty: each source by its tokens.

    Raises
    ------
    InputError
        If a number is not positive, a source unknown, or its split shorter than one sequence.
    """

    def __init__(
        self,
        corpus: Corpus,
        sequence_length: int,
        batch_size: int,
        seed: int,
        mixture: Mapping[str, float] | None = None,
    ) -> None:
        if sequence_length < 1 or batch_size < 1:
            raise InputError(
                f"sequence_length >= 1 and batch_size >= 1 must hold, but got {sequence_length} and {batch_size}"
            )
        self.batch_size = batch_size
        self.seed = seed
        self._length = sequence_length
        self._turns = Turns(mixture or resolve(corpus, {}))
        self._passes = corpus.passes
        #: Windows of each source in one pass, and where each of its passes begins in the stream of all.
        self.windows_per_pass: dict[str, int] = {}
        self._begins: list[NDArray[np.int64]] = []
        pieces: list[Piece] = []
        total = 0
        for name in self._turns.parts:
            passes = [corpus.pieces("train", number, name) for number in range(self._passes)]
            tokens = sum(piece.count for piece in passes[0])
            self.windows_per_pass[name] = _windows(name, tokens, sequence_length)
            self._begins.append(total + tokens * np.arange(self._passes))
            total += tokens * self._passes
            pieces += [piece for each in passes for piece in each]
        self._stream = TokenStream(pieces, corpus.layout.dtype)
        self._block: tuple[int, list[int], list[int]] = (-1, [], [])

    def batch(self, step: int) -> NDArray[np.int64]:
        """Sequences of `step` (from 0), shape (batch_size, sequence_length + 1).

        Inputs are ``[:, :-1]``, targets ``[:, 1:]``.
        """
        if step < 0:
            raise InputError(f"step >= 0 must hold, but got {step}")
        sequences = np.empty((self.batch_size, self._length + 1), dtype=np.int64)
        first, stop = step * self.batch_size, (step + 1) * self.batch_size
        for number in range(first // _BLOCK, -(-stop // _BLOCK)):
            pieces, places = self._located(number)
            begin, end = max(first, number * _BLOCK), min(stop, (number + 1) * _BLOCK)
            inside = slice(begin - number * _BLOCK, end - number * _BLOCK)
            self._stream.fill(sequences[begin - first : end - first], pieces[inside], places[inside])
        return sequences

    def _located(self, number: int) -> tuple[list[int], list[int]]:
        """Where the windows of block `number` of the run lie; the last block is kept, as steps follow each other."""
        if self._block[0] != number:
            windows = np.arange(number * _BLOCK, (number + 1) * _BLOCK)
            self._block = (number, *self._stream.locate(self._starts(windows)))
        return self._block[1:]

    def _starts(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each of these windows of the run starts in the stream of all sources and passes."""
        source, rank = self._turns.of(windows)
        starts = np.empty_like(windows)
        for index, (name, count) in enumerate(self.windows_per_pass.items()):
            own = np.flatnonzero(source == index)
            turn, place = np.divmod(rank[own], count)
            for number in np.unique(turn).tolist():
                rows = turn == number
                order = permuted(place[rows], count, key(self.seed, name, number))
                starts[own[rows]] = self._begins[index][number % self._passes] + order * self._length
        return starts


def _windows(source: str, tokens: int, sequence_length: int) -> int:
    windows = (tokens - 1) // sequence_length
    if windows < 1:
        raise InputError(
            f"the training split of {source} must hold sequence_length + 1 = {sequence_length + 1} tokens, but holds "
            f"{tokens}"
        )
    return windows


def validation_windows(
    corpus: Corpus, sequence_length: int, tokens: int, mixture: Mapping[str, float] | None = None
) -> NDArray[np.int64]:
    """Windows of the first held-out tokens of each source, in the mixture's turns.

    Returns
    -------
    NDArray
        Shape (tokens // sequence_length, sequence_length + 1).

    Raises
    ------
    InputError
        If fewer tokens are held out than asked for, or the tokens asked for do not fill a sequence.
    """
    if not 1 <= sequence_length <= tokens:
        raise InputError(f"1 <= sequence_length <= validation tokens must hold, but got {sequence_length} and {tokens}")
    turns = Turns(mixture or resolve(corpus, {}))
    source, rank = turns.of(np.arange(tokens // sequence_length))
    sequences = np.empty((len(source), sequence_length + 1), dtype=np.int64)
    for index, name in enumerate(turns.parts):
        held = corpus.tokens("validation", source=name)
        rows = np.flatnonzero(source == index)
        needed = len(rows) * sequence_length + 1
        if needed > len(held):
            raise InputError(
                f"{needed} tokens of {name} must be held out for {tokens} validation tokens, but {corpus.directory} "
                f"holds {len(held)}"
            )
        sequences[rows] = held.windows(rank[rows] * sequence_length, sequence_length + 1)
    return sequences


def validation_origins(
    corpus: Corpus, windows: int, mixture: Mapping[str, float] | None = None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The sources of a mixture by name, and the index of the one that each of `validation_windows` is from."""
    turns = Turns(mixture or resolve(corpus, {}))
    return tuple(turns.parts), turns.of(np.arange(windows))[0]


def held_out_windows(corpus: Corpus, sequence_length: int, mixture: Mapping[str, float]) -> int:
    """How many windows `validation_windows` can give, until the first source comes to its end."""
    turns = Turns(mixture)
    held = {name: corpus.sources[name]["validation"]["tokens"] for name in turns.parts}
    windows = [max(0, (tokens - 1) // sequence_length) for tokens in held.values()]
    source, rank = turns.of(np.arange(sum(windows) + 1))
    return int(np.flatnonzero(rank >= np.array(windows)[source])[0])
