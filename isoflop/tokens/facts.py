"""What a plan needs to know of a corpus, under the mixture that a study asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from isoflop.planning.ledger import DataFacts, SourceFacts
from isoflop.tokens.mixture import held_out_windows, resolve
from isoflop.tokens.shards import Corpus


def facts(
    corpus: Corpus,
    name: str,
    sequence_length: int,
    weights: Mapping[str, float] | None = None,
    text_share: float | None = None,
    held_out: Literal["mixture", "corpus"] = "mixture",
) -> DataFacts:
    """The facts of `corpus`.

    Parameters
    ----------
    corpus
        What is read.
    name
        What its tokens are called in run ids: its fingerprint or its digest.
    sequence_length
        Targets of a window.
    weights, text_share
        See `isoflop.tokens.mixture.resolve`.
    held_out
        Whether the sources have the mixture's shares in held-out tokens too, or the corpus's own.

    Raises
    ------
    InputError
        If the mixture cannot be made of the sources.
    """
    shares = resolve(corpus, weights or {}, text_share)
    own = resolve(corpus, {})
    validated = shares if held_out == "mixture" else own
    return DataFacts(
        name,
        corpus.vocabulary,
        corpus.unique_tokens,
        tuple(_source(corpus, source, share) for source, share in shares.items()),
        _held_out(corpus, validated, sequence_length),
        tuple(shares.items()) if shares != own else (),
        tuple(validated.items()) if validated != shares else (),
    )


def _source(corpus: Corpus, name: str, share: float) -> SourceFacts:
    counts = corpus.sources[name]["train"]
    by_type = counts["tokens_by_type"]
    audio = sum(count for kind, count in by_type.items() if kind not in ("text", "control"))
    rate = audio / counts["seconds"] if counts["seconds"] else 0.0
    audio_share = audio / counts["tokens"] if audio else 1.0
    return SourceFacts(name, counts["tokens"], share, rate, audio_share, corpus.passes)


def _held_out(corpus: Corpus, shares: Mapping[str, float], sequence_length: int) -> int:
    """Tokens over which a loss in these shares can be taken, one window's first input among them."""
    if len(shares) == 1:
        return int(corpus.sources[next(iter(shares))]["validation"]["tokens"])
    return held_out_windows(corpus, sequence_length, shares) * sequence_length + 1
