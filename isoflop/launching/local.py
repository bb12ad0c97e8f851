"""Runs on this machine: one crew, whose workers have one thread each, the longest run first.

A launcher killed at any moment is replaced by calling it again; its workers die with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isoflop.claims import Crew
from isoflop.launching.base import Event, longest_first
from isoflop.launching.crew import Supervisor, Work
from isoflop.launching.process import visible_gpus
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory


@dataclass(frozen=True)
class Local:
    """The launcher of this machine.

    Parameters
    ----------
    workers
        How many runs are trained at once.
    crew
        Who works (see `isoflop.claims.hold`).
    gpus, devices_per_run
        GPUs that are shared out among them; and GPUs, or where there are none processes, that train a run together.
    """

    workers: int
    crew: Crew
    gpus: int = 0
    devices_per_run: int = 1

    def launch(self, directory: StudyDirectory, runs: Sequence[Run], on_event: Callable[[Event], None]) -> None:
        """See `isoflop.launching.base.Launcher.launch`."""
        if runs:
            todo = Work(
                longest_first(runs),
                min(self.workers, len(runs)),
                accelerator="gpu" if self.gpus else "cpu",
                devices=(visible_gpus() or tuple(map(str, range(self.gpus)))) if self.gpus else (),
                devices_per_run=self.devices_per_run,
            )
            Supervisor(directory, self.crew, todo, on_event).work()
