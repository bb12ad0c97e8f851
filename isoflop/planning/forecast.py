"""What a planned grid can be expected to tell, before a FLOP is spent.

The study is simulated from a prior law and the noise of a run, a thousand times and more, through the fit's own
arithmetic (`isoflop.planning.simulation`): how often is each budget's minimum interior, how far do a, b, b/a and
N*(C) scatter, what will the fit say of their intervals, and how far off is a parabola on a profile that is none.

>>> print(forecast(plan, published("soda-surface")))                                          # doctest: +SKIP

Everything here holds if the prior does. A prior whose N* is a factor off asks for a wider grid; forecast a grid under
every prior that you would not be surprised by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from isoflop.errors import InputError
from isoflop.fitting.cost import CostModel
from isoflop.fitting.intervals import percentiles
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.points import Floats
from isoflop.planning.information import Aim, Frame, Goal, Information, Quantity
from isoflop.planning.outlook import QUANTITIES, USABLE, BudgetForecast, Expected, Forecast, WindowForecast
from isoflop.planning.prior import Exponents, Prior
from isoflop.planning.simulation import Cells, Studies, reported, simulate

if TYPE_CHECKING:
    from isoflop.planning.plan import Plan

#: The sd of ln loss between seeds of one run, where nobody has measured it: what large language models show.
NOISE = 0.003
#: Sizes per local parabola: the default of `isoflop.fit`.
WINDOW = 5
#: Simulated studies: probabilities are then good to 0.01 and half-widths to 3 %.
DRAWS = 2000
#: Of them, how many are fitted one by one by `isoflop.fit`, for the intervals that it will print.
FITS = 24
#: How far beyond the largest budget N* is wanted, where nobody says.
BEYOND = 10.0


def forecast(
    plan: Plan,
    prior: Prior,
    *,
    noise: float = NOISE,
    target: float | None = None,
    window: int | Literal["all"] = WINDOW,
    draws: int = DRAWS,
    fits: int = FITS,
    seed: int = 0,
) -> Forecast:
    """Forecast what the runs of `plan` will tell if `prior` holds.

    Parameters
    ----------
    plan
        The runs. Those that share a trunk share their noise.
    prior
        The law that the losses are simulated from; the grid may have been centred by another.
    noise
        The sd of ln loss of one run.
    target
        Training FLOPs at which N* is wanted; default ten times the largest budget.
    window
        Sizes per parabola, as in `isoflop.fit`.
    draws, fits, seed
        Simulated studies; how many of them go through `isoflop.fit` itself for what it will report (0: none; most of
        the time goes there); the seed of their noise: equal input gives equal forecasts.

    Raises
    ------
    InputError
        If the plan has no runs or an option is out of range.
    """
    cells = Cells.of(plan)
    return forecast_cells(
        cells, prior, cells.cost, noise=noise, target=target, window=window, draws=draws, fits=fits, seed=seed
    )


def forecast_cells(
    cells: Cells,
    prior: Prior,
    cost: CostModel,
    *,
    noise: float = NOISE,
    target: float | None = None,
    window: int | Literal["all"] = WINDOW,
    draws: int = DRAWS,
    fits: int = FITS,
    seed: int = 0,
    other_windows: bool = True,
) -> Forecast:
    """Forecast a grid of `cells` whose C(N, D) is `cost`; the rest as `forecast`.

    Without `other_windows` the grid is simulated with `window` alone.
    """
    if window != "all" and window < FEWEST:
        raise InputError(f"window must be at least {FEWEST} sizes or 'all', but got {window!r}")
    if not (math.isfinite(noise) and noise >= 0):
        raise InputError(f"noise must be the sd of ln loss, 0 or more, but got {noise}")
    if draws < 1 or fits < 0:
        raise InputError(f"draws >= 1 and fits >= 0 must hold, but got {draws} and {fits}")
    target = BEYOND * float(cells.budget.max()) if target is None else target
    if not (math.isfinite(target) and target > 0):
        raise InputError(f"target must be training FLOPs above 0, but got {target}")
    largest = max(len(np.unique(cells.params[cells.budget == budget])) for budget in np.unique(cells.budget))
    width = max(largest, FEWEST) if window == "all" else window
    others = {*range(WINDOW, largest, 2), max(largest, FEWEST)} if other_windows else set()
    studies = {
        each: simulate(cells, prior, cost, noise=noise, window=each, draws=draws, seed=seed)
        for each in sorted({width, *others})
    }
    truth = _Truth.of(prior, cost, studies[width].log_flops, math.log(target))
    expected = {each: _expected(found, truth) for each, found in studies.items()}
    printed = reported(cells, prior, cost, noise=noise, window=width, studies=fits, target=target, seed=seed + 1)
    a, b, ratio, params = (replace(each, reported=half) for each, half in zip(expected[width], printed, strict=True))
    return Forecast(
        prior=prior.name,
        noise=noise,
        window=width,
        draws=draws,
        runs=len(cells.params),
        flops=float(cells.flops.sum()),
        budgets=_by_budget(studies[width], truth, width),
        usable=float(studies[width].draws.usable.mean()),
        target=target,
        a=a,
        b=b,
        ratio=ratio,
        params=params,
        surface=_by_surface(cells, prior, cost, noise, target),
        windows=tuple(
            WindowForecast(each, float(found.draws.inside.mean(axis=0).min()), *expected[each][2:])
            for each, found in studies.items()
        ),
    )


def _by_surface(cells: Cells, prior: Prior, cost: CostModel, noise: float, target: float) -> dict[Quantity, float]:
    """The half-widths of a law that the surface leads, by what single runs tell of it."""
    # Where a line stands beside it the optimum is the line's, which is no surface of that form.
    if prior.surface is None or prior.line is not None or not noise:
        return {}
    frame = Frame.about(prior.surface, cells.params, cells.tokens, cost)
    known = Information.of(frame, cells.params, cells.tokens, noise)
    reference = math.exp(float(np.log(cells.flops).mean()))
    goals = (Goal(name, 1.0, target if name == "params" else None) for name in QUANTITIES)
    return {goal.quantity: known.half_width(Aim.of(goal, frame, reference)) for goal in goals}


@dataclass(frozen=True, eq=False)
class _Truth:
    """Where the optimum is if the prior holds: ln N* at the budgets, its exponents, and N* at ln C = `x_target`."""

    log_params: Floats
    exponents: Exponents
    x_target: float
    params: float

    @classmethod
    def of(cls, prior: Prior, cost: CostModel, x: Floats, x_target: float) -> _Truth:
        params = np.array([prior.optimum(math.exp(each), cost) for each in x])
        exponents = prior.exponents(np.exp(x), cost)
        return cls(np.log(params), exponents, x_target, prior.optimum(math.exp(x_target), cost))


def _expected(studies: Studies, truth: _Truth) -> tuple[Expected, Expected, Expected, Expected]:
    """What is expected of a, b, b/a and N* at the target, but for what the fit will report."""
    usable = studies.draws.usable
    a, b, ratio = truth.exponents.a, truth.exponents.b, truth.exponents.ratio
    if usable.mean() < USABLE:
        a_, b_, ratio_, params = (Expected(each, math.inf, math.nan, math.nan) for each in (a, b, ratio, truth.params))
        return a_, b_, ratio_, params
    slope_n, slope_d = studies.log_params.slope[usable], studies.log_tokens.slope[usable]
    # Models that do not grow with C: then data grow infinitely faster.
    growth = np.where(slope_n > 0, slope_d / np.where(slope_n > 0, slope_n, 1.0), np.inf)
    size = studies.log_params.at(np.array([truth.x_target]))[usable, 0]
    return (
        _summary(a, slope_n - a),
        _summary(b, slope_d - b),
        _summary(ratio, growth - ratio if math.isfinite(ratio) else np.full_like(growth, np.inf)),
        _summary(truth.params, size - math.log(truth.params)),
    )


def _summary(truth: float, errors: Floats) -> Expected:
    low, high = percentiles(errors)
    half = (high - low) / 2 if math.isfinite(high) else math.inf
    return Expected(truth, half, math.nan, float(np.median(errors)))


def _by_budget(studies: Studies, truth: _Truth, window: int) -> tuple[BudgetForecast, ...]:
    found = []
    for place, profile in enumerate(studies.profiles):
        expected, sizes = float(truth.log_params[place]), profile.log_params
        inside = studies.draws.inside[:, place]
        drawn = studies.draws.log_params[inside, place]
        low, high = percentiles(drawn)
        used = np.sort(sizes[np.argsort(np.abs(sizes - expected), kind="stable")[:window]])
        found.append(
            BudgetForecast(
                budget=profile.budget,
                predicted_params=math.exp(expected),
                sizes=len(sizes),
                runs=int(profile.runs.sum()),
                below=int((sizes < expected).sum()),
                above=int((sizes > expected).sum()),
                center=math.exp(float(sizes[0] + sizes[-1]) / 2),
                width=math.exp(float(sizes[-1] - sizes[0])),
                parabola=math.exp(float(used[-1] - used[0])),
                interior=float(inside.mean()),
                half_width=(high - low) / 2,
                bias=float(np.median(drawn)) - expected if len(drawn) else math.nan,
            )
        )
    return tuple(found)
