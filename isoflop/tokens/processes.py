"""Work in fresh processes of one thread each: what is done depends on the work alone, not on who else worked.

A process is started by its command line, not by `multiprocessing`, which would import the caller's script again. It
tells of every piece that is done by a line on its standard output. Its standard input is a lifeline: when the parent is
gone, however it went, that pipe ends and so does the process.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from isoflop.errors import InputError, IsoflopError, RunError

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
#: Modules are found where the parent found them, whatever the working directory.
_BOOT = "import sys; sys.path[:] = {path!r}; from {module} import main; main({argument!r})"


@dataclass(frozen=True)
class Task:
    """What a fresh process does: ``main(argument)`` of `module`, which is to call `tied`; its errors go to `log`.

    It sees the GPU `device` alone where that is given, by CUDA's name for it.
    """

    name: str
    module: str
    argument: str
    log: Path
    device: str | None = None


def run(tasks: Sequence[Task], workers: int, told: Callable[[int], None]) -> None:
    """Do all `tasks` in order, at most `workers` at a time; returns when the last is done.

    Parameters
    ----------
    tasks, workers
        What, and on how many processes.
    told
        Called in this thread with the number of pieces that were done since the last call.

    Raises
    ------
    InputError, RunError
        As soon as a process fails, in its own words if they are an answer (see `answering`), else with the task's name
        and its last words; the others are ended.
    """
    waiting = iter(tasks)
    running: dict[Task, subprocess.Popen[bytes]] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while True:
                while len(running) < workers and (task := next(waiting, None)) is not None:
                    process = running[task] = _start(task)
                    selector.register(cast(IO[bytes], process.stdout), selectors.EVENT_READ, task)
                if not running:
                    return
                for key, _ in selector.select():
                    news = os.read(key.fd, 1 << 16)
                    if news:
                        told(news.count(b"\n"))
                        continue
                    selector.unregister(key.fileobj)
                    _finish(key.data, running.pop(key.data))
        finally:
            for process in running.values():
                process.kill()
            for process in running.values():
                with process:  # closes its pipes and waits
                    pass


def tied() -> Callable[[], None]:
    """End with the parent from now on; returns what tells it of a piece that is done."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    return lambda: _tell("\n")


@contextmanager
def answering() -> Iterator[None]:
    """Let the parent raise an error of ours in the words that it was raised with."""
    try:
        yield
    except IsoflopError as error:
        sys.stderr.write(f"{_SAID}{error}\n")
        sys.exit(error.exit_code)


#: Before what a process says itself is wrong, in contrast to what it stumbled over.
_SAID = "error: "


def _start(task: Task) -> subprocess.Popen[bytes]:
    with task.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", _BOOT.format(path=sys.path, module=task.module, argument=task.argument)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **_ONE_THREAD, **({"CUDA_VISIBLE_DEVICES": task.device} if task.device else {})},
            # Ctrl-C is for the parent, which then ends its processes.
            start_new_session=True,
        )


def _finish(task: Task, process: subprocess.Popen[bytes]) -> None:
    with process:
        status = process.wait()
    if status == 0:
        return
    words = task.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = words[-1] if words else "without a word"
    if last.startswith(_SAID):
        kind = InputError if status == InputError.exit_code else RunError
        raise kind(last.removeprefix(_SAID))
    ending = f"signal {-status}" if status < 0 else f"status {status}"
    raise RunError(f"{task.name} ended with {ending}: {last}")


def _tell(text: str) -> None:
    os.write(1, text.encode())


def _die_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
