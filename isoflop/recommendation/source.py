"""A law as it is asked for advice, be it fitted or published: the optimum of a budget, and what lies beside it.

A fitted law answers by whatever leads in it, with intervals. A published law is a surface or a line in a few numbers
and comes without intervals: their ends are infinite here, null in JSON. Where only a line is published, the loss about
it is a surface's, moved in ln N (`isoflop.planning.prior`): good for ratios, and no loss is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.columns import Floats
from isoflop.fitting.cost import CostModel, six_nd
from isoflop.fitting.intervals import Interval
from isoflop.fitting.surface import Surfaces, SurfaceStatus
from isoflop.flops import FlopsConvention, ParamsConvention
from isoflop.planning.costs import ladder_cost
from isoflop.planning.prior import Prior, published, record
from isoflop.recommendation.ladder import Ladder

if TYPE_CHECKING:
    from isoflop.fitting.law import Law, Provenance

#: Sizes that a 6ND cost model is said to know; it holds at every size.
_SIZES = (1e6, 1e12)
#: Budgets between which one is looked for, ln C, and halvings until it stands still.
_LN_BUDGETS, _HALVINGS = (0.0, 100.0), 80
#: A budget this much (in log10 C) beyond the last one rounds to it.
_ROUNDING = 1e-3

#: ln L of models of ln N, up to a constant: shape (n,) → (n,).
Profile = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Place:
    """N*, D* and the loss at `flops`, each with its interval, and how many decades beyond the law's budgets it is.

    `decades` is negative below the smallest budget, and NaN where the law does not say its budgets.
    """

    flops: float
    params: Interval
    tokens: Interval
    loss: Interval
    decades: float


@dataclass(frozen=True, eq=False)
class Source:
    """A law that can be asked; `fitted` and `by_name` make it.

    Parameters
    ----------
    name, origin
        As people know it, and where it comes from.
    cost
        C(N, D).
    params_convention, flops_convention
        What its N and its C count.
    budgets
        The smallest and the largest C that it rests on; None where it does not say.
    surface
        L(N, D), if it has one of its own.
    sound
        Whether that surface is certified: it may be a published one, whose fit is not seen here.
    repetition
        R* of repeated data, where the law has it.
    ladder
        The shapes it was made with, where they are known.
    law, prior
        What stands behind it: one of the two.
    """

    name: str
    origin: str
    cost: CostModel
    params_convention: ParamsConvention
    flops_convention: Literal["6nd", "counted"]
    budgets: tuple[float, float] | None
    surface: Surfaces | None
    sound: bool = True
    repetition: float | None = None
    ladder: Ladder | None = None
    law: Law | None = None
    prior: Prior | None = None

    @property
    def provenance(self) -> Provenance | None:
        """Of a fitted law."""
        return None if self.law is None else self.law.provenance

    @property
    def leads_by_surface(self) -> bool:
        """Whether its optimum is that of its surface."""
        return self.surface is not None and (self.law is None or self.law.method == "parametric")

    @property
    def convention(self) -> FlopsConvention:
        """How a shape's FLOPs are counted so that they are this law's C."""
        if self.flops_convention == "counted" or self.cost.form != "6nd":
            return "counted"
        return "6nd" if self.params_convention == "total" else f"6nd_{self.params_convention}"  # type: ignore[return-value]

    def place(self, flops: float) -> Place:
        """The optimum of `flops` training FLOPs, positive and finite."""
        if self.law is not None:
            found = self.law.optimum(flops)
            return Place(flops, found.params, found.tokens, found.loss, self._decades(flops))
        params = self.optimal_params(flops)
        tokens = self.cost.tokens(params, flops)
        loss = (
            math.nan if self.surface is None else float(self.surface.at(np.array([params]), np.array([tokens]))[0, 0])
        )
        told = (Interval(each, -math.inf, math.inf) for each in (params, tokens, loss))
        return Place(flops, next(told), next(told), next(told), self._decades(flops))

    def optimal_params(self, flops: float) -> float:
        """N*(C)."""
        if self.law is not None:
            return self.law.optimal_params(flops)
        if self.surface is not None:
            return float(self.surface.optimum(np.array([flops]), self.cost).params[0, 0])
        assert self.prior is not None  # noqa: S101 - a source without a law has a prior
        return self.prior.optimum(flops, self.cost)

    def profile(self, flops: float) -> Profile:
        """Give ln L against ln N at `flops`, up to a constant."""
        if self.leads_by_surface:
            surface = self.needed_surface()

            def along(log_params: Floats) -> Floats:
                sizes = np.exp(log_params)
                loss: Floats = np.log(surface.at(sizes, self.cost.tokens(sizes, np.full_like(sizes, flops)))[0])
                return loss

            return along
        center = math.log(self.optimal_params(flops))
        if self.law is not None:
            bend = self.law.interior[-1].bend
            return lambda log_params: bend * (log_params - center) ** 2
        prior, cost = self.prior, self.cost
        assert prior is not None  # noqa: S101 - a source without a law has a prior
        return lambda log_params: np.log(prior.loss(np.exp(log_params), flops, cost))

    def needed_surface(self) -> Surfaces:
        """L(N, D); `NoAnswerError` where the law has none."""
        if self.surface is None:
            raise NoAnswerError(
                f"repeated data, serving and a size that does not fit its tokens need a loss surface L(N, D), but the "
                f"law {self.name} has none: it tells only where the optimum lies"
            )
        return self.surface

    def budget_of(self, name: Literal["params", "tokens"], value: float) -> float:
        """The C whose optimal size, or whose optimal tokens, are `value`; both grow with C."""
        low, high = _LN_BUDGETS
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            flops = math.exp(middle)
            params = self.optimal_params(flops)
            if (params if name == "params" else self.cost.tokens(params, flops)) > value:
                high = middle
            else:
                low = middle
        return math.exp((low + high) / 2)

    def _decades(self, flops: float) -> float:
        if self.budgets is None:
            return math.nan
        above, below = math.log10(flops / self.budgets[1]), math.log10(flops / self.budgets[0])
        return above if above > _ROUNDING else below if below < -_ROUNDING else 0.0


def fitted(law: Law, name: str = "the law") -> Source:
    """A fitted law, to be asked."""
    origin, surface = law.provenance, law.parametric
    points = f"{'simulated ' if origin.simulated else ''}points {origin.points_digest[:12]}"
    return Source(
        name=name,
        origin=f"fitted by isoflop {origin.isoflop} to {points}",
        cost=law.cost_model,
        params_convention=origin.params_convention,
        flops_convention=origin.flops_convention,
        budgets=law.budgets,
        surface=None if surface is None else surface.arrays,
        sound=surface is None or surface.status is SurfaceStatus.CONVERGED,
        repetition=None if surface is None else surface.repetition,
        law=law,
    )


@cache
def by_name(name: str) -> Source:
    """The published law of that name, to be asked; `InputError` names the nearest known one."""
    content, prior = record(name), published(name)
    ladder = Ladder.named(**content["ladder"]) if "ladder" in content else None
    own = None
    if prior.line is None and prior.surface is not None:
        own = Surfaces(*(np.array([value]) for value in vars(prior.surface).values()))
    return Source(
        name=name,
        origin=prior.source,
        cost=_cost(name, content, ladder),
        params_convention=content["params"],
        flops_convention=content["flops"],
        budgets=tuple(map(float, content["budgets"])) if "budgets" in content else None,  # type: ignore[arg-type]
        surface=own,
        ladder=ladder,
        prior=prior,
    )


def _cost(name: str, content: dict[str, Any], ladder: Ladder | None) -> CostModel:
    """6ND, or what the ladder that the law was made with costs."""
    if content["flops"] == "6nd":
        return six_nd(*_SIZES)
    if ladder is None:
        raise NoAnswerError(f"a law of counted FLOPs must name its ladder, but {name} names none")
    return ladder_cost(ladder.shapes, content["flops"])
