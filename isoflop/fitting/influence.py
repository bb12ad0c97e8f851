"""What one run is worth: the exponents without it.

A law that a single run holds in place is that run's, not the study's. Each run's size is left out of its budget in
turn, the minimum found anew, and the line through the minima with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isoflop.fitting.minima import Method, Minimum, Profile, Status, find_minimum
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.points import Points
from isoflop.fitting.powerlaw import fit_lines

#: How many of the most influential sizes are kept, and beyond how many sizes nobody looks.
KEPT = 10
_MOST_SIZES = 600


@dataclass(frozen=True)
class Influence:
    """The exponent a without one size of one budget.

    Parameters
    ----------
    budget, params
        Which size.
    rows, name
        Its places in the table, and its run's id (or ``row 12``).
    a
        The exponent without it.
    move
        That less the law's.
    lost
        Whether the budget has no interior minimum without it.
    """

    budget: float
    params: float
    rows: tuple[int, ...]
    name: str
    a: float
    move: float
    lost: bool


def leave_one_out(
    points: Points,
    names: Sequence[str | None] | None,
    profiles: Sequence[Profile],
    minima: Sequence[Minimum],
    window: int,
    method: Method,
) -> tuple[Influence, ...]:
    """The sizes that move a most, the largest move first; `profiles` and `minima` are the interior ones.

    `names` are the table's runs by row. Empty where the table has too many sizes for one to matter.
    """
    if sum(len(each.runs) for each in profiles) > _MOST_SIZES:
        return ()
    x = np.log([each.flops for each in minima])
    y = np.log([each.params or math.nan for each in minima])
    whole = _slope(x, y)
    found = []
    for place, profile in enumerate(profiles):
        for size in range(len(profile.runs)):
            again = find_minimum(_without(profile, size), window, method)
            lost = again.status is not Status.INTERIOR or again.params is None
            kept = np.arange(len(x)) != place if lost else np.ones(len(x), dtype=bool)
            if kept.sum() < 2:
                continue
            moved = y.copy()
            moved[place] = math.log(again.params) if again.params is not None else 0.0
            a = _slope(x[kept], moved[kept])
            found.append((abs(a - whole), place, size, a, lost))
    found.sort(key=lambda each: (-each[0], each[1], each[2]))
    return tuple(
        _named(points, names, profiles[place], size, a, a - whole, lost) for _, place, size, a, lost in found[:KEPT]
    )


def _without(profile: Profile, size: int) -> Profile:
    return Profile(
        budget=profile.budget,
        flops=profile.flops,
        log_params=np.delete(profile.log_params, size),
        log_tokens=np.delete(profile.log_tokens, size),
        log_loss=np.delete(profile.log_loss, size),
        runs=np.delete(profile.runs, size),
        repeat_squares=profile.repeat_squares,
        spread=profile.spread,
    )


def _named(
    points: Points,
    names: Sequence[str | None] | None,
    profile: Profile,
    size: int,
    a: float,
    move: float,
    lost: bool,
) -> Influence:
    nearest = np.abs(np.log(points.params)[:, None] - profile.log_params).argmin(axis=1)
    rows = np.sort(points.row[(points.budget == profile.budget) & (nearest == size)]).tolist()
    told = [names[row] or f"row {row}" if names is not None else f"row {row}" for row in rows]
    return Influence(
        budget=profile.budget,
        params=float(np.exp(profile.log_params[size])),
        rows=tuple(rows),
        name=told[0] if len(told) == 1 else ", ".join(told[:FEWEST]) + (" …" if len(told) > FEWEST else ""),
        a=a,
        move=move,
        lost=lost,
    )


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(fit_lines(x, y[None], np.ones((1, len(x)), dtype=bool)).slope[0])
