"""Studies that choose their own cells: what is done and what could be, as `isoflop.planning.decision` asks for it.

`propose` reads the study directory, decides, and records the decision in its ``choices.json``; asked again with the
same points it gives the same answer. `add` writes the cells of a proposal into the study file as `grid.cells`, so that
a run of the study carries on with them: a cell chosen again gets its next seed. `run_until` does both in turn, and
`adopt_points` registers runs that exist already.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop import store, workflow
from isoflop.adopted import Adoption, adopt
from isoflop.arms import refuse_axes
from isoflop.errors import CorruptFileError, InputError, RunError
from isoflop.facts import data_facts, prior_of
from isoflop.fitting.bootstrap import FEWEST_BUDGETS
from isoflop.fitting.columns import Floats
from isoflop.fitting.points import judge
from isoflop.fitting.points import simulated as simulated_points
from isoflop.planning.choice import REPLICATES, SAME_CELL, Feasible, Finished
from isoflop.planning.costs import ladder_cost
from isoflop.planning.decision import decide
from isoflop.planning.feasibility import Planner
from isoflop.planning.grid import feasible
from isoflop.planning.information import Goal
from isoflop.planning.question import Held, Proposal, Question
from isoflop.planning.recipes import named
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory
from isoflop.study import Study
from isoflop.study_grid import Cells

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.workflow import Outcome

#: The same size with a step more or less is the same cell: ln D by which those of one budget may differ.
_SAME_TOKENS = 0.06


@dataclass(frozen=True)
class Proposed:
    """A proposal for a study.

    Parameters
    ----------
    proposal
        What to do next.
    runs
        The first run of each chosen cell, in the order of choice: one chosen again is a run with its next seed.
    spent
        FLOPs of the finished runs.
    feasible
        How many cells were weighed.
    digest
        Of the points and the goals that it was made of.
    """

    proposal: Proposal
    runs: tuple[Run, ...]
    spent: float
    feasible: int
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Plain values: the proposal's, with the shape of each cell."""
        document = self.proposal.to_json()
        for cell, run in zip(document["cells"], self.runs, strict=True):
            cell.update(size=run.shape.label, d_model=run.shape.d_model, steps=run.steps)
        return {**document, "spent": self.spent, "feasible": self.feasible}


def propose(
    study: Study,
    place: StudyDirectory,
    goals: tuple[Goal, ...],
    *,
    table: pd.DataFrame | None = None,
    count: int = 4,
    cap: float | None = None,
) -> Proposed:
    """Say which cells of `study` to run next; records it where the study has a directory.

    Parameters
    ----------
    study, place
        What is studied, and where it lives.
    goals
        What is wanted, how surely.
    table
        Points to go by instead of the study's own.
    count, cap
        Cells to choose at a time; FLOPs that all runs together may take.

    Raises
    ------
    InputError
        If the study names no prior and has too few points to tell where the optimum lies, or no cell is feasible.
    CorruptFileError
        If a file of the study is not what was written.
    """
    refuse_axes(study, "a choice of cells")
    data, prior = data_facts(study, place), prior_of(study)
    runs = list(feasible(Planner(study, named(study.recipe), data)))
    if not runs:
        raise InputError("a study must have feasible cells, but got none (isoflop plan says why)")
    points = _points(place) if table is None else table
    finished = _finished(points)
    if prior is None and (len(finished) == 0 or len(np.unique(finished.budget)) < FEWEST_BUDGETS):
        raise InputError(
            f"grid.prior must be given where fewer than {FEWEST_BUDGETS} budgets have points, but got none: the first "
            "sizes lie about the optimum that is believed"
        )
    grid = study.grid
    cost = ladder_cost((run.shape for run in runs), grid.convention, grid.attention)
    cells = _cells(runs, points, finished, place)
    middle = float(np.exp(np.log(cells.params).mean()))
    question = Question(
        goals=goals,
        center=(lambda flops: middle) if prior is None else (lambda flops: prior.optimum(flops, cost)),
        cost=cost,
        noise=grid.noise or 1e-4,
        width=grid.width,
        count=count,
        cap=cap,
    )
    held = [Held(**each) for record in _records(place) for each in record["held"]]
    proposal = decide(question, finished, cells, held=held)
    found = Proposed(
        proposal=proposal,
        runs=tuple(runs[cell.cell] for cell in proposal.cells),
        spent=float(finished.flops.sum()),
        feasible=len(cells),
        digest=_digest(finished, goals),
    )
    if place.study_file.exists() and table is None:
        _record(place, found)
    return found


