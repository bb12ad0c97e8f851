"""The optimum of a cell: a parabola in the logarithms of the hyperparameters through the trials about the best.

Pure: trials in, an optimum with its interval and its status out. Rate and batch have a term in common, since the best
rate moves with the batch; the others are taken for independent, or a search would need dozens of trials more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from isoflop.fitting.columns import Floats
from isoflop.fitting.intervals import NORMAL, Interval, middle_interval
from isoflop.tuning.space import Dimension, Name, distance

#: Parabolas drawn for the intervals, and the share of them that must have a minimum.
_DRAWS = 2000
_BOUNDED = 0.9
#: A lack of fit that the seeds' noise gives less often than this is one.
_CHANCE = 0.05


class Status(StrEnum):
    """Whether a cell has an optimum, and else what to do."""

    INTERIOR = "interior"
    EDGE = "edge: the loss still falls at the end of the range, extended as it is; give a range beyond (--over)"
    FLAT = "flat: the noise hides where the optimum is; more seeds, more trials or a wider range (--over) would show it"
    FEW = "few: too few trials came to an end; see why they did not (isoflop status of the tuning directory)"

    @property
    def word(self) -> str:
        """Its name alone."""
        return self.value.partition(":")[0]


@dataclass(frozen=True)
class Sample:
    """A finished trial: its hyperparameters, and ln loss of each of its seeds."""

    values: Mapping[str, float]
    losses: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean ln loss."""
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True)
class Edge:
    """A dimension in which the loss still falls at the end of what was tried."""

    name: Name
    upper: bool


