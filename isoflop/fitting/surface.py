"""The loss surface L(N, D) = E + A/N^α + B/D^β as a value: what it predicts, and which N and D it calls optimal.

Under C = 6ND the optimum is a power law with a = β/(α + β). Under a counted cost C = 3·f(N)·D it is not quite one:
with γ = dln f/dln N and γ' = dγ/dln N the local exponents are a = β/(α + βγ + γ'/γ) and b = 1 − γa, and N* itself
solves α·A/N^α = γ·β·B/D^β along D = C/3f(N), which is done here to rounding.

Source: Hoffmann et al. 2022 (arXiv 2203.15556), section 3.3 and equation 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, overload

import numpy as np

from isoflop.errors import InputError
from isoflop.fitting.columns import Floats
from isoflop.fitting.cost import CostModel
from isoflop.fitting.intervals import High

#: ln N is searched this far about the sizes that the cost model knows, and halved until it stands still.
_LN_RANGE, _HALVINGS = 120.0, 64


class SurfaceStatus(StrEnum):
    """What became of a fit; the members' comments say what to do."""

    CONVERGED = "converged"  #: Nothing: a certified minimum, and the points hold every parameter.
    AT_BOUND = "at_bound"  #: A term is not needed, or not seen: pin it, or add sizes and budgets until it shows.
    NOT_IDENTIFIABLE = "not_identifiable"  #: Add points at other tokens per parameter, or pin or tie parameters.
    DISAGREEMENT = "disagreement"  #: Two surfaces fit alike: add points where they differ most.
    UNCONVERGED = "unconverged"  #: Look for outliers, and raise δ: no certified minimum was found.


