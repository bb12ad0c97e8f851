"""The ledger of unique tokens: what runs read against what there is, source by source.

Data that are read again teach less, so a plan says how often. A document that is emitted in several orders (SODA's
text-first and audio-first twins) counts once among the unique tokens; a pass over the stream reads each order once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SourceFacts:
    """One source of the data.

    Parameters
    ----------
    name
        Of the source.
    unique_tokens
        Distinct training tokens, twins once.
    share
        Part of a run's tokens that it gives.
    tokens_per_second, audio_share
        Audio tokens a second of sound (0: no audio), and the part of its tokens that are audio.
    orders
        Orders in which each document is emitted.
    """

    name: str
    unique_tokens: int
    share: float = 1.0
    tokens_per_second: float = 0.0
    audio_share: float = 1.0
    orders: int = 1


@dataclass(frozen=True)
class DataFacts:
    """What a plan needs to know of the data.

    Parameters
    ----------
    fingerprint
        Names the data's content: equal fingerprints, equal tokens.
    vocabulary
        Entries.
    unique_tokens
        Distinct training tokens, twins once; None while the corpus has not been made.
    sources
        The same by source, where the study tells them apart.
    held_out_tokens
        Tokens held out for validation, as far as their mixture can use them; None while they are not known.
    mixture
        Source and share, where the study asks for shares that are not the data's own.
    held_out_mixture
        The same of the held-out tokens, where it is not that of the training tokens.
    """

    fingerprint: str
    vocabulary: int
    unique_tokens: int | None
    sources: tuple[SourceFacts, ...] = ()
    held_out_tokens: int | None = None
    mixture: tuple[tuple[str, float], ...] = ()
    held_out_mixture: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def epochs(self, tokens: int) -> float | None:
        """Passes that `tokens` training tokens make over the source that is read most often; None while not known."""
        entries = self.entries(tokens)
        return max(entry.epochs for entry in entries) if entries else None

    def entries(self, tokens: int) -> list[Entry]:
        """What a run of `tokens` training tokens reads of each source; empty while not known."""
        if self.unique_tokens is None:
            return []
        return [_entry(source, tokens) for source in self.sources or (SourceFacts("all", self.unique_tokens),)]


@dataclass(frozen=True)
class Entry:
    """What a run reads of one source.

    Parameters
    ----------
    source
        Its name.
    tokens, unique_tokens
        Read, and there are.
    epochs
        Passes over the stream: tokens / (unique_tokens × orders).
    audio_hours
        Hours of sound that it takes: audio tokens / (tokens a second × orders × passes), with no pass less than one;
        0 for a source without sound.
    """

    source: str
    tokens: float
    unique_tokens: int
    epochs: float
    audio_hours: float


def _entry(source: SourceFacts, tokens: int) -> Entry:
    read = tokens * source.share
    epochs = read / (source.unique_tokens * source.orders)
    hours = 0.0
    if source.tokens_per_second:
        seconds = read * source.audio_share / (source.tokens_per_second * source.orders * max(epochs, 1.0))
        hours = seconds / 3600
    return Entry(source.name, read, source.unique_tokens, epochs, hours)
