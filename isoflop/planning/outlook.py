"""A forecast: what a planned grid can be expected to tell, as a value that people and programs read.

`isoflop.planning.forecast` makes it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from isoflop.fitting.bootstrap import FEWEST_BUDGETS
from isoflop.fitting.words import bound, count, percent, power
from isoflop.plain import plain
from isoflop.planning.information import Quantity

#: Of windows whose doubts differ by less, the narrowest is meant: it leans least on the profile being a parabola.
_AS_SURE = 1.1
#: With fewer usable studies than this share a half-width is that of the lucky ones.
USABLE = 0.5
#: What is told of a law that the surface leads.
QUANTITIES: tuple[Quantity, ...] = ("a", "ratio", "params")


@dataclass(frozen=True)
class Expected:
    """What the study will say of one quantity.

    Parameters
    ----------
    truth
        Its value if the prior holds; for exponents those of the optimum's line over the planned budgets.
    half_width
        Half of the range that holds 95 % of the simulated estimates. Of ln N* for a size, so ``0.1`` is ±10 %.
    reported
        The half-width that the fit will print, the median over studies fitted by `isoflop.fit` itself: it is the
        wider of two intervals, and few budgets make the second wide. Infinite where most studies have no law; NaN
        (null) where none was fitted.
    bias
        Median estimate less `truth` (of ln N* for a size): what the profile's asymmetry, the ladder's steps, and, for
        N*(C), an optimum that is no power law put in.
    """

    truth: float
    half_width: float
    reported: float
    bias: float


@dataclass(frozen=True)
class BudgetForecast:
    """What one budget can be expected to tell.

    Parameters
    ----------
    budget, predicted_params
        Training FLOPs, and N* there if the prior holds.
    sizes, runs, below, above
        Distinct sizes and runs planned; sizes below and above that N*.
    center, width
        Geometric middle of the smallest and largest size, and the one over the other.
    parabola
        The same ratio for a parabola of the fit's window at the expected place.
    interior
        Probability that the fit finds an interior minimum.
    half_width, bias
        Of ln N* of this budget, where the minimum is interior; infinite where it never is.
    """

    budget: float
    predicted_params: float
    sizes: int
    runs: int
    below: int
    above: int
    center: float
    width: float
    parabola: float
    interior: float
    half_width: float
    bias: float

    def __str__(self) -> str:
        spread = f"±{percent(self.half_width)}" if math.isfinite(self.half_width) else "not found"
        return (
            f"C = {power(self.budget)}: N* expected at {count(self.predicted_params)}, {self.below} sizes below and "
            f"{self.above} above (×{self.width:.3g} wide); interior with p = {self.interior:.2f}; N* {spread}"
        )


@dataclass(frozen=True)
class WindowForecast:
    """The same runs fitted with parabolas of `window` sizes: the least interior probability, the ratio and N*."""

    window: int
    interior: float
    ratio: Expected
    params: Expected

    @property
    def doubt(self) -> float:
        """Half-width and bias of b/a together; infinite where most studies have no law."""
        return self.ratio.half_width + abs(self.ratio.bias) if math.isfinite(self.ratio.half_width) else math.inf


@dataclass(frozen=True)
class Forecast:
    """What a study of this grid can be expected to tell, if `prior` holds.

    Parameters
    ----------
    prior, noise, window, draws
        The law believed in, the sd of a run's ln loss, sizes per parabola, simulated studies.
    runs, flops
        Of the whole grid.
    budgets
        One by one, ascending.
    usable
        Share of the studies that have a law at all (three interior minima).
    target
        The C at which N* is wanted, training FLOPs.
    a, b, ratio, params
        The exponents, b/a, and N*(`target`) with its half-widths and bias in ln.
    windows
        What other windows would make of the same runs.
    surface
        The half-widths that the fit will print of a, b/a and ln N*(`target`) if the surface leads it
        (`isoflop.planning.information`);
        empty where the prior's optimum is not a surface's, or there is no noise.
    """

    prior: str
    noise: float
    window: int
    draws: int
    runs: int
    flops: float
    budgets: tuple[BudgetForecast, ...]
    usable: float
    target: float
    a: Expected
    b: Expected
    ratio: Expected
    params: Expected
    windows: tuple[WindowForecast, ...]
    surface: dict[Quantity, float]

    @property
    def interior(self) -> float:
        """The least probability of an interior minimum among the budgets."""
        return min(budget.interior for budget in self.budgets)

    @property
    def best_window(self) -> WindowForecast:
        """The window whose ratio is surest, bias included; the narrowest of those within a tenth of it."""
        best = min(each.doubt for each in self.windows)
        return next(each for each in self.windows if each.doubt <= _AS_SURE * best)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not known (an infinite half-width) is null."""
        document: dict[str, Any] = plain(asdict(self))
        return {**document, "interior": self.interior, "best_window": self.best_window.window}

    def sentences(self) -> list[str]:
        """A sentence a budget, one for each exponent and for N*, and one for the window that suits the grid."""
        found = [str(budget) for budget in self.budgets]
        if self.usable < USABLE:
            found.append(
                f"a, b, b/a and N*({power(self.target)}) are not told: a law needs {FEWEST_BUDGETS} interior minima, "
                f"and {percent(self.usable)} of the studies have so many"
            )
        else:
            found += [self._exponent(name, each) for name, each in (("a", self.a), ("b", self.b), ("b/a", self.ratio))]
            found.append(self._size())
        if self.surface:
            a, ratio, size = (self.surface[name] for name in QUANTITIES)
            found.append(
                f"if the surface leads, as isoflop next expects, a is reported to ±{bound(a)}, b/a to "
                f"±{bound(ratio)}, N*({power(self.target)}) to ±{_share(size)}"
            )
        best = self.best_window
        doubt = next(each.doubt for each in self.windows if each.window == self.window)
        if doubt > _AS_SURE * best.doubt:
            found.append(
                f"parabolas of {best.window} sizes instead of {self.window} (window={best.window}) would tell b/a to "
                f"±{best.ratio.half_width:.3f} (bias {best.ratio.bias:+.3f}), every minimum interior with "
                f"p >= {best.interior:.2f}"
            )
        return found

    @staticmethod
    def _exponent(name: str, each: Expected) -> str:
        reported = "" if math.isnan(each.reported) else f", reported as ±{bound(each.reported)}"
        bias = f"{each.bias:+.3f}" if math.isfinite(each.bias) else "∞"
        return f"{name} = {bound(each.truth)} expected to ±{bound(each.half_width)}{reported}; bias {bias}"

    def _size(self) -> str:
        size = self.params
        reported = "" if math.isnan(size.reported) else f", reported as ±{_share(size.reported)}"
        return (
            f"N*({power(self.target)}) = {count(size.truth)} expected to ±{_share(size.half_width)}{reported}; bias "
            f"{'+' if size.bias >= 0 else '−'}{percent(abs(size.bias))}"
        )

    def __str__(self) -> str:
        head = (
            f"forecast of {self.runs} runs if {self.prior} holds and a run's loss has a noise of {percent(self.noise)} "
            f"({self.draws} simulated studies, {percent(self.usable)} with a law)"
        )
        return "\n".join([head, *(f"  {sentence}" for sentence in self.sentences())])


def _share(half: float) -> str:
    return percent(half) if math.isfinite(half) else "∞"
