"""What a person sees while a study runs: live bars in a terminal, a line for each event elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from isoflop.launching.base import Event, estimated_seconds
from isoflop.planning.plan import Plan
from isoflop.planning.runs import Run
from isoflop.planning.trunks import own_steps
from isoflop.workflow import Watcher

#: Share of the work from which the time that is left is told.
_ENOUGH_TO_TELL = 0.02
#: Seconds between lines where no terminal watches.
_QUIET = 15.0


class Display:
    """Shows a study's progress on standard error; use it as a context and hand `watcher` to the workflow."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._seconds: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        #: Steps that a run finds done in its trunk.
        self._shared: dict[str, int] = {}
        self._fraction: dict[str, float] = {}
        self._finished = 0
        self._started = time.monotonic()
        self._spoke = time.monotonic()

    @property
    def watcher(self) -> Watcher:
        """The callbacks for `isoflop.workflow.run`."""
        return Watcher(self._corpus, self._planned, self.event)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def _corpus(self, done: float, total: float, message: str) -> None:
        self._show("corpus", done / total if total else 1.0, message)

    def _planned(self, plan: Plan, unfinished: list[Run]) -> None:
        self.begun(len(plan.runs), unfinished)

    def begun(self, total: int, unfinished: list[Run]) -> None:
        """Show what becomes of the `unfinished` ones of `total` runs."""
        self._seconds = estimated_seconds(unfinished)
        self._steps = own_steps(unfinished)
        self._shared = {run.id: run.steps - self._steps[run.id] for run in unfinished}
        self._fraction, self._finished = {}, 0
        self._started = time.monotonic()
        self._say(f"{len(unfinished)} of {total} runs to do")

    def event(self, event: Event) -> None:
        """Show what happened to a run."""
        if event.kind == "progress":
            own = event.details["step"] - self._shared[event.run]
            self._fraction[event.run] = max(0.0, own / self._steps[event.run])
        elif event.kind in {"finished", "failed"}:
            self._fraction[event.run] = 1.0
            self._finished += 1
            what = f"loss {event.details['loss']:.4f}" if event.kind == "finished" else f"FAILED: {_why(event)}"
            self._say(f"{self._finished}/{len(self._steps)} {event.run}: {what}")
            for name in event.details.get("corrupt", ()):
                self._say(f"{event.run}: checkpoint {name} was corrupt and was not used")
        elif event.kind == "retried":
            self._say(f"{event.run}: to be tried again: {_why(event)}")
        done = sum(self._seconds[run] * fraction for run, fraction in self._fraction.items()) / sum(
            self._seconds.values()
        )
        # Workers take seconds to start: until some work is done, what is left cannot be told from that.
        left = (time.monotonic() - self._started) * (1 / done - 1) if done >= _ENOUGH_TO_TELL else None
        note = f"{self._finished} of {len(self._steps)} runs" + (f", {left:.0f} s left" if left is not None else "")
        if event.kind == "progress":
            note += f", {event.run}: loss {event.details['loss']:.3f}"
        self._show("runs", done, note)

    def _show(self, stage: str, fraction: float, note: str) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=1.0, note="")
        self._bars.update(self._tasks[stage], completed=fraction, note=note)
        if not self._console.is_terminal and time.monotonic() - self._spoke > _QUIET:
            self._say(f"{stage} {fraction:.0%}: {note}")

    def _say(self, line: str) -> None:
        self._spoke = time.monotonic()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _why(event: Event) -> str:
    return ": ".join(str(event.details[name]) for name in ("cause", "message") if event.details.get(name))
