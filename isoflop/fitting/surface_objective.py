"""How far a surface lies from the points: the objective with its exact gradient and Hessian, many weightings at once.

The surface is L = E + A/N^α + B/D^β, the residual r = (ln L_i − ln L(N_i, D_i))/s_i, and the objective Σ w·Huber_δ(r),
a sum and not a mean; where a loss is not positive the residual is that of the loss itself. Arithmetic runs on
logarithms of N and D about their means and on losses in a unit of their own, so that neither the unit of N, D or
loss nor their size touches what is computed. One row of θ = (E, ln A, ln B, α, β) in those coordinates is one
surface.

Given the shares q₁ = A/N^α / L and q₂ = B/D^β / L, every entry of gradient and Hessian is a sum over points of one of
nine products times 1, x, x², z, z² or xz: one matrix product for all rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError
from isoflop.fitting.columns import Floats

#: The parameters in the order of θ.
NAMES = ("E", "A", "B", "alpha", "beta")
FLOOR, MODEL, DATA, ALPHA, BETA = range(5)

#: What ln A and ln B (about the means), α and β may be: terms that are not lost in rounding, and that point downwards.
_LEAST_TERM, _MOST_TERM = -25.0, 25.0
_LEAST_EXPONENT, _MOST_EXPONENT = 1e-3, 10.0
#: The least E where its logarithm counts, in typical losses.
_LEAST_FLOOR = 1e-6

#: Ties that can be asked for.
TIES = ("alpha=beta", "A=B")


@dataclass(frozen=True)
class Prior:
    """A normal prior: the mean and the sd of a parameter's logarithm."""

    mean: float
    sd: float


@dataclass(frozen=True, eq=False)
class Problem:
    """Points to fit a surface to, in coordinates of their own; shape (n,) each.

    `x` and `z` are ln N and ln D less `x_mean` and `z_mean`; `y` is ln loss (or loss, where `log` is False), the loss
    in `unit`s. `scale` is the noise of a point relative to the typical one, None where they are alike. `basis` has the
    columns 1, x, x², z, z², xz.
    """

    x: Floats
    z: Floats
    y: Floats
    x_mean: float
    z_mean: float
    unit: float
    log: bool
    scale: Floats | None
    basis: Floats

    @property
    def residual_unit(self) -> float:
        """One unit of the residual: a residual of ln loss has none."""
        return 1.0 if self.log else self.unit

    def to_natural(self, theta: Floats) -> Floats:
        """E, A, B, α, β of each row of θ."""
        natural = theta.copy()
        natural[..., FLOOR] *= self.unit
        natural[..., MODEL] = self.unit * np.exp(theta[..., MODEL] + theta[..., ALPHA] * self.x_mean)
        natural[..., DATA] = self.unit * np.exp(theta[..., DATA] + theta[..., BETA] * self.z_mean)
        return natural

    def from_natural(self, natural: Floats) -> Floats:
        """θ of each row of E, A, B, α, β."""
        theta = natural.copy()
        theta[..., FLOOR] /= self.unit
        theta[..., MODEL] = np.log(natural[..., MODEL] / self.unit) - natural[..., ALPHA] * self.x_mean
        theta[..., DATA] = np.log(natural[..., DATA] / self.unit) - natural[..., BETA] * self.z_mean
        return theta


@dataclass(frozen=True, eq=False)
class Freedom:
    """Which surfaces are allowed: θ = `offset` + `matrix` @ φ, φ the free ones of θ's own entries, `free` their places.

    So pins and ties are linear: a pinned A is a straight line in (ln A, α), because ln N is centred.
    """

    offset: Floats
    matrix: Floats
    free: NDArray[np.int64]

    def theta(self, phi: Floats) -> Floats:
        """θ of each row of φ."""
        theta: Floats = self.offset + phi @ self.matrix.T
        return theta


