"""A value and how far to trust it.

Two intervals stand behind every exponent of minima. The *bootstrap* one knows the noise of the runs and what branches
of a trunk share of it, and the *t* one knows how the minima scatter about their power law; design effects (a rate that
suits one size better than another) show only in the second, and with few budgets it is the rougher of the two. The
headline is the wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer

#: What every interval of this package covers if its assumptions hold.
LEVEL = 0.95
#: Of a normal sample that much lies within so many sd.
NORMAL = 1.959963984540054
#: And that much lies more than one sd below its middle.
NORMAL_TAIL = 0.15865525393145707

_as_json = PlainSerializer(lambda value: value if math.isfinite(value) else None, when_used="json")
#: The lower end of an interval; JSON has no infinities, so there an unbounded end is null.
Low = Annotated[float, BeforeValidator(lambda value: -math.inf if value is None else value), _as_json]
#: The upper end, likewise.
High = Annotated[float, BeforeValidator(lambda value: math.inf if value is None else value), _as_json]


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: Low
    high: High


@dataclass(frozen=True)
class Estimate:
    """A value, its headline interval (the wider of two), and both of them.

    `method` says which one is the headline; ends may be infinite (null in JSON) where the data set no bound.
    """

    value: float
    low: Low
    high: High
    method: Literal["t", "bootstrap"]
    t: tuple[Low, High]
    bootstrap: tuple[Low, High]


def estimate(value: float, t: tuple[float, float], bootstrap: tuple[float, float]) -> Estimate:
    """Make the `Estimate` whose headline is the wider interval, stretched to hold the value should a skewed one not."""
    method: Literal["t", "bootstrap"] = "t" if t[1] - t[0] >= bootstrap[1] - bootstrap[0] else "bootstrap"
    low, high = t if method == "t" else bootstrap
    return Estimate(value, min(low, value), max(high, value), method, t, bootstrap)


def t_quantile(freedom: int) -> float:
    """Half-width of the 95 % interval of Student's t with `freedom` degrees, in standard errors."""
    from scipy.special import stdtrit  # late: scipy.special is a third of this package's import time

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def percentiles(draws: NDArray[np.float64]) -> tuple[float, float]:
    """95 % of the `draws` lie between these; everything, where there are none. No interpolation: some are infinite."""
    if not len(draws):
        return -math.inf, math.inf
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return float(low), float(high)


def middle_interval(value: float, draws: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval about `value` from the middle 68 % of the `draws`, each side stretched as a normal's would be.

    Resampled minima have long tails (a flat profile's vertex may land far off), which percentiles take at their word:
    on simulated studies (``benchmarks/coverage.py``) those of a cover up to 99.8 % for a nominal 95 %, these 97 to 99.
    Where the middle itself is infinite, as of a b/a whose models do not grow, nothing is known: no bounds.
    """
    if not len(draws):
        return -math.inf, math.inf
    low, middle, high = np.quantile(draws, [NORMAL_TAIL, 0.5, 1 - NORMAL_TAIL], method="inverted_cdf")
    if not (math.isfinite(middle) and math.isfinite(value)):
        return -math.inf, math.inf
    return value - NORMAL * float(middle - low), value + NORMAL * float(high - middle)
