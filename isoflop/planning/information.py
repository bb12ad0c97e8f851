"""What a run tells of a surface before it is run: the model of information that choosing cells rests on.

About the surface L = E + A/N^α + B/D^β fitted so far, a run's ln loss is linear in (E, ln A', ln B', α, β), A' and B'
being the terms at the runs' mean ln N and ln D. So the covariance of the five after any set of runs follows without
their losses, and with it the interval of whatever is wanted: b/a, ln N*(C), ln L*(C). Two things make that interval,
as they make the law's own (`isoflop.fitting.methods`): the noise of the runs, which more runs average out, and a lack
of fit too small to be seen (`isoflop.fitting.misfit`), which only runs at other places do. One more run changes the
covariance by a term of rank one, so thousands of cells are weighed at once.

Source: Chaloner & Verdinelli 1995, Statistical Science 10(3), section 2 (linear designs) and 6 (about an estimate).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import numpy as np

from isoflop.errors import InputError
from isoflop.fitting.columns import Floats
from isoflop.fitting.cost import CostModel
from isoflop.fitting.intervals import NORMAL
from isoflop.fitting.misfit import LARGEST, LENGTH
from isoflop.fitting.surface import Surfaces
from isoflop.fitting.words import power
from isoflop.planning.prior import Surface

Quantity = Literal["ratio", "a", "params", "loss"]

#: Those that are exponents, by name.
_EXPONENTS = {"ratio": "b/a", "a": "a"}
_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
_GOAL = re.compile(rf"([a-z]+)(?:@{_NUMBER})?\s*(?:±|\+-)\s*{_NUMBER}")
#: Steps of finite differences in the coordinates.
_STEP = 1e-4
#: What is believed of the five before any run, as sd of E (of itself), ln A', ln B', and of α and β (of themselves):
#: next to nothing, so that seven runs say more.
_VAGUE = (0.3, 2.0, 2.0, 0.5, 0.5)


@dataclass(frozen=True)
class Goal:
    """A quantity wanted to ±`half_width` (95 %): b/a, or a, or ln N* or ln L* at `flops` training FLOPs."""

    quantity: Quantity
    half_width: float
    flops: float | None = None

    def __post_init__(self) -> None:
        if self.quantity not in get_args(Quantity):
            raise InputError(f"a goal must be one of {', '.join(get_args(Quantity))}, but got {self.quantity!r}")
        if not (math.isfinite(self.half_width) and self.half_width > 0):
            raise InputError(f"a goal's half-width must be positive and finite, but got {self.half_width}")
        if (self.quantity in _EXPONENTS) != (self.flops is None):
            raise InputError(f"a goal must have flops unless it is an exponent, but {self.quantity} got {self.flops}")
        if self.flops is not None and not (math.isfinite(self.flops) and self.flops > 0):
            raise InputError(f"a goal's flops must be positive and finite, but got {self.flops}")

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read ``ratio±0.05``, or ``params@1e22±0.1`` of one C; ``+-`` does for ``±``."""
        found = _GOAL.fullmatch(text.strip())
        if found is None:
            raise InputError(f"a goal must be like ratio±0.05 or params@1e22±0.1, but got {text!r}")
        quantity, flops, half_width = found.groups()
        return cls(cast("Quantity", quantity), float(half_width), None if flops is None else float(flops))

    @property
    def name(self) -> str:
        """As people say it."""
        if self.flops is None:
            return _EXPONENTS[self.quantity]
        return f"ln {'N' if self.quantity == 'params' else 'L'}*({power(self.flops)})"

    def __str__(self) -> str:
        return f"{self.name} ±{self.half_width:.3g}"


@dataclass(frozen=True, eq=False)
class Frame:
    """A surface in the coordinates (E, ln A', ln B', α, β) about mean ln N = `x` and mean ln D = `z`."""

    theta: Floats
    x: float
    z: float
    cost: CostModel

    @classmethod
    def about(cls, surface: Surface, params: Floats, tokens: Floats, cost: CostModel) -> Frame:
        """The coordinates about runs of `params` and `tokens`, shape (n,)."""
        x, z = float(np.log(params).mean()), float(np.log(tokens).mean())
        a, b = math.log(surface.A) - surface.alpha * x, math.log(surface.B) - surface.beta * z
        return cls(np.array([surface.E, a, b, surface.alpha, surface.beta]), x, z, cost)

    def slopes(self, params: Floats, tokens: Floats) -> Floats:
        """Derivatives of ln L by the coordinates, shape (n, 5)."""
        x, z = np.log(params) - self.x, np.log(tokens) - self.z
        E, a, b, alpha, beta = self.theta
        model, data = np.exp(a - alpha * x), np.exp(b - beta * z)
        terms = np.stack([np.ones_like(x), model, data, -x * model, -z * data], axis=1)
        slopes: Floats = terms / (E + model + data)[:, None]
        return slopes

    def gradient(self, quantity: Quantity, flops: float) -> Floats:
        """Derivatives of a quantity at `flops` training FLOPs by the coordinates, shape (5,)."""
        drawn = self._surfaces(np.concatenate([self.theta + _STEP * np.eye(5), self.theta - _STEP * np.eye(5)]))
        if quantity in _EXPONENTS:
            slope_n, slope_d = drawn.exponents(flops, self.cost)
            values = slope_n if quantity == "a" else slope_d / slope_n
        else:
            optimum = drawn.optimum(np.array([flops]), self.cost)
            values = np.log((optimum.params if quantity == "params" else optimum.loss)[:, 0])
        gradient: Floats = (values[:5] - values[5:]) / (2 * _STEP)
        return gradient

    def optimum(self, flops: Floats) -> Floats:
        """N* of the surface at each of `flops` training FLOPs."""
        params: Floats = self._surfaces(self.theta[None]).optimum(flops, self.cost).params[0]
        return params

    def log_loss(self, params: float, tokens: float) -> float:
        """Ln loss of the surface."""
        return math.log(float(self._surfaces(self.theta[None]).at(np.array([params]), np.array([tokens]))[0, 0]))

    def _surfaces(self, theta: Floats) -> Surfaces:
        E, a, b, alpha, beta = theta.T
        return Surfaces(E, np.exp(a + alpha * self.x), np.exp(b + beta * self.z), alpha, beta)

    def belief(self) -> Floats:
        """The precision of what is known before any run, shape (5, 5)."""
        E, _, _, alpha, beta = self.theta
        sd = np.array(_VAGUE) * np.array([E, 1.0, 1.0, alpha, beta])
        return np.diag(1 / sd**2)


