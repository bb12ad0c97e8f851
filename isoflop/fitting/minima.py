"""The compute-optimal place on each IsoFLOP profile, or why it has none.

A profile is the loss of one budget's runs against ln N, and likewise against ln D. Its minimum is the vertex of a
local parabola through ln loss (`isoflop.fitting.parabola`), which counts only where the runs show the loss rising on
both sides of it; or the lowest place of an Akima spline (`isoflop.fitting.akima`), which counts where it lies between
the sizes. What does not count is named, with the reason and the runs that would cure it, and enters nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.akima import find_spline_vertices, level_crossings
from isoflop.fitting.columns import Floats
from isoflop.fitting.parabola import FEWEST, Vertices, find_vertices
from isoflop.fitting.points import Points
from isoflop.fitting.powerlaw import fit_lines
from isoflop.fitting.words import count

#: ln N that are closer are one size: seeds of one shape, or a table that rounds.
_SAME_SIZE = 1e-6
#: A profile whose ln losses differ by less has no shape at all.
_FLAT = 1e-6
#: Distinct sizes of a profile beyond which neighbours are averaged, in equal steps of ln N: a window of a few of them
#: must span enough of the profile to see it bend.
MOST_SIZES = 32
#: Losses this much above the optimum's, in shares of it, have their sizes reported.
TENTH_PERCENT, ONE_PERCENT = 0.001, 0.01

#: How a minimum is found.
Method = Literal["parabola", "akima"]
#: Two ends of an interval, None where it reaches beyond the sizes that were trained.
Span = tuple[float | None, float | None]


class Status(StrEnum):
    """What became of a budget's minimum; the members' comments say what to do."""

    INTERIOR = "interior"  #: Nothing: it enters the power laws.
    EDGE = "edge"  #: Add sizes beyond the end at which the loss is lowest.
    CONCAVE = "concave"  #: Repeat the runs near the lowest loss with other seeds, or add sizes farther out.
    TOO_FEW = "too_few"  #: Add sizes, until there are at least three; five make a noise estimate.
    FLAT = "flat"  #: Look at the losses: runs of different sizes do not give the same number.


@dataclass(frozen=True, eq=False)
class Profile:
    """The runs of one budget, by size: ascending `log_params`, with repeats of a size averaged; shape (n,) each.

    Points whose C is off the budget's are moved to it at fixed N: ln D by the difference in ln C, ln loss along the
    slope of the best losses (at an optimum, where ∂L/∂N = 0 along the budget, that is the slope at fixed N too).

    `budget` is the label and `flops` the C that its points really cost (geometric mean). `runs` counts the points
    behind each size, `repeat_squares` is Σ(ln loss − mean of its size)², and `spread` the largest |ln C/flops|.
    """

    budget: float
    flops: float
    log_params: Floats
    log_tokens: Floats
    log_loss: Floats
    runs: Floats
    repeat_squares: float
    spread: float

    @property
    def by_tokens(self) -> NDArray[np.intp]:
        """The order of the sizes by ascending ln D."""
        return np.argsort(self.log_tokens, kind="stable")


@dataclass(frozen=True)
class Minimum:
    """The minimum of one budget. What could not be found is None, and `status`, `reason` and `cure` say why.

    Parameters
    ----------
    budget, flops
        The budget's label, and the C that its runs really cost: power laws are fitted on the latter.
    status, reason, cure
        What became of it; a sentence; the runs that would cure it (empty where nothing ails).
    sizes, runs
        Distinct sizes and points of the profile.
    params, tokens, loss
        N*, D*, L*: the minima in ln N and, separately, in ln D; the height of the first.
    params_low, params_high, tokens_low, tokens_high
        Their 95 % bootstrap intervals.
    curvature, curvature_tokens
        c in ln L = ln L* + c·(ln N − ln N*)², and likewise in ln D; a spline's holds at its minimum only.
    window_params, window_tokens
        The smallest and largest size, and number of tokens, that the curve goes through.
    tenth_percent, one_percent
        The sizes whose loss lies within 0.1 % and 1 % of L*: a factor in N seldom costs more.
    params_corrected
        N* less the bias that the method has on the fitted surface (`isoflop.fitting.bias`), where there is one.
    """

    budget: float
    flops: float
    status: Status
    reason: str
    cure: str
    sizes: int
    runs: int
    params: float | None = None
    params_low: float | None = None
    params_high: float | None = None
    tokens: float | None = None
    tokens_low: float | None = None
    tokens_high: float | None = None
    loss: float | None = None
    curvature: float | None = None
    curvature_tokens: float | None = None
    window_params: tuple[float, float] | None = None
    window_tokens: tuple[float, float] | None = None
    tenth_percent: Span | None = None
    one_percent: Span | None = None
    params_corrected: float | None = None

    @property
    def bend(self) -> float:
        """The c of ln L = ln L* + c·(ln N − ln N*)² over the sizes within 1 % of L*, where they are on both sides.

        A parabola's is its curvature; a spline's curvature at its minimum says little of what lies beside it.
        """
        low, high = self.one_percent or (None, None)
        if low is None or high is None:
            return self.curvature or 0.0
        return float(4 * np.log1p(ONE_PERCENT) / np.log(high / low) ** 2)


def profiles(points: Points) -> tuple[Profile, ...]:
    """Return the profile of every budget, ascending."""
    edges = np.flatnonzero(np.diff(points.budget, prepend=np.nan, append=np.nan))
    members = [slice(int(start), int(stop)) for start, stop in pairwise(edges)]
    flops = np.array([np.exp(np.log(points.flops[each]).mean()) for each in members])
    best = np.array([np.log(points.loss[each]).min() for each in members])
    slope = 0.0
    if len(members) > 1:
        slope = float(fit_lines(np.log(flops), best[None], np.ones((1, len(best)), dtype=bool)).slope[0])
    return tuple(
        _profile(points, each, float(points.budget[each.start]), float(cost), slope)
        for each, cost in zip(members, flops, strict=True)
    )


def _profile(points: Points, mask: slice, budget: float, flops: float, slope: float) -> Profile:
    size = np.log(points.params[mask])
    move = np.log(flops / points.flops[mask])
    tokens = np.log(points.tokens[mask]) + move
    loss = np.log(points.loss[mask]) + slope * move
    group = np.cumsum(np.diff(size, prepend=size[0]) > _SAME_SIZE).astype(np.int64)
    if group[-1] >= MOST_SIZES:
        steps = np.minimum((size - size[0]) / (np.ptp(size) / MOST_SIZES), MOST_SIZES - 1).astype(np.int64)
        group = np.unique(steps, return_inverse=True)[1].astype(np.int64)
    runs = np.bincount(group).astype(np.float64)
    mean = np.bincount(group, loss) / runs
    return Profile(
        budget=budget,
        flops=flops,
        log_params=np.bincount(group, size) / runs,
        log_tokens=np.bincount(group, tokens) / runs,
        log_loss=mean,
        runs=runs,
        repeat_squares=float(((loss - mean[group]) ** 2).sum()),
        spread=float(np.abs(move).max()),
    )


def vertices_by_params(profile: Profile, log_loss: Floats, window: int, method: Method = "parabola") -> Vertices:
    """Minima in ln N of each row of `log_loss`, shape (r, n) in the profile's order."""
    if method == "akima":
        return find_spline_vertices(profile.log_params, log_loss)
    return find_vertices(profile.log_params, log_loss, profile.runs, window)


