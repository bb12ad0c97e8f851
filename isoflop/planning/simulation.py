"""A planned study, trained a thousand times on paper: losses from a prior and noise, through the fit's own arithmetic.

Nothing of the fit is written again here: profiles, local parabolas, the rule for what counts as a minimum and the
power laws are `isoflop.fitting`'s, which are vectorised over resamples; here they meet studies that might be. What is
left out is what does not move an estimate, intervals and labels: for those some studies go through the whole of it, one
by one. The slope along which a profile's points are moved to
a common C is that of the losses without noise (it moves a loss by less than 1e-4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.bands import drawn_lines
from isoflop.fitting.bootstrap import Draws, Noise
from isoflop.fitting.cost import CostModel, fit_cost
from isoflop.fitting.lines import lines_through
from isoflop.fitting.minima import Profile, find_minimum, profiles, vertices_by_params, vertices_by_tokens
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.points import Floats, Points, judge
from isoflop.fitting.powerlaw import Lines
from isoflop.fitting.sharing import models_of
from isoflop.planning.prior import Prior

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.planning.plan import Plan

#: Digits of ln C to which two runs cost the same.
_SAME_COST = 9
#: Resamples behind each interval of a study that is fitted whole.
_BOOTSTRAP = 100


@dataclass(frozen=True, eq=False)
class Cells:
    """The runs of a grid as a fit will meet them: sorted by budget, then size; shape (n,) each.

    `budget` is the label, `flops` what the run costs. Runs with the same number in `trunk` share their noise.
    """

    budget: Floats
    flops: Floats
    params: Floats
    tokens: Floats
    trunk: NDArray[np.int64]

    @classmethod
    def of(cls, plan: Plan) -> Cells:
        """The runs of `plan`, N by the total."""
        rows = [(run.budget, run.flops, float(run.shape.parameters.total), float(run.tokens)) for run in plan.runs]
        if not rows:
            raise InputError("a forecast needs a plan with runs, but got none")
        return cls.named(np.array(rows).T, [run.trunk for run in plan.runs])

    @classmethod
    def named(cls, columns: Floats, trunks: Sequence[str]) -> Cells:
        """Runs by budget, C, N and D, shape (4, n), and the names of their trunks."""
        budget, flops, params, tokens = columns
        names = {name: place for place, name in enumerate(dict.fromkeys(trunks))}
        return cls._sorted(budget, flops, params, tokens, np.array([names[trunk] for trunk in trunks]))

    @classmethod
    def spaced(
        cls,
        budgets: Sequence[float],
        centers: Sequence[float],
        cost: CostModel,
        *,
        sizes: int,
        width: float,
        replicates: int = 1,
    ) -> Cells:
        """An ideal grid: at each budget `sizes` log-spaced sizes over ×`width` about its center, each run costing C.

        Every size is run `replicates` times. No two runs share a trunk, and any size can be built.
        """
        place = np.repeat(np.linspace(-0.5, 0.5, sizes) * math.log(width), replicates)
        params = (np.asarray(centers, dtype=float)[:, None] * np.exp(place)).ravel()
        flops = np.repeat(np.asarray(budgets, dtype=float), len(place))
        return cls._sorted(flops, flops, params, cost.tokens(params, flops), np.arange(len(flops)))

    @classmethod
    def _sorted(cls, budget: Floats, flops: Floats, params: Floats, tokens: Floats, trunk: NDArray[np.int64]) -> Cells:
        order = np.lexsort((tokens, params, budget))
        return cls(budget[order], flops[order], params[order], tokens[order], trunk[order])

    @property
    def cost(self) -> CostModel:
        """C(N, D) as these runs count it."""
        return fit_cost(self.flops, self.params, self.tokens)


@dataclass(frozen=True, eq=False)
class Studies:
    """What the fit makes of many simulated studies: minima of shape (draws, budgets), lines with a row a draw.

    Budgets with fewer sizes than a parabola needs have no minimum in any draw. `lines` are NaN in the draws that
    leave too few minima for a law.
    """

    profiles: tuple[Profile, ...]
    draws: Draws
    log_params: Lines
    log_tokens: Lines

    @property
    def log_flops(self) -> Floats:
        """Ln C of the profiles, shape (budgets,)."""
        return np.log([profile.flops for profile in self.profiles])


def log_losses(cells: Cells, prior: Prior, cost: CostModel) -> Floats:
    """Ln loss of every cell under `prior`, without noise, shape (n,).

    A run is worth what its own N and D are: where a shape's cost is off the smooth `cost`, its D is too, and the
    roughness of the ladder is part of the profile.
    """
    worth = np.log(cost.flops(cells.params, cells.tokens))
    result = np.empty(len(worth))
    group = np.round(worth, _SAME_COST)
    for value in np.unique(group):
        same = group == value
        result[same] = np.log(prior.loss(cells.params[same], math.exp(worth[same][0]), cost))
    return result


def simulate(
    cells: Cells, prior: Prior, cost: CostModel, *, noise: float, window: int, draws: int, seed: int = 0
) -> Studies:
    """Simulate `draws` studies of `cells` and fit their minima and power laws with parabolas of `window` sizes.

    `noise` is the sd of one run's ln loss; runs of one trunk share theirs whole. Equal input gives equal studies.
    """
    count = np.arange(len(cells.params))
    losses = np.exp(log_losses(cells, prior, cost))
    points = Points(
        row=count,
        budget=cells.budget,
        flops=cells.flops,
        params=cells.params,
        tokens=cells.tokens,
        loss=losses,
        sigma=None,
        unique_tokens=None,
        clusters=(),
        excluded=(),
        params_convention="total",
        conventions=("total",),
    )
    found = profiles(points)
    generator = np.random.default_rng(seed)
    by_trunk = noise * generator.standard_normal((draws, int(cells.trunk.max()) + 1))
    columns = []
    for profile in found:
        rows = cells.trunk[cells.budget == profile.budget]
        first = np.cumsum(profile.runs.astype(np.int64)) - profile.runs.astype(np.int64)
        errors = np.add.reduceat(by_trunk[:, rows], first, axis=1) / profile.runs
        columns.append(_minima(profile, profile.log_loss + errors, window))
    log_params, log_tokens, log_loss, inside = (np.stack(column, axis=1) for column in zip(*columns, strict=True))
    drawn = Draws(log_params, log_tokens, log_loss, inside, Noise(noise, 0, np.zeros(0)))
    x = np.log([profile.flops for profile in found])
    return Studies(found, drawn, drawn_lines(x, drawn, log_params), drawn_lines(x, drawn, log_tokens))


def tables(
    cells: Cells, prior: Prior, cost: CostModel, *, noise: float, studies: int, seed: int = 0
) -> Iterator[pd.DataFrame]:
    """Yield the points tables of `studies` simulated studies, for `isoflop.fit`, one by one."""
    import pandas as pd

    columns = {name: getattr(cells, name) for name in ("budget", "flops", "params", "tokens")}
    runs = [str(row) for row in range(len(cells.params))]
    log_loss = log_losses(cells, prior, cost)
    generator = np.random.default_rng(seed)
    for _ in range(studies):
        errors = noise * generator.standard_normal(int(cells.trunk.max()) + 1)[cells.trunk]
        yield pd.DataFrame({**columns, "loss": np.exp(log_loss + errors), "run": runs, "trunk": cells.trunk})


def reported(
    cells: Cells,
    prior: Prior,
    cost: CostModel,
    *,
    noise: float,
    window: int,
    studies: int,
    target: float,
    seed: int = 0,
) -> list[float]:
    """The half-widths that `isoflop.fit` prints of a, b, b/a and ln N*(`target`): medians over simulated `studies`.

    They are those of the power laws through the minima. Where the fit lets the surface lead, it prints less; a plan
    does not count on that, for these studies are simulated from a surface. Infinite where half of them have no law;
    NaN where `studies` is 0.
    """
    if not studies:
        return [math.nan] * 4
    rows = []
    for table in tables(cells, prior, cost, noise=noise, studies=studies, seed=seed):
        points = judge(table)
        found = profiles(points)
        minima = [find_minimum(profile, window) for profile in found]
        models = models_of(points, found)
        try:
            lines = lines_through(found, minima, width=window, bootstrap=_BOOTSTRAP, seed=0, models=models)
        except NoAnswerError:
            rows.append([math.inf] * 4)
            continue
        exponents = lines.law("params").exponent, lines.law("tokens").exponent, lines.ratio
        size = lines.band("params", np.log([target]))
        rows.append([*((each.high - each.low) / 2 for each in exponents), math.log(size.high[0] / size.low[0]) / 2])
    # No mean of the middle two: one of them may be infinite.
    medians: list[float] = np.quantile(np.array(rows), 0.5, axis=0, method="inverted_cdf").tolist()
    return medians


def _minima(profile: Profile, log_loss: Floats, window: int) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Ln N*, ln D*, ln L* and whether they count, shape (draws,) each."""
    if len(profile.log_params) < FEWEST:
        none = np.full(len(log_loss), np.nan)
        return none, none, none, np.zeros(len(log_loss), dtype=bool)
    by_params = vertices_by_params(profile, log_loss, window)
    by_tokens = vertices_by_tokens(profile, log_loss, window)
    return by_params.position, by_tokens.position, by_params.height, by_params.inside & by_tokens.inside
