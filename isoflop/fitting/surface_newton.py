"""Damped Newton steps to the least of a surface's objective, for many weightings and starts at once.

Each row is a start with weights of its own. A step solves the exact Hessian, damped by a multiple of its diagonal
that shrinks while steps succeed and grows when one fails; a parameter at its bound rests there while the objective
pulls it outwards. A row is done when the Newton decrement, what a further step could gain, is nothing beside the
objective itself: a test that knows neither the unit of the loss nor the number of points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.columns import Floats
from isoflop.fitting.surface_coordinates import Coordinates
from isoflop.fitting.surface_objective import (
    Freedom,
    Objective,
    Penalty,
    Problem,
    bounds,
    evaluate,
)

#: A row is done when a further step could lower the objective by no more than this share of it …
_DECREMENT = 1e-12
#: … or by what residuals of this size (rounding) are worth.
_ROUNDING = 1e-14
#: A step that raises the objective by no more than this share of it has not failed: it is rounding.
_SLACK = 1e-14
#: Steps that a row may take.
_STEPS = 100
#: Multiples of δ by which rows that were lost on its kinks are led back to it.
_CONTINUATION = (64.0, 16.0, 4.0, 1.0)
#: Largest step in E (in typical losses), ln A, ln B, α, β; what goes farther is shortened.
_REACH = np.array([0.5, 2.0, 2.0, 0.3, 0.3])
#: Damping: where it starts anew, when it counts as none, when a row is given up.
DAMPING, _UNDAMPED, _STUCK = 1e-3, 1e-5, 1e12
#: What a success divides the damping by, and what a failure multiplies it with.
_EASING, _STIFFENING = 30.0, 8.0
#: A Hessian with a smaller eigenvalue than this share of the largest is flat to rounding.
_FLAT = 1e-14
#: Points times rows that are worked on at once: their products stay in a core's second cache.
_CHUNK = 12_000


@dataclass(frozen=True, eq=False)
class Descent:
    """Where the rows ended: θ, shape (r, 5), the objective there, and whether each is certified to be a minimum.

    `certified` asks for the decrement and for a positive definite Hessian of the parameters that are free and not at
    a bound; `bounded` tells which of θ are, shape (r, 5). `condition` is that of the problem: the root of the
    Hessian's, scaled to a unit diagonal, infinite where it is not positive definite.
    """

    theta: Floats
    value: Floats
    converged: NDArray[np.bool_]
    certified: NDArray[np.bool_]
    bounded: NDArray[np.bool_]
    condition: Floats
    steps: NDArray[np.int64]


def descend(
    problem: Problem,
    freedom: Freedom,
    start: Floats,
    weights: Floats,
    delta: float,
    penalty: Penalty | None = None,
    damping: float = DAMPING,
) -> Descent:
    """Descend from each row of `start`, shape (r, 5), under its `weights`, shape (r, n) or (1, n).

    A δ far below the noise makes an objective of kinks. Rows that do not converge on it are led there: from a δ that
    is larger by `_CONTINUATION`, and on through the smaller ones.
    """
    found = _descend_all(problem, freedom, start, weights, delta, penalty, damping)
    lost = ~found.converged
    if not lost.any() or not np.isfinite(delta):
        return found
    place, their_weights = found.theta[lost], weights if len(weights) == 1 else weights[lost]
    for factor in _CONTINUATION:
        led = _descend_all(problem, freedom, place, their_weights, factor * delta, penalty, 0.0)
        place = led.theta
    lower = led.value < found.value[lost]
    for name in Descent.__dataclass_fields__:
        getattr(found, name)[np.flatnonzero(lost)[lower]] = getattr(led, name)[lower]
    return found


def _descend_all(
    problem: Problem,
    freedom: Freedom,
    start: Floats,
    weights: Floats,
    delta: float,
    penalty: Penalty | None,
    damping: float,
) -> Descent:
    """Descend chunk by chunk."""
    size = max(1, _CHUNK // len(problem.x))
    parts = [
        _descend(
            problem,
            freedom,
            start[first : first + size],
            weights if len(weights) == 1 else weights[first : first + size],
            delta,
            penalty,
            damping,
        )
        for first in range(0, len(start), size)
    ]
    return Descent(*(np.concatenate([getattr(part, name) for part in parts]) for name in Descent.__dataclass_fields__))


def _descend(
    problem: Problem,
    freedom: Freedom,
    start: Floats,
    weights: Floats,
    delta: float,
    penalty: Penalty | None,
    damping: float,
) -> Descent:
    low, high = (ends[freedom.free] for ends in bounds(problem, penalty))
    weights = np.broadcast_to(weights, (len(start), len(problem.x)))
    reach, coordinates = _REACH[freedom.free], Coordinates.of(freedom)
    final = _State.empty(len(start), len(freedom.free))
    state = _State.at(problem, freedom, np.clip(start[:, freedom.free], low, high), weights, delta, penalty)
    state.damping[:] = damping
    rows = np.arange(len(start))
    mass = weights.sum(axis=1)
    rounding = 0.5 * _ROUNDING**2 * mass
    for _ in range(_STEPS):
        resting = _resting(state, low, high)
        step, decrement = _newton_step(state, coordinates, resting)
        # At a bound the gradient may point inwards and the step outwards: then it is taken along the bound.
        outward = _outward(state, coordinates.direction(state.phi, step, resting), low, high) & ~resting
        if outward.any():
            resting |= outward
            step, decrement = _newton_step(state, coordinates, resting)
            decrement[outward.any(axis=1)] = np.inf
        state.converged |= decrement <= _DECREMENT * state.value + rounding
        # The last step is taken all the same: it costs one evaluation and squares the error.
        tried = coordinates.moved(state.phi, _shortened(step, reach), resting, low, high)
        new = _State.at(problem, freedom, tried, weights, delta, penalty)
        slack = _SLACK * state.value + _ROUNDING * np.sqrt(state.value * mass) + rounding
        better = new.value <= state.value + slack
        state.accept(new, better)
        done = state.converged | (state.damping > _STUCK)
        if done.any():
            final.put(rows[done], state.take(done))
            going = ~done
            state, rows, weights = state.take(going), rows[going], weights[going]
            mass, rounding = mass[going], rounding[going]
            if not len(rows):
                break
    final.put(rows, state)
    return _judged(final, freedom, low, high)


@dataclass(eq=False)
class _State:
    """Rows on their way: φ, the objective and its derivatives by φ, the damping of the next step."""

    phi: Floats
    value: Floats
    gradient: Floats
    hessian: Floats
    damping: Floats
    converged: NDArray[np.bool_]
    steps: NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int, free: int) -> _State:
        return cls(
            np.empty((rows, free)),
            np.empty(rows),
            np.empty((rows, free)),
            np.empty((rows, free, free)),
            np.empty(rows),
            np.empty(rows, dtype=bool),
            np.empty(rows, dtype=np.int64),
        )

    @classmethod
    def at(
        cls,
        problem: Problem,
        freedom: Freedom,
        phi: Floats,
        weights: Floats,
        delta: float,
        penalty: Penalty | None,
    ) -> _State:
        found: Objective = evaluate(problem, freedom.theta(phi), weights, delta, penalty)
        rows, matrix = len(phi), freedom.matrix
        whole = matrix.shape == (5, 5)
        return cls(
            phi,
            np.where(np.isfinite(found.value), found.value, np.inf),
            found.gradient if whole else found.gradient @ matrix,
            found.hessian if whole else matrix.T @ found.hessian @ matrix,
            np.zeros(rows),
            np.zeros(rows, dtype=bool),
            np.zeros(rows, dtype=np.int64),
        )

    def take(self, chosen: NDArray[np.bool_]) -> _State:
        return _State(*(values[chosen] for values in vars(self).values()))

    def put(self, rows: NDArray[np.int64], other: _State) -> None:
        for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True):
            mine[rows] = theirs

    def accept(self, new: _State, better: NDArray[np.bool_]) -> None:
        """Move the rows that got `better`, and set every row's damping by whether it did."""
        for name in ("phi", "value", "gradient", "hessian"):
            mine, theirs = getattr(self, name), getattr(new, name)
            if better.all():
                setattr(self, name, theirs)
            else:
                mine[better] = theirs[better]
        smaller = np.where(self.damping > _UNDAMPED, self.damping / _EASING, 0.0)
        self.damping = np.where(better, smaller, np.maximum(self.damping * _STIFFENING, DAMPING))
        self.steps += 1