@dataclass(frozen=True, eq=False)
class Penalty:
    """Priors as a part of the objective: ½·Σ (`strength`·(ln θ − `mean`))² over E, α, β; strength 0 is no prior."""

    mean: Floats
    strength: Floats


@dataclass(frozen=True, eq=False)
class Objective:
    """The objective and its derivatives by θ; shapes (r,), (r, 5), (r, 5, 5)."""

    value: Floats
    gradient: Floats
    hessian: Floats


def pose(params: Floats, tokens: Floats, loss: Floats, sigma: Floats | None, log: bool) -> Problem:
    """Bring points into their own coordinates; `sigma` (sd of ln loss, NaN where unknown) counts only relatively."""
    x, z = np.log(params), np.log(tokens)
    x_mean, z_mean = float(x.mean()), float(z.mean())
    x, z = x - x_mean, z - z_mean
    unit = math.exp(float(np.log(loss).mean())) if log else float(np.ptp(loss)) or 1.0
    scale = None
    if sigma is not None and np.isfinite(sigma).any():
        relative = sigma / np.median(sigma[np.isfinite(sigma)])
        relative = np.where(np.isfinite(relative), relative, 1.0)
        scale = relative if np.ptp(relative) > 0 else None
    return Problem(
        x=x,
        z=z,
        y=np.log(loss / unit) if log else loss / unit,
        x_mean=x_mean,
        z_mean=z_mean,
        unit=unit,
        log=log,
        scale=scale,
        basis=np.stack([np.ones_like(x), x, x**2, z, z**2, x * z], axis=1),
    )


def bounds(problem: Problem, penalty: Penalty | None = None) -> tuple[Floats, Floats]:
    """The least and the most that θ may be; E may be negative where losses may, and is not 0 under a prior on ln E."""
    least = 0.0 if problem.log else -np.inf
    if penalty is not None and penalty.strength[FLOOR] > 0:
        least = _LEAST_FLOOR
    return (
        np.array([least, _LEAST_TERM, _LEAST_TERM, _LEAST_EXPONENT, _LEAST_EXPONENT]),
        np.array([np.inf, _MOST_TERM, _MOST_TERM, _MOST_EXPONENT, _MOST_EXPONENT]),
    )


def constrain(problem: Problem, pins: Mapping[str, float], ties: Collection[str]) -> Freedom:
    """Turn pins (of E, A, B, alpha, beta) and ties (``alpha=beta``, ``A=B``) into a `Freedom`.

    Raises
    ------
    InputError
        If a name is unknown, a pinned value is out of range, or both sides of a tie are pinned apart.
    """
    pins = dict(pins)
    for name, value in pins.items():
        if name not in NAMES:
            raise InputError(f"a pin must be of {', '.join(NAMES)}, but got {name!r}")
        least = bounds(problem)[0][FLOOR] if name == "E" else 0.0
        if not math.isfinite(value) or value < least or (value == 0 and name != "E"):
            raise InputError(
                f"the pinned {name} must be {'at least 0' if name == 'E' else 'positive'}, but got {value}"
            )
        if name in ("alpha", "beta") and not _LEAST_EXPONENT <= value <= _MOST_EXPONENT:
            raise InputError(
                f"the pinned {name} must lie between {_LEAST_EXPONENT:g} and {_MOST_EXPONENT:g}, but got {value:g}"
            )
    for tie in ties:
        if tie not in TIES:
            raise InputError(f"a tie must be one of {', '.join(TIES)}, but got {tie!r}")
        left, right = tie.split("=")
        values = {pins[name] for name in (left, right) if name in pins}
        if len(values) > 1:
            raise InputError(
                f"the tie {tie} must agree with the pins, but {left} = {pins[left]}, {right} = {pins[right]}"
            )
        pins.update({name: value for value in values for name in (left, right)})
    offset, matrix = np.zeros(5), np.eye(5)
    for place, name in ((ALPHA, "alpha"), (BETA, "beta"), (FLOOR, "E")):
        if name in pins:
            offset[place] = pins[name] / (problem.unit if name == "E" else 1.0)
            matrix[place] = 0.0
    if "alpha=beta" in ties and "beta" not in pins:
        matrix[BETA] = matrix[ALPHA]
    for place, name, exponent, mean in (
        (MODEL, "A", ALPHA, problem.x_mean),
        (DATA, "B", BETA, problem.z_mean),
    ):
        if name in pins:
            offset[place] = math.log(pins[name] / problem.unit) - mean * offset[exponent]
            matrix[place] = -mean * matrix[exponent]
    if "A=B" in ties and "A" not in pins:
        matrix[DATA] = matrix[MODEL] + problem.x_mean * matrix[ALPHA] - problem.z_mean * matrix[BETA]
        offset[DATA] = offset[MODEL] + problem.x_mean * offset[ALPHA] - problem.z_mean * offset[BETA]
    free = np.flatnonzero(matrix.any(axis=0))
    return Freedom(offset, matrix[:, free], free)


