"""Straight lines in logarithms: N*, D*, L* ∝ C^·, by ordinary least squares over the budgets.

Every interior budget counts once. Intervals by Student's t with n − 2 degrees of freedom assume only that minima
scatter alike and apart about the line; those by bootstrap come from `isoflop.fitting.bootstrap`, which also knows what
the minima of several budgets have in common.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.columns import Floats
from isoflop.fitting.intervals import Estimate, estimate, middle_interval, t_quantile


@dataclass(frozen=True)
class PowerLaw:
    """value(C) = `scale` · (C / `reference`)^exponent, `reference` in FLOPs at the budgets' centre.

    `scatter` is the sd of ln value about the law, with n − 2 degrees of freedom; `residuals` are ln(minimum/law) by
    budget, ascending.
    """

    exponent: Estimate
    reference: float
    scale: float
    scatter: float
    residuals: tuple[float, ...]

    def at(self, flops: float) -> float:
        """Value at `flops` training FLOPs."""
        return self.scale * math.exp(self.exponent.value * math.log(flops / self.reference))


@dataclass(frozen=True)
class Exponents:
    """N* ∝ C^a, D* ∝ C^b, `ratio` = b/a: how much faster data grow than the model, in exponent."""

    a: Estimate
    b: Estimate
    ratio: Estimate


@dataclass(frozen=True, eq=False)
class Lines:
    """Least-squares lines y = level + slope·(x − center), one a row, shape (r,) each; NaN where under two points.

    `spread` is Σ(x − center)², `count` the points, `scatter` the residual sd with count − 2 degrees of freedom (NaN
    where there are none), `residuals` of shape (r, n), 0 where a point is left out.
    """

    center: Floats
    level: Floats
    slope: Floats
    spread: Floats
    count: NDArray[np.int64]
    scatter: Floats
    residuals: Floats

    def at(self, x: Floats) -> Floats:
        """Values at each of `x`, shape (r, len(x))."""
        return self.level[:, None] + self.slope[:, None] * (x - self.center[:, None])

    def standard_error(self, x: Floats) -> Floats:
        """Of the line's height at each of `x`, shape (r, len(x))."""
        leverage = 1 / self.count[:, None] + (x - self.center[:, None]) ** 2 / self.spread[:, None]
        return self.scatter[:, None] * np.sqrt(leverage)


def fit_lines(x: Floats, y: Floats, present: NDArray[np.bool_]) -> Lines:
    """Fit a line to each row of `y`, shape (r, n), over the points of `x`, shape (n,), that are `present` in it."""
    count = present.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        center = np.where(present, x, 0.0).sum(axis=1) / count
        level = np.where(present, y, 0.0).sum(axis=1) / count
        offset = np.where(present, x - center[:, None], 0.0)
        spread = (offset**2).sum(axis=1)
        slope = (offset * np.where(present, y, 0.0)).sum(axis=1) / spread
        residuals = np.where(present, y - level[:, None] - slope[:, None] * offset, 0.0)
        scatter = np.sqrt((residuals**2).sum(axis=1) / np.where(count > 2, count - 2, np.nan))
    return Lines(center, level, slope, spread, count, scatter, residuals)


def slope_interval(line: Lines) -> tuple[float, float]:
    """95 % interval of the slope of the first of `line` by t with n − 2 degrees of freedom."""
    half = t_quantile(int(line.count[0]) - 2) * float(line.scatter[0]) / math.sqrt(float(line.spread[0]))
    return float(line.slope[0]) - half, float(line.slope[0]) + half


def ratio_interval(tokens: Lines, params: Lines) -> tuple[float, float]:
    """95 % interval of b/a by Fieller's theorem, from the lines of ln D* and ln N* over the same budgets.

    It holds every r for which the slope of ln D* − r·ln N* could be 0. Unbounded (infinite ends) where a itself
    could be.

    Source: Fieller 1954, J. R. Stat. Soc. B 16(2).
    """
    a, b = float(params.slope[0]), float(tokens.slope[0])
    freedom = int(params.count[0]) - 2
    error = t_quantile(freedom) ** 2 / (freedom * float(params.spread[0]))
    r_a, r_b = params.residuals[0], tokens.residuals[0]
    aa, ab, bb = error * float(r_a @ r_a), error * float(r_a @ r_b), error * float(r_b @ r_b)
    square, middle, constant = a * a - aa, a * b - ab, b * b - bb
    if square <= 0:
        return -math.inf, math.inf
    root = math.sqrt(max(middle * middle - square * constant, 0.0))
    return (middle - root) / square, (middle + root) / square


def power_law(observed: Lines, drawn: Lines) -> PowerLaw:
    """Make the law of the first of the `observed` lines, its intervals from t and from the `drawn` lines."""
    slopes = drawn.slope[np.isfinite(drawn.slope)]
    return PowerLaw(
        exponent=estimate(
            float(observed.slope[0]), slope_interval(observed), middle_interval(float(observed.slope[0]), slopes)
        ),
        reference=math.exp(float(observed.center[0])),
        scale=math.exp(float(observed.level[0])),
        scatter=float(observed.scatter[0]),
        residuals=tuple(observed.residuals[0].tolist()),
    )


def growth_ratio(params: Lines, tokens: Lines, drawn_params: Lines, drawn_tokens: Lines) -> Estimate:
    """b/a, with intervals by Fieller's theorem and from the drawn lines."""
    a, b = drawn_params.slope, drawn_tokens.slope
    usable = np.isfinite(a) & np.isfinite(b)
    # Models that do not grow with C: then data grow infinitely faster.
    ratios = np.where(a[usable] > 0, b[usable] / np.where(a[usable] > 0, a[usable], 1.0), np.inf)
    value = float(tokens.slope[0] / params.slope[0])
    return estimate(value, ratio_interval(tokens, params), middle_interval(value, ratios))