def _newton_step(state: _State, coordinates: Coordinates, resting: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The damped step of each row, and what it would gain by the quadratic model (infinite while it is damped)."""
    gradient, hessian = coordinates.derivatives(state.phi, state.gradient, state.hessian, resting)
    gradient = np.where(resting, 0.0, gradient)
    hessian = np.where(resting[:, :, None] | resting[:, None, :], 0.0, hessian)
    places = np.arange(hessian.shape[1])
    diagonal = np.abs(hessian[:, places, places])
    # Units of its own for each parameter, so that the damping is free of theirs.
    size = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    hessian = hessian / (size[:, :, None] * size[:, None, :])
    hessian[:, places, places] += state.damping[:, None] + np.where(diagonal > 0, 0.0, 1.0)
    step = -_solve(hessian, gradient / size) / size
    gain = -0.5 * (gradient * step).sum(axis=1)
    # Where the damped Hessian is not positive definite the step may lead upwards: damp it more.
    trusted = (gain >= 0) & (state.damping == 0)
    return step, np.where(trusted, gain, np.inf)


def _solve(matrix: Floats, vector: Floats) -> Floats:
    try:
        solved = np.linalg.solve(matrix, vector[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        solved = (np.linalg.pinv(matrix) @ vector[:, :, None])[:, :, 0]
    solution: Floats = np.where(np.isfinite(solved), solved, 0.0)
    return solution


def _resting(state: _State, low: Floats, high: Floats) -> NDArray[np.bool_]:
    """Which parameters are at a bound and pulled against it."""
    return _outward(state, -state.gradient, low, high)


def _outward(state: _State, direction: Floats, low: Floats, high: Floats) -> NDArray[np.bool_]:
    """Which parameters are at a bound that the `direction` in φ would pass."""
    outward: NDArray[np.bool_] = ((state.phi <= low) & (direction < 0)) | ((state.phi >= high) & (direction > 0))
    return outward


def _shortened(step: Floats, reach: Floats) -> Floats:
    over = np.abs(step / reach).max(axis=1, initial=0.0)
    shortened: Floats = step / np.maximum(over, 1.0)[:, None]
    return shortened


def _judged(state: _State, freedom: Freedom, low: Floats, high: Floats) -> Descent:
    resting = _resting(state, low, high)
    hessian = np.where(resting[:, :, None] | resting[:, None, :], 0.0, state.hessian)
    places = np.arange(hessian.shape[1])
    diagonal = hessian[:, places, places]
    size = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    hessian = hessian / (size[:, :, None] * size[:, None, :])
    hessian[:, places, places] = np.where(resting, 1.0, np.where(diagonal > 0, 1.0, diagonal))
    values = np.linalg.eigvalsh(hessian) if len(places) else np.ones((len(hessian), 1))
    least, most = values[:, 0], values[:, -1]
    definite = least > _FLAT * most
    bounded = np.zeros((len(state.phi), 5), dtype=bool)
    bounded[:, freedom.free] = resting
    with np.errstate(divide="ignore", invalid="ignore"):
        condition = np.where(definite, np.sqrt(most / least), np.inf)
    return Descent(
        theta=freedom.theta(state.phi),
        value=state.value,
        converged=state.converged,
        certified=state.converged & definite,
        bounded=bounded,
        condition=condition,
        steps=state.steps,
    )
