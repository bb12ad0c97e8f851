"""What speaks against a grid, found in its forecast before anything is trained, each with the shift that would cure it.

A grid that cannot tell is refused: a minimum that would often not be interior, a ratio vaguer than the study asks for.
One that can tell but leans on luck or on the shape of its profiles is flagged. A published grid that is planned as its
authors ran it is flagged, never refused. A cure is the least change of center, width, sizes and replicates that a
forecast of the changed grid finds nothing against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from isoflop.fitting.bootstrap import FEWEST_BUDGETS
from isoflop.fitting.cost import CostModel
from isoflop.fitting.words import count, percent, power
from isoflop.planning.forecast import forecast, forecast_cells
from isoflop.planning.outlook import BudgetForecast, Forecast
from isoflop.planning.prior import Prior, published
from isoflop.planning.simulation import Cells
from isoflop.study import Study

if TYPE_CHECKING:
    from isoflop.planning.plan import Plan

#: A budget whose minimum is interior less often than this is money for nothing.
INTERIOR = 0.8
#: Sizes wider than this factor: a parabola over them feels the profile's asymmetry. On the published surfaces it puts
#: N* off by up to 4 % at ×10, 6 % at ×16, 27 % at ×256.
WIDEST = 10.0
#: With fewer sizes a parabola leaves nothing, or one degree, over to tell noise from lack of fit.
FEWEST_SIZES = 5
#: How much wider a ladder's steps may make a grid than it was meant to be.
_SLACK = 1.1
#: A bias of N* below this share of it matters to nobody.
_BIAS = 0.1
#: Widths, sizes and replicates that cures try.
_WIDTHS = (8.0, 9.0)
_SIZES = (5, 7, 9)
_REPLICATES = (1, 2, 3)
#: Simulated studies behind a cure, and by how much a cure must clear a limit that sampling blurs.
_DRAWS = 1000
_CLEAR = 0.03
#: The fit's reported half-width over the scatter of its estimates, where no study has a law to tell it.
_MARGIN = 1.3
#: A center nearer to N* than this factor needs no shift.
_CENTERED = 1.25


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against a grid.

    Parameters
    ----------
    severity
        ``refuse``: the plan should not be run as it stands; ``flag``: it may, knowing this.
    kind
        ``interior`` minima, ``precision`` of the ratio, ``bias`` of N*, ``width``, number of ``sizes`` or ``budgets``;
        ``tuning``: runs beyond what the recipe was tuned on (`isoflop.planning.tuned`).
    budgets
        The budgets it holds for; all where it is the whole grid's.
    reason, cure
        A sentence; and the change that would cure it: of what a change at these budgets cures one for all.
    """

    severity: Literal["refuse", "flag"]
    kind: Literal["interior", "precision", "bias", "width", "sizes", "budgets", "tuning"]
    budgets: tuple[float, ...]
    reason: str
    cure: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.reason}; {self.cure}"


def forecasts(planned: Plan) -> list[tuple[Forecast, tuple[Finding, ...]]]:
    """What `planned` can be expected to tell under its prior and each that the study names beside it.

    Each forecast comes with what speaks against the grid under that prior. Empty where the study names no prior.
    """
    study = planned.settings
    laws = [planned.prior] if planned.prior is not None else []
    laws += [published(name) for name in study.grid.forecast_under]
    found = []
    for law in laws:
        made = forecast(planned, law, noise=study.grid.noise, target=study.grid.target, window=study.fit.window)
        findings = refusals(planned, law, made, ratio=study.grid.ratio_within, published=_as_given(study))
        found.append((made, findings))
    return found


def _as_given(study: Study) -> bool:
    """Whether the grid is its recipe's walk, as its authors ran it, or was chosen cell by cell: not to be refused."""
    grid, recipe = study.grid, study.recipe
    own = grid.sizes or recipe.ladder is not None
    return grid.generator == "chosen" or (grid.generator == "rule" and not own)


def refusals(
    plan: Plan, prior: Prior, forecast: Forecast, *, ratio: float | None = None, published: bool = False
) -> tuple[Finding, ...]:
    """What the `forecast` of `plan` under `prior` finds against it, gravest first; empty where nothing is.

    Parameters
    ----------
    plan, prior, forecast
        ``forecast(plan, prior, …)``, with whatever options.
    ratio
        The half-width of b/a that the study asks for, as the fit will report it; None: any.
    published
        Whether the grid is a published one, which is flagged and never refused.
    """
    cells = Cells.of(plan)
    return refusals_of(cells, prior, forecast, ratio=ratio, published=published)


