"""The surface L = E + A/N^α + B/D^β that lies nearest to the points, and how the search for it ended.

The objective is the *sum* of Huber's function of the log residual; δ is 1.345 times the robust sd of the residuals
unless it is given, so that a normal sample is fitted with 95 % of least squares' efficiency. What comes back carries
its own health: a certificate that it is a minimum, how many starts agree on it, whether other minima fit as well, and
whether the points hold its parameters at all.

>>> fit_surface(params, tokens, loss, pins={"E": 1.69})                                      # doctest: +SKIP
"""

from __future__ import annotations

import math
from typing import Unpack

import numpy as np

from isoflop.fitting.parametric_search import MEDIAN_TO_SD, TUNING, Delta, Search, SearchOptions, search
from isoflop.fitting.points import Floats
from isoflop.fitting.surface import Surface, SurfaceStatus
from isoflop.fitting.surface_objective import ALPHA, BETA, NAMES, Prior, Problem, residuals

__all__ = ["MEDIAN_TO_SD", "TUNING", "Delta", "Prior", "Search", "fit_surface", "objective_noise", "report", "search"]

#: Above this condition the parameters stand on rounding or on luck.
_VAGUE = 1e5
#: ln D that follows ln N this closely (sd of what is left over) does not tell α's term from β's.
_COLLINEAR = 0.01
#: Two minima whose a differs by more, and whose fit does not (χ² of one, 95 %), are two answers.
_APART, _CHI2 = 0.05, 3.841


def fit_surface(params: Floats, tokens: Floats, loss: Floats, **options: Unpack[SearchOptions]) -> Surface:
    """Fit the surface to n points; arguments and errors are those of `isoflop.fitting.parametric_search.search`."""
    return report(search(params, tokens, loss, **options))


def report(found: Search) -> Surface:
    """Put what a search found into words: its best minimum as a `Surface`."""
    problem, minima = found.problem, found.minima
    E, A, B, alpha, beta = problem.to_natural(minima.theta[0]).tolist()
    status, reason = _judge(found)
    return Surface(
        E=E,
        A=A,
        B=B,
        alpha=alpha,
        beta=beta,
        residual="log" if problem.log else "linear",
        objective=float(minima.value[0]) * problem.residual_unit**2,
        delta=found.delta * problem.residual_unit if math.isfinite(found.delta) else None,
        noise=found.noise * problem.residual_unit,
        status=status,
        reason=reason,
        condition=float(minima.condition[0]),
        starts=found.starts,
        agreeing=found.agreeing,
        points=len(problem.x),
        pins=found.pins,
        ties=found.ties,
    )


def _judge(found: Search) -> tuple[SurfaceStatus, str]:
    problem, minima = found.problem, found.minima
    free = set(found.freedom.free.tolist())
    condition = float(minima.condition[0])
    if {ALPHA, BETA} <= free and _follows(problem):
        if float(problem.x @ problem.z) < 0:
            how, cure = "falls straight with ln N (one budget)", "add budgets"
        else:
            how = "follows ln N (a fixed number of tokens per parameter)"
            cure = "add runs with other tokens per parameter, or tie the exponents"
        return SurfaceStatus.NOT_IDENTIFIABLE, f"ln D {how}, so the two terms cannot be told apart: {cure}"
    if not minima.converged[0]:
        return (
            SurfaceStatus.UNCONVERGED,
            "no start led to a certified minimum: look for outliers among the points, or raise delta",
        )
    if not condition < _VAGUE:
        return (
            SurfaceStatus.NOT_IDENTIFIABLE,
            f"the points do not hold every parameter (condition {condition:.1g}): add sizes and budgets, or pin or tie "
            "parameters",
        )
    rival = _rival(found)
    if rival is not None:
        return SurfaceStatus.DISAGREEMENT, rival
    bounded = [NAMES[place] for place in np.flatnonzero(minima.bounded[0])]
    if bounded:
        return (
            SurfaceStatus.AT_BOUND,
            f"{' and '.join(bounded)} ended at the end of what is allowed: the points ask for no such term; pin it, or "
            "add points over more decades until it shows",
        )
    return (
        SurfaceStatus.CONVERGED,
        f"{found.agreeing} of {found.starts} starts agree on a certified minimum (condition {condition:.3g})",
    )


def _follows(problem: Problem) -> bool:
    """Whether ln D is a straight line in ln N."""
    spread = float(problem.x @ problem.x)
    slope = float(problem.x @ problem.z) / spread if spread > 0 else 0.0
    return float(np.std(problem.z - slope * problem.x)) < _COLLINEAR


def _rival(found: Search) -> str | None:
    """A sentence on another minimum that fits as well and says something else."""
    problem, minima = found.problem, found.minima
    unit = objective_noise(found)
    a = minima.theta[:, BETA] / (minima.theta[:, ALPHA] + minima.theta[:, BETA])
    worse = 2 * (minima.value - minima.value[0])
    rivals = np.flatnonzero(minima.certified & (worse < _CHI2 * unit) & (np.abs(a - a[0]) > _APART))
    if not len(rivals):
        return None
    E, _, _, alpha, beta = problem.to_natural(minima.theta[rivals[0]]).tolist()
    return (
        f"another surface fits as well: E = {E:.4g}, alpha = {alpha:.3f}, beta = {beta:.3f}, a = {a[rivals[0]]:.3f} "
        f"under 6ND against {a[0]:.3f}; add points where the two differ"
    )


def objective_noise(found: Search) -> float:
    """What a true parameter's freedom is worth: 2·(rise of the objective)/this is χ² of one degree.

    For an M-estimator that is mean ψ² / mean ψ', with n/(n − k) for the k parameters that were fitted.
    """
    problem, weights = found.problem, found.weights[0]
    residual = residuals(problem, found.minima.theta[:1])[0]
    pull = np.clip(residual, -found.delta, found.delta)
    inside = float(weights @ (np.abs(residual) <= found.delta))
    count = len(residual)
    return float(weights**2 @ pull**2) / max(inside, 1.0) * count / max(count - len(found.freedom.free), 1)
