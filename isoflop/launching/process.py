"""A worker's process as its crew sees it: started, spoken to, heard, and buried."""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from isoflop.child import Child, open_module
from isoflop.claims import Claim
from isoflop.launching.causes import Cause
from isoflop.machine import threads_of

#: Of what a dead worker wrote to its standard error, this many characters are kept.
_LAST_WORDS = 2000


@dataclass
class Worker(Child):
    """A process of `isoflop.launching.worker`.

    Parameters
    ----------
    errors
        What it writes to standard error.
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

    errors: IO[bytes]
    slot: int
    ready: bool = False
    claim: Claim | None = None
    step: int = 0
    killed: Cause | None = None

    @classmethod
    def start(
        cls, study: Path, accelerator: str, slot: int, threads: int, gpus: str | None, devices_per_run: int = 1
    ) -> Self:
        """Start one with so many threads, on the GPUs of these names (with commas) where they are given."""
        environment = {**os.environ, **threads_of(threads)}
        if gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpus
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        module, arguments = "isoflop.launching.worker", (str(study), accelerator, str(devices_per_run))
        return cls(open_module(module, *arguments, environment=environment, errors=errors), errors, slot)

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
        super().close()


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
