"""The law of each token type, beside the total's: where text, semantic and acoustic tokens want another model.

A run has one N, D and C, but a loss for each type of its tokens, so every type has IsoFLOP profiles of its own over the
same runs. Their minima are found as the total's are. What differs from the total is told with an interval of the
*difference*, over the budgets where both have a minimum: the losses of a run come from one training and err together,
so a difference is known better than the two values (the resamples of both draw the same runs' errors).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.bootstrap import FEWEST_BUDGETS, with_intervals
from isoflop.fitting.columns import Floats, numbers
from isoflop.fitting.intervals import Estimate, estimate, middle_interval, t_quantile
from isoflop.fitting.lines import MinimaLines, lines_through
from isoflop.fitting.minima import Method, find_minimum, profiles
from isoflop.fitting.points import Points
from isoflop.fitting.powerlaw import Exponents, Lines, fit_lines, slope_interval
from isoflop.fitting.sharing import models_of
from isoflop.fitting.token_types import Against, TypeLaw

if TYPE_CHECKING:
    import pandas as pd

#: Columns of a points table with the loss of one type of token.
PREFIX = "loss_"
#: Named alike, and no loss: the sd of ln loss.
_NO_TYPE = "loss_sigma"


def laws_by_type(
    table: pd.DataFrame,
    points: Points,
    total: MinimaLines | None,
    *,
    width: int,
    method: Method,
    bootstrap: int,
    seed: int,
) -> tuple[TypeLaw, ...]:
    """Fit every type of token that `table` has a loss of, in the order of its columns.

    Parameters
    ----------
    table, points
        The table, and those of its rows that the law uses; a type is fitted to those that have its loss.
    total
        The lines through the minima of the whole loss; None where it has none.
    width, method, bootstrap, seed
        As those of the total were found, or the resamples would not go together.
    """
    found = []
    for column in _columns(table):
        loss = numbers(table, column)[points.row]
        known = np.isfinite(loss) & (loss > 0)
        if known.any():
            own = replace(points, loss=loss).only(known)
            name = column.removeprefix(PREFIX)
            found.append(_law(name, own, total, width=width, method=method, bootstrap=bootstrap, seed=seed))
    return tuple(found)


def _columns(table: pd.DataFrame) -> list[str]:
    """The columns that hold a type's loss: what is text is no loss."""
    named = [str(name) for name in table.columns if str(name).startswith(PREFIX) and str(name) != _NO_TYPE]
    return [name for name in dict.fromkeys(named) if table[name].dtype.kind in "fiu"]


def _law(name: str, points: Points, total: MinimaLines | None, *, width: int, method: Method, **asked: Any) -> TypeLaw:
    every = profiles(points)
    minima = [find_minimum(profile, width, method) for profile in every]
    blank = TypeLaw(name, len(points.row), tuple(minima), None, None, "")
    try:
        lines = lines_through(every, minima, width=width, method=method, models=models_of(points, every), **asked)
    except NoAnswerError as error:
        return replace(blank, reason=str(error))
    return replace(
        blank,
        minima=with_intervals(minima, lines.draws),
        exponents=Exponents(lines.law("params").exponent, lines.law("tokens").exponent, lines.ratio),
        against=None if total is None else _against(lines, total),
    )


def _against(own: MinimaLines, total: MinimaLines) -> Against | None:
    """The line of ln N* less the total's, over the budgets where both are interior."""
    mine, theirs = ([minimum.budget for minimum in lines.minima] for lines in (own, total))
    both = [budget for budget in mine if budget in theirs]
    if len(both) < FEWEST_BUDGETS:
        return None
    here, there = [mine.index(budget) for budget in both], [theirs.index(budget) for budget in both]
    x = total.x[there]
    observed = fit_lines(x, (_sizes(own, here) - _sizes(total, there))[None], np.ones((1, len(x)), dtype=bool))
    inside = own.draws.inside[:, here] & total.draws.inside[:, there]
    inside &= (inside.sum(axis=1) >= FEWEST_BUDGETS)[:, None]
    moved = np.where(inside, own.draws.log_params[:, here] - total.draws.log_params[:, there], 0.0)
    return _compared(observed, fit_lines(x, moved, inside), float(x[-1]))


def _sizes(lines: MinimaLines, places: Sequence[int]) -> Floats:
    return np.log([lines.minima[place].params or math.nan for place in places])


def _compared(observed: Lines, drawn: Lines, x: float) -> Against:
    slopes = drawn.slope[np.isfinite(drawn.slope)]
    at = np.array([x])
    height, half = float(observed.at(at)[0, 0]), float(observed.standard_error(at)[0, 0])
    half *= t_quantile(int(observed.count[0]) - 2)
    heights = drawn.at(at)[:, 0]
    middle = middle_interval(height, heights[np.isfinite(heights)])
    value = float(observed.slope[0])
    return Against(
        a=estimate(value, slope_interval(observed), middle_interval(value, slopes)),
        size=_exponential(estimate(height, (height - half, height + half), middle)),
        flops=math.exp(x),
    )


def _exponential(found: Estimate) -> Estimate:
    """An estimate of ln y as one of y."""
    (low, high), (first, last) = found.t, found.bootstrap
    return Estimate(
        math.exp(found.value),
        _exp(found.low),
        _exp(found.high),
        found.method,
        (_exp(low), _exp(high)),
        (_exp(first), _exp(last)),
    )


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
