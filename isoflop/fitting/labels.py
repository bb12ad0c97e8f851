"""Why a row of a points table cannot be used: every reason, in the words that the user reads.

A row keeps the most telling of its reasons: what became of the run, then what its numbers are, then what the other
rows say of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from isoflop.errors import InputError
from isoflop.fitting.columns import Floats, flags, numbers, places
from isoflop.fitting.words import power

if TYPE_CHECKING:
    import pandas as pd

#: A run whose ln loss lies above both neighbouring sizes' of its budget by more than this diverged: profiles have one
#: valley. It must also stand out from the scatter of the whole table, by this many robust standard deviations.
DIVERGED, _OUTLYING = 0.1, 6.0
#: A row whose C is off the median of its budget's by more than this factor belongs to another: published grids put
#: budgets a factor of 1.5 or more apart.
_STRAYED = 1.5
#: ln N that are closer are one size, where a profile's neighbours are looked up.
_SAME_SIZE = 1e-6
#: Sizes between which one can be an outlier.
_FEWEST = 3
#: States of runs that ended as they should: ours, W&B's, and what tables write by hand.
_DONE = ("done", "finished", "completed")


def label_rows(table: pd.DataFrame, columns: Mapping[str, Floats]) -> list[str | None]:
    """The reason why each row cannot be used, judged by itself and its run; None where nothing is wrong.

    `columns` are the required ones as numbers.
    """
    reasons: list[str | None] = [None] * len(table)
    for place, reason in (
        *_of_state(table),
        *_of_numbers(columns),
        *_of_progress(table, columns),
    ):
        reasons[place] = reasons[place] or reason
    _label_repetitions(table, columns, reasons)
    return reasons


def label_strayed(budget: Floats, flops: Floats) -> dict[int, str]:
    """Rows whose C is not that of their budget's other rows, arrays of shape (n,): place to reason.

    A budget's name need not be its C (another convention may have counted it), so rows are held against each other.

    Raises
    ------
    InputError
        If that is most of them.
    """
    import pandas as pd

    middle = pd.Series(flops).groupby(budget).transform("median").to_numpy()
    strayed = places(np.abs(np.log(flops / middle)) > np.log(_STRAYED))
    if 2 * len(strayed) > len(flops):
        first = strayed[0]
        raise InputError(
            f"the points of one budget must cost about the same, but of {len(flops)} {len(strayed)} do not, such as "
            f"one of the budget {power(budget[first])} whose C is {power(flops[first])} (their median: "
            f"{power(middle[first])}); without the column 'budget', budgets are found by C"
        )
    return {
        place: (
            f"its C, {power(flops[place])}, contradicts its budget, {power(budget[place])}, of which the others cost "
            f"{power(middle[place])}"
        )
        for place in strayed
    }


def label_diverged(budget: Floats, params: Floats, loss: Floats) -> dict[int, str]:
    """Runs whose loss lies far above both neighbours' in size: place to reason.

    Arrays of shape (n,) over the rows that are left. Where sizes have repeats, each run is judged against the medians
    of the neighbouring sizes.
    """
    import pandas as pd  # late: pandas takes longer to import than all else that reading a law needs

    order = np.lexsort((params, budget))
    budgets, size, height = budget[order], np.log(params[order]), np.log(loss[order])
    new_size = (np.diff(budgets, prepend=np.nan) != 0) | (np.diff(size, prepend=-np.inf) > _SAME_SIZE)
    first, group = np.flatnonzero(new_size), np.cumsum(new_size) - 1
    if len(first) < _FEWEST:
        return {}
    medians = height if len(first) == len(height) else pd.Series(height).groupby(group).median().to_numpy()
    inner = np.zeros(len(first), dtype=bool)
    inner[1:-1] = budgets[first[:-2]] == budgets[first[2:]]
    if not inner.any():
        return {}
    left, right = np.roll(medians, 1), np.roll(medians, -1)
    bend = (medians - (left + right) / 2)[inner]
    scatter = 1.4826 * float(np.median(np.abs(bend - np.median(bend))))
    above = height - np.where(inner, np.maximum(left, right), np.inf)[group]
    return {
        int(order[place]): (
            f"diverged: its loss, {loss[order[place]]:.4g}, is {np.expm1(above[place]):.0%} above those of both "
            "neighbouring sizes at its budget"
        )
        for place in places(above > max(DIVERGED, _OUTLYING * scatter))
    }


def _of_state(table: pd.DataFrame) -> list[tuple[int, str]]:
    import pandas as pd  # late: pandas takes longer to import than all else that reading a law needs

    found: list[tuple[int, str]] = []
    if "state" in table:
        state = table["state"]
        ended = state.astype(str).str.strip().str.casefold().isin(_DONE)
        found += [(place, f"the run is {state.iloc[place]}") for place in places(np.asarray(state.notna() & ~ended))]
    if "in_grid" in table:
        left = [pd.notna(value) and not value for value in table["in_grid"]]
        found += [(place, "not in the grid") for place in places(np.array(left))]
    if "diverged" in table:
        found += [(place, "diverged, as the table says") for place in places(flags(table, "diverged"))]
    return found


def _of_numbers(columns: Mapping[str, Floats]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for name, values in columns.items():
        found += [(place, f"{name} is not finite: {values[place]}") for place in places(~np.isfinite(values))]
        found += [(place, f"{name} is not positive: {values[place]:g}") for place in places(values <= 0)]
    return found


def _of_progress(table: pd.DataFrame, columns: Mapping[str, Floats]) -> list[tuple[int, str]]:
    """Rows that tell of a run before its end: inside its warm-up, before its last step, or before a later row of it."""
    import pandas as pd  # late: pandas takes longer to import than all else that reading a law needs

    found: list[tuple[int, str]] = []
    if "warmup_tokens" in table:
        warm = numbers(table, "warmup_tokens")
        inside = (warm > 0) & (columns["tokens"] <= warm)
        found += [
            (place, f"inside warm-up: {columns['tokens'][place]:.3g} tokens of {warm[place]:.3g}")
            for place in places(inside)
        ]
    if "step" not in table:
        return found
    step = numbers(table, "step")
    if "steps" in table:
        steps = numbers(table, "steps")
        found += [
            (place, f"mid-schedule: step {step[place]:.0f} of {steps[place]:.0f}") for place in places(step < steps)
        ]
    if "run" in table:
        usable = np.isfinite(columns["loss"]) & np.isfinite(step) & table["run"].notna().to_numpy()
        last = pd.Series(np.where(usable, step, np.nan)).groupby(table["run"].to_numpy()).transform("max").to_numpy()
        found += [
            (place, f"mid-schedule: step {step[place]:.0f} of a run that goes on to {last[place]:.0f}")
            for place in places(usable & (step < last))
        ]
    return found


def _label_repetitions(table: pd.DataFrame, columns: Mapping[str, Floats], reasons: list[str | None]) -> None:
    import pandas as pd  # late: pandas takes longer to import than all else that reading a law needs

    identity = pd.DataFrame({**columns, **{name: table[name].to_numpy() for name in ("run", "seed") if name in table}})
    kept = identity[[reason is None for reason in reasons]]
    again = kept.duplicated()
    if not again.any():
        return
    group = kept.groupby(list(kept.columns), dropna=False, sort=False).ngroup()
    first = kept.index.to_series().groupby(group).transform("first")
    for row, original in first[first != first.index].items():
        reasons[int(str(row))] = f"repeats row {original}"
