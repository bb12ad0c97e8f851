"""What was forecast of a study, scored against what came: half-widths, minima, runs that were held out.

A forecast of a grid needs the prior and the runs, not their losses, so it is the same before the first run and after
the last. There are two, for what a law says depends on what leads in it: where the minima do, studies simulated and
fitted; where the surface does, the information by which `isoflop next` chooses. `isoflop plan` shows both
(`isoflop.planning.forecast`). The law is held against that which suits it. What `isoflop next` expected of each batch,
and of single runs that it held out, stands in the study's record of choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from isoflop.fitting.intervals import Estimate
from isoflop.fitting.law import Law
from isoflop.fitting.words import percent
from isoflop.plain import plain
from isoflop.planning.choice import Finished
from isoflop.planning.decision import came_as_forecast
from isoflop.planning.forecast import forecast_cells
from isoflop.planning.prior import Prior
from isoflop.planning.question import Held
from isoflop.planning.simulation import Cells

if TYPE_CHECKING:
    import pandas as pd

#: As people say them.
_NAMES = {"a": "a", "b": "b", "ratio": "b/a"}


@dataclass(frozen=True)
class Width:
    """A half-width (95 %) of what is named: as it was forecast, and as it came; of ln N* for a size."""

    name: str
    forecast: float
    came: float

    def __str__(self) -> str:
        if self.name.startswith("ln "):
            return f"{self.name} ±{percent(self.forecast)}, came ±{percent(self.came)}"
        return f"{self.name} ±{self.forecast:.3f}, came ±{self.came:.3f}"


@dataclass(frozen=True)
class Promise:
    """What a forecast says that a fit can answer: the half-widths that it will report, and the minima it will find.

    `widths` are of a, b and b/a by their names in a law, those that are finite, where the minima lead; `surface` those
    of a and b/a where the surface does, empty where the prior's optimum is not a surface's; `interior` is how many of
    the `budgets` will have an interior minimum, on average.
    """

    widths: dict[str, float]
    surface: dict[str, float]
    interior: float
    budgets: int

    @classmethod
    def of_points(cls, table: pd.DataFrame, prior: Prior, *, noise: float, window: int | Literal["all"]) -> Promise:
        """That of the runs in a points table, done or not, whatever their losses: the forecast of their plan."""
        columns = table[["budget", "flops", "params", "tokens"]].to_numpy(dtype=float).T
        cells = Cells.named(columns, list(table["trunk"]))
        found = forecast_cells(cells, prior, cells.cost, noise=noise, window=window, other_windows=False)
        widths = {name: float(getattr(found, name).reported) for name in _NAMES}
        return cls(
            {name: width for name, width in widths.items() if math.isfinite(width)},
            {name: width for name, width in found.surface.items() if name in _NAMES},
            sum(budget.interior for budget in found.budgets),
            len(found.budgets),
        )


@dataclass(frozen=True)
class Foretold:
    """Forecasts of a study and what came.

    Parameters
    ----------
    leads
        What it was forecast by: the ``minima``, or the ``surface`` where that leads in the law.
    widths
        Of the grid, what the fit was to report of a, b and b/a if that led.
    interior, minima, budgets
        How many budgets were to have an interior minimum, on average, how many have one, and of how many.
    batches
        What each batch that was chosen was to bring a goal to, and what it did, by the same model of information.
    within, held_out
        Of how many runs that were held out the loss came within its interval, and how many are done.
    lacking
        Why the grid's forecast is not scored; empty where it is, or there was none.
    """

    leads: Literal["minima", "surface"] = "minima"
    widths: tuple[Width, ...] = ()
    interior: float | None = None
    minima: int = 0
    budgets: int = 0
    batches: tuple[Width, ...] = ()
    within: int = 0
    held_out: int = 0
    lacking: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the sentences."""
        return {
            "leads": self.leads,
            "widths": [plain(vars(each)) for each in self.widths],
            "interior": self.interior,
            "minima": self.minima,
            "budgets": self.budgets,
            "batches": [plain(vars(each)) for each in self.batches],
            "within": self.within,
            "held_out": self.held_out,
            "lacking": self.lacking,
            "sentences": self.sentences(),
        }

    def sentences(self) -> list[str]:
        """What was forecast and what came, a sentence each; empty where nothing was forecast."""
        told = [f"No forecast of the grid is scored: {self.lacking}."] if self.lacking else []
        if self.widths:
            told.append(f"Forecast of the grid by its {self.leads}: {'; '.join(map(str, self.widths))}.")
        if self.interior is not None:
            told.append(
                f"Minima within their sizes: {self.interior:.1f} of {self.budgets} forecast, {self.minima} came."
            )
        if self.batches:
            told.append(f"Expected of the last batch that was chosen: {self.batches[-1]}.")
        if self.held_out:
            told.append(f"Runs held out: {self.within} of {self.held_out} within their intervals.")
        return told


#: Where nothing was forecast.
NOTHING = Foretold()


def score(promise: Promise | None, choices: Sequence[dict[str, Any]], law: Law, finished: Finished) -> Foretold:
    """Hold what was forecast against `law` and the `finished` runs.

    Parameters
    ----------
    promise
        Of the grid; None where nothing was forecast.
    choices
        The records of `isoflop next`, in order.
    law, finished
        What came.
    """
    held = [Held(**each) for record in choices for each in record["held"]]
    came = [verdict for each in held if (verdict := came_as_forecast(finished, each)) is not None]
    batches = tuple(
        Width(now["name"], before["expected"], now["now"])
        for record, following in pairwise(choices)
        for before, now in zip(record["goals"], following["goals"], strict=False)
        if record["action"] == "run" and before["name"] == now["name"] and before["expected"] and now["now"]
    )
    if promise is None:
        return Foretold(batches=batches, within=sum(came), held_out=len(came))
    by_surface = law.method == "parametric" and bool(promise.surface)
    forecast = promise.surface if by_surface else promise.widths
    return Foretold(
        leads="surface" if by_surface else "minima",
        widths=tuple(
            Width(_NAMES[name], width, _half_width(getattr(law.exponents, name))) for name, width in forecast.items()
        ),
        interior=promise.interior,
        minima=len(law.interior),
        budgets=promise.budgets,
        batches=batches,
        within=sum(came),
        held_out=len(came),
    )


def _half_width(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / 2
