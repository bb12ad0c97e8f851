"""What a choice does to losses, measured where runs were repeated with it, and carried to all points of a study.

A study is re-run at its minima and beside them alone. At each budget the change of ln loss is taken as a line in ln N
through its re-run cells, with one bend for all budgets: what moves a minimum is the slope, and a parabola plus a
parabola is one, so the windows of the fit may reach beyond the cells. Of the rate more is known, for it was tried on
both sides: `RateResponse`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.columns import Floats
from isoflop.fitting.intervals import High, Low, t_quantile
from isoflop.fitting.words import percent

#: Sizes that tell a bend.
_BEND = 3
#: Cells that tell a curvature from noise.
_FEWEST = 3


@dataclass(frozen=True)
class Effect:
    """What a choice did at one cell: `change` is ln loss with it less ln loss as the study was run, from one `seed`."""

    budget: float
    flops: float
    params: float
    change: float
    seed: int = 0

    @property
    def place(self) -> tuple[float, float, int]:
        """What the effects of several choices have in common where they are of the same run."""
        return self.budget, self.params, self.seed


def carried(effects: Sequence[Effect], budget: Floats, params: Floats) -> Floats:
    """The change of ln loss at each of n points, shape (n,); 0 at budgets where nothing was re-run."""
    labels = np.array([effect.budget for effect in effects])
    x = np.log([effect.params for effect in effects])
    change = np.array([effect.change for effect in effects])
    budgets = np.unique(labels)
    middle = {each: float(x[labels == each].mean()) for each in budgets}
    offset = x - [middle[each] for each in labels]
    bend = any(len(np.unique(x[labels == each])) >= _BEND for each in budgets)
    solution = np.linalg.lstsq(_design(budgets, labels, offset, bend), change, rcond=None)[0]
    there = np.isin(budget, budgets)
    result: Floats = np.zeros(len(budget))
    away = np.log(params[there]) - [middle[each] for each in budget[there]]
    result[there] = _design(budgets, budget[there], away, bend) @ solution
    return result


def _design(budgets: Floats, labels: Floats, offset: Floats, bend: bool) -> Floats:
    """A level and a slope of each budget, and the bend; the least solution gives a lone cell no slope."""
    own = (labels[:, None] == budgets).astype(float)
    columns = [own, own * offset[:, None], *([offset[:, None] ** 2] if bend else [])]
    design: Floats = np.concatenate(columns, axis=1)
    return design


@dataclass(frozen=True)
class RateResponse:
    """How ln loss depends on the rate: it rises by `curvature`·ln²(rate/best), the best a power law of N and C.

    ln(best/the study's rate) = level + by_params·(ln N − center_params) + by_flops·(ln C − center_flops).

    Parameters
    ----------
    curvature, curvature_low, curvature_high
        With its 95 % interval by the scatter of the cells.
    level, by_params, by_flops, center_params, center_flops
        As above.
    farthest
        The best rate over the study's at the re-run cell where they differ most.
    reach
        By which factor the rate was varied, either way: what lies beyond is extrapolated.
    """

    curvature: float
    curvature_low: Low
    curvature_high: High
    level: float
    by_params: float
    by_flops: float
    center_params: float
    center_flops: float
    farthest: float
    reach: float

    def best(self, params: Floats, flops: Floats) -> Floats:
        """The best rate over the study's, at n places."""
        x, z = np.log(params) - self.center_params, np.log(flops) - self.center_flops
        factor: Floats = np.exp(self.level + self.by_params * x + self.by_flops * z)
        return factor

    def excess(self, params: Floats, flops: Floats) -> Floats:
        """How far ln loss lies above that at the best rate, at n places."""
        excess: Floats = self.curvature * np.log(self.best(params, flops)) ** 2
        return excess

    def __str__(self) -> str:
        middle, cost = math.exp(self.level), self.curvature * math.log(2) ** 2
        return (
            f"the best rate by these runs is ×{middle:.2g} of the study's in their middle, and ×{self.farthest:.2g} "
            f"where it is farthest off; a rate ×2 off the best costs {percent(math.expm1(cost))} of the loss"
        )

    @property
    def beyond(self) -> bool:
        """Whether the best rate of some re-run cell lies beyond the rates that were tried."""
        return abs(math.log(self.farthest)) > math.log(self.reach)


def pairs_of(lower: Sequence[Effect], higher: Sequence[Effect]) -> list[tuple[Effect, Effect]]:
    """The effects of two choices on the runs that have both."""
    by_place = {each.place: each for each in lower}
    found = ((by_place.get(each.place), each) for each in higher)
    return [(low, high) for low, high in found if low is not None]


def rate_response(pairs: Sequence[tuple[Effect, Effect]], reach: float) -> RateResponse:
    """Fit the response to cells that were re-run at 1/`reach` and at `reach` times the study's rate.

    At a cell the sum of the two changes is 2κh², whatever its best rate, and their difference −4κhu: h = ln `reach`,
    u = ln(best/rate). So κ is the mean over the cells, and u, a power law of N and C, follows from a line through the
    differences; neither asks single cells for more than they know.

    Raises
    ------
    NoAnswerError
        If fewer than three cells were re-run at both, or the loss does not rise away from some rate beyond the noise.
    """
    if len(pairs) < _FEWEST:
        raise NoAnswerError(f"the best rate needs {_FEWEST} cells re-run at both rates, and {len(pairs)} were")
    h = math.log(reach)
    changes = np.array([[low.change, high.change] for low, high in pairs])
    bends = changes.sum(axis=1) / (2 * h**2)
    half = t_quantile(len(bends) - 1) * float(bends.std(ddof=1)) / math.sqrt(len(bends))
    curvature = float(bends.mean())
    if curvature <= half:
        raise NoAnswerError(
            "the noise hides how the loss depends on the rate: between half and twice the study's it bends by "
            f"{curvature:.2g} ± {half:.2g} of ln loss a squared unit of ln rate"
        )
    x = np.log([high.params for _, high in pairs])
    z = np.log([high.flops for _, high in pairs])
    center_x, center_z = float(x.mean()), float(z.mean())
    design = np.stack([np.ones(len(x)), x - center_x, z - center_z], axis=1)
    u = -(changes[:, 1] - changes[:, 0]) / (4 * curvature * h)
    # Few cells do not tell three coefficients from noise; along a line of cells the least ones are taken.
    columns = 3 if len(pairs) > _FEWEST else 1
    level, by_x, by_z = (*np.linalg.lstsq(design[:, :columns], u, rcond=None)[0].tolist(), 0.0, 0.0)[:3]
    fitted = level + by_x * design[:, 1] + by_z * design[:, 2]
    return RateResponse(
        curvature=curvature,
        curvature_low=curvature - half,
        curvature_high=curvature + half,
        level=level,
        by_params=by_x,
        by_flops=by_z,
        center_params=center_x,
        center_flops=center_z,
        farthest=math.exp(float(fitted[np.abs(fitted).argmax()])),
        reach=reach,
    )
