"""How far apart the conventions of N and C are on a grid, and what that does to the exponents.

Two studies of the same runs differ in a and b if one counts attention and the head and the other takes 6ND, or one's N
holds the embedding and the other's does not. A plan says so before a run is trained: over its cells, and by the prior
law's own optimum read under each convention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from isoflop.fitting.cost import CostModel
from isoflop.flops import FlopsConvention, ParamsConvention, Shape
from isoflop.planning.prior import Prior, growth
from isoflop.planning.runs import Run

if TYPE_CHECKING:
    from isoflop.fitting.points import Floats


#: An exponent needs this many budgets.
_FEWEST = 2
#: Of a prior that is a line alone.
_UNTOLD = " What 6ND would do to a and b a line does not say: it moves the optimum too, by a surface that is not known."
#: The optimum under another convention is searched within this factor of the study's own.
_REACH = 1e3
_POINTS = 129
_ROUNDS = 4


@dataclass(frozen=True)
class Range:
    """From the smallest to the largest value over the cells."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = f"{self.low:.3g}", f"{self.high:.3g}"
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Reading:
    """The prior's exponents under one convention of C and one of N: N* ∝ C^a, D* ∝ C^b."""

    flops: FlopsConvention
    params: ParamsConvention
    a: float
    b: float

    def __str__(self) -> str:
        ratio = growth(self.a, self.b)
        return f"a = {self.a:.3f}, b = {self.b:.3f}, b/a = {f'{ratio:.2f}' if math.isfinite(ratio) else '∞'}"


@dataclass(frozen=True)
class Conventions:
    """The conventions on one grid.

    Parameters
    ----------
    convention, attention
        Those that its budgets are stated in.
    over_counted
        Training FLOPs by each other convention over ``counted`` ones at full attention, over the cells; and
        ``causal``, counted at half the length.
    params_over_total
        N by each convention over the total.
    readings
        The prior's exponents as the study reads them, first, and as others would; empty without a prior.
    prior
        Its name; empty without one.
    untold
        Why there is no reading of the prior by 6ND; empty where there is one, or no need.
    listed
        Whether the models are rows of a table, whose FLOPs are its own.
    """

    convention: FlopsConvention
    attention: str
    over_counted: dict[str, Range]
    params_over_total: dict[str, Range]
    readings: tuple[Reading, ...]
    prior: str
    untold: str
    listed: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """For people: how the budgets are counted, how far apart the others are, and what that does to a and b."""
        said = self._of_the_table() if self.listed else self._of_the_shapes()
        if self.readings:
            own, *others = self.readings
            read = "".join(f"; read with {_named(own, other)}: {other}" for other in others)
            said.append(f"If {self.prior} holds, this grid's optimum has {own}{read}.{self.untold}")
        return said

    def _of_the_shapes(self) -> list[str]:
        ratios, shares = self.over_counted, self.params_over_total
        return [
            f"FLOPs are {self.convention} ({self.attention} attention, forward and backward). Over these cells 6ND is "
            f"{ratios['6nd']} of the counted FLOPs with N total, {ratios['6nd_non_embedding']} with N non-embedding, "
            f"{ratios['6nd_body_and_head']} with body and head; counted at causal length they are {ratios['causal']}, "
            f"by levanter's formula {ratios['levanter']}.",
            f"N is the total; non-embedding it is {shares['non_embedding']} of that, body and head "
            f"{shares['body_and_head']}.",
        ]

    def _of_the_table(self) -> list[str]:
        ratios, share = self.over_counted, self.params_over_total["non_embedding"]
        own = "6nd" if self.convention.startswith("6nd") else "the table's own"
        return [
            f"FLOPs are {own} (forward and backward). Over these cells 6ND is {ratios['6nd']} of the table's with N "
            f"total, {ratios['6nd_non_embedding']} with N non-embedding.",
            f"N is the total; non-embedding it is {share} of that.",
        ]


def _named(own: Reading, other: Reading) -> str:
    parts = []
    if other.flops != own.flops:
        parts.append(f"C = {other.flops}")
    if other.params != own.params:
        parts.append(f"N {other.params.replace('_', '-')}")
    return " and ".join(parts)


