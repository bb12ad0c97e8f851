"""The state of every run, from what is on disk; what a queue says is only a hint on top.

Quick on a login node: no torch, no tables library, a few small files a run.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from isoflop.claims import Claims, Observer, crews, device_hours
from isoflop.errors import CorruptFileError, InputError
from isoflop.launching.causes import PARDON
from isoflop.store import Branch, StudyDirectory, write_json

State = Literal["planned", "queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class RunState:
    """One run: where it stands and how far it is.

    Parameters
    ----------
    run, state
        Its id; planned, queued (a worker that may take it waits in the queue), running, done, failed or cancelled.
    in_grid
        Whether the study as it was last planned has it.
    budget, flops, params, tokens, steps
        As planned.
    trunk, branch
        The trunk that it shares, and up to which step; empty and 0 where it shares none.
    step
        Optimiser steps done, those that another run of its trunk took among them.
    loss
        The validation loss, NaN before the run is done.
    train_loss
        Where it is now; None if not known.
    cause, message
        Why it failed, or why its last attempt ended; None where nothing did.
    """

    run: str
    state: State
    in_grid: bool
    budget: float
    flops: float
    params: int
    tokens: int
    steps: int
    trunk: str
    branch: int
    step: int
    loss: float
    train_loss: float | None
    cause: str | None
    message: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def reason(self) -> str:
        """Cause and message in one line."""
        return ": ".join(part for part in (self.cause, self.message) if part) or "unknown"


def states(place: StudyDirectory, covered: Collection[str] = ()) -> list[RunState]:
    """Every run of the study, those of the grid first and in its order.

    Parameters
    ----------
    place
        The study directory.
    covered
        Ids of the runs that workers in a queue may take.

    Raises
    ------
    InputError
        If there is no study at `place`.
    CorruptFileError
        If the plan, or a run that left it, is not what was written.
    """
    grid = _grid(place)
    outside = [run_id for run_id in place.run_ids() if run_id not in grid]
    planned = {**grid, **{run_id: _row(place, run_id) for run_id in outside}}
    observer, branches = Observer(place.root), place.branches()
    for run_id, row in planned.items():
        branch = branches.get(run_id, Branch("", 0))
        row |= {"trunk": branch.trunk, "branch": branch.step}
    return [_state(place, run_id, row, run_id in grid, run_id in covered, observer) for run_id, row in planned.items()]


def _grid(place: StudyDirectory) -> dict[str, dict[str, Any]]:
    path = place.plan_file.with_suffix(".csv")
    if not path.exists():
        raise InputError(f"a study directory must hold {path.name}, but {place.root} does not")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                row["id"]: {
                    "budget": float(row["budget"]),
                    "flops": float(row["flops"]),
                    "params": int(float(row["params_total"])),
                    "tokens": int(float(row["tokens"])),
                    "steps": int(float(row["steps"])),
                }
                for row in csv.DictReader(file)
                if not row["dropped"]
            }
    except (KeyError, ValueError) as error:
        raise CorruptFileError(f"{path} must be the table of a plan, but: {error!r}") from error


def _row(place: StudyDirectory, run_id: str) -> dict[str, Any]:
    run = place.load_run(run_id)
    return {
        "budget": run.budget,
        "flops": run.flops,
        "params": run.shape.parameters.total,
        "tokens": run.tokens,
        "steps": run.steps,
    }


def _state(
    place: StudyDirectory, run_id: str, row: dict[str, Any], in_grid: bool, covered: bool, observer: Observer
) -> RunState:
    directory = place.run(run_id)
    result = directory.result()
    written = {} if result is not None else directory.status()
    state: State = "done" if result is not None else written["state"]
    if state != "done":
        if directory.cancelled_file.exists():
            state = "cancelled"
        elif state != "failed":
            working = place.worker_of(run_id, observer)
            state = "running" if working else "queued" if covered else "planned"
    return RunState(
        run=run_id,
        state=state,
        in_grid=in_grid,
        **row,
        step=row["steps"] if state == "done" else int(written.get("step") or 0),
        loss=math.nan if result is None else result["loss"],
        train_loss=written.get("loss"),
        cause=written.get("cause"),
        message=written.get("message"),
    )


@dataclass(frozen=True)
class Survey:
    """A study at a glance.

    Parameters
    ----------
    runs
        Of the grid and outside it.
    hours
        Device-hours that crews have held.
    devices
        Devices that crews hold now.
    """

    runs: tuple[RunState, ...]
    hours: float
    devices: int

    @property
    def grid(self) -> list[RunState]:
        """The runs of the grid."""
        return [run for run in self.runs if run.in_grid]

    @property
    def planned_flops(self) -> float:
        """Training FLOPs of the grid, the stable part of each trunk once."""
        return _trained(replace(run, step=run.steps) for run in self.grid)

    @property
    def spent_flops(self) -> float:
        """Training FLOPs of the steps that are done, those of the grid; what runs of a trunk share counts once."""
        return _trained(self.grid)

    @property
    def seconds_left(self) -> float | None:
        """Until the grid is done, if those who work go on as they did; None where nobody works or nothing is known."""
        spent = _trained(self.runs)
        ended = [run if run.state in {"failed", "cancelled"} else replace(run, step=run.steps) for run in self.grid]
        left = _trained(ended) - self.spent_flops
        if not self.devices or not spent or not self.hours:
            return None
        return left * (self.hours * 3600 / spent) / self.devices


def _trained(runs: Iterable[RunState]) -> float:
    """Training FLOPs of the steps that `runs` have done; those that runs of a trunk share count once."""
    own, stable = 0.0, defaultdict[str, float](float)
    for run in runs:
        shared = min(run.step, run.branch)
        own += run.flops * (run.step - shared) / run.steps
        stable[run.trunk] = max(stable[run.trunk], run.flops * shared / run.steps)
    return own + sum(stable.values())


def survey(place: StudyDirectory, covered: Collection[str] = ()) -> Survey:
    """Look at a study; see `states`."""
    observer = Observer(place.root)
    devices = sum(crew.devices for crew in crews(place.root) if crew.devices and observer.seems_alive(crew))
    return Survey(tuple(states(place, covered)), device_hours(place.root), devices)


def failures(place: StudyDirectory) -> dict[str, str]:
    """Cause and message by run id, for the runs of the grid that failed."""
    return {run.run: run.reason for run in states(place) if run.state == "failed" and run.in_grid}


def failed_because(place: StudyDirectory) -> str:
    """The same in a sentence, each cause once."""
    runs = defaultdict[str, list[str]](list)
    for run_id, cause in failures(place).items():
        runs[cause].append(run_id)
    return "; ".join(f"{', '.join(each)}: {cause}" for cause, each in runs.items()) or "none has been run"


def cancel(place: StudyDirectory, runs: Collection[str]) -> None:
    """Ask that `runs` be left alone: whoever works on one stops within seconds."""
    for run_id in runs:
        write_json(place.run(run_id).cancelled_file, {})


def pardon(place: StudyDirectory, claims: Claims, runs: Collection[str]) -> list[str]:
    """Let `runs` that failed or were cancelled be tried again as if for the first time; returns those that were.

    `claims` must have a crew: a pardon is a claim of its own in the record of attempts.
    """
    pardoned = []
    for run_id in runs:
        directory = place.run(run_id)
        written = directory.status()
        if written["state"] != "failed" and not directory.cancelled_file.exists():
            continue
        directory.cancelled_file.unlink(missing_ok=True)
        claim = claims.take(run_id)
        if claim is not None:
            claims.end(claim, PARDON)
        if written["state"] == "failed":
            directory.write_status("planned", step=written.get("step", 0))
        pardoned.append(run_id)
    return pardoned