def vertices_by_tokens(profile: Profile, log_loss: Floats, window: int, method: Method = "parabola") -> Vertices:
    """Minima in ln D; `lowest` and `start` count in the order of ascending ln D."""
    order = profile.by_tokens
    if method == "akima":
        return find_spline_vertices(profile.log_tokens[order], log_loss[:, order])
    return find_vertices(profile.log_tokens[order], log_loss[:, order], profile.runs[order], window)


def find_minimum(profile: Profile, window: int, method: Method = "parabola") -> Minimum:
    """Find the minimum of one profile, without intervals, or say why it has none.

    `window` is the number of sizes in the local parabola, at least 3; a spline goes through all.
    """
    sizes, runs = len(profile.log_params), int(profile.runs.sum())
    blank = Minimum(profile.budget, profile.flops, Status.INTERIOR, "", "", sizes, runs)
    if sizes < FEWEST:
        return _refused(
            blank,
            Status.TOO_FEW,
            f"{sizes} distinct size{'s' * (sizes > 1)}, and a {_CURVES[method]} needs {FEWEST}",
            f"add at least {FEWEST - sizes} more at this budget (five let the noise be seen)",
        )
    if np.ptp(profile.log_loss) < _FLAT:
        return _refused(
            blank,
            Status.FLAT,
            f"all {sizes} sizes have the same loss, {np.exp(profile.log_loss[0]):.6g}",
            "look at the losses: runs of different sizes do not give the same number",
        )
    if method == "akima" and len(np.unique(profile.log_tokens)) < sizes:
        return _refused(
            blank,
            Status.TOO_FEW,
            "sizes of equal D, through which no spline in D goes",
            "look at the tokens: at one C models of different sizes see different numbers of them",
        )
    by_params = vertices_by_params(profile, profile.log_loss[None], window, method)
    by_tokens = vertices_by_tokens(profile, profile.log_loss[None], window, method)
    tokens_in_order = profile.log_tokens[profile.by_tokens]
    for fitted, x, what in ((by_params, profile.log_params, "parameters"), (by_tokens, tokens_in_order, "tokens")):
        refusal = _refusal(fitted, x, what, method)
        if refusal is not None:
            return _refused(blank, *refusal)
    width = min(window, sizes) if method == "parabola" else sizes
    reason, cure = "the loss rises on both sides of it", ""
    if by_params.lowest[0] in (0, sizes - 1):
        reason = "the spline's valley lies between the two outermost sizes, and no run stands on its far side"
        cure = f"add runs of {_beyond(profile.log_params, by_params.lowest[0] == 0)} parameters at this budget"
    return Minimum(
        budget=profile.budget,
        flops=profile.flops,
        status=Status.INTERIOR,
        reason=reason,
        cure=cure,
        sizes=sizes,
        runs=runs,
        params=float(np.exp(by_params.position[0])),
        tokens=float(np.exp(by_tokens.position[0])),
        loss=float(np.exp(by_params.height[0])),
        curvature=float(by_params.curvature[0]),
        curvature_tokens=float(by_tokens.curvature[0]),
        window_params=_ends(profile.log_params, int(by_params.start[0]), width),
        window_tokens=_ends(tokens_in_order, int(by_tokens.start[0]), width),
        tenth_percent=_within(profile, by_params, TENTH_PERCENT, method),
        one_percent=_within(profile, by_params, ONE_PERCENT, method),
    )


