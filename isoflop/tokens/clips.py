"""What the sources give: clips, and those that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Clip:
    """One utterance: where its audio is and what is said.

    Parameters
    ----------
    id
        Unique among the clips of a corpus; printable.
    path
        The audio file; None for text alone.
    text
        What is said; None where it is not known.
    speaker, language
        Names, empty where they are not known.
    start, end
        The part of the file, in seconds; `end` None is its end.
    source
        Name of the source, under which it is counted.
    row
        Row of the dataset's file at `path` that holds the audio; None where `path` is the audio itself.
    """

    id: str
    path: Path | None = None
    text: str | None = None
    speaker: str = ""
    language: str = ""
    start: float = 0.0
    end: float | None = None
    source: str = ""
    row: int | None = None


@dataclass(frozen=True)
class Rejected:
    """A clip that cannot be used, and why."""

    id: str
    reason: str