@dataclass(frozen=True, eq=False)
class Aim:
    """A goal's gradients: `noise` by which noise moves it, and `shape` by which an unseen lack of fit does."""

    goal: Goal
    noise: Floats
    shape: Floats

    @classmethod
    def of(cls, goal: Goal, frame: Frame, reference: float) -> Aim:
        """The aim at `goal`; `reference` is the middle of the runs' C, about which a lack of fit turns ln N*."""
        if goal.flops is None:
            gradient = frame.gradient(goal.quantity, reference)
            return cls(goal, gradient, gradient)
        turn = math.log(goal.flops / reference) if goal.quantity == "params" else 0.0
        return cls(goal, frame.gradient(goal.quantity, goal.flops), turn * frame.gradient("a", reference))


@dataclass(frozen=True, eq=False)
class Information:
    """What n runs tell: their `slopes`, shape (n, 5), and places ln N, ln D, shape (n, 2).

    `covariance` is that of the coordinates; `noise` the sd of a run's ln loss; `unseen` that of a lack of fit which
    nobody sees.
    """

    slopes: Floats
    places: Floats
    covariance: Floats
    noise: float
    unseen: float

    @classmethod
    def of(cls, frame: Frame, params: Floats, tokens: Floats, noise: float) -> Information:
        """What runs of `params` and `tokens` tell, shape (n,) each."""
        slopes = frame.slopes(params, tokens)
        precision = frame.belief() + slopes.T @ slopes / noise**2
        places = np.log(np.stack([params, tokens], axis=1))
        covariance: Floats = np.asarray(np.linalg.inv(precision), dtype=np.float64)
        return cls(slopes, places, covariance, noise, min(noise, LARGEST))

    def half_width(self, aim: Aim) -> float:
        """The half-width of a goal's 95 % interval that a law of these runs would have."""
        return NORMAL * math.sqrt(self.variance(aim))

    def variance(self, aim: Aim) -> float:
        """The variance of a goal's quantity that a law of these runs would have."""
        pull = self.slopes @ (self.covariance @ aim.shape) / self.noise**2
        unseen = self.unseen**2 * float(pull @ _alike(self.places, self.places) @ pull)
        return float(aim.noise @ self.covariance @ aim.noise) + unseen

    def forecast_sd(self, slope: Floats, place: Floats) -> float:
        """The sd of the ln loss of one run that is not among these: what is not known of the surface, and noise."""
        pull = self.slopes @ (self.covariance @ slope) / self.noise**2
        near = _alike(self.places, place[None])[:, 0]
        unseen = self.unseen**2 * float(1 - 2 * pull @ near + pull @ _alike(self.places, self.places) @ pull)
        return math.sqrt(float(slope @ self.covariance @ slope) + unseen + self.noise**2)

    def with_run(self, slope: Floats, place: Floats) -> Information:
        """What these runs and one more tell."""
        along = self.covariance @ slope
        covariance = self.covariance - np.outer(along, along) / (self.noise**2 + float(slope @ along))
        return replace(
            self,
            slopes=np.vstack([self.slopes, slope]),
            places=np.vstack([self.places, place]),
            covariance=covariance,
        )

    def variances_with(self, aims: Sequence[Aim], slopes: Floats, places: Floats) -> Floats:
        """Variance of each aim after one more run of each of m cells, shape (aims, m)."""
        along = slopes @ self.covariance
        level = self.noise**2 + np.einsum("mi,mi->m", slopes, along)
        alike = _alike(places, self.places)
        mixed = alike @ self.slopes
        own = self.slopes.T @ _alike(self.places, self.places) @ self.slopes
        found = []
        for aim in aims:
            left = float(aim.noise @ self.covariance @ aim.noise) - (along @ aim.noise) ** 2 / level
            pull = (self.covariance @ aim.shape)[None] - ((along @ aim.shape) / level)[:, None] * along
            pull /= self.noise**2
            mine = np.einsum("mi,mi->m", pull, slopes)
            unseen = np.einsum("mi,ij,mj->m", pull, own, pull) + mine * (2 * np.einsum("mi,mi->m", pull, mixed) + mine)
            found.append(left + self.unseen**2 * unseen)
        return np.stack(found)


def _alike(first: Floats, second: Floats) -> Floats:
    """How alike a smooth lack of fit is at two sets of places, shape (m, n)."""
    apart = ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=2)
    alike: Floats = np.exp(-apart / (2 * LENGTH**2))
    return alike
