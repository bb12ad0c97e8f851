"""One run on several devices of this machine: a process for each is started here, heard, and seen to its end.

::

    train_together(job, corpus, on_progress)  ──stdin──>   isoflop.training.rank   × devices
                                             <──stdout──   progress, result or error, a JSON line each

Whoever calls this trains nothing itself: so it can always end the others, by their process ids, whatever they wait
for. One that dies, or fails, ends the run for all; what it died of is raised here. The first rank alone writes, and
after each word of progress it waits for leave to go on.
"""

from __future__ import annotations

import os
import selectors
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, Self

from isoflop.child import Child, open_module
from isoflop.errors import CorruptFileError, Diverged, InputError, Interrupted, RunError
from isoflop.machine import threads_of
from isoflop.planning.runs import Run
from isoflop.training.metrics import Progress
from isoflop.training.module import Cadence
from isoflop.training.options import Options

#: Seconds in which the others may end, or tell a better reason, once one has failed; and in which all end once one is
#: done. Then they are killed.
_GRACE = 3.0


@dataclass(frozen=True)
class Job:
    """A run to be carried to its end: what each of its processes must know.

    Parameters
    ----------
    run, directory
        What to train, and its study directory.
    cadence, accelerator, micro_batches, options
        As `isoflop.training.run.run` has them.
    """

    run: Run
    directory: Path
    cadence: Cadence
    accelerator: str
    micro_batches: int
    options: Options

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values = {**vars(self), "run": self.run.to_dict(), "directory": str(self.directory.resolve())}
        return {**values, "cadence": asdict(self.cadence), "options": asdict(self.options)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read what `to_json` gave."""
        read = cls(**record)
        return replace(
            read,
            run=Run.from_dict(record["run"]),
            directory=Path(record["directory"]),
            cadence=Cadence(**record["cadence"]),
            options=Options(**{**record["options"], "loggers": tuple(record["options"]["loggers"])}),
        )


@dataclass
class _Rank(Child):
    """A process of the group.

    Attributes
    ----------
    result, error
        What it told in the end.
    """

    number: int
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    @classmethod
    def start(cls, number: int, size: int, meeting: Path, environment: Mapping[str, str]) -> Self:
        # Where Lightning looks for it. What they tell each other stays on this machine.
        told = {"GLOO_SOCKET_IFNAME": "lo", **os.environ, **environment, "LOCAL_RANK": str(number)}
        arguments = str(number), str(size), str(meeting)
        return cls(open_module("isoflop.training.rank", *arguments, environment=told), number)

    def end(self) -> None:
        """Kill it, if it lives, and close what it was connected by."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.close()


def probe(job: Job, corpus: Path | None, threads: int) -> dict[str, Any]:
    """Take some steps of `job` on as many devices as its options say (see `isoflop.training.probe`).

    Each in a process of its own, of so many threads; without a corpus on uniform tokens. Errors as `train_together`.
    """
    return _together(job, corpus, None, probe=True, environment=threads_of(threads))


def train_together(job: Job, corpus: Path, on_progress: Callable[[Progress], None] | None) -> dict[str, Any]:
    """Carry `job` to its end on as many devices as its options say, with the tokens at `corpus`; returns the result.

    Raises
    ------
    Interrupted
        If `on_progress` raised it: the run has stopped at a row of metrics, with a checkpoint. Whatever else that
        raises ends all processes at once.
    MemoryError
        If memory ran out for one of them, or one was killed as it is where that happens.
    RunError
        If one of them died otherwise, or failed; or whatever else one of them raised, as in a run by one process.
    """
    return _together(job, corpus, on_progress)


def _together(
    job: Job,
    corpus: Path | None,
    on_progress: Callable[[Progress], None] | None,
    probe: bool = False,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    size = job.options.devices
    order = {**job.to_json(), "corpus": "" if corpus is None else str(corpus.resolve()), "probe": probe}
    ranks: list[_Rank] = []
    with tempfile.TemporaryDirectory(prefix="isoflop-") as folder:
        try:
            for number in range(size):
                ranks.append(_Rank.start(number, size, Path(folder) / "meeting", environment))
                ranks[-1].send(order)
            return _Conversation(job.run, ranks, on_progress).result()
        finally:
            for rank in ranks:
                rank.end()


class _Conversation:
    """What is said between the ranks of a run and who started them."""

    def __init__(self, run: Run, ranks: list[_Rank], on_progress: Callable[[Progress], None] | None) -> None:
        self._run = run
        self._ranks = ranks
        self._on_progress = on_progress
        self._interruption: Interrupted | None = None

    def result(self) -> dict[str, Any]:
        """Hear the ranks until all have ended, or one has failed; the first one's result."""
        deadline = float("inf")
        with selectors.DefaultSelector() as selector:
            for rank in self._ranks:
                selector.register(rank.output, selectors.EVENT_READ, rank)
            while selector.get_map() and time.monotonic() < deadline:
                for key, _ in selector.select(0.2):
                    messages = key.data.messages()
                    if messages is None:
                        selector.unregister(key.fileobj)
                    for message in messages or ():
                        self._hear(key.data, message)
                    died = messages is None and key.data.result is None
                    # Those that do not lead are done first: the result is still to be written.
                    if died or key.data.error or self._ranks[0].result is not None:
                        deadline = min(deadline, time.monotonic() + _GRACE)
        # Only now: of whom has died it is known by what.
        codes = [rank.process.poll() for rank in self._ranks]
        result = self._ranks[0].result
        return self._fail(codes) if result is None else result

    def _hear(self, rank: _Rank, message: dict[str, Any]) -> None:
        if "progress" in message:
            stop = ""
            try:
                if self._on_progress is not None:
                    self._on_progress(Progress(**message["progress"]))
            except Interrupted as interruption:
                self._interruption = interruption
                stop = str(interruption)
            rank.send({"stop": stop} if self._interruption else {})
        elif "error" in message:
            rank.error = message
        else:
            rank.result = message["result"]

    def _fail(self, codes: list[int | None]) -> NoReturn:
        """Raise what ended the run: a death before what it did to the others, and memory before all that is told."""
        for rank, code in zip(self._ranks, codes, strict=True):
            if code is not None and rank.error is None and rank.result is None:
                raise _death(self._run, rank.number, code)
        told = sorted(
            (rank.error for rank in self._ranks if rank.error is not None),
            key=lambda error: (error["error"] not in _MEMORY, error["time"]),
        )
        if not told:
            raise RunError(f"the processes of run {self._run.id} must end together, but did not")
        if told[0]["error"] == Interrupted.__name__ and self._interruption is not None:
            raise self._interruption
        raise _told(told[0])


_MEMORY = frozenset({"MemoryError", "OutOfMemoryError"})
_KNOWN: dict[str, type[Exception]] = {
    error.__name__: error for error in (Interrupted, Diverged, InputError, CorruptFileError, RunError)
}


def _death(run: Run, number: int, code: int) -> Exception:
    if code == -signal.SIGKILL:
        return MemoryError(f"process {number} of run {run.id} was killed by signal 9, as it is where memory runs out")
    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
    return RunError(f"process {number} of run {run.id} ended with {ending}; its log has its last words")


def _told(error: dict[str, Any]) -> Exception:
    """The exception of a rank, as it is where a run is one process."""
    kind, message = error["error"], error["message"]
    if kind in _MEMORY:
        return MemoryError(message)
    if error["errno"] is not None:
        return OSError(error["errno"], message)
    return _KNOWN[kind](message) if kind in _KNOWN else RunError(f"{kind}: {message}")