def add(study: Study, place: StudyDirectory, found: Proposed) -> Study:
    """Write the chosen cells into the study file and the plan of the directory; returns the study with them.

    Raises
    ------
    InputError
        If the directory cannot be written.
    """
    seed, listed = study.training.seed, bool(named(study.recipe).ladder)
    wanted = _picked(study)
    for run, times in Counter(found.runs).items():
        replicates = (replace(run, seed=seed + each).id for each in range(REPLICATES))
        done = sum(place.run(each).result() is not None for each in replicates)
        key = run.budget, run.shape.label if listed else run.shape.d_model
        wanted[key] = max(wanted.get(key, 0), done + times)
    changed = _with_cells(study, wanted)
    workflow.create(place)
    workflow.write_plan(changed, place, workflow.plan(changed, place.root))
    _record(place, found)
    return changed


def _picked(study: Study) -> dict[tuple[float, int | str], int]:
    """How often each picked cell is run, by budget and size."""
    return {(cells.budget, size): cells.seeds or study.grid.seeds for cells in study.grid.cells for size in cells.sizes}


def _with_cells(study: Study, wanted: dict[tuple[float, int | str], int]) -> Study:
    rows: dict[tuple[float, int], list[int | str]] = defaultdict(list)
    for (budget, size), number in wanted.items():
        rows[budget, number].append(size)
    cells = tuple(
        Cells(budget=budget, sizes=tuple(sorted(sizes, key=_order)), seeds=number)
        for (budget, number), sizes in sorted(rows.items())
    )
    return study.model_copy(update={"grid": study.grid.model_copy(update={"cells": cells})})


def _order(size: int | str) -> tuple[bool, int | str]:
    """Widths by number, names as text."""
    return isinstance(size, str), size


def run_until(
    study: Study,
    place: StudyDirectory,
    goals: tuple[Goal, ...],
    execute: Callable[[Study], Outcome],
    *,
    count: int = 4,
    cap: float | None = None,
) -> tuple[Outcome | None, Proposed]:
    """Choose, run, fit, and choose again, until the goals are reached, the cap is, or no cell is left.

    Stopped anywhere and called again it carries on: cells chosen before stand in the directory's study file.

    Parameters
    ----------
    study, place, goals, count, cap
        As for `propose`.
    execute
        Runs what is planned and reads what came of it: `isoflop.workflow.run` with a profile and a watcher.

    Returns
    -------
    The outcome of the last round (None where nothing was run) and the proposal that ended the study.

    Raises
    ------
    InputError
        Unless ``grid.generator`` is ``chosen``: another one runs its whole grid first.
    RunError
        If runs that were chosen do not finish.
    """
    refuse_axes(study, "a choice of cells")
    if study.grid.generator != "chosen":
        raise InputError(
            "a study that chooses its cells must have grid.generator: chosen (--set grid.generator=chosen), but got "
            f"{study.grid.generator!r}"
        )
    if place.study_file.exists():
        before, ours = _picked(Study.load(place.study_file)), _picked(study)
        study = _with_cells(study, {key: max(before.get(key, 0), ours.get(key, 0)) for key in {**before, **ours}})
    outcome, last = None, None
    while True:
        if study.grid.cells:
            outcome = execute(study)
        found = propose(study, place, goals, count=count, cap=cap)
        if found.proposal.action != "run":
            return outcome, found
        if last is not None and found.to_json() == last.to_json():
            raise RunError(f"runs that are chosen must finish, but none of the last {len(found.runs)} did")
        study, last = add(study, place, found), found


def adopt_points(study: Study, place: StudyDirectory, table: pd.DataFrame, source: str) -> Adoption:
    """Register runs that exist already as finished cells of `study`; `table` is a points table, `source` its name.

    Raises
    ------
    InputError
        If it is the directory of a rehearsal, the points are simulated, or the directory cannot be written.
    NoAnswerError
        If no row can be adopted.
    """
    refuse_axes(study, "adopted points")
    workflow.refuse_rehearsal(place)
    if simulated_points(table):
        raise InputError(f"points of real runs must be adopted, but those of {source} are simulated")
    workflow.create(place)
    if not place.plan_file.exists():
        store.write_text(place.study_file, study.to_yaml())
        if study.grid.generator != "chosen" or study.grid.cells:
            workflow.write_plan(study, place, workflow.plan(study, place.root))
    return adopt(place.adopted, table, source, study.grid.budgets)


