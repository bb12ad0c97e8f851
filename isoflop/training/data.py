"""Where a run's tokens come from.

Training asks a corpus for a few things: what it is (its fingerprint), its vocabulary, the type of each token, the
batch of a step and the held-out windows. The batch is a function of the step alone, so a resumed run, or a longer
one, reads the same tokens at the same step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError
from isoflop.planning.runs import Run
from isoflop.tokens.mixture import Sampler, validation_origins, validation_windows
from isoflop.tokens.shards import Corpus

#: Tokens as (sequences, s + 1): inputs are ``[:, :-1]``, targets ``[:, 1:]``.
Tokens = NDArray[np.int64]


class Source(Protocol):
    """What a run reads."""

    @property
    def names(self) -> tuple[str, ...]:
        """What a run that is planned on these tokens may call them (`Run.data`)."""

    @property
    def vocabulary(self) -> int:
        """Entries, V; every token is below it."""

    @property
    def types(self) -> tuple[str, ...]:
        """Names of the types of token."""

    @property
    def token_types(self) -> NDArray[np.uint8]:
        """Index into `types` by token, shape (V,)."""

    @property
    def document_start(self) -> int:
        """The token that starts a document; asked for where documents are masked from each other."""

    def batches(self, run: Run) -> Callable[[int], Tokens]:
        """The run's data order: from a step (0-based) to its (batch_size, s + 1) tokens."""

    def validation(self, run: Run) -> Tokens:
        """The run's held-out windows, (validation_tokens // s, s + 1)."""

    def origins(self, run: Run) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """What its windows are from: the sources' names, and the index into them of each held-out window."""

    @property
    def audio_rate(self) -> float:
        """Audio tokens a second of sound: frames a second times codebooks; 0 where no token is sound."""


class CorpusSource:
    """A corpus on disk as a `Source`."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.names = (corpus.fingerprint, corpus.digest)
        self.vocabulary = corpus.vocabulary
        self.types = corpus.layout.types
        self.token_types = corpus.layout.token_types
        self.document_start = corpus.layout.controls["bos"]
        self.audio_rate = corpus.index["frame_rate"] * len(corpus.index["composition"]["codebooks"])

    def batches(self, run: Run) -> Callable[[int], Tokens]:
        """The sampler's order under the run's mixture and seed."""
        mixture = dict(run.mixture)
        return Sampler(self.corpus, run.shape.sequence_length, run.batch_size, run.seed, mixture).batch

    def validation(self, run: Run) -> Tokens:
        """The first held-out windows, in the run's mixture of them."""
        return validation_windows(self.corpus, run.shape.sequence_length, run.validation_tokens, _held_out(run))

    def origins(self, run: Run) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """The turns of that mixture."""
        windows = run.validation_tokens // run.shape.sequence_length
        return validation_origins(self.corpus, windows, _held_out(run))


def _held_out(run: Run) -> dict[str, float]:
    """The mixture of a run's held-out tokens."""
    return dict(run.held_out_mixture or run.mixture)


def open_source(directory: Path) -> CorpusSource:
    """The corpus at `directory`, checked as `Corpus.check` does: once per process, for all of its runs.

    Raises
    ------
    InputError
        If there is no corpus at `directory`.
    CorruptFileError
        If the index or a shard is not what was written; it names the file.
    """
    corpus = Corpus.open(directory)
    corpus.check()
    return CorpusSource(corpus)


def check(source: Source, run: Run) -> None:
    """Refuse tokens that `run` cannot be trained on: `InputError` states the rule and the values.

    Those are others than it was planned on, those of another vocabulary, and fewer than one of its sequences.
    """
    if run.data not in source.names:
        raise InputError(
            f"the corpus must be the one that run {run.id} was planned on, {run.data}, but got {source.names[0]}"
        )
    if source.vocabulary != run.shape.vocabulary:
        raise InputError(
            f"the corpus must have the vocabulary of run {run.id}'s model, {run.shape.vocabulary}, "
            f"but has {source.vocabulary}"
        )
    source.batches(run)
