"""A worker process: executes the runs that its crew hands it, one after the other, until its input ends.

    python -m isoflop.launching.worker STUDY_DIRECTORY [ACCELERATOR [DEVICES_PER_RUN]]

The crew writes ``{"run": id, "token": 3, …}`` and ``{"stop": cause}`` to its standard input, one a line. Events go to
standard output as JSON, one a line. What a run itself prints goes to `runs/<id>/log/output.txt`. Many short runs share
one process, since loading torch and lightning takes longer than training the smallest.

Signals only set a flag here: a run that is to stop does so at its next row of metrics, with a checkpoint, as the same
program that trains it. A worker dies with its crew (the kernel sees to it), and it publishes nothing once its claim has
a successor.
"""

from __future__ import annotations

import errno
import json
import math
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from isoflop.claims import replaced
from isoflop.errors import Diverged, InputError, Interrupted, IsoflopError
from isoflop.launching.causes import Cause
from isoflop.launching.trainers import Trainer, trainer_of
from isoflop.machine import die_with_the_parent
from isoflop.store import StudyDirectory

if TYPE_CHECKING:
    from isoflop.training.metrics import Progress

#: Of a run's last words, this much goes into its status; all of them are in its log.
_LAST_LINES = 3


def main(study: str, accelerator: str = "cpu", devices: str = "1") -> None:
    """Execute the runs whose ids arrive on standard input."""
    die_with_the_parent()
    worker = Worker(StudyDirectory(Path(study)), os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8"))
    # Ctrl-C and a job's warning reach every process of the group; the crew decides.
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: worker.stop(Cause.PREEMPTED))
    os.dup2(2, 1)
    threading.Thread(target=worker.listen, daemon=True).start()
    try:
        # Now, so that whatever is missing or broken is told before a run is taken.
        train = trainer_of(worker.study, int(devices))
    except IsoflopError as error:
        sys.exit(str(error))
    worker.say("ready")
    while True:
        worker.execute(train, worker.assigned.get(), accelerator)


class Worker:
    """What the threads of a worker share: the runs to do, and whether to stop."""

    def __init__(self, study: StudyDirectory, events: TextIO) -> None:
        self.study = study
        self.assigned: queue.Queue[dict[str, Any]] = queue.Queue()
        self._events = events
        self._stop = ""

    def say(self, event: str, **details: object) -> None:
        """Tell the crew."""
        self._events.write(json.dumps({"event": event, **details}) + "\n")

    def stop(self, cause: str) -> None:
        """Ask the run that goes on to stop at its next row of metrics."""
        self._stop = cause

    def listen(self) -> None:
        """Hear the crew; when it closes the pipe, or dies, end at once: checkpoints make that safe at any moment."""
        for line in sys.stdin:
            message = json.loads(line)
            if "stop" in message:
                self.stop(message["stop"])
            else:
                self.assigned.put(message)
        os._exit(0)

    def execute(self, train: Trainer, order: dict[str, Any], accelerator: str) -> None:
        """Carry one run on to its end, whichever that is, and tell."""
        run_id, token, steps = order["run"], order["token"], order.get("steps")
        first: list[int] = []
        self._stop = ""

        def on_progress(progress: Progress) -> None:
            if replaced(self.study.root, run_id, token):
                os._exit(1)
            if math.isfinite(progress.loss):
                self.say("progress", run=run_id, step=progress.step, loss=progress.loss)
            first.append(progress.step)
            if progress.step == progress.steps:
                return
            if self._stop:
                raise Interrupted(self._stop)
            if steps is not None and progress.step - first[0] >= steps:
                raise Interrupted(Cause.STOPPED)

        with _output_to(self.study.run(run_id).log / "output.txt"):
            try:
                planned = self.study.load_run(run_id)
                self.say("started", run=run_id)
                result = train(
                    planned,
                    self.study.root,
                    on_progress=on_progress,
                    accelerator=accelerator,
                    micro_batches=order.get("micro_batches", 1),
                )
            except Interrupted as stopped:
                self.say("stopped", run=run_id, cause=str(stopped))
            except Exception as error:
                with suppress(OSError):  # the log may be where there is no room
                    traceback.print_exc()
                cause, message = _cause(error), _words(error)
                self.say("failed", run=run_id, cause=cause, message=message)
            else:
                self.say("finished", run=run_id, loss=result["loss"], corrupt=result["corrupt_checkpoints"])


def _cause(error: Exception) -> Cause:
    if isinstance(error, Diverged):
        return Cause.DIVERGED
    if isinstance(error, InputError):
        return Cause.BAD_INPUT
    # torch's own class has this name too, and torch is not imported here.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Cause.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Cause.DISK_FULL
    return Cause.ERROR


def _words(error: Exception) -> str:
    """What the run says of its error: its message where that was written for people, else the traceback's end too."""
    if isinstance(error, IsoflopError):
        return str(error)
    lines = [line.strip() for line in traceback.format_exc().strip().splitlines()]
    return " | ".join([*lines[-_LAST_LINES:-1], f"{type(error).__name__}: {error}"])


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send this process's output, and that of libraries that write to the descriptors, to `path`."""
    saved = os.dup(1), os.dup(2)
    with suppress(OSError):  # a full disk has no room for a log, and a run may still end without one
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        os.close(file)
    try:
        yield
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
            os.close(original)


if __name__ == "__main__":
    main(*sys.argv[1:])
