"""Runs on this machine: one crew, whose workers have one thread each, the longest run first.

A launcher killed at any moment is replaced by calling it again; its workers die with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isoflop.claims import Crew
from isoflop.launching.base import Event, longest_first
from isoflop.launching.crew import Supervisor, Work
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory


@dataclass(frozen=True)
class Local:
    """The launcher of this machine.

    Parameters
    ----------
    workers
        How many processes train at once.
    crew
        Who works (see `isoflop.claims.hold`).
    """

    workers: int
    crew: Crew

    def launch(self, directory: StudyDirectory, runs: Sequence[Run], on_event: Callable[[Event], None]) -> None:
        """See `isoflop.launching.base.Launcher.launch`."""
        if runs:
            todo = Work(longest_first(runs), min(self.workers, len(runs)))
            Supervisor(directory, self.crew, todo, on_event).work()
