"""The loss along the optimum, L*(C) = floor + scale·(C/reference)^−exponent: what forecasts of the loss use.

A pure power law L* ∝ C^· has no floor, so it goes on falling: on the published surfaces it is 3 to 5 % too low ten
times beyond the largest budget. Over the decades of one study the floor itself stays vague (it is no estimate of E),
but the curve's next decade is good to the noise: on simulated studies of four surfaces its 95 % bootstrap interval
covers the loss at ×10 in 93 to 99 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.columns import Floats
from isoflop.fitting.powerlaw import fit_lines

#: The floor is searched from none to just under the lowest loss, on a grid that is refined about its best cell.
_GRID = 25
_ROUNDS = 4
_HIGHEST = 0.999


@dataclass(frozen=True)
class LossCurve:
    """L*(C) = `floor` + `scale`·(C/`reference`)^−`exponent`; `scatter` is the sd of ln L* about it (n − 3 degrees)."""

    floor: float
    scale: float
    exponent: float
    reference: float
    scatter: float

    def at(self, flops: float) -> float:
        """Loss of the optimal model at `flops` training FLOPs."""
        return self.floor + self.scale * math.exp(-self.exponent * math.log(flops / self.reference))


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves ln L = ln(floor + exp(level + slope·(x − center))), one a row, shape (r,) each.

    `misfit` is the sum of squared residuals of ln L.
    """

    floor: Floats
    level: Floats
    slope: Floats
    center: Floats
    misfit: Floats

    def at(self, x: Floats) -> Floats:
        """Ln loss at each of `x`, shape (r, len(x))."""
        above = np.exp(self.level[:, None] + self.slope[:, None] * (x - self.center[:, None]))
        fitted: Floats = np.log(self.floor[:, None] + above)
        return fitted


def fit_curves(x: Floats, log_loss: Floats, present: NDArray[np.bool_]) -> Curves:
    """Fit a curve to each row of `log_loss`, shape (r, n), over the points of ln C = `x`, shape (n,), `present` in it.

    For a given floor the curve is a line in logarithms; the floor is searched for the least squares of ln L.
    """
    rows = np.arange(len(log_loss))
    lowest = np.exp(np.where(present, log_loss, np.inf).min(axis=1))
    low, high = np.zeros(len(rows)), np.full(len(rows), _HIGHEST)
    for _ in range(_ROUNDS):
        shares = np.linspace(low, high, _GRID, axis=1)
        misfit = np.stack([_misfit(x, log_loss, present, share * lowest) for share in shares.T], axis=1)
        best = misfit.argmin(axis=1)
        low = shares[rows, np.maximum(best - 1, 0)]
        high = shares[rows, np.minimum(best + 1, _GRID - 1)]
    floor = shares[rows, best] * lowest
    line = fit_lines(x, _above(log_loss, present, floor), present)
    return Curves(floor, line.level, line.slope, line.center, misfit[rows, best])


def fit_loss_curve(x: Floats, log_loss: Floats) -> LossCurve:
    """Fit the curve to minima at ln C = `x`, shape (n,) each, n >= 3."""
    fitted = fit_curves(x, log_loss[None], np.ones((1, len(x)), dtype=bool))
    freedom = len(x) - 3
    return LossCurve(
        floor=float(fitted.floor[0]),
        scale=math.exp(float(fitted.level[0])),
        exponent=-float(fitted.slope[0]),
        reference=math.exp(float(fitted.center[0])),
        scatter=math.sqrt(float(fitted.misfit[0]) / freedom) if freedom else 0.0,
    )


def _misfit(x: Floats, log_loss: Floats, present: NDArray[np.bool_], floor: Floats) -> Floats:
    line = fit_lines(x, _above(log_loss, present, floor), present)
    fitted = np.log(floor[:, None] + np.exp(line.at(x)))
    squares: Floats = (np.where(present, log_loss - fitted, 0.0) ** 2).sum(axis=1)
    return squares


def _above(log_loss: Floats, present: NDArray[np.bool_], floor: Floats) -> Floats:
    """Ln(L − floor), 0 where absent."""
    above: Floats = np.log(np.where(present, np.exp(log_loss) - floor[:, None], 1.0))
    return above
