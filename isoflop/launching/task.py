"""What a task of a SLURM array executes: a crew, until there is nothing left to do or the task is to end.

    python -m isoflop.launching.task STUDY_DIRECTORY SUBMISSION PART

SLURM ends tasks in three ways, and all of them begin with a signal. The warning before the time limit (and, where the
cluster is set up so, before a preemption) is SIGUSR2; a preemption or a cancellation is SIGTERM, and SLURM tells which
of them. Runs stop at a checkpoint; after a time limit or a preemption the task puts itself back into the queue,
after a cancellation it does not.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from isoflop.claims import Claims, joined
from isoflop.errors import InputError, IsoflopError, RunError
from isoflop.launching import cluster
from isoflop.launching.causes import Cause
from isoflop.launching.crew import Supervisor, Work
from isoflop.launching.process import visible_gpus
from isoflop.launching.selection import unclaimed
from isoflop.store import StudyDirectory, read_json

#: The warning may come this much earlier than was asked for (SLURM looks once a minute).
_EARLY = 60


def main(study: str, submission: str, part: str) -> int:
    """Work on a part of a submission; returns the exit code."""
    place = StudyDirectory(Path(study))
    record = read_json(place.submissions / submission / "submission.json")
    todo = record["parts"][part]
    ending = Ending(todo["minutes"], todo["lead"])
    ending.listen()
    devices = visible_gpus() if todo["gpus"] else ()
    together = todo["devices_per_run"]
    processes = todo["workers"] * together
    work = Work(
        order=tuple(todo["runs"]),
        workers=todo["workers"],
        accelerator="gpu" if todo["gpus"] else "cpu",
        devices=devices if len(devices) >= processes and todo["workers"] > 1 else (),
        devices_per_run=together,
        # One thread where there is no GPU: losses are the same as on any machine's local launcher.
        threads=max(1, int(os.environ.get("SLURM_CPUS_PER_TASK", "1")) // processes) if todo["gpus"] else 1,
        steps=todo["steps"],
        max_hours=record["max_gpu_hours"],
    )
    while True:
        with joined(place.root, record["lease"], devices=processes, job=task_id(), part=f"{submission}/{part}") as crew:
            supervisor = Supervisor(place, crew, work, _log, ending.warning)
            supervisor.work()
        # Who opens a run again submits no worker for it while a crew is there to take it. The crew has now said that
        # it ended, so one of us sees the other: a run that was opened before that is found here.
        if (
            supervisor.stopped is not None
            or work.steps is not None
            or not unclaimed(place, Claims(place.root), work.order)
        ):
            break
    if supervisor.stopped in {Cause.TIME_LIMIT, Cause.PREEMPTED}:
        _again(record["max_requeues"])
        return 1
    return 1 if todo["steps"] is not None and supervisor.failed else 0


def task_id() -> str:
    """What SLURM calls this task; empty outside SLURM."""
    array, number = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{number}" if array and number else os.environ.get("SLURM_JOB_ID", "")


class Ending:
    """How this task is to end, from the signals that it got.

    Parameters
    ----------
    minutes
        Its time limit; None: not known.
    lead
        Seconds before it at which the warning was asked for.
    clock
        Seconds since 1970.
    preempted
        Asks SLURM whether it ends this task to make room for another's.
    """

    def __init__(
        self,
        minutes: int | None,
        lead: int,
        clock: Callable[[], float] = time.time,
        preempted: Callable[[], bool] = lambda: cluster.preempted(task_id()),
    ) -> None:
        told = os.environ.get("SLURM_JOB_END_TIME")
        self._end = float(told) if told else None if minutes is None else clock() + 60 * minutes
        self._lead = lead
        self._clock = clock
        self._preempted = preempted
        self._warned = self._terminated = False

    def listen(self) -> None:
        """Note the signals from now on."""
        signal.signal(signal.SIGUSR2, self.warn)
        signal.signal(signal.SIGTERM, self.terminate)

    def warn(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Note a warning."""
        self._warned = True

    def terminate(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Note a request to end."""
        self._terminated = True

    def warning(self) -> tuple[Cause, float] | None:
        """Whether to stop now: why, and within how many seconds."""
        if self._terminated:
            return (Cause.PREEMPTED if self._preempted() else Cause.STOPPED), self._lead
        if not self._warned:
            return None
        left = None if self._end is None else self._end - self._clock()
        if left is None or left > self._lead + _EARLY:
            return Cause.PREEMPTED, self._lead
        # Warned early by up to a minute: on a short limit, that minute is worth having.
        return (Cause.TIME_LIMIT, max(0.0, left)) if left <= self._lead else None


def _again(most: int) -> None:
    """Put this task back into the queue, if it may; where not, the next `isoflop status` or `submit` replaces it."""
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) < most:
        with suppress(RunError, InputError):
            cluster.requeue(task_id())


def _log(event: Any) -> None:
    if event.kind != "progress":
        with suppress(OSError):  # the log may be where there is no room
            sys.stdout.write(f"{time.strftime('%F %T')} {event.kind} {event.run} {event.details}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except IsoflopError as error:
        sys.exit(f"error: {error}")
