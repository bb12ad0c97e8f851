"""A ladder of brackets: the cells of a study whose losses follow no surface, budget by budget.

At each budget the optimum is expected where the line through the minima so far puts it. Three sizes are run about
that place; while the lowest loss stands at an edge, one more beyond it; then sizes between, until enough stand about
the minimum for a spline. Only then the next budget, for the line is surer by then. Nothing is assumed but that the
optimum moves along a line and that the loss rises to both sides of it.

Source: the minima by Akima's spline are those that reproduce Porian et al. 2024 (`isoflop.fitting.akima`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.bootstrap import FEWEST_BUDGETS
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.words import count as in_words
from isoflop.fitting.words import power
from isoflop.planning.choice import SAME_CELL, Choice, Feasible, Finished, pick

#: The factor from one size of a bracket to the next.
_STEP = 2.0
#: Sizes about a minimum before the next budget is begun.
SIZES = 5
#: Sizes closer than this factor are one.
_SAME = 1.1


def repairs(finished: Finished, cells: Feasible) -> list[Choice]:
    """Runs beyond the edges at which losses are lowest, as long as too few budgets have an interior minimum.

    The cheapest budgets first; none where there are minima enough, or nothing more can be run beyond.
    """
    edges: list[Choice] = []
    interior = 0
    for budget in np.unique(finished.budget):
        size, _, lowest = _profile(finished, float(budget))
        if len(size) < FEWEST:
            continue
        if 0 < lowest < len(size) - 1:
            interior += 1
            continue
        edges += _beyond(cells, float(budget), size, lowest)
    return edges[: FEWEST_BUDGETS - interior] if interior < FEWEST_BUDGETS else []


def next_rung(
    finished: Finished, cells: Feasible, center: Callable[[float], float], sizes: int = SIZES
) -> tuple[list[Choice], str]:
    """The next runs of the ladder, all of one budget, and a sentence on it; none where every budget has its minimum.

    Parameters
    ----------
    finished, cells
        What is done, and what could be.
    center
        N* that is believed at a budget before there are minima.
    sizes
        How many are wanted about each minimum.
    """
    below: list[tuple[float, float]] = []
    for budget in np.unique(cells.budget).tolist():
        size, loss, lowest = _profile(finished, budget)
        expected = _expected(below, center, budget)
        if len(size) < FEWEST:
            started = _bracket(cells, budget, size, expected)
            if started:
                told = in_words(math.exp(expected))
                return started, f"at C = {power(budget)} the optimum is expected at {told}: a bracket about it"
        elif lowest in (0, len(size) - 1):
            more = _beyond(cells, budget, size, lowest)
            if more:
                return more, f"at C = {power(budget)} the lowest loss stands at an edge"
        elif len(size) < sizes:
            more = _between(cells, budget, size, lowest)
            if more:
                return more, f"at C = {power(budget)} {len(size)} sizes are too few about the minimum"
        if len(size) >= FEWEST and 0 < lowest < len(size) - 1:
            below.append((math.log(budget), _vertex(size, loss, lowest)))
    return [], "every budget has its minimum, or no cell is left that would find it"


def _profile(finished: Finished, budget: float) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Ln N of the distinct sizes at a budget, the mean ln loss of each, and the place of the lowest (−1: none)."""
    here = finished.budget == budget
    order = np.argsort(finished.params[here], kind="stable")
    size, loss = np.log(finished.params[here][order]), np.log(finished.loss[here][order])
    group = np.cumsum(np.diff(size, prepend=size[:1]) > SAME_CELL)
    runs = np.bincount(group) if len(group) else np.zeros(0)
    mean = np.bincount(group, loss) / runs if len(group) else loss
    return np.bincount(group, size) / runs if len(group) else size, mean, int(mean.argmin()) if len(mean) else -1


def _expected(below: list[tuple[float, float]], center: Callable[[float], float], budget: float) -> float:
    """Ln N* where the line through the minima so far puts it; from the belief, moved to the last one, with fewer."""
    believed = math.log(center(budget))
    if not below:
        return believed
    if len(below) < FEWEST_BUDGETS:
        return believed + below[-1][1] - math.log(center(math.exp(below[-1][0])))
    x, y = np.array(below).T
    slope = float(np.polyfit(x - x.mean(), y, 1)[0])
    return float(y.mean() + slope * (math.log(budget) - x.mean()))


def _vertex(size: NDArray[np.float64], loss: NDArray[np.float64], lowest: int) -> float:
    """Ln N of the parabola through the lowest size and its neighbours."""
    near = slice(lowest - 1, lowest + 2)
    square, linear, _ = np.polyfit(size[near] - size[lowest], loss[near], 2)
    return float(size[lowest] - linear / (2 * square))


def _free(cells: Feasible, budget: float, size: NDArray[np.float64]) -> NDArray[np.intp]:
    """Cells of a budget whose size has no run yet."""
    here: NDArray[np.intp] = np.flatnonzero((cells.budget == budget) & (cells.taken == 0))
    if not len(size):
        return here
    apart = np.abs(np.log(cells.params[here])[:, None] - size[None, :]).min(axis=1)
    apart_enough: NDArray[np.intp] = here[apart > math.log(_SAME)]
    return apart_enough


def _nearest(cells: Feasible, free: NDArray[np.intp], wanted: float) -> int:
    return int(free[np.abs(np.log(cells.params[free]) - wanted).argmin()])


def _bracket(cells: Feasible, budget: float, size: NDArray[np.float64], expected: float) -> list[Choice]:
    found: list[Choice] = []
    free = _free(cells, budget, size)
    for side in (0.0, -1.0, 1.0)[: FEWEST - len(size)]:
        if not len(free):
            break
        place = _nearest(cells, free, expected + side * math.log(_STEP))
        reason = f"one of three sizes about the {in_words(math.exp(expected))} that is expected to be optimal"
        found.append(pick(cells, place, 0, "bracket", reason))
        free = free[np.abs(np.log(cells.params[free] / cells.params[place])) > math.log(_SAME)]
    return found


def _beyond(cells: Feasible, budget: float, size: NDArray[np.float64], lowest: int) -> list[Choice]:
    """The next size beyond the edge at which the loss is lowest."""
    sign = -1.0 if lowest == 0 else 1.0
    free = _free(cells, budget, size)
    free = free[sign * (np.log(cells.params[free]) - size[lowest]) > 0]
    if not len(free):
        return []
    place = _nearest(cells, free, size[lowest] + sign * math.log(_STEP))
    side = "smallest" if sign < 0 else "largest"
    reason = f"the loss is lowest at the {side} size so far, {in_words(math.exp(size[lowest]))}: one beyond it"
    return [pick(cells, place, 0, "bracket", reason)]


def _between(cells: Feasible, budget: float, size: NDArray[np.float64], lowest: int) -> list[Choice]:
    """A size between the lowest and a neighbour, where the gap is wider; else one beyond the nearer end."""
    gaps = [(size[lowest] - size[lowest - 1], lowest - 1), (size[lowest + 1] - size[lowest], lowest)]
    free = _free(cells, budget, size)
    for _, left in sorted(gaps, reverse=True):
        inside = free[(np.log(cells.params[free]) > size[left]) & (np.log(cells.params[free]) < size[left + 1])]
        if len(inside):
            place = _nearest(cells, inside, (size[left] + size[left + 1]) / 2)
            return [pick(cells, place, 0, "bracket", "a size between the lowest loss and its neighbour")]
    if not len(free):
        return []
    place = _nearest(cells, free, float(size[lowest]))
    return [pick(cells, place, 0, "bracket", "the nearest size to the lowest loss that has no run")]
