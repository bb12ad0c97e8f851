"""How far a surface would move on other points: thousands of resamples fitted at once.

A resample is the same points with integer weights, so all of them share one set of arrays
(`isoflop.fitting.surface_newton`). Each starts from the surface that fits *it* best among those of the full search,
which one matrix product tells, so a resample whose best basin is another one goes there. δ stays that of the full
fit: a resample is judged by the same objective.

Points may be drawn alone (``pairs``), within their budget (``stratified``), or in clusters that share their noise
(``clustered``: the branches of a trunk, the runs of a seed).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError
from isoflop.fitting.columns import Floats
from isoflop.fitting.cost import CostModel
from isoflop.fitting.intervals import High, Low, percentiles
from isoflop.fitting.parametric_search import TUNING, Search
from isoflop.fitting.surface import Surfaces
from isoflop.fitting.surface_newton import Descent, descend
from isoflop.fitting.surface_objective import huber, residuals

Scheme = Literal["pairs", "stratified", "clustered"]

#: Points times draws that are weighed at once.
_CHUNK = 4_000_000
#: With δ below this share of the noise the objective has many kinks. Then δ comes down from the noise in steps of a
#: factor, and each resample asks so many others where they ended, so many times: on Porian's tables at δ = 1e-3 (2 % of
#: the noise) 3 of 2,000 resamples ended above BFGS without, by up to 7e-5, and none with.
_KINKS = 0.1
_HARDENING = 4.0
_ASKED, _NEIGHBOURS = 1_000, 2
#: With more points only the full fit's minima are tried as starts.
_SCORED = 20_000


@dataclass(frozen=True)
class SurfaceIntervals:
    """95 % percentile intervals of a surface's parameters and of its exponents, and what they rest on.

    `failed` is the share of the draws that ended in no certified minimum (they enter nothing), and `bounded` that of
    those in which a parameter ended at its bound (they do enter: E = 0 is an answer).
    """

    E: tuple[Low, High]
    A: tuple[Low, High]
    B: tuple[Low, High]
    alpha: tuple[Low, High]
    beta: tuple[Low, High]
    a: tuple[Low, High]
    b: tuple[Low, High]
    scheme: Scheme
    draws: int
    failed: float
    bounded: float


@dataclass(frozen=True, eq=False)
class SurfaceDraws:
    """Resampled surfaces, those with a certified minimum only, and how many were tried."""

    surfaces: Surfaces
    objective: Floats
    scheme: Scheme
    tried: int
    bounded: float

    @property
    def failed(self) -> float:
        """Share of the resamples without a certified minimum."""
        return 1 - len(self.objective) / self.tried

    def intervals(self, flops: float, cost: CostModel) -> SurfaceIntervals:
        """Intervals of the parameters, and of a and b at `flops` under `cost`."""
        a, b = self.surfaces.exponents(flops, cost)
        return SurfaceIntervals(
            E=percentiles(self.surfaces.E),
            A=percentiles(self.surfaces.A),
            B=percentiles(self.surfaces.B),
            alpha=percentiles(self.surfaces.alpha),
            beta=percentiles(self.surfaces.beta),
            a=percentiles(a),
            b=percentiles(b),
            scheme=self.scheme,
            draws=self.tried,
            failed=self.failed,
            bounded=self.bounded,
        )


def bootstrap_surface(
    found: Search,
    draws: int,
    seed: int,
    *,
    scheme: Scheme = "pairs",
    labels: Sequence[Hashable] | NDArray[np.generic] | None = None,
) -> SurfaceDraws:
    """Fit `draws` resamples of the points of a search.

    Parameters
    ----------
    found
        What `isoflop.fitting.parametric_search.search` found.
    draws, seed
        Number of resamples; equal input and seed give equal draws.
    scheme, labels : shape (n,)
        ``pairs``; ``stratified`` by, or ``clustered`` by, the points' labels, in the order in which they were given.

    Raises
    ------
    InputError
        If a scheme lacks its labels, their number differs from the points', or there is one cluster only.
    """
    if draws < 1:
        raise InputError(f"draws >= 1 must hold, but got {draws}")
    count = len(found.problem.x)
    groups = _groups(found, scheme, labels)
    generator = np.random.default_rng(seed)
    size = max(1, _CHUNK // count)
    parts = [
        descend_all(found, _resampled(generator, min(size, draws - first), count, scheme, groups))
        for first in range(0, draws, size)
    ]
    theta, value, certified, bounded = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("theta", "value", "certified", "bounded")
    )
    natural = found.problem.to_natural(theta[certified])
    return SurfaceDraws(
        surfaces=Surfaces(*natural.T),
        objective=value[certified] * found.problem.residual_unit**2,
        scheme=scheme,
        tried=draws,
        bounded=float(bounded[certified].any(axis=1).mean()) if certified.any() else 0.0,
    )


def fit_surfaces(found: Search, weights: Floats) -> tuple[Surfaces, Descent]:
    """Fit the points of a search under other weights, shape (r, n), in the order in which the points were given.

    Weights multiply those of the search. Returns a surface per row, and how its descent ended.
    """
    if weights.ndim != 2 or weights.shape[1] != len(found.problem.x) or not (weights >= 0).all():
        raise InputError(
            f"weights must be at least 0 and have the shape (r, {len(found.problem.x)}), but got {weights.shape}"
        )
    descent = descend_all(found, weights[:, found.order])
    return Surfaces(*found.problem.to_natural(descent.theta).T), descent


def descend_all(found: Search, counts: Floats) -> Descent:
    """Descend under each row of `counts` (times the search's weights), points in the problem's order."""
    pool = found.pool if len(found.problem.x) <= _SCORED else found.minima.theta
    weights = counts * found.weights

    def descended(start: Floats, delta: float = found.delta) -> Descent:
        return descend(found.problem, found.freedom, start, weights, delta, found.penalty, damping=0.0)

    start = pool[_costs(found, weights, pool).argmin(axis=1)]
    ends = descended(start)
    if found.delta >= _KINKS * found.noise:
        return ends
    # Among many kinks a descent may end early. Others come from the minimum of a smooth objective, hardened in steps,
    # and from where neighbouring resamples ended.
    delta = TUNING * found.noise
    while delta > found.delta:
        start = descended(start, delta).theta
        ends = _lower(ends, descended(start))
        delta /= _HARDENING
    for rank in range(_NEIGHBOURS):
        pool = ends.theta[:_ASKED]
        cost = _costs(found, weights, pool)
        cost[np.isclose(cost, ends.value[:, None], rtol=1e-9, atol=0)] = np.inf
        ends = _lower(ends, descended(pool[np.argsort(cost, axis=1)[:, min(rank, len(pool) - 1)]]))
    return ends


def _costs(found: Search, weights: Floats, theta: Floats) -> Floats:
    """The objective of each of k surfaces under each of r rows of weights, shape (r, k)."""
    costs: Floats = weights @ huber(residuals(found.problem, theta), found.delta).T
    return costs


def _lower(mine: Descent, other: Descent) -> Descent:
    """The lower of two ends of each row; the certified one where they are equal."""
    better = (other.value < mine.value) | (other.converged & ~mine.converged & (other.value == mine.value))
    return Descent(
        *(
            np.where(better.reshape(-1, *[1] * (first.ndim - 1)), second, first)
            for first, second in ((getattr(mine, name), getattr(other, name)) for name in Descent.__dataclass_fields__)
        )
    )


def _groups(
    found: Search, scheme: Scheme, labels: Sequence[Hashable] | NDArray[np.generic] | None
) -> NDArray[np.int64]:
    """A group number per point, in the problem's order."""
    count = len(found.problem.x)
    if scheme == "pairs":
        return np.zeros(count, dtype=np.int64)
    if labels is None or len(labels) != count:
        raise InputError(
            f"the scheme {scheme!r} needs a label for each of the {count} points, but got "
            f"{'none' if labels is None else len(labels)}"
        )
    number: dict[Hashable, int] = {}
    listed = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    groups = np.array([number.setdefault(label, len(number)) for label in listed], dtype=np.int64)[found.order]
    if scheme == "clustered" and len(number) < 2:
        raise InputError(f"clusters must be at least two to be resampled, but got {len(number)}")
    # Numbered as the problem meets them, so that the order of the caller's rows changes no draw.
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    ranks: NDArray[np.int64] = np.argsort(np.argsort(first))[inverse]
    return ranks


def _resampled(
    generator: np.random.Generator, draws: int, count: int, scheme: Scheme, groups: NDArray[np.int64]
) -> Floats:
    """How often each point comes in each of `draws` resamples, shape (draws, n)."""
    if scheme == "clustered":
        return _counted(generator, draws, int(groups.max()) + 1)[:, groups]
    counts = np.empty((draws, count))
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        counts[:, members] = _counted(generator, draws, len(members))
    return counts


def _counted(generator: np.random.Generator, draws: int, count: int) -> Floats:
    drawn = generator.integers(0, count, size=(draws, count)) + count * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * count).reshape(draws, count).astype(np.float64)
