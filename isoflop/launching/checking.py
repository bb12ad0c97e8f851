"""Whether a study's own trainer keeps its contract (`isoflop.trainer`), tried on the study's cheapest run.

The run is trained twice by real workers, in directories of their own: once from its start to its end, and once asked to
stop after a quarter of its steps and killed (SIGKILL) after half of them. What a sweep needs of a trainer is looked at:
that it tells how it goes, stops when asked to, carries on from its own checkpoints, and ends where it would have ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isoflop.errors import RunError
from isoflop.launching.causes import Cause
from isoflop.launching.process import Worker, death
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory

#: How far the losses of the two may lie apart (fraction): a third of the noise that plans expect between seeds.
TOLERANCE = 1e-3
#: The parts of the steps after which the run is asked to stop, and killed.
_STOP, _KILL = 1 / 4, 1 / 2
#: Who begins again is heard of where it was first, or not much later: within this part of the way that it had come.
_BEYOND = 0.1
#: Seconds between two looks at a worker.
_POLL = 0.02
#: Seconds in which a worker that was asked to stop must have stopped.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: whether it holds, what was seen, and what to do where it does not hold."""

    name: str
    passed: bool
    seen: str
    remedy: str = ""

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return f"{verdict}  {self.name}: {self.seen}" + (
            f" -> {self.remedy}" if self.remedy and not self.passed else ""
        )


@dataclass(frozen=True)
class Checked:
    """What came of it: the run that was tried, the checks, and the seconds that it took from start to end."""

    run: str
    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all checks hold."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run": self.run,
            "passed": self.passed,
            "seconds": self.seconds,
            "checks": list(map(asdict, self.checks)),
        }

    def __str__(self) -> str:
        verdict = "keeps its contract" if self.passed else "does NOT keep its contract"
        return "\n".join([*map(str, self.checks), f"the trainer {verdict} on {self.run} ({self.seconds:.1f} s)"])


@dataclass
class _Heard:
    """What a worker said of a run until it ended: `ending` is its last message, or that of its death."""

    steps: list[int]
    ending: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.ending["event"])

    @property
    def reason(self) -> str:
        return ": ".join(str(self.ending[name]) for name in ("cause", "message") if self.ending.get(name))


