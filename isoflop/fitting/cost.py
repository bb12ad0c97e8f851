"""What a model costs: C(N, D), fitted to what points or planned shapes count.

An N* and a D* belong together only if a model of N* parameters trained on D* tokens costs C. Under 6ND that is
D = C/6N; with counted FLOPs (attention, the head) the FLOPs per token are some f(N), smooth along a ladder of
shapes, and C = 3·f(N)·D. The slope γ = dln f/dln N then ties the exponents together, b = 1 − γ·a; a + b = 1 only
where γ = 1, which is 6ND.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from numpy.polynomial import polynomial

from isoflop.fitting.columns import Floats
from isoflop.flops import TRAINING_OVER_FORWARD

#: Tables whose C is 6ND to this relative error are taken as 6ND exactly.
SIX_ND_TOLERANCE = 1e-3
#: Degree of ln f in ln N. Under SODA's ladder and surface a parabola moves a from 0.400 to 0.39, and this leaves it;
#: beyond, the residuals of the published ladders (0.5 % for SODA's) do not fall.
_DEGREE = 4


@dataclass(frozen=True)
class CostModel:
    """Training FLOPs C = 3·f(N)·D.

    Parameters
    ----------
    form
        ``6nd`` has f = 2N; ``smooth`` a polynomial.
    center, scale, coefficients
        ln f = Σ `coefficients`[k]·u^k with u = (ln N − `center`)/`scale`.
    low, high
        The sizes that it was fitted on, parameters. Beyond them it goes on with the slope that it has there, because
        a polynomial would bend away.
    rms, worst
        Residuals of ln C over the points.
    """

    form: Literal["6nd", "smooth"]
    center: float
    scale: float
    coefficients: tuple[float, ...]
    low: float
    high: float
    rms: float
    worst: float

    @overload
    def flops(self, params: float, tokens: float) -> float: ...
    @overload
    def flops(self, params: Floats, tokens: Floats) -> Floats: ...
    def flops(self, params: float | Floats, tokens: float | Floats) -> float | Floats:
        """Training FLOPs of `params` parameters on `tokens` tokens."""
        cost: float | Floats = np.exp(self.log_per_token(np.log(params))) * tokens
        return cost if isinstance(cost, np.ndarray) else float(cost)

    @overload
    def tokens(self, params: float, flops: float) -> float: ...
    @overload
    def tokens(self, params: Floats, flops: Floats) -> Floats: ...
    def tokens(self, params: float | Floats, flops: float | Floats) -> float | Floats:
        """Tokens that `flops` training FLOPs buy for a model of `params` parameters."""
        tokens: float | Floats = flops / np.exp(self.log_per_token(np.log(params)))
        return tokens if isinstance(tokens, np.ndarray) else float(tokens)

    def slope(self, params: float) -> float:
        """γ = dln f/dln N at `params`: 1 under 6ND; below 1 where the head weighs less and less."""
        return float(self.slopes(np.log([params]))[0][0])

    def slopes(self, log_params: Floats) -> tuple[Floats, Floats]:
        """γ = dln f/dln N and γ' = dγ/dln N at ln N, of `log_params`' shape."""
        inside = np.clip(log_params, math.log(self.low), math.log(self.high))
        u = (inside - self.center) / self.scale
        log_f = np.array(self.coefficients)
        slope: Floats = np.asarray(polynomial.polyval(u, polynomial.polyder(log_f)) / self.scale, dtype=np.float64)
        bend: Floats = np.asarray(polynomial.polyval(u, polynomial.polyder(log_f, 2)) / self.scale**2, dtype=np.float64)
        return slope, np.where(inside == log_params, bend, 0.0)

    def log_per_token(self, log_params: float | Floats) -> Floats:
        """ln(C/D) at ln N, of `log_params`' shape."""
        size = np.asarray(log_params, dtype=float)
        inside = np.clip(size, math.log(self.low), math.log(self.high))
        log_f = polynomial.polyval((inside - self.center) / self.scale, np.array(self.coefficients))
        total: Floats = math.log(TRAINING_OVER_FORWARD) + log_f + self.slopes(inside)[0] * (size - inside)
        return total


def six_nd(low: float, high: float, rms: float = 0.0, worst: float = 0.0) -> CostModel:
    """C = 6·N·D, for sizes from `low` to `high`."""
    return CostModel("6nd", 0.0, 1.0, (math.log(2), 1.0), low, high, rms, worst)


def fit_cost(flops: Floats, params: Floats, tokens: Floats) -> CostModel:
    """Fit C(N, D) to points, shape (n,) each: 6ND if it holds to 1e-3, else ln f by least squares on ln N.

    There are half as many powers as sizes at most, for a curve through every one of them would swing between. Of one
    size alone, C = (its C/ND)·N·D.
    """
    low, high = float(params.min()), float(params.max())
    size = np.log(params)
    log_f = np.log(flops / (TRAINING_OVER_FORWARD * tokens))
    residual = log_f - np.log(2 * params)
    if np.abs(residual).max() <= SIX_ND_TOLERANCE:
        return six_nd(low, high, *_sizes_of(residual))
    center, scale = float(size.mean()), max(float(np.ptp(size)) / 2, 1.0)
    u = (size - center) / scale
    sizes = len(np.unique(params))
    if sizes == 1:
        level = float(log_f.mean())
        return CostModel("smooth", center, 1.0, (level, 1.0), low, high, *_sizes_of(log_f - level))
    fitted = polynomial.polyfit(u, log_f, min(_DEGREE, max(1, sizes // 2)))
    rms, worst = _sizes_of(log_f - polynomial.polyval(u, fitted))
    return CostModel("smooth", center, scale, tuple(map(float, fitted)), low, high, rms, worst)


def _sizes_of(residual: Floats) -> tuple[float, float]:
    return float(np.sqrt(np.mean(residual**2))), float(np.abs(residual).max())