_CURVES = {"parabola": "parabola", "akima": "spline"}


def _ends(x: Floats, start: int, width: int) -> tuple[float, float]:
    return float(np.exp(x[start])), float(np.exp(x[start + width - 1]))


def _within(profile: Profile, fitted: Vertices, share: float, method: Method) -> Span:
    """The sizes whose loss, along the fitted curve, lies within `share` of the optimum's."""
    x, place, rise = profile.log_params, float(fitted.position[0]), float(np.log1p(share))
    ends: Span
    if method == "akima":
        ends = level_crossings(x, profile.log_loss, place, float(fitted.height[0]) + rise)
    else:
        half = float(np.sqrt(rise / fitted.curvature[0]))
        ends = (place - half, place + half)
    low, high = (None if end is None or not x[0] <= end <= x[-1] else float(np.exp(end)) for end in ends)
    return low, high


def _beyond(x: Floats, below: bool) -> str:
    """Two more sizes beyond an end of `x`, in the steps that it has."""
    end = x[0] if below else x[-1]
    step = float(np.median(np.diff(x))) * (-1 if below else 1)
    return " and ".join(count(float(np.exp(end + steps * step))) for steps in (1, 2))


def _refusal(fitted: Vertices, x: Floats, what: str, method: Method) -> tuple[Status, str, str] | None:
    """Status, reason and cure of a minimum in ln `x` that does not count, or None for one that does."""
    if fitted.inside[0]:
        return None
    lowest, last = int(fitted.lowest[0]), len(x) - 1
    vertex = float(fitted.position[0])
    if method == "parabola" and lowest not in (0, last) and not fitted.curvature[0] > 0:
        return (
            Status.CONCAVE,
            f"the loss does not curve upwards about its lowest value, at {count(float(np.exp(x[lowest])))} {what}",
            "repeat the runs about the lowest loss with other seeds, or add sizes farther out",
        )
    below = lowest == 0 if lowest in (0, last) else vertex <= x[0]
    end, other = (x[0], "fewest") if below else (x[-1], "most")
    if lowest in (0, last):
        reason = f"the loss is lowest at the {other} {what}, {count(float(np.exp(end)))}"
    else:
        place = count(float(np.exp(vertex)))
        reason = f"the parabola's vertex, {place} {what}, lies beyond the {other}, {count(float(np.exp(end)))}"
    return Status.EDGE, reason, f"add runs of {_beyond(x, below)} {what} at this budget"


def _refused(blank: Minimum, status: Status, reason: str, cure: str) -> Minimum:
    return Minimum(blank.budget, blank.flops, status, reason, cure, blank.sizes, blank.runs)
