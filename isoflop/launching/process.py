"""A worker's process as its crew sees it: started, spoken to, heard, and buried."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from isoflop.claims import Claim
from isoflop.launching.causes import Cause
from isoflop.machine import threads_of

#: Of what a dead worker wrote to its standard error, this many characters are kept.
_LAST_WORDS = 2000


@dataclass
class Worker:
    """A process of `isoflop.launching.worker`.

    Parameters
    ----------
    process, errors
        The process, and what it writes to standard error.
    slot
        Its place in the crew.

    Attributes
    ----------
    ready
        Whether it has started well.
    claim, step
        The run that it was given, and how far that is.
    killed
        Why its crew killed it, if it did.
    """

    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    slot: int
    ready: bool = False
    claim: Claim | None = None
    step: int = 0
    killed: Cause | None = None
    _unread: bytes = b""

    @classmethod
    def start(
        cls, study: Path, accelerator: str, slot: int, threads: int, gpus: str | None, devices_per_run: int = 1
    ) -> Self:
        """Start one with so many threads, on the GPUs of these names (with commas) where they are given."""
        environment = {**os.environ, **threads_of(threads)}
        if gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpus
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "isoflop.launching.worker", str(study), accelerator, str(devices_per_run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )
        worker = cls(process, errors, slot)
        os.set_blocking(worker.output.fileno(), False)
        return worker

    @property
    def output(self) -> IO[bytes]:
        """Its standard output."""
        assert self.process.stdout is not None  # noqa: S101 (for the type checker: it was opened as a pipe)
        return self.process.stdout

    def send(self, message: dict[str, Any]) -> None:
        """Tell it something; one that has just died is found out by the end of its output."""
        assert self.process.stdin is not None  # noqa: S101
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def messages(self) -> list[dict[str, Any]] | None:
        """What it has said since; None where it has ended."""
        heard = self.output.read()
        if heard == b"":
            return None
        *lines, self._unread = (self._unread + (heard or b"")).split(b"\n")
        return [json.loads(line) for line in lines]

    def dismiss(self) -> None:
        """Let it end: there is no more for it."""
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    def kill(self, cause: Cause) -> None:
        """Kill it, if it lives, and keep why."""
        if self.process.poll() is None:
            self.killed = cause
            self.process.kill()

    def last_words(self) -> str:
        """The end of its standard error."""
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace").strip()[-_LAST_WORDS:]

    def close(self) -> None:
        """Close what it was connected by."""
        self.errors.close()
        self.dismiss()
        with suppress(BrokenPipeError):
            self.output.close()


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs that this process was given; empty where nobody says."""
    return tuple(filter(None, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")))


def death(code: int, last_words: str) -> tuple[Cause, str]:
    """Why a worker died that its crew did not kill, from the code that it ended with."""
    words = f": {last_words}" if last_words else ""
    if code == -signal.SIGKILL:
        return Cause.OUT_OF_MEMORY, f"its process was killed by signal 9, as it is where memory runs out{words}"
    if code == -signal.SIGTERM:
        return Cause.PREEMPTED, f"its process was asked to end{words}"
    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
    return Cause.ERROR, f"its worker ended with {ending}{words}"
