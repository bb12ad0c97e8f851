"""A trainer that is a command: started without a shell, heard through files, killed with its worker.

::

    trainer:
      command: [python, train.py, --width, "{options.width}", --steps, "{steps}", --out, "{result}"]

What it is told stands in its arguments, and all of it in the JSON file ``{assignment}`` (which names the other two
files as well). It tells by writing: a line ``STEP LOSS`` at the end of ``{progress}``, several times a minute, and in
the end ``{result}``, a JSON object with `loss` (see `isoflop.trainer.outcome`). It starts in the trainer's folder; what
it prints goes to the run's log. To stop it gets SIGTERM, and half a minute later SIGKILL.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from isoflop.errors import InputError, RunError
from isoflop.store import write_json
from isoflop.study_trainer import PLACEHOLDER, TrainerChoice
from isoflop.trainer import Assignment

#: Seconds between two looks at the progress file.
_POLL = 0.05
#: Seconds from SIGTERM to SIGKILL: well within what a cluster leaves between its warning and the end.
_GRACE = 30.0
#: Of the log, this much is part of the message when a command fails.
_LAST_WORDS = 500


class Command:
    """Calls a study's command as a trainer.

    Parameters
    ----------
    trainer
        The study's.
    exchange
        The folder for the files through which they speak; made anew at every start.
    """

    def __init__(self, trainer: TrainerChoice, exchange: Path) -> None:
        self._trainer = trainer
        self._exchange = exchange.resolve()

    def __call__(self, assignment: Assignment) -> object:
        """See `isoflop.trainer`; raises `RunError` if the command fails, `MemoryError` if it was killed."""
        shutil.rmtree(self._exchange, ignore_errors=True)
        self._exchange.mkdir(parents=True)
        files = {name: self._exchange / file for name, file in _FILES.items()}
        told = assignment.to_json()
        write_json(files["assignment"], {**told, **{name: str(files[name]) for name in ("progress", "result")}})
        files["progress"].touch()
        values = {**told, **files, "python": sys.executable}
        words = [self._filled(word, values, assignment) for word in self._trainer.command or ()]
        _require_found(words[0], self._trainer.folder)
        code = self._execute(words, files["progress"], assignment)
        if code == -signal.SIGKILL:
            raise MemoryError(f"{words[0]} was killed by signal 9, as it is where memory runs out")
        if code:
            ending = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise RunError(
                f"the command must end with exit code 0, but {words[0]} ended with {ending}: {_last_words()}"
            )
        return _read(files["result"])

    def _filled(self, word: str, values: dict[str, Any], assignment: Assignment) -> str:
        def value(match: Any) -> str:
            name = match[1]
            if name is None:
                return str(match[0][0])
            place, key = (assignment.options, name.removeprefix("options.")) if "." in name else (values, name)
            if place.get(key) is None:
                raise InputError(f"the command's placeholder must have a value, but {{{name}}} has none")
            return str(place[key])

        return PLACEHOLDER.sub(value, word)

    def _execute(self, words: list[str], progress: Path, assignment: Assignment) -> int:
        """Run the command to its end, passing on what it tells; returns its exit code."""
        process = subprocess.Popen(
            # Through a process that dies with this one and becomes the command.
            [sys.executable, "-P", "-m", "isoflop.launching.tether", *words],
            cwd=self._trainer.folder,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            with progress.open(encoding="utf-8", errors="replace") as lines:
                unread = ""
                while True:
                    ended = process.poll()
                    *whole, unread = (unread + lines.read()).split("\n")
                    for line in whole:
                        _pass_on(line, assignment)
                    if ended is not None:
                        return ended
                    time.sleep(_POLL)
        finally:
            _end(process)


#: The files through which a command is spoken with.
_FILES = {"assignment": "assignment.json", "progress": "progress.txt", "result": "result.json"}


def _pass_on(line: str, assignment: Assignment) -> None:
    """Tell a line ``STEP LOSS`` (or ``STEP`` alone) of the progress file."""
    if not line.strip():
        return
    step, *rest = line.split()
    try:
        told = int(step), (float(rest[0]) if rest else None)
    except ValueError:
        raise InputError(f"a line of the progress file must be STEP LOSS, but got {line!r}") from None
    assignment.progress(*told)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the command and what it started to end, then make them."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _require_found(program: str, folder: Path | None) -> None:
    place = Path(folder or ".") / program
    found = shutil.which(program) if os.sep not in program else os.access(place, os.X_OK) and place.is_file()
    if not found:
        raise InputError(f"trainer.command must begin with a program that can be executed, but {program!r} is none")


def _read(path: Path) -> object:
    try:
        told: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"a command must write its result to {{result}}, but there is none at {path} after it ended with 0"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"a command must write its result as JSON, but got {path}: {error}") from None
    return told


def _last_words() -> str:
    """The end of what this process, and with it the command, printed; empty where that is no file."""
    try:
        with open(os.dup(2), "rb") as log:  # noqa: PTH123 (a descriptor)
            path = Path(os.readlink(f"/proc/self/fd/{log.fileno()}"))  # noqa: PTH115 (a link of the kernel's)
            text = path.read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace")
    except OSError:
        return "see its log"
    return " | ".join(line.strip() for line in text.splitlines()[-3:]) or "it printed nothing"
