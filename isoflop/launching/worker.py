"""A worker process: takes run ids from standard input, one a line, and executes them until the input ends.

    python -m isoflop.launching.worker STUDY_DIRECTORY

Events go to standard output as JSON, one a line. What a run itself prints goes to `runs/<id>/log/output.txt`. Many
short runs share one process, since loading torch and lightning takes longer than training the smallest.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from isoflop.errors import IsoflopError
from isoflop.launching.trainers import Trainer, trainer_of
from isoflop.store import StudyDirectory


def main(study: str) -> None:
    """Execute the runs whose ids arrive on standard input."""
    # Ctrl-C reaches the whole process group; the launcher decides, and ends its workers by closing their input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    assigned: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_receive, args=(assigned,), daemon=True).start()

    directory = StudyDirectory(Path(study))
    try:
        # Now, so that whatever is missing or broken is told before a run is taken.
        train = trainer_of(directory)
    except IsoflopError as error:
        sys.exit(str(error))
    _say(events, "ready")
    while True:
        _execute(train, directory, assigned.get(), events)


def _execute(train: Trainer, study: StudyDirectory, run_id: str, events: TextIO) -> None:
    directory = study.run(run_id)
    with _output_to(directory.log / "output.txt"):
        try:
            planned = study.load_run(run_id)
            _say(events, "started", run=run_id)
            result = train(
                planned,
                study.root,
                on_progress=lambda progress: _say(
                    events, "progress", run=run_id, step=progress.step, loss=progress.loss
                ),
            )
        except Exception as error:
            traceback.print_exc()
            cause = str(error) if isinstance(error, IsoflopError) else f"{type(error).__name__}: {error}"
            directory.write_status("failed", cause=cause)
            _say(events, "failed", run=run_id, cause=cause)
        else:
            _say(events, "finished", run=run_id, loss=result["loss"], corrupt=result["corrupt_checkpoints"])


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send this process's output, and that of libraries that write to the descriptors, to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = os.dup(1), os.dup(2)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(file)


def _receive(assigned: queue.Queue[str]) -> None:
    """Queue ids; when the launcher closes the pipe, or dies, end at once: checkpoints make that safe at any moment."""
    for line in sys.stdin:
        assigned.put(line.strip())
    os._exit(0)


def _say(events: TextIO, event: str, **details: object) -> None:
    events.write(json.dumps({"event": event, **details}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