@dataclass(frozen=True)
class Optimum:
    """What the trials of a cell came to.

    Parameters
    ----------
    status
        Only an ``interior`` one is an optimum.
    values
        By dimension, with 95 % intervals; where there is no optimum the best trial's, with infinite ones.
    loss
        There, in nats per token.
    noise
        Sd of a trial's mean ln loss about the parabola and between its seeds; NaN where not known.
    edges
        Where the loss still falls.
    rate_by_batch
        d ln(best rate factor) / d ln(batch); None where not both were searched.
    trials
        How many the parabola goes through.
    flat
        Dimensions that the loss does not feel beyond its noise: left out of the parabola, and no part of `values`.
    """

    status: Status
    values: dict[str, Interval]
    loss: float
    noise: float
    edges: tuple[Edge, ...] = ()
    rate_by_batch: Interval | None = None
    trials: int = 0
    flat: tuple[Name, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinite ends are for the writer to make null."""
        return {**asdict(self), "status": self.status.word}


def terms(dimensions: Sequence[Dimension]) -> int:
    """Coefficients of the parabola."""
    return 1 + 2 * len(dimensions) + _crossed(dimensions)


def _crossed(dimensions: Sequence[Dimension]) -> bool:
    return {"lr", "batch"} <= {each.name for each in dimensions}


def optimum(dimensions: tuple[Dimension, ...], samples: Sequence[Sample]) -> Optimum:
    """Where the loss is least.

    Parameters
    ----------
    dimensions
        What was searched.
    samples
        The trials that came to an end, two at least of which any two differ.
    """
    need = terms(dimensions) + 1
    if not samples:
        return Optimum(Status.FEW, {}, math.nan, math.nan)
    best = min(samples, key=lambda sample: sample.mean)
    if len(samples) < need:
        return Optimum(Status.FEW, _at(best), math.exp(best.mean), math.nan, trials=len(samples))
    fitted = _Parabola.about(dimensions, samples, best.values, need)
    if fitted.convex:
        # Once more about its own minimum: the best trial is the luckiest of several.
        fitted = _Parabola.about(dimensions, samples, fitted.clipped(), need)
    found = fitted.optimum(samples, best)
    if found.status is Status.FLAT and len(dimensions) > 1:
        # Rather all others without the one that is least told than none.
        least = fitted.least_told
        rest = optimum(tuple(each for each in dimensions if each is not least), samples)
        return replace(rest, flat=(least.name, *rest.flat))
    return found


def _at(sample: Sample) -> dict[str, Interval]:
    return {name: Interval(value, -math.inf, math.inf) for name, value in sample.values.items()}


@dataclass(frozen=True, eq=False)
class _Parabola:
    """Least squares through the `samples` about a `center`; logarithms are counted from there."""

    dimensions: tuple[Dimension, ...]
    samples: tuple[Sample, ...]
    center: dict[str, float]
    coefficients: Floats
    covariance: Floats
    freedom: int

    @classmethod
    def about(
        cls, dimensions: tuple[Dimension, ...], samples: Sequence[Sample], center: Mapping[str, float], need: int
    ) -> _Parabola:
        near = sorted(samples, key=lambda sample: distance(dimensions, sample.values, center))
        within = sum(distance(dimensions, sample.values, center) <= 1 for sample in near)
        used = tuple(near[: max(need, within)])
        x = np.array([[math.log(each.values[d.name] / center[d.name]) for d in dimensions] for each in used])
        design = _design(dimensions, x)
        y = np.array([each.mean for each in used])
        inverse = np.asarray(np.linalg.pinv(design.T @ design), dtype=np.float64)
        coefficients = inverse @ design.T @ y
        residual = float(((y - design @ coefficients) ** 2).sum())
        freedom = len(used) - design.shape[1]
        variance, freedom = _variance(used, residual, freedom)
        return cls(dimensions, used, dict(center), coefficients, inverse * variance, freedom)

    @property
    def convex(self) -> bool:
        _, hessian = self._split(self.coefficients[None])
        return bool((np.linalg.eigvalsh(hessian[0]) > 0).all())

    @property
    def least_told(self) -> Dimension:
        """The dimension whose curvature is least over its standard error."""
        count = len(self.dimensions)
        squares = slice(count + 1, 2 * count + 1)
        told = self.coefficients[squares] / np.sqrt(np.diag(self.covariance)[squares])
        return self.dimensions[int(np.argmin(told))]

    def clipped(self) -> dict[str, float]:
        """The minimum, no farther than what was tried."""
        moved = self._minima(self.coefficients[None])[0]
        return {
            each.name: min(max(self.center[each.name] * math.exp(step), low), high)
            for each, step in zip(self.dimensions, moved, strict=True)
            for low, high in [_tried(self.samples, each)]
        }

    def optimum(self, samples: Sequence[Sample], best: Sample) -> Optimum:
        noise = self._noise()
        edges = self._edges(samples, best)
        if edges or not self.convex:
            status = Status.EDGE if edges else Status.FLAT
            return Optimum(status, _at(best), math.exp(best.mean), noise, edges, trials=len(self.samples))
        draws = self._draws()
        _, hessians = self._split(draws)
        bounded = (np.linalg.eigvalsh(hessians) > 0).all(axis=1)
        minima = self._minima(draws[bounded])
        place = self._minima(self.coefficients[None])[0]
        values: dict[str, Interval] = {}
        for each, step, drawn in zip(self.dimensions, place, minima.T, strict=True):
            low, high = middle_interval(float(step), drawn)
            at = self.center[each.name]
            values[each.name] = Interval(at * math.exp(float(step)), at * math.exp(low), at * math.exp(high))
        if bounded.mean() < _BOUNDED:
            return Optimum(Status.FLAT, _at(best), math.exp(best.mean), noise, trials=len(self.samples))
        loss = float(_design(self.dimensions, place[None])[0] @ self.coefficients)
        slope = self._slope(draws[bounded]) if _crossed(self.dimensions) else None
        return Optimum(Status.INTERIOR, values, math.exp(loss), noise, (), slope, len(self.samples))

    def _noise(self) -> float:
        design = _design(self.dimensions, self._x())
        # The covariance is the noise's variance times the inverse that made it.
        inverse = np.linalg.pinv(design.T @ design)
        return math.sqrt(float(np.trace(self.covariance)) / float(np.trace(inverse)))

    def _x(self) -> Floats:
        return np.array(
            [[math.log(each.values[d.name] / self.center[d.name]) for d in self.dimensions] for each in self.samples]
        )

    def _edges(self, samples: Sequence[Sample], best: Sample) -> tuple[Edge, ...]:
        """Where the minimum lies beyond what was tried; or, without one, where the best trial is an outermost one."""
        found = []
        steps = self._minima(self.coefficients[None])[0] if self.convex else None
        for number, each in enumerate(self.dimensions):
            low, high = _tried(samples, each)
            at = best.values[each.name] if steps is None else self.center[each.name] * math.exp(steps[number])
            outside = at <= low or at >= high if steps is None else at < low or at > high
            if outside:
                found.append(Edge(each.name, upper=at >= high))
        return tuple(found)

    def _draws(self) -> Floats:
        """Coefficients as uncertain as they are: a multivariate t with its degrees of freedom."""
        generator = np.random.default_rng(0)
        size = len(self.coefficients)
        scale = np.sqrt(self.freedom / generator.chisquare(self.freedom, _DRAWS))
        normal = generator.multivariate_normal(np.zeros(size), self.covariance, _DRAWS, method="eigh")
        drawn: Floats = np.asarray(self.coefficients + normal * scale[:, None], dtype=np.float64)
        return drawn

    def _split(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """Gradients at the center and Hessians, of each row of coefficients."""
        count = len(self.dimensions)
        gradient = coefficients[:, 1 : count + 1]
        hessian: Floats = np.zeros((len(coefficients), count, count))
        diagonal = np.arange(count)
        hessian[:, diagonal, diagonal] = 2 * coefficients[:, count + 1 : 2 * count + 1]
        if _crossed(self.dimensions):
            one, other = _rate_and_batch(self.dimensions)
            hessian[:, one, other] = hessian[:, other, one] = coefficients[:, -1]
        return gradient, hessian

    def _minima(self, coefficients: Floats) -> Floats:
        gradient, hessian = self._split(coefficients)
        return np.asarray(-np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0], dtype=np.float64)

    def _slope(self, draws: Floats) -> Interval:
        """How the best rate moves with the batch, in logarithms."""
        one, other = _rate_and_batch(self.dimensions)
        _, hessian = self._split(np.vstack([self.coefficients, draws]))
        slopes = -hessian[:, one, other] / hessian[:, one, one]
        return Interval(float(slopes[0]), *middle_interval(float(slopes[0]), slopes[1:]))


def _variance(used: Sequence[Sample], residual: float, freedom: int) -> tuple[float, int]:
    """Of a trial's mean ln loss, and its degrees of freedom: from what the parabola misses by, and from the seeds.

    Where it misses by more than the seeds can explain, it is no parabola there, and that counts alone.
    """
    from scipy.special import fdtrc

    within = sum(float(np.var(each.losses)) for each in used)
    seeds = sum(len(each.losses) - 1 for each in used)
    alone = residual / freedom
    if seeds == 0 or within == 0 or float(fdtrc(freedom, seeds, alone / (within / seeds))) < _CHANCE:
        return alone, freedom
    return (residual + within) / (freedom + seeds), freedom + seeds


def _rate_and_batch(dimensions: Sequence[Dimension]) -> tuple[int, int]:
    names = [each.name for each in dimensions]
    return names.index("lr"), names.index("batch")


def _design(dimensions: Sequence[Dimension], x: Floats) -> Floats:
    """Columns of the parabola at `x`, shape (n, dimensions): one, linear, squares, and rate times batch."""
    columns = [np.ones(len(x)), *x.T, *(x**2).T]
    if _crossed(dimensions):
        one, other = _rate_and_batch(dimensions)
        columns.append(x[:, one] * x[:, other])
    design: Floats = np.stack(columns, axis=1)
    return design


def _tried(samples: Sequence[Sample], dimension: Dimension) -> tuple[float, float]:
    values = [sample.values[dimension.name] for sample in samples]
    return min(values), max(values)


def standard_error(interval: Interval) -> float:
    """Sd of the logarithm of a value whose 95 % interval is `interval`."""
    return (math.log(interval.high) - math.log(interval.low)) / (2 * NORMAL)
