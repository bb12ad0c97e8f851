"""The global search behind the parametric fit: every basin from a grid, then Newton, with δ settled on the way.

For any (α, β) the rest is linear, so a grid over the two finds every basin (`isoflop.fitting.surface_grid`); the best
cells are descended from (`isoflop.fitting.surface_newton`), and δ and the noise follow the best end until they stand
still. What is found is kept whole, so that resamples and profiles start where the search ended.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.points import Floats
from isoflop.fitting.surface_grid import likely_cells
from isoflop.fitting.surface_newton import DAMPING, Descent, descend
from isoflop.fitting.surface_objective import (
    Freedom,
    Penalty,
    Prior,
    Problem,
    constrain,
    penalise,
    pose,
    residuals,
)

Delta = float | Literal["auto"] | None
#: δ over the robust sd, and that sd over the median of |residual|, of a normal sample.
TUNING, MEDIAN_TO_SD = 1.345, 1.482602218505602
#: Least δ of ln loss (and of the range of losses): no run is reproduced better, and rounding is no noise.
_LEAST_DELTA = 1e-6
#: Starts that are descended from.
_STARTS = 16
#: With more points the search runs on this many of them; only its best ends descend on all.
_SEARCHED = 2_000
_FINALISTS = 3
#: δ has settled when it moves by less; and the rounds that it may take.
_SETTLED, _SETTLING = 1e-3, 25
#: A δ far below the noise is approached in steps of this factor.
_CONTINUATION = 4.0
#: Two ends are one minimum if no entry of θ differs by more (relative to 1).
_SAME = 1e-4
#: Ends that miss the best objective by less than this share of it, or by rounding, have reached it.
_AGREE, _ROUNDING = 1e-8, 1e-26


class SearchOptions(TypedDict, total=False):
    """What a search may be told beside the points.

    Parameters
    ----------
    sigma : shape (n,)
        Noise of each point, the sd of ln loss; only ratios count. NaN where unknown: as the median of the others.
    weights : shape (n,)
        Weight of each point in the sum; 1 each. Two points of weight 1 are one of weight 2.
    delta
        δ of Huber's function: ``"auto"`` is 1.345 times the robust sd, None is least squares.
    pins
        Values of parameters that are not fitted: ``{"E": 1.69}``.
    ties
        ``"alpha=beta"``, ``"A=B"``.
    priors
        Normal priors on ln E, ln α, ln β, by the names ``E``, ``alpha``, ``beta``; they weigh against the points by
        the robust sd of the residuals.
    residual
        ``"log"``, ``"linear"`` (of the loss itself), or ``"auto"``: log where every loss is positive.
    """

    sigma: Floats | None
    weights: Floats | None
    delta: Delta
    pins: Mapping[str, float] | None
    ties: Collection[str]
    priors: Mapping[str, Prior] | None
    residual: Literal["auto", "log", "linear"]


@dataclass(frozen=True, eq=False)
class Search:
    """What a search found: the problem, what was asked, and every distinct minimum, the best first, shape (k, 5).

    Resamples start from `pool`, shape (m, 5): the minima and the search's other good surfaces. `weights` has shape
    (1, n); `delta` is in the problem's residual units, infinite for least squares. The problem's points are in an
    order of their own: its i-th is the caller's ``order[i]``-th.
    """

    problem: Problem
    order: NDArray[np.int64]
    freedom: Freedom
    weights: Floats
    delta: float
    noise: float
    penalty: Penalty | None
    minima: Descent
    pool: Floats
    starts: int
    agreeing: int
    pins: tuple[tuple[str, float], ...]
    ties: tuple[str, ...]


def search(
    params: Floats,
    tokens: Floats,
    loss: Floats,
    *,
    sigma: Floats | None = None,
    weights: Floats | None = None,
    delta: Delta = "auto",
    pins: Mapping[str, float] | None = None,
    ties: Collection[str] = (),
    priors: Mapping[str, Prior] | None = None,
    residual: Literal["auto", "log", "linear"] = "auto",
) -> Search:
    """Search for the surface nearest to n points.

    Parameters
    ----------
    params, tokens, loss : shape (n,)
        N, D and loss; their order does not matter.
    sigma, weights, delta, pins, ties, priors, residual
        See `SearchOptions`.

    Raises
    ------
    InputError
        If arrays differ in shape, a number is not finite, N, D or a weight is not positive, or an option is wrong.
    NoAnswerError
        If there are not more points than free parameters, or all losses are equal.
    """
    params, tokens, loss, sigma, weights = _validated(params, tokens, loss, sigma, weights)
    if delta is not None and delta != "auto" and not (math.isfinite(delta) and delta > 0):
        raise InputError(f"delta must be 'auto', None (least squares) or positive, but got {delta!r}")
    if residual not in ("auto", "log", "linear"):
        raise InputError(f"residual must be 'auto', 'log' or 'linear', but got {residual!r}")
    positive = bool((loss > 0).all())
    if residual == "log" and not positive:
        raise InputError(f"a log residual needs positive losses, but got {loss.min():g}")
    # A fixed order: sums do not depend on that of the rows.
    order = np.lexsort((weights, loss, tokens, params))
    params, tokens, loss, weights = params[order], tokens[order], loss[order], weights[order]
    sigma = None if sigma is None else sigma[order]
    problem = pose(params, tokens, loss, sigma, positive if residual == "auto" else residual == "log")
    freedom = constrain(problem, pins or {}, ties)
    if pins and pins.get("E", -math.inf) >= loss.max():
        raise InputError(f"the pinned E must lie below the losses, at most {loss.max():g}, but got {pins['E']:g}")
    _require_enough(problem, freedom, loss)
    asked = _Asked(
        problem,
        order,
        freedom,
        weights[None],
        delta,
        priors or {},
        tuple(sorted((pins or {}).items())),
        tuple(sorted(ties)),
    )
    return _searched(asked)


@dataclass(frozen=True, eq=False)
class _Asked:
    """The problem and its options, before δ is known."""

    problem: Problem
    order: NDArray[np.int64]
    freedom: Freedom
    weights: Floats
    delta: float | Literal["auto"] | None
    priors: Mapping[str, Prior]
    pins: tuple[tuple[str, float], ...]
    ties: tuple[str, ...]


def _validated(
    params: Floats, tokens: Floats, loss: Floats, sigma: Floats | None, weights: Floats | None
) -> tuple[Floats, Floats, Floats, Floats | None, Floats]:
    columns = {"params": params, "tokens": tokens, "loss": loss, "weights": weights, "sigma": sigma}
    found: dict[str, Floats] = {}
    for name, values in columns.items():
        if values is None:
            continue
        found[name] = np.asarray(values, dtype=np.float64)
        if found[name].ndim != 1 or found[name].shape != found["params"].shape:
            raise InputError(
                f"every column must have the shape (n,) of params, {found['params'].shape}, but {name} has "
                f"{found[name].shape}"
            )
        finite = np.isfinite(found[name]) | (np.isnan(found[name]) & (name == "sigma"))
        if not finite.all():
            raise InputError(f"{name} must be finite, but got {found[name][~finite][0]} at {int(np.argmin(finite))}")
        low = found[name] < 0 if name == "weights" else found[name] <= 0
        if name != "loss" and low.any():
            raise InputError(f"{name} must be positive, but got {found[name][low][0]:g} at {int(np.argmax(low))}")
    return (
        found["params"],
        found["tokens"],
        found["loss"],
        found.get("sigma"),
        found.get("weights", np.ones(len(found["params"]))),
    )


def _require_enough(problem: Problem, freedom: Freedom, loss: Floats) -> None:
    count, free = len(problem.x), len(freedom.free)
    if not free:
        raise InputError("at least one parameter must be free, but all are pinned")
    if count <= free:
        raise NoAnswerError(
            f"a surface with {free} free parameters needs at least {free + 1} points, but got {count}: add points, or "
            "pin or tie parameters"
        )
    if np.ptp(loss) == 0:
        raise NoAnswerError(f"all {count} losses are equal, {loss[0]:g}: there is no surface to see")


def _searched(asked: _Asked) -> Search:
    """Search on at most `_SEARCHED` points, then descend on all of them."""
    thinned = _thinned(asked)
    cells = likely_cells(thinned.problem, thinned.freedom, thinned.weights[0])
    starts = cells[:_STARTS]
    found = _settled(thinned, starts)
    agreeing = found.agreeing
    if thinned is not asked:
        found = _settled(asked, _distinct(found.descent).theta[:_FINALISTS])
    minima = _distinct(found.descent)
    return Search(
        problem=asked.problem,
        order=asked.order,
        freedom=asked.freedom,
        weights=asked.weights,
        delta=found.delta,
        noise=found.noise,
        penalty=found.penalty,
        minima=minima,
        pool=np.concatenate([minima.theta, cells]),
        starts=len(starts),
        agreeing=agreeing,
        pins=asked.pins,
        ties=asked.ties,
    )


def _thinned(asked: _Asked) -> _Asked:
    problem, count = asked.problem, len(asked.problem.x)
    if count <= _SEARCHED:
        return asked
    # The points are sorted by size: every k-th of them covers the table.
    kept = slice(None, None, math.ceil(count / _SEARCHED))
    return replace(
        asked,
        problem=replace(
            problem,
            x=problem.x[kept],
            z=problem.z[kept],
            y=problem.y[kept],
            scale=None if problem.scale is None else problem.scale[kept],
            basis=np.ascontiguousarray(problem.basis[kept]),
        ),
        weights=asked.weights[:, kept],
    )


@dataclass(frozen=True, eq=False)
class _Settled:
    """Where descents ended, under a δ and a noise that fit each other; `agreeing` is of the first round."""

    descent: Descent
    delta: float
    noise: float
    penalty: Penalty | None
    agreeing: int


def _settled(asked: _Asked, starts: Floats) -> _Settled:
    """Descend from `starts` until δ, and the noise that priors weigh against, are those of the best end."""
    problem, freedom, weights = asked.problem, asked.freedom, asked.weights
    least = _LEAST_DELTA / TUNING
    noise = max(float(_noise(problem, starts, weights[0]).min()), least)
    agreeing = 0
    for settling in range(_SETTLING):
        delta, final = _delta(asked, noise, settling)
        penalty = penalise(problem, asked.priors, noise)
        # Starts come from a grid in the first round, and from minima after it: these need no damping.
        damping = 0.0 if settling else DAMPING
        descent = descend(problem, freedom, starts, weights, delta, penalty, damping=damping)
        best = int(descent.value.argmin())
        agreeing = agreeing or _agreeing(descent, weights)
        before, noise = noise, max(float(_noise(problem, descent.theta[best : best + 1], weights[0])[0]), least)
        needed = asked.delta == "auto" or penalty is not None
        if final and (not needed or abs(noise - before) <= _SETTLED * before):
            break
        starts = _distinct(descent).theta
    return _Settled(descent, delta, noise, penalty, agreeing)


def _agreeing(descent: Descent, weights: Floats) -> int:
    """How many ends have the best objective."""
    ends = descent.value
    return int((ends <= ends.min() * (1 + _AGREE) + _ROUNDING * weights.sum()).sum())


def _delta(asked: _Asked, noise: float, settling: int) -> tuple[float, bool]:
    """δ of a round, in the problem's units, and whether it may be the last."""
    if asked.delta is None:
        return math.inf, True
    if asked.delta == "auto":
        return TUNING * noise, True
    wanted = asked.delta / asked.problem.residual_unit
    approached = TUNING * noise / _CONTINUATION**settling
    return max(wanted, approached), approached <= wanted


def _noise(problem: Problem, theta: Floats, weights: Floats) -> Floats:
    """Robust sd of the residuals of each row of θ: 1.4826 times the weighted median of their sizes."""
    sizes = np.abs(residuals(problem, theta))
    order = np.argsort(sizes, axis=1)
    mass = np.cumsum(weights[order], axis=1)
    # The lower weighted median: a weight of 2 is the point twice.
    place = (mass < 0.5 * mass[:, -1:]).sum(axis=1)
    rows = np.arange(len(theta))
    noise: Floats = MEDIAN_TO_SD * sizes[rows, order[rows, place]]
    return noise


def _distinct(found: Descent) -> Descent:
    """The ends without repetitions, the best first; certified ones before others of the same objective."""
    order = np.lexsort((~found.certified, found.value))
    kept: list[int] = []
    for row in order.tolist():
        near = [np.abs(found.theta[row] - found.theta[other]).max() < _SAME for other in kept]
        if not any(near):
            kept.append(row)
    return Descent(*(getattr(found, name)[kept] for name in Descent.__dataclass_fields__))
