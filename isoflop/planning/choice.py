"""The next cells worth running: of the feasible ones, those that make what is wanted surest per FLOP.

Cells are picked one by one, each by the greatest relative fall of the goals' variances per FLOP that it takes, given
the ones picked before it. Up to three runs of a cell are allowed, for a cheap cell again often tells more per FLOP than
a dear one for the first time. Every pick is a record with a sentence that says what it is expected to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.columns import Floats
from isoflop.fitting.intervals import NORMAL
from isoflop.fitting.words import count as in_words
from isoflop.fitting.words import power
from isoflop.planning.information import Aim, Frame, Information

#: Runs of one cell at the most: without repeats no choice gets far below the FLOPs of a grid, and many more of them
#: would test the form at one place only.
REPLICATES = 3
#: ln N and ln D that differ by less are one cell's.
SAME_CELL = 0.005

Purpose = Literal["seed", "information", "hold_out", "bracket"]


@dataclass(frozen=True, eq=False)
class Finished:
    """Runs that are done: budget and C in training FLOPs, N, D and loss, shape (n,) each."""

    budget: Floats
    flops: Floats
    params: Floats
    tokens: Floats
    loss: Floats

    def __len__(self) -> int:
        return len(self.flops)


@dataclass(frozen=True, eq=False)
class Feasible:
    """Cells that could be run, shape (m,) each: `price` is the FLOPs that a run takes, `taken` how many it has.

    The price is `flops`, or less where a trunk is trained already. A cell may have up to `most` runs.
    """

    budget: Floats
    flops: Floats
    params: Floats
    tokens: Floats
    price: Floats
    taken: NDArray[np.int64]
    most: int = REPLICATES

    def __len__(self) -> int:
        return len(self.flops)

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Feasible:
        """Some of them."""
        arrays = {name: values[chosen] for name, values in vars(self).items() if name != "most"}
        return replace(self, **arrays)

    @property
    def open(self) -> NDArray[np.bool_]:
        """Which of them may be run once more."""
        return self.taken < self.most


@dataclass(frozen=True)
class Choice:
    """One cell to run, and why.

    Parameters
    ----------
    cell
        Its place among the feasible ones.
    budget, params, tokens, price
        Of the cell; the price is what the run takes, in FLOPs.
    replicate
        Runs of the cell that there are already, and so the place of its seed.
    purpose, reason
        What it is for, in a word and in a sentence.
    expected
        For a hold-out: ln loss, and the two ends between which it should lie.
    """

    cell: int
    budget: float
    params: float
    tokens: float
    price: float
    replicate: int
    purpose: Purpose
    reason: str
    expected: tuple[float, float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "expected": None if self.expected is None else list(self.expected)}

    def __str__(self) -> str:
        return f"C = {power(self.budget)}, N = {in_words(self.params)}, D = {in_words(self.tokens)}: {self.reason}"


def pick(cells: Feasible, place: int, taken: int, purpose: Purpose, reason: str) -> Choice:
    """The feasible cell at `place` as a choice; `taken` are its runs so far, those chosen in this batch too."""
    return Choice(
        cell=place,
        budget=float(cells.budget[place]),
        params=float(cells.params[place]),
        tokens=float(cells.tokens[place]),
        price=float(cells.price[place]),
        replicate=taken,
        purpose=purpose,
        reason=reason,
    )


def seeds(cells: Feasible, centers: dict[float, float], sizes: Sequence[int], width: float) -> list[Choice]:
    """The first runs of a study: at the lowest budgets so many `sizes`, over ×`width` about the believed center.

    `centers` are the believed N* by budget. A budget with fewer feasible sizes gives all it has.
    """
    found: list[Choice] = []
    for budget, count in zip(sorted(centers), sizes, strict=False):
        here = np.flatnonzero(cells.budget == budget)
        used: set[int] = set()
        for wanted in math.log(centers[budget]) + np.linspace(-0.5, 0.5, count) * math.log(width):
            free = [int(place) for place in here if place not in used]
            if free:
                nearest = min(free, key=lambda place: abs(math.log(cells.params[place]) - wanted))
                used.add(nearest)
        for place in sorted(used, key=lambda place: float(cells.params[place])):
            reason = (
                f"nothing is known yet: one of {len(used)} sizes about the {in_words(centers[budget])} that is "
                "believed optimal at a cheap budget"
            )
            found.append(pick(cells, place, 0, "seed", reason))
    return found


def most_telling(
    information: Information, frame: Frame, aims: Sequence[Aim], cells: Feasible, count: int, *, beyond: bool = False
) -> tuple[list[Choice], Information]:
    """Pick up to `count` cells that bring the `aims` nearest to their goals per FLOP, and what is known with them.

    A goal that is reached counts no more, unless the picks shall go `beyond` the goals.
    """
    chosen: list[Choice] = []
    taken = cells.taken.copy()
    slopes = frame.slopes(cells.params, cells.tokens)
    places = np.log(np.stack([cells.params, cells.tokens], axis=1))
    enough = np.array([0.0 if beyond else (aim.goal.half_width / NORMAL) ** 2 for aim in aims])
    while len(chosen) < count:
        now = np.array([information.variance(aim) for aim in aims])
        with_each = np.maximum(information.variances_with(aims, slopes, places), enough[:, None])
        falls = np.where((now > enough)[:, None], np.log(now[:, None] / with_each), 0.0)
        value = np.where(taken < cells.most, falls.sum(axis=0) / cells.price, -np.inf)
        if not len(value) or value.max() <= 0:
            break
        best = int(value.argmax())
        after = information.with_run(slopes[best], places[best])
        told = ", ".join(
            f"{aim.goal.name} ±{information.half_width(aim):.3g} to ±{after.half_width(aim):.3g}" for aim in aims
        )
        again = f"run {int(taken[best]) + 1} of this cell" if taken[best] else "this cell"
        reason = f"{again} tells most per FLOP: {told} for {power(float(cells.price[best]))} FLOPs"
        chosen.append(pick(cells, best, int(taken[best]), "information", reason))
        taken[best] += 1
        information = after
    return chosen, information