def conventions(
    runs: Sequence[Run], convention: FlopsConvention, attention: str, prior: Prior | None, cost: CostModel
) -> Conventions:
    """Compare the conventions over `runs`, whose budgets follow `convention` and whose ladder costs `cost`."""
    shapes = list(dict.fromkeys(run.shape for run in runs))
    counted = np.array([shape.flops_per_token() for shape in shapes])
    total = np.array([shape.parameters.total for shape in shapes], dtype=float)
    ratios = {
        name: _range(np.array([shape.flops_per_token(name) for shape in shapes]) / counted)
        for name in get_args(FlopsConvention)
    }
    ratios["causal"] = _range(np.array([shape.flops_per_token(attention="causal") for shape in shapes]) / counted)
    by = {name: np.array([s.parameters.by(name) for s in shapes], dtype=float) for name in get_args(ParamsConvention)}
    return Conventions(
        convention=convention,
        attention=attention,
        over_counted=ratios,
        params_over_total={name: _range(values / total) for name, values in by.items()},
        readings=_readings(runs, convention, prior, cost, total, by["non_embedding"]),
        prior="" if prior is None else prior.name,
        untold="" if prior is None or prior.surface is not None or convention == "6nd" else _UNTOLD,
        listed=not any(isinstance(shape, Shape) for shape in shapes),
    )


def _range(values: Floats) -> Range:
    return Range(float(values.min()), float(values.max()))


def _readings(
    runs: Sequence[Run],
    convention: FlopsConvention,
    prior: Prior | None,
    cost: CostModel,
    total: Floats,
    non_embedding: Floats,
) -> tuple[Reading, ...]:
    budgets = np.array(sorted({run.budget for run in runs}))
    if prior is None or len(budgets) < _FEWEST or len(set(total)) < _FEWEST:
        return ()
    params = np.array([prior.optimum(budget, cost) for budget in budgets])
    tokens = cost.tokens(params, budgets)
    own = Reading(convention, "total", _slope(budgets, params), _slope(budgets, tokens))
    readings = [own]
    if convention != "6nd" and prior.surface is not None:
        loss = _loss_of_pairs(prior, cost, budgets)
        others = np.array(
            [_optimum_under_6nd(loss, budget, near) for budget, near in zip(budgets, params, strict=True)]
        )
        readings.append(Reading("6nd", "total", _slope(budgets, others), _slope(budgets, budgets / (6 * others))))
    if any(isinstance(run.shape, Shape) for run in runs):
        body = _along(params, total, non_embedding)
        readings.append(Reading(convention, "non_embedding", _slope(budgets, body), own.b))
    return tuple(readings)


def _slope(budgets: Floats, values: Floats) -> float:
    return float(np.polyfit(np.log(budgets), np.log(values), 1)[0])


def _along(params: Floats, total: Floats, other: Floats) -> Floats:
    """The other N of models of `params` in total: a smooth curve through the ladder's sizes, in logarithms."""
    center = float(np.log(total).mean())
    degree = min(2, len(np.unique(total)) - 1)
    curve = np.polynomial.polynomial.polyfit(np.log(total) - center, np.log(other), degree)
    values: Floats = np.exp(np.polynomial.polynomial.polyval(np.log(params) - center, curve))
    return values


def _loss_of_pairs(prior: Prior, cost: CostModel, budgets: Floats) -> Callable[[Floats, Floats], Floats]:
    """L(N, D) of a prior: its surface, with N moved so that the optimum lies where the prior's line says.

    The move, ln of the surface's N* over the prior's, is taken along C as a parabola through the budgets.
    """
    surface = prior.surface
    assert surface is not None  # noqa: S101 - the caller's condition
    if prior.line is None:
        return surface.loss
    bare = Prior(prior.name, prior.source, surface)
    around = np.geomspace(budgets[0] / 10, budgets[-1] * 10, 7)
    move = [math.log(bare.optimum(flops, cost) / prior.optimum(flops, cost)) for flops in around]
    curve = np.polynomial.Polynomial.fit(np.log(around), move, 2)

    def loss(params: Floats, tokens: Floats) -> Floats:
        flops = cost.flops(params, tokens)
        moved = params * np.exp(curve(np.log(flops)))
        return surface.loss(moved, cost.tokens(moved, flops))

    return loss


def _optimum_under_6nd(loss: Callable[[Floats, Floats], Floats], budget: float, near: float) -> float:
    low, high = math.log(near / _REACH), math.log(near * _REACH)
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _POINTS)
        params = np.exp(grid)
        best = int(np.argmin(loss(params, budget / (6 * params))))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, _POINTS - 1)]
    return math.exp((low + high) / 2)
