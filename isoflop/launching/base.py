"""The launchers' contract: given planned runs, see to it that each has a result or a recorded cause of failure.

Wherever runs execute, the same three things do the work: a *worker* (`worker`) trains run after run in a process of its
own, a *crew* (`crew`) of workers on one machine picks the runs, longest first, by claims in the study directory, and a
launcher starts crews: one on this machine (`local`), or one for every task of a SLURM array (`slurm`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from isoflop.planning.runs import Run
from isoflop.planning.trunks import own_steps
from isoflop.store import StudyDirectory


@dataclass(frozen=True)
class Event:
    """What happened to a run; `details` are plain values.

    ``started``, ``progress`` (step, loss), ``finished`` (loss), ``failed`` (cause, message) for good, ``stopped``
    (cause) and ``retried`` (cause, message): it goes on, here or elsewhere.
    """

    kind: Literal["started", "progress", "finished", "failed", "stopped", "retried"]
    run: str
    details: dict[str, Any]


class Launcher(Protocol):
    """Where runs execute."""

    def launch(self, directory: StudyDirectory, runs: Sequence[Run], on_event: Callable[[Event], None]) -> None:
        """Execute `runs`, reporting events; return when each is done, failed or in another crew's hands.

        Raises
        ------
        RunError
            If runs cannot be executed at all. A run that fails is an event and a status, not an exception.
        """
        ...


def estimated_seconds(runs: Sequence[Run]) -> dict[str, float]:
    """Seconds that each of `runs` takes on one CPU core, by id, if those that share a trunk start from it.

    Roughly, but good enough to start the longest first and to forecast: a step costs 2 ms of overhead and its FLOPs at
    25 GFLOP/s (small matmuls reach a quarter of a core's peak).
    """
    steps = own_steps(runs)
    return {run.id: steps[run.id] * (2e-3 + run.flops / run.steps / 25e9) for run in runs}


def longest_first(runs: Sequence[Run]) -> tuple[str, ...]:
    """Ids of `runs`, the longest first: so that no long one is left when all others are done.

    Of those that share a trunk the longest, which trains it for all, comes before the others.
    """
    seconds = estimated_seconds(runs)
    return tuple(run.id for run in sorted(runs, key=lambda run: (-seconds[run.id], run.id)))