def refusals_of(
    cells: Cells, prior: Prior, forecast: Forecast, *, ratio: float | None = None, published: bool = False
) -> tuple[Finding, ...]:
    """As `refusals`, for cells."""
    told = forecast.ratio.reported
    found = list(_findings(forecast, ratio, forecast.ratio.half_width * _MARGIN if math.isnan(told) else told))
    cure = _cure(cells, prior, forecast, ratio) if found else ""
    return (
        *(
            Finding("flag" if published else severity, kind, budgets, reason, cure)
            for severity, kind, budgets, reason in found
        ),
        *_too_few_budgets(forecast),
    )


def _too_few_budgets(forecast: Forecast) -> Iterator[Finding]:
    every = tuple(budget.budget for budget in forecast.budgets)
    if len(every) < FEWEST_BUDGETS:
        reason = f"a law needs {FEWEST_BUDGETS} budgets with an interior minimum, but the grid has {len(every)}"
        yield Finding("flag", "budgets", every, reason, "more of them, over a decade or two, would tell a and b")


_Found = tuple[
    Literal["refuse", "flag"],
    Literal["interior", "precision", "bias", "width", "sizes"],
    tuple[float, ...],
    str,
]


def _findings(forecast: Forecast, ratio: float | None, told: float) -> Iterator[_Found]:
    """Yield what speaks against a forecast whose ratio will be told to ±`told`."""
    every = tuple(budget.budget for budget in forecast.budgets)
    blind = [budget for budget in forecast.budgets if budget.interior < INTERIOR]
    if blind:
        worst = min(blind, key=lambda budget: budget.interior)
        yield (
            "refuse",
            "interior",
            tuple(budget.budget for budget in blind),
            f"an interior minimum must be likely (p >= {INTERIOR:g}) at every budget, but {len(blind)} of {len(every)} "
            f"fall short: at C = {power(worst.budget)} p = {worst.interior:.2f}, with N* expected at "
            f"{count(worst.predicted_params)} and {worst.sizes} sizes from "
            f"{count(worst.center / math.sqrt(worst.width))} to {count(worst.center * math.sqrt(worst.width))}"
            f"{_off_middle(worst)}",
        )
    if ratio is not None and not told <= ratio:
        yield (
            "refuse",
            "precision",
            every,
            f"b/a must be told to ±{ratio:g}, but this grid would tell it "
            f"{f'to ±{told:.3g}' if math.isfinite(told) else 'not at all'}",
        )
    few = [budget for budget in forecast.budgets if budget.sizes < FEWEST_SIZES]
    if few:
        least = min(budget.sizes for budget in few)
        yield (
            "flag",
            "sizes",
            tuple(budget.budget for budget in few),
            f"a budget wants {FEWEST_SIZES} sizes, but {len(few)} of {len(every)} have fewer ({least} at the least): a "
            "parabola through so few leaves next to nothing over to tell noise from a profile that is no parabola, "
            "and a prior that is off by a factor of two makes the minimum an edge",
        )
    wide = [budget for budget in forecast.budgets if budget.width > _SLACK * WIDEST]
    if wide:
        yield (
            "flag",
            "width",
            tuple(budget.budget for budget in wide),
            _too_wide(forecast, max(budget.width for budget in wide)),
        )
    bias, doubt = forecast.params.bias, forecast.params.half_width
    if math.isfinite(doubt) and abs(bias) > max(_BIAS, doubt):
        yield (
            "flag",
            "bias",
            every,
            f"N*({power(forecast.target)}) would come out {percent(abs(math.expm1(bias)))} too "
            f"{'large' if bias > 0 else 'small'}, more than its half-width of {percent(doubt)}: profiles held from one "
            "side, or an optimum that is no power law up to there",
        )


def _too_wide(forecast: Forecast, widest: float) -> str:
    whole = forecast.windows[-1]
    most = max(budget.sizes for budget in forecast.budgets)
    bias = abs(math.expm1(whole.params.bias))
    by = f"this prior puts at {percent(bias)} of N*({power(forecast.target)}) and " if math.isfinite(bias) else ""
    said = (
        f"sizes should span at most ×{WIDEST:g} at a budget, but span up to ×{widest:.3g}: a parabola over all of them "
        f"feels the profile's asymmetry, which {by}no prior is sure of"
    )
    if forecast.window >= most:
        return said
    return f"{said}, and one over the nearest {forecast.window} leaves {most - forecast.window} of {most} sizes out"