def _points(place: StudyDirectory) -> pd.DataFrame | None:
    """The study's points; None before it has a plan or adopted any."""
    known = place.plan_file.exists() or any(place.adopted.glob("*.parquet"))
    return store.points(place.root) if known else None


def _finished(points: pd.DataFrame | None) -> Finished:
    """The points that a fit uses, by the total N."""
    if points is None or not (points["loss"].notna()).any():
        none = np.zeros(0)
        return Finished(none, none, none, none, none)
    judged = judge(points)
    return Finished(judged.budget, judged.flops, judged.params, judged.tokens, judged.loss)


def _cells(runs: list[Run], points: pd.DataFrame | None, finished: Finished, place: StudyDirectory) -> Feasible:
    """The feasible cells with what a run of each takes now, and how many runs it has; what diverged has all."""
    budget, flops, tokens = (np.array([getattr(run, name) for run in runs], dtype=float) for name in _NAMES)
    params = np.array([float(run.shape.parameters.total) for run in runs])
    taken = _counted(budget, params, tokens, finished.budget, finished.params, finished.tokens)
    if points is not None and "state" in points:
        failed = points[points["state"] == "failed"]
        lost = [failed[name].to_numpy(dtype=float) for name in ("budget", "params", "tokens")]
        taken = np.where(_counted(budget, params, tokens, *lost) > 0, REPLICATES, taken)
    stored = {path.name: place.trunk(path.name).stored() for path in place.root.glob("trunks/*")}
    # Only where there are trunks, for a run's is a digest of it.
    stands = [stored.get(run.trunk, frozenset()) for run in runs] if stored else [frozenset[int]()] * len(runs)
    shared = [
        max((step for step in steps if step <= run.branch_step), default=0)
        for run, steps in zip(runs, stands, strict=True)
    ]
    price = flops * (1 - np.array(shared) / np.array([run.steps for run in runs]))
    return Feasible(budget, flops, params, tokens, price, taken.astype(np.int64))


_NAMES = ("budget", "flops", "tokens")


def _counted(
    budget: Floats, params: Floats, tokens: Floats, of_budget: Floats, of_params: Floats, of_tokens: Floats
) -> Floats:
    """How many of the second lot of runs are of each cell of the first."""
    same = (
        (np.abs(np.log(budget[:, None] / of_budget)) < _SAME_TOKENS)
        & (np.abs(np.log(params[:, None] / of_params)) < SAME_CELL)
        & (np.abs(np.log(tokens[:, None] / of_tokens)) < _SAME_TOKENS)
    )
    counted: Floats = same.sum(axis=1).astype(float)
    return counted


def _records(place: StudyDirectory) -> list[dict[str, Any]]:
    if not place.choices_file.exists():
        return []
    records = store.read_json(place.choices_file).get("choices")
    if not isinstance(records, list) or not all(isinstance(each, dict) and "held" in each for each in records):
        raise CorruptFileError(f"{place.choices_file} must hold choices, but does not; delete it to choose anew")
    return records


def _digest(finished: Finished, goals: tuple[Goal, ...]) -> str:
    text = json.dumps([*(values.tolist() for values in vars(finished).values()), [str(goal) for goal in goals]])
    return hashlib.sha256(text.encode()).hexdigest()


def _record(place: StudyDirectory, found: Proposed) -> None:
    """Write the decision behind those before it, unless the last one was made of the same points and goals."""
    records = _records(place)
    last = records[-1] if records else {}
    if (last.get("digest"), last.get("action")) == (found.digest, found.proposal.action):
        return
    held = [
        {"params": cell.params, "tokens": cell.tokens, "low": cell.expected[1], "high": cell.expected[2]}
        for cell in found.proposal.cells
        if cell.expected is not None
    ]
    record = {"digest": found.digest, "held": held, **found.to_json()}
    store.write_json(place.choices_file, {"choices": [*records, record]})
