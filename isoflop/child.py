"""A process that this one has started and speaks with: a JSON line at a time, by its standard input and output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any


@dataclass
class Child:
    """A child by its process; nothing here waits for it.

    Parameters
    ----------
    process
        See `open_module`.
    """

    process: subprocess.Popen[bytes]
    _unread: bytes = field(default=b"", init=False, repr=False)

    def __post_init__(self) -> None:
        os.set_blocking(self.output.fileno(), False)

    @property
    def output(self) -> IO[bytes]:
        """Its standard output."""
        assert self.process.stdout is not None  # noqa: S101 - opened as a pipe
        return self.process.stdout

    def send(self, message: dict[str, Any]) -> None:
        """Tell it something; one that has just died is found out by the end of its output."""
        assert self.process.stdin is not None  # noqa: S101 - opened as a pipe
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

    def close(self) -> None:
        """Close what it was connected by."""
        self.dismiss()
        with suppress(BrokenPipeError):
            self.output.close()


def open_module(
    module: str, *arguments: str, environment: Mapping[str, str], errors: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` with this interpreter, its standard error to `errors` (None: this one's)."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=dict(environment),
    )