def check(
    straight: StudyDirectory,
    interrupted: StudyDirectory,
    run: Run,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Checked:
    """Try `run` in two prepared study directories.

    Parameters
    ----------
    straight, interrupted
        Where it is trained without a break, and with.
    run
        Of the plan of both.
    progress
        Told the steps done and those to do in all.

    Raises
    ------
    RunError
        If a worker cannot start.
    """
    began = time.monotonic()

    def told(done: int) -> None:
        progress(done, 2 * run.steps)

    with _worker(straight) as worker:
        whole = _train(worker, run, 1, on_step=told)
    seconds = time.monotonic() - began
    result = straight.run(run.id).result() if whole.kind == "finished" else None
    checks = [_result(whole, result)]
    if result is not None:
        checks += [_counts(run, result), _heartbeat(run, whole)]
        if len(_beats(run, whole)) > 1:
            checks += _interrupted(interrupted, run, whole, result, lambda step: told(run.steps + step))
    return Checked(run.id, tuple(checks), seconds)


def _interrupted(
    place: StudyDirectory, run: Run, whole: _Heard, result: dict[str, Any], told: Callable[[int], None]
) -> list[Check]:
    """Stop the run, kill it, and let it end."""
    first = _beats(run, whole)[0]
    with _worker(place) as worker:
        stopped = _train(worker, run, 1, on_step=told, stop_at=_STOP * run.steps)
    checks = [_stop(run, stopped)]
    with _worker(place) as worker:
        killed = _train(worker, run, 2, on_step=told, kill_at=_KILL * run.steps)
    with _worker(place) as worker:
        last = _train(worker, run, 3, on_step=told)
    checks.append(_resume("after being asked to stop", first, stopped, killed))
    if killed.kind == "killed":
        checks.append(_resume("after SIGKILL", first, killed, last))
    elif killed.kind == "finished":
        seen = f"it was at its end before it could be killed ({_told(killed)})"
        checks.append(
            Check(
                "resumes after SIGKILL",
                False,
                seen,
                "tell progress more often, or try a longer run: --set grid.budgets=[…]",
            )
        )
        last = killed
    else:
        last = killed
    return [*checks, _same(result, place, run, last)]


def _beats(run: Run, heard: _Heard) -> list[int]:
    """The steps before the last at which the worker heard of the run."""
    return [step for step in heard.steps if step < run.steps]


def _result(heard: _Heard, result: dict[str, Any] | None) -> Check:
    if result is None:
        return Check(
            "returns a finite loss",
            False,
            heard.reason,
            "mend what is said here; the contract: docs/how-to/trainers.md",
        )
    return Check("returns a finite loss", True, f"{result['loss']:.6g}")


def _counts(run: Run, result: dict[str, Any]) -> Check:
    """Counts that are off have failed the run itself; here it is said which of them the trainer vouches for."""
    counts = {"params": run.shape.parameters.total, "tokens": run.tokens, "flops": run.flops}
    told = {name: "told" if name in result["told"] else "not told" for name in counts}
    words = [f"{name} {value:,.10g} ({told[name]})" for name, value in counts.items()]
    return Check("its counts, where it tells them, are the plan's", True, ", ".join(words))


def _heartbeat(run: Run, heard: _Heard) -> Check:
    beats = _beats(run, heard)
    return Check(
        "tells its progress",
        len(beats) > 1,
        f"{len(beats)} times before its last step, {run.steps}",
        "call progress (a command: write a line to {progress}) at least every twentieth of a run",
    )


def _stop(run: Run, heard: _Heard) -> Check:
    return Check(
        "stops when it is asked to",
        heard.kind == "stopped",
        f"{heard.kind} at step {heard.steps[-1] if heard.steps else 0} of {run.steps}"
        + (f": {heard.reason}" if heard.kind == "failed" else ""),
        "let Interrupted pass, and tell progress more often (a command: end on SIGTERM)",
    )


def _resume(when: str, first: int, before: _Heard, after: _Heard) -> Check:
    """Whether what was heard first after an interruption lies well beyond what is heard first from the start."""
    reached, again = before.steps[-1] if before.steps else 0, after.steps[0] if after.steps else 0
    ended = f" ({after.reason})" if after.kind == "failed" else ""
    return Check(
        f"resumes {when}",
        again > first + _BEYOND * max(0, reached - first),
        f"was at step {reached}, next heard of at {again}{ended}",
        "write checkpoints (whole or not at all) to the folder given, and start from the newest",
    )


def _same(result: dict[str, Any], place: StudyDirectory, run: Run, last: _Heard) -> Check:
    name = "ends as if it had never been interrupted"
    found = place.run(run.id).result() if last.kind == "finished" else None
    if found is None:
        return Check(name, False, last.reason or last.kind, "mend what is said here")
    off = abs(found["loss"] / result["loss"] - 1) if result["loss"] else abs(found["loss"])
    seen = "the same loss, bit for bit" if off == 0 else f"the losses differ by {off:.2g} ({result['loss']:.9g})"
    remedy = f"keep the optimiser's state, the place in the data and random states too: within {TOLERANCE:g} is enough"
    return Check(name, off <= TOLERANCE, seen, remedy)


def _told(heard: _Heard) -> str:
    return f"heard of at steps {', '.join(map(str, heard.steps[:5]))}" if heard.steps else "never heard of"


@contextmanager
def _worker(place: StudyDirectory) -> Iterator[Worker]:
    """A worker that has started; `RunError` if it cannot."""
    worker = Worker.start(place.root, "cpu", 0, 1, None)
    try:
        while True:
            messages = worker.messages()
            if messages is None:
                raise RunError(f"a worker must start, but: {death(worker.process.wait(), worker.last_words())[1]}")
            if any(message["event"] == "ready" for message in messages):
                break
            time.sleep(_POLL)
        yield worker
    finally:
        worker.kill(Cause.STOPPED)
        worker.process.wait()
        worker.close()


def _train(
    worker: Worker,
    run: Run,
    attempt: int,
    *,
    on_step: Callable[[int], None],
    stop_at: float | None = None,
    kill_at: float | None = None,
) -> _Heard:
    """Give the worker the run, and listen until it ends, one way or another."""
    worker.send({"run": run.id, "token": attempt, "steps": None})
    steps: list[int] = []
    due = float("inf")
    while True:
        messages = worker.messages()
        if messages is None:
            cause, words = death(worker.process.wait(), worker.last_words())
            return _Heard(steps, {"event": "failed", "cause": cause, "message": words})
        for message in messages:
            if message["event"] in {"finished", "stopped", "failed"}:
                return _Heard(steps, message)
            if message["event"] != "progress":
                continue
            steps.append(message["step"])
            on_step(steps[-1])
            if kill_at is not None and kill_at <= steps[-1] < run.steps:
                worker.kill(Cause.STOPPED)
                worker.process.wait()
                return _Heard(steps, {"event": "killed"})
            if stop_at is not None and stop_at <= steps[-1] < run.steps and due == float("inf"):
                worker.send({"stop": Cause.STOPPED})
                due = time.monotonic() + _PATIENCE
        if time.monotonic() > due:
            return _Heard(steps, {"event": "failed", "message": f"it went on for {_PATIENCE:g} s"})
        time.sleep(_POLL)


def cheapest(runs: tuple[Run, ...]) -> Run:
    """The run to try: of the smallest budget, and of these the one of the most steps."""
    return min(runs, key=lambda run: (run.budget, -run.steps))


def apart(folder: Path) -> tuple[StudyDirectory, StudyDirectory]:
    """The two directories under `folder`."""
    return StudyDirectory(folder / "straight"), StudyDirectory(folder / "interrupted")
