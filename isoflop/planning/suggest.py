"""Which grid tells the same for less, or the most for so many FLOPs: a search over grids, each one forecast.

Most of an IsoFLOP grid's FLOPs go into its largest budgets, where profiles are flattest and a run tells least. So the
same half-widths are cheaper from budgets that stop lower, sizes that reach to the edges of where a parabola holds, and
two or three seeds of each. What that saves is paid in reach: beyond the largest budget trained, a power law is a
belief, and a suggestion says how much farther it has to carry.

>>> print(suggest(plan, published("soda-surface")))                                           # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.cost import CostModel
from isoflop.fitting.words import percent, power
from isoflop.planning.findings import FEWEST_SIZES, INTERIOR
from isoflop.planning.forecast import BEYOND, DRAWS, NOISE, WINDOW, forecast_cells
from isoflop.planning.outlook import QUANTITIES, Forecast
from isoflop.planning.prior import Prior, names
from isoflop.planning.simulation import Cells

if TYPE_CHECKING:
    from isoflop.planning.plan import Plan

#: Four minima make an exponent to be trusted, and five an interval that is not mostly Student's t.
_BUDGETS = (5, 6, 7, 8)
_SIZES = (FEWEST_SIZES, 7, 9)
#: A ladder's steps may widen what is asked for: nine stays within ten.
_WIDTHS = (6.0, 8.0, 9.0)
_SEEDS = (1, 2, 3)
#: Largest budgets tried, from a decade above the smallest (less is no law) to the plan's own.
_TOPS = 10
_LEAST_SPAN = 10.0
#: Most runs suggested, over the plan's: many small runs are a nuisance of their own.
_MOST_RUNS = 2
#: Simulated studies of a grid in the search, and how much worse than asked it may look there to be looked at again.
_SCREENED = 400
_BLUR = 1.1
#: A suggestion must find its minima with the prior off by this factor, either way.
_OFF = 1.5
#: The fit's reported half-widths over the scatter of its estimates, at least.
_MARGIN = 1.0
#: Grids that are forecast in full where the most is wanted for some FLOPs.
_FINALISTS = 3
#: The quantities that half-widths may be asked of.
_NAMES = ("a", "b", "ratio", "params")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Suggestion:
    """A grid that tells as much for less, or the most for so many FLOPs.

    Parameters
    ----------
    budgets
        Training FLOPs.
    sizes, width, seeds
        Sizes a budget, log-spaced over ×`width` about the prior's N*, each trained with so many seeds.
    runs, flops
        Of the grid.
    share
        `flops` over those of the plan it was asked for.
    asked
        The half-widths it had to meet, as the fit reports them; empty where FLOPs were given instead.
    forecast, instead_of
        What it can be expected to tell; and the same of the plan, with the window that suits that best.
    """

    budgets: tuple[float, ...]
    sizes: int
    width: float
    seeds: int
    runs: int
    flops: float
    share: float
    asked: dict[str, float]
    forecast: Forecast
    instead_of: Forecast

    @property
    def overrides(self) -> list[str]:
        """The settings of the study file that make this grid and ask it the same, as ``--set`` takes them."""
        prior = [f"grid.prior={self.forecast.prior}"] if self.forecast.prior in names() else []
        return [
            "grid.generator=centred",
            *prior,
            f"grid.budgets=[{', '.join(power(budget) for budget in self.budgets)}]",
            f"grid.target={self.forecast.target:g}",
            f"grid.runs={self.runs}",
            "grid.runs_per_budget=null",
            "grid.sizes=[]",
            "grid.cells=[]",
            f"grid.width={self.width:g}",
            f"grid.seeds={self.seeds}",
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        record = {name: value for name, value in vars(self).items() if name not in {"forecast", "instead_of"}}
        return {
            **record,
            "budgets": list(self.budgets),
            "overrides": self.overrides,
            "forecast": self.forecast.to_json(),
            "instead_of": self.instead_of.to_json(),
        }

    def __str__(self) -> str:
        ours, theirs = self.forecast, self.instead_of
        lines = [
            f"{self.runs} runs for {power(self.flops)} FLOPs, {percent(self.share)} of the plan's: "
            f"{len(self.budgets)} budgets from {power(self.budgets[0])} to {power(self.budgets[-1])}, {self.sizes} "
            f"sizes ×{self.width:g} wide, {self.seeds} seed{'s' * (self.seeds > 1)} each",
            *(
                f"{name} ±{mine.reported:.3g} (the plan: ±{other.reported:.3g} with parabolas of {theirs.window} sizes)"
                for name, mine, other in (
                    ("a", ours.a, theirs.a),
                    ("b", ours.b, theirs.b),
                    ("b/a", ours.ratio, theirs.ratio),
                    (f"ln N*({power(ours.target)})", ours.params, theirs.params),
                )
            ),
            f"every minimum interior with p >= {ours.interior:.2f}",
        ]
        if ours.surface and theirs.surface:
            names = zip(("a", "b/a", f"ln N*({power(ours.target)})"), QUANTITIES, strict=True)
            told = (f"{name} ±{ours.surface[each]:.3g} (the plan: ±{theirs.surface[each]:.3g})" for name, each in names)
            lines.append(f"if the surface leads, as isoflop next expects: {', '.join(told)}")
        highest = max(budget.budget for budget in theirs.budgets)
        if highest > 1.01 * self.budgets[-1]:
            lines.append(
                f"its largest budget is ÷{highest / self.budgets[-1]:.2g} below the plan's: what a law does beyond "
                "it is believed, not seen"
            )
        return "\n".join([*lines, f"--set {' --set '.join(repr(each) for each in self.overrides)}"])


def suggest(
    plan: Plan,
    prior: Prior,
    *,
    within: Mapping[str, float] | None = None,
    flops: float | None = None,
    noise: float = NOISE,
    target: float | None = None,
    window: int | Literal["all"] = WINDOW,
    progress: Progress | None = None,
) -> Suggestion:
    """Search for the cheapest grid that meets half-widths, or the one that tells most for some FLOPs.

    Parameters
    ----------
    plan
        What the study would run now: its budgets bound the search, its models say what a size costs.
    prior
        The law that the studies are simulated from and the grids centered by.
    within
        Half-widths to meet, as the fit will report them, of any of ``a``, ``b``, ``ratio`` and ``params`` (of
        ln N*(target)); default: all four as `plan` is forecast to have them, with the window that suits it best.
    flops
        Training FLOPs to spend instead of half-widths to meet: GPU-hours × 3600 × FLOP/s that are reached.
    noise, target, window
        As in `isoflop.planning.forecast.forecast`.
    progress
        Told how many grids of how many are done.

    Raises
    ------
    InputError
        If both `within` and `flops` are given, or a half-width is of an unknown quantity or not positive.
    NoAnswerError
        If no grid searched meets what is asked; the message says how near the best one comes.
    """
    return suggest_for(
        Cells.of(plan),
        prior,
        within=within,
        flops=flops,
        noise=noise,
        target=target,
        window=window,
        progress=progress,
    )


def suggest_for(
    cells: Cells,
    prior: Prior,
    *,
    within: Mapping[str, float] | None = None,
    flops: float | None = None,
    noise: float = NOISE,
    target: float | None = None,
    window: int | Literal["all"] = WINDOW,
    progress: Progress | None = None,
) -> Suggestion:
    """As `suggest`, for the cells of a plan."""
    if within is not None and flops is not None:
        raise InputError(f"at most one of within and flops must be given, but got {dict(within)} and {flops:g}")
    for name, half in (within or {}).items():
        if name not in _NAMES or not half > 0:
            raise InputError(f"half-widths must be positive and of {', '.join(_NAMES)}, but got {name}: {half}")
    if not noise > 0:
        raise InputError(f"noise must be above 0 for grids to differ in what they tell, but got {noise}")
    cost = cells.cost
    target = BEYOND * float(cells.budget.max()) if target is None else target
    search = _Search(cells, prior, cost, noise, target, window, progress or (lambda done, total: None))
    quick = forecast_cells(cells, prior, cost, noise=noise, target=target, window=window, fits=0)
    now = search.forecast(cells, quick.best_window.window)
    return search.cheapest(within, now) if flops is None else search.most(flops, now)


@dataclass(frozen=True)
class _Candidate:
    """A grid of the search; `flops` of all its runs."""

    budgets: tuple[float, ...]
    sizes: int
    width: float
    seeds: int

    @property
    def runs(self) -> int:
        return len(self.budgets) * self.sizes * self.seeds

    @property
    def flops(self) -> float:
        return sum(self.budgets) * self.sizes * self.seeds


@dataclass(frozen=True, eq=False)
class _Search:
    cells: Cells
    prior: Prior
    cost: CostModel
    noise: float
    target: float
    window: int | Literal["all"]
    progress: Progress

    def forecast(self, cells: Cells, window: int | Literal["all"], draws: int | None = None) -> Forecast:
        """In full; or with `draws`, fast, of what the search goes by."""
        options: dict[str, Any] = {} if draws is None else {"draws": draws, "fits": 0, "other_windows": False}
        return forecast_cells(
            cells, self.prior, self.cost, noise=self.noise, target=self.target, window=window, **options
        )

    def laid(self, candidate: _Candidate, off: float = 1.0) -> Cells:
        """The cells of a candidate whose sizes are centered `off` times too high."""
        return Cells.spaced(
            candidate.budgets,
            [off * self.prior.optimum(budget, self.cost) for budget in candidate.budgets],
            self.cost,
            sizes=candidate.sizes,
            width=candidate.width,
            replicates=candidate.seeds,
        )

    def candidates(self) -> list[_Candidate]:
        """Every grid of the search, cheapest first."""
        low, high = float(self.cells.budget.min()), float(self.cells.budget.max())
        most = _MOST_RUNS * len(self.cells.budget)
        tops = np.geomspace(min(_LEAST_SPAN * low, high), high, _TOPS)
        found = {
            _Candidate(tuple(_rounded(each) for each in np.geomspace(low, top, number)), sizes, width, seeds)
            for top, number, sizes, width, seeds in product(tops, _BUDGETS, _SIZES, _WIDTHS, _SEEDS)
        }
        kept = [each for each in found if each.runs <= most and len(set(each.budgets)) == len(each.budgets)]
        return sorted(kept, key=lambda each: (each.flops, each.runs, each.width, each.sizes))

    def cheapest(self, within: Mapping[str, float] | None, now: Forecast) -> Suggestion:
        candidates, nearest = self.candidates(), math.inf
        told = {name: half for name, half in _reported(now).items() if math.isfinite(half)}
        asked = told if within is None else dict(within)
        if not asked:
            raise NoAnswerError(
                f"a plan must tell a law for another to tell as much, but {percent(now.usable)} of its simulated "
                "studies have one: lay its budgets out over a decade or two, or ask what some hours would tell "
                "(--gpu-hours)"
            )
        # Without half-widths of their own the estimates must scatter as little as the plan's, too.
        scatter = {name: _scatter(now)[name] for name in asked} if within is None else {}
        # What the fit reports over the scatter of its estimates, by number of budgets: learned on the way.
        margins = dict.fromkeys(_BUDGETS, _MARGIN)
        for done, candidate in enumerate(candidates):
            self.progress(done, len(candidates))
            number = len(candidate.budgets)
            for draws in (_SCREENED, DRAWS):
                found = _scatter(self.forecast(self.laid(candidate), self.window, draws))
                excess = max(
                    *(margins[number] * found[name] / half for name, half in asked.items()),
                    *(found[name] / half for name, half in scatter.items()),
                    0.0,
                )
                nearest = min(nearest, excess)
                if excess > (_BLUR if draws == _SCREENED else 1.0):
                    break
            else:
                if not self.robust(candidate):
                    continue
                full = self.forecast(self.laid(candidate), self.window)
                if _meets(_reported(full), asked):
                    self.progress(len(candidates), len(candidates))
                    return self.suggestion(candidate, full, now, asked)
                margins[number] = min(_reported(full)[name] / _scatter(full)[name] for name in asked)
        low, high = (power(float(end)) for end in (self.cells.budget.min(), self.cells.budget.max()))
        wanted = ", ".join(f"{name} ±{half:.3g}" for name, half in asked.items())
        raise NoAnswerError(
            f"no grid between {low} and {high} FLOPs with at most {_MOST_RUNS * len(self.cells.budget)} runs meets "
            f"half-widths of {wanted}: the nearest misses by a factor of {nearest:.2g}. Ask for less, or give the "
            "plan larger budgets or more runs"
        )

    def most(self, flops: float, now: Forecast) -> Suggestion:
        every = self.candidates()
        candidates = [each for each in every if each.flops <= flops]
        if not candidates:
            cheapest = f"the cheapest costs {power(every[0].flops)}" if every else "there is none"
            raise NoAnswerError(
                f"no grid of {_BUDGETS[0]} budgets and {_SIZES[0]} sizes between the plan's budgets, with at most "
                f"{_MOST_RUNS} times its runs, costs as little as {power(flops)}: {cheapest}"
            )
        doubts: list[tuple[float, _Candidate]] = []
        for done, candidate in enumerate(candidates):
            self.progress(done, len(candidates))
            doubts.append((_doubt(self.forecast(self.laid(candidate), self.window, _SCREENED)), candidate))
        finalists = [each for _, each in sorted(doubts, key=lambda pair: pair[0]) if self.robust(each)][:_FINALISTS]
        if not finalists:
            raise NoAnswerError(f"no grid of at most {power(flops)} FLOPs would find its minima with p >= {INTERIOR:g}")
        full = [(self.forecast(self.laid(each), self.window), each) for each in finalists]
        self.progress(len(candidates), len(candidates))
        chosen, candidate = min(full, key=lambda pair: _doubt(pair[0]))
        return self.suggestion(candidate, chosen, now, {})

    def robust(self, candidate: _Candidate) -> bool:
        """Whether its minima are interior though the prior be off by a factor, either way."""
        return all(
            self.forecast(self.laid(candidate, off), self.window, _SCREENED).interior >= INTERIOR
            for off in (1 / _OFF, 1.0, _OFF)
        )

    def suggestion(self, candidate: _Candidate, full: Forecast, now: Forecast, asked: dict[str, float]) -> Suggestion:
        return Suggestion(
            **asdict(candidate),
            runs=candidate.runs,
            flops=candidate.flops,
            share=candidate.flops / now.flops,
            asked=asked,
            forecast=full,
            instead_of=now,
        )


def _scatter(forecast: Forecast) -> dict[str, float]:
    return {name: getattr(forecast, name).half_width for name in _NAMES}


def _reported(forecast: Forecast) -> dict[str, float]:
    return {name: getattr(forecast, name).reported for name in _NAMES}


def _meets(found: Mapping[str, float], asked: Mapping[str, float]) -> bool:
    return all(found[name] <= half for name, half in asked.items())


def _doubt(forecast: Forecast) -> float:
    """What the most is weighed by: ln b/a and ln N*(target), half-widths and biases together."""
    ratio, params = forecast.ratio, forecast.params
    if not (math.isfinite(ratio.half_width) and math.isfinite(params.half_width)):
        return math.inf
    return (ratio.half_width + abs(ratio.bias)) / ratio.truth + params.half_width + abs(params.bias)


def _rounded(flops: float) -> float:
    """To three digits, as people write budgets."""
    return float(f"{flops:.2e}")