def _cure(cells: Cells, prior: Prior, forecast: Forecast, ratio: float | None) -> str:
    """The least change of which a forecast finds nothing amiss, in words."""
    cost = cells.cost
    # What the fit reports is wider than the scatter of its estimates, by about as much for one grid as for the next.
    known = math.isfinite(forecast.ratio.reported) and forecast.ratio.half_width > 0
    margin = forecast.ratio.reported / forecast.ratio.half_width if known else _MARGIN

    def cures(tried: Forecast) -> bool:
        clear = tried.interior >= INTERIOR + _CLEAR
        return clear and not list(_findings(tried, ratio, tried.ratio.half_width * margin))

    def tell(change: str, tried: Forecast) -> str:
        return (
            f"{change} would make every minimum interior with p >= {tried.interior:.2f} and b/a told to about "
            f"±{tried.ratio.half_width * margin:.2g} by {tried.runs} runs"
        )

    def again(changed: Cells, window: int) -> Forecast:
        return forecast_cells(
            changed,
            prior,
            cost,
            noise=forecast.noise,
            target=forecast.target,
            window=window,
            draws=_DRAWS,
            fits=0,
            other_windows=False,
        )

    # Another window costs nothing: it is tried alone first, and with every change that the study's own cannot do with.
    best = forecast.best_window.window
    windows = list(dict.fromkeys((forecast.window, best)))
    if best != forecast.window and cures(tried := again(cells, best)):
        return tell(_window_in_words(best, forecast.window), tried)
    for window, change in product(windows, _changes(forecast)):
        tried = again(change.cells(forecast, cost), window)
        if cures(tried):
            also = "" if window == forecast.window else f", and {_window_in_words(window, forecast.window)},"
            return tell(f"{change.words(forecast)}{also}", tried)
    return (
        f"no shift of the sizes, none of up to ×{_WIDTHS[-1]:g} in width, {_SIZES[-1]} sizes and {_REPLICATES[-1]} "
        "replicates at these budgets would cure it: spread the budgets farther (--suggest searches), or ask for less"
    )


def _window_in_words(window: int, instead_of: int) -> str:
    return f"parabolas of {window} sizes (window={window}) instead of {instead_of}"


@dataclass(frozen=True)
class _Change:
    """A grid like the forecast's, on its budgets; None where it stays as it is."""

    centered: bool
    width: float | None
    sizes: int | None
    replicates: int | None

    def cells(self, forecast: Forecast, cost: CostModel) -> Cells:
        return Cells.spaced(
            [budget.budget for budget in forecast.budgets],
            [budget.predicted_params if self.centered else budget.center for budget in forecast.budgets],
            cost,
            sizes=self.sizes or _typical(forecast).sizes,
            width=self.width or _typical(forecast).width,
            replicates=self.replicates or _typical(forecast).replicates,
        )

    def words(self, forecast: Forecast) -> str:
        said = []
        if self.centered:
            first, last = (
                _times(budget.predicted_params / budget.center)
                for budget in (forecast.budgets[0], forecast.budgets[-1])
            )
            by = first if first == last else f"{first} at the smallest budget to {last} at the largest"
            said.append(f"sizes {by}, centered on N* of {forecast.prior} (grid.prior)")
        if self.width is not None:
            said.append(f"sizes ×{self.width:g} wide (grid.width={self.width:g})")
        if self.sizes is not None:
            said.append(f"{self.sizes} sizes a budget (grid.runs_per_budget={self.sizes})")
        if self.replicates is not None:
            said.append(f"{self.replicates} seeds a size (grid.seeds={self.replicates})")
        return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def _changes(forecast: Forecast) -> Iterator[_Change]:
    """Changes to try, the least first: where the sizes lie costs nothing, replicates most."""
    typical = _typical(forecast)
    shifts = [abs(math.log(budget.predicted_params / budget.center)) for budget in forecast.budgets]
    for replicates in (None, *(each for each in _REPLICATES if each > typical.replicates)):
        for sizes in (None, *(each for each in _SIZES if each > typical.sizes)):
            for width in (None, *(each for each in _WIDTHS if not math.isclose(each, typical.width, rel_tol=0.05))):
                for centered in (False, True) if max(shifts) > math.log(_CENTERED) else (False,):
                    if centered or width or sizes or replicates:
                        yield _Change(centered, width, sizes, replicates)


@dataclass(frozen=True)
class _Typical:
    sizes: int
    width: float
    replicates: int


def _typical(forecast: Forecast) -> _Typical:
    return _Typical(
        sizes=round(median(budget.sizes for budget in forecast.budgets)),
        width=median(budget.width for budget in forecast.budgets),
        replicates=max(round(median(budget.runs / budget.sizes for budget in forecast.budgets)), 1),
    )


def _off_middle(budget: BudgetForecast) -> str:
    ratio = budget.predicted_params / budget.center
    return f", whose middle it is {_times(ratio)} off" if abs(math.log(ratio)) > math.log(_CENTERED) else ""


def _times(ratio: float) -> str:
    return f"×{ratio:.2g}" if ratio >= 1 else f"÷{1 / ratio:.2g}"