@dataclass(frozen=True)
class SurfaceOptimum:
    """The optimum of each surface at each C: shapes follow the C that was asked for."""

    params: Floats
    tokens: Floats
    loss: Floats


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Surfaces in arrays, shape (r,) each: a bootstrap's, or one law's with r = 1."""

    E: Floats
    A: Floats
    B: Floats
    alpha: Floats
    beta: Floats

    def at(self, params: Floats, tokens: Floats) -> Floats:
        """Loss of each surface at each of n points, shape (r, n)."""
        model = np.exp(np.log(self.A)[:, None] - self.alpha[:, None] * np.log(params))
        data = np.exp(np.log(self.B)[:, None] - self.beta[:, None] * np.log(tokens))
        loss: Floats = self.E[:, None] + model + data
        return loss

    def optimum(self, flops: Floats, cost: CostModel) -> SurfaceOptimum:
        """N*, D* and loss of each surface at each of m budgets, shape (r, m); N* and D* cost C."""
        log_flops = np.log(np.atleast_1d(flops))
        log_params = self._log_optimal_params(log_flops, cost)
        params = np.exp(log_params)
        tokens = np.exp(log_flops - cost.log_per_token(log_params))
        model = np.exp(np.log(self.A)[:, None] - self.alpha[:, None] * log_params)
        data = np.exp(np.log(self.B)[:, None] - self.beta[:, None] * np.log(tokens))
        return SurfaceOptimum(params, tokens, self.E[:, None] + model + data)

    def exponents(self, flops: float, cost: CostModel) -> tuple[Floats, Floats]:
        """Exponents a and b of each surface at `flops`, shape (r,) each; under 6ND they are the same at every C."""
        log_params = self._log_optimal_params(np.log([flops]), cost)[:, 0]
        slope, bend = cost.slopes(log_params)
        a = self.beta / (self.alpha + self.beta * slope + bend / slope)
        return a, 1 - slope * a

    def _log_optimal_params(self, log_flops: Floats, cost: CostModel) -> Floats:
        alpha, beta = self.alpha[:, None], self.beta[:, None]
        lead = np.log(alpha * self.A[:, None]) - np.log(beta * self.B[:, None])
        if cost.form == "6nd":
            closed: Floats = (lead + beta * (log_flops - math.log(6))) / (alpha + beta)
            return closed
        # ln of (gain of a larger model / cost in tokens) falls with ln N: halve the bracket about its zero.
        center = (math.log(cost.low) + math.log(cost.high)) / 2
        low = np.full((len(lead), len(log_flops)), center - _LN_RANGE)
        high = np.full_like(low, center + _LN_RANGE)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            slope, _ = cost.slopes(middle)
            tokens = log_flops - cost.log_per_token(middle)
            with np.errstate(divide="ignore", invalid="ignore"):
                above = lead - alpha * middle + beta * tokens - np.log(slope) > 0
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return (low + high) / 2


@dataclass(frozen=True)
class Surface:
    """A fitted surface and how far to trust it; `isoflop.fitting.parametric.fit_surface` makes it.

    Parameters
    ----------
    E, A, B, alpha, beta
        L = E + A/N^alpha + B/D^beta.
    residual
        What was fitted: residuals of ``log`` loss, or of the loss itself (``linear``).
    objective
        Σ w·Huber(residual) at the minimum, with what priors add.
    delta
        δ of Huber's function, in the residual's unit; None for least squares.
    noise
        Robust sd of the residuals, 1.4826 times the median of their sizes.
    status, reason
        What became of the fit, and a sentence on it.
    condition
        Of the problem at the minimum, free of units: 10–100 is good, 1e4 is vague (null in JSON: infinite).
    starts, agreeing
        Descents begun, and those that ended at this minimum.
    points
        Points that it was fitted to.
    pins, ties
        What was asked for.
    repetition
        R*, the number of repetitions that are worth something (`isoflop.fitting.repetition`), if it was fitted.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    residual: Literal["log", "linear"]
    objective: float
    delta: float | None
    noise: float
    status: SurfaceStatus
    reason: str
    condition: High
    starts: int
    agreeing: int
    points: int
    pins: tuple[tuple[str, float], ...] = ()
    ties: tuple[str, ...] = ()
    repetition: float | None = None

    @property
    def trusted(self) -> bool:
        """Whether every parameter stands on the points: a certified minimum that is the only one."""
        return self.status is SurfaceStatus.CONVERGED

    @property
    def values(self) -> tuple[float, float, float, float, float]:
        """E, A, B, α, β."""
        return self.E, self.A, self.B, self.alpha, self.beta

    @property
    def arrays(self) -> Surfaces:
        """Return this surface as the only row of `Surfaces`."""
        return Surfaces(*(np.array([value]) for value in self.values))

    @overload
    def at(self, params: float, tokens: float) -> float: ...
    @overload
    def at(self, params: Floats, tokens: Floats) -> Floats: ...
    def at(self, params: float | Floats, tokens: float | Floats) -> float | Floats:
        """Loss of `params` parameters on `tokens` (effective) tokens."""
        found = self.arrays.at(np.atleast_1d(params), np.atleast_1d(tokens))[0]
        return found if isinstance(params, np.ndarray) or isinstance(tokens, np.ndarray) else float(found[0])

    def optimum(self, flops: float, cost: CostModel) -> tuple[float, float, float]:
        """N*, D* and the loss at `flops`; the pair costs `flops` under `cost`.

        Raises
        ------
        InputError
            Unless `flops` is positive and finite.
        """
        if not (math.isfinite(flops) and flops > 0):
            raise InputError(f"flops must be positive and finite, but got {flops}")
        found = self.arrays.optimum(np.array([flops]), cost)
        return float(found.params[0, 0]), float(found.tokens[0, 0]), float(found.loss[0, 0])

    def exponents(self, flops: float, cost: CostModel) -> tuple[float, float]:
        """Exponents a and b at `flops`: N* ∝ C^a, D* ∝ C^b."""
        a, b = self.arrays.exponents(flops, cost)
        return float(a[0]), float(b[0])