def penalise(problem: Problem, priors: Mapping[str, Prior], noise: float) -> Penalty | None:
    """Weigh `priors` on ln E, ln α, ln β against residuals of sd `noise`; None where there are none.

    Raises
    ------
    InputError
        If a prior is on something else, or its sd is not positive.
    """
    mean, strength = np.zeros(5), np.zeros(5)
    for name, prior in priors.items():
        if name not in ("E", "alpha", "beta"):
            raise InputError(f"a prior must be on E, alpha or beta (on its logarithm), but got {name!r}")
        if not (prior.sd > 0 and math.isfinite(prior.mean)):
            raise InputError(f"a prior must have a finite mean and a positive sd, but got {prior} for {name}")
        place = NAMES.index(name)
        mean[place] = prior.mean - (math.log(problem.unit) if name == "E" else 0.0)
        strength[place] = noise / prior.sd
    return Penalty(mean, strength) if strength.any() else None


def residuals(problem: Problem, theta: Floats) -> Floats:
    """Residuals of each row of θ, in the typical point's noise, shape (r, n)."""
    model = np.exp(theta[:, MODEL, None] - theta[:, ALPHA, None] * problem.x)
    data = np.exp(theta[:, DATA, None] - theta[:, BETA, None] * problem.z)
    total = theta[:, FLOOR, None] + model + data
    off: Floats = problem.y - (np.log(total) if problem.log else total)
    return off if problem.scale is None else off / problem.scale


def huber(residual: Floats, delta: float) -> Floats:
    """Huber's function: r²/2 up to δ, δ·(|r| − δ/2) beyond."""
    clipped = np.clip(residual, -delta, delta)
    cost: Floats = clipped * (residual - clipped / 2)
    return cost


def evaluate(
    problem: Problem, theta: Floats, weights: Floats, delta: float, penalty: Penalty | None = None
) -> Objective:
    """Objective, gradient and Hessian by θ.

    Parameters
    ----------
    theta : shape (r, 5)
    weights : shape (r, n) or (1, n)
    delta
        Of Huber's function, in `problem`'s residual units; infinite for least squares.
    """
    rows, count = len(theta), len(problem.x)
    products = np.empty((9, rows, count))
    # The scratch is written in place: at these sizes an allocation costs as much as the arithmetic.
    q1, q2, total = products[6], products[7], products[8]
    np.multiply(theta[:, ALPHA, None], -problem.x, out=q1)
    np.multiply(theta[:, BETA, None], -problem.z, out=q2)
    q1 += theta[:, MODEL, None]
    q2 += theta[:, DATA, None]
    np.exp(q1, out=q1)
    np.exp(q2, out=q2)
    np.add(q1, q2, out=total)
    total += theta[:, FLOOR, None]
    if problem.log:
        residual = np.log(total)
        q0 = np.divide(1.0, total, out=total)
        q1 *= q0
        q2 *= q0
    else:
        residual = total.copy()
        q0 = total
        q0.fill(1.0)
    np.subtract(problem.y, residual, out=residual)
    if problem.scale is not None:
        residual /= problem.scale
    pull = np.clip(residual, -delta, delta)
    inside = pull == residual
    residual -= 0.5 * pull
    residual *= pull
    value = np.einsum("rn,rn->r", residual, np.broadcast_to(weights, residual.shape))
    pull *= weights
    bend = inside * weights
    if problem.scale is not None:
        pull /= problem.scale
        bend /= problem.scale**2
    if problem.log:
        bend += pull
    _products(products, q0, q1, q2, pull, bend)
    moments = (products.reshape(9 * rows, count) @ problem.basis).reshape(9, rows, 6)
    found = Objective(value, _gradient(moments), _hessian(moments))
    return found if penalty is None else _penalised(found, theta, penalty)


