"""Which cells of a study an audit runs again: those at the minima of its law, and their neighbours on either side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isoflop.fitting.law import Law
from isoflop.fitting.minima import Minimum, Status
from isoflop.fitting.points import Points
from isoflop.fitting.words import count, power
from isoflop.planning.choice import SAME_CELL
from isoflop.planning.feasibility import Planner
from isoflop.planning.grid import feasible
from isoflop.planning.runs import Run
from isoflop.planning.variations import varied
from isoflop.store import StudyDirectory

if TYPE_CHECKING:
    import pandas as pd

#: A minimum and a neighbour on either side.
_SIDES = 3


@dataclass(frozen=True)
class Cell:
    """A point at a minimum or beside it, and the run that it is varied from."""

    budget: float
    flops: float
    params: float
    base: Run

    def __str__(self) -> str:
        return f"C = {power(self.budget)}, N = {count(self.params)}"


def cells_of(
    place: StudyDirectory, points: pd.DataFrame, judged: Points, law: Law, planner: Planner
) -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    """The cells at each minimum and on either side of it, and what there is to say of minima that lack one."""
    cells: list[Cell] = []
    said: list[str] = []
    adopted = "adopted" in points and points["adopted"].astype(bool).any()
    could = list(feasible(planner)) if adopted else []
    for minimum in law.minima:
        sizes = _sizes(points, judged, minimum.budget)
        middle = _middle(minimum, judged, sizes)
        about = [each for each in (middle - 1, middle, middle + 1) if 0 <= each < len(sizes)]
        here = [(sizes[each], _base(place, points, judged, sizes[each], planner, could)) for each in about]
        known = [(row, base) for row, base in here if isinstance(base, Run)]
        cells += [
            Cell(minimum.budget, float(judged.flops[row]), float(judged.params[row]), base) for row, base in known
        ]
        named_ = f"C = {power(minimum.budget)}"
        said += [
            f"{named_}, N = {count(float(judged.params[row]))}: {base}" for row, base in here if isinstance(base, str)
        ]
        if minimum.status is not Status.INTERIOR:
            said.append(f"{named_}: no minimum ({minimum.status}), run again about its lowest loss")
        elif len(about) < _SIDES:
            said.append(f"{named_}: its minimum lies by the end of its sizes, run again with the neighbours it has")
    return tuple(cells), tuple(said)


def _sizes(points: pd.DataFrame, judged: Points, budget: float) -> list[int]:
    """A place among the judged points for each size at `budget`, smallest first: of its first seed."""
    seeds = np.nan_to_num(points["seed"].to_numpy(dtype=float)[judged.row]) if "seed" in points else judged.row
    places = sorted(np.flatnonzero(judged.budget == budget), key=lambda place: (judged.params[place], seeds[place]))
    first: list[int] = []
    for place in map(int, places):
        if not first or math.log(judged.params[place] / judged.params[first[-1]]) > SAME_CELL:
            first.append(place)
    return first


def _middle(minimum: Minimum, judged: Points, sizes: Sequence[int]) -> int:
    """Which of the sizes is the minimum's, or has the lowest loss where there is none."""
    if minimum.params is None:
        return min(range(len(sizes)), key=lambda each: float(judged.loss[sizes[each]]))
    best = minimum.params
    return min(range(len(sizes)), key=lambda each: abs(math.log(judged.params[sizes[each]] / best)))


def _base(
    place: StudyDirectory, points: pd.DataFrame, judged: Points, row: int, planner: Planner, could: Sequence[Run]
) -> Run | str:
    """The run that a point is varied from, or why there is none."""
    record = points.iloc[int(judged.row[row])]
    if not record.get("adopted"):
        base = place.load_run(str(record["run"]))
        if varied(planner, base, {}, base.seed) != base:
            return "not run again, for the study's recipe or data are no longer those of its runs"
        return base
    params, budget = float(judged.params[row]), float(judged.budget[row])
    same = [
        run for run in could if run.budget == budget and abs(math.log(run.shape.parameters.total / params)) < SAME_CELL
    ]
    return same[0] if same else "adopted, and not run again, for the study's recipe has no such size there"