def _products(out: Floats, q0: Floats, q1: Floats, q2: Floats, pull: Floats, bend: Floats) -> None:
    """Fill `out` with the products under the sums: those of 11, 22, 12, 10, 20, 00, then of the gradient 1, 2, 0."""
    np.multiply(bend, q1, out=out[0])
    np.multiply(out[0], q2, out=out[2])
    np.multiply(out[0], q0, out=out[3])
    out[0] -= pull
    out[0] *= q1
    np.multiply(bend, q2, out=out[1])
    np.multiply(out[1], q0, out=out[4])
    out[1] -= pull
    out[1] *= q2
    np.multiply(q0, q0, out=out[5])
    out[5] *= bend
    for q in (q1, q2, q0):
        q *= pull


_ONE, _X, _XX, _Z, _ZZ, _XZ = range(6)


def _gradient(moments: Floats) -> Floats:
    by_1, by_2, by_0 = moments[6:]
    return np.stack([-by_0[:, _ONE], -by_1[:, _ONE], -by_2[:, _ONE], by_1[:, _X], by_2[:, _Z]], axis=1)


def _hessian(moments: Floats) -> Floats:
    of_11, of_22, of_12, of_10, of_20, of_00 = moments[:6]
    hessian = np.empty((moments.shape[1], 5, 5))
    entries = {
        (FLOOR, FLOOR): of_00[:, _ONE],
        (FLOOR, MODEL): of_10[:, _ONE],
        (FLOOR, DATA): of_20[:, _ONE],
        (FLOOR, ALPHA): -of_10[:, _X],
        (FLOOR, BETA): -of_20[:, _Z],
        (MODEL, MODEL): of_11[:, _ONE],
        (MODEL, DATA): of_12[:, _ONE],
        (MODEL, ALPHA): -of_11[:, _X],
        (MODEL, BETA): -of_12[:, _Z],
        (DATA, DATA): of_22[:, _ONE],
        (DATA, ALPHA): -of_12[:, _X],
        (DATA, BETA): -of_22[:, _Z],
        (ALPHA, ALPHA): of_11[:, _XX],
        (ALPHA, BETA): of_12[:, _XZ],
        (BETA, BETA): of_22[:, _ZZ],
    }
    for (row, column), entry in entries.items():
        hessian[:, row, column] = hessian[:, column, row] = entry
    return hessian


def _penalised(found: Objective, theta: Floats, penalty: Penalty) -> Objective:
    value, gradient, hessian = found.value, found.gradient, found.hessian
    for place in np.flatnonzero(penalty.strength):
        square, of = penalty.strength[place] ** 2, theta[:, place]
        with np.errstate(divide="ignore", invalid="ignore"):
            off = np.log(of) - penalty.mean[place]
            value = value + np.where(of > 0, square * off**2 / 2, np.inf)
            gradient[:, place] += square * off / of
            hessian[:, place, place] += square * (1 - off) / of**2
    return Objective(value, gradient, hessian)
