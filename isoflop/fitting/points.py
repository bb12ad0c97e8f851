"""Which rows of a points table a fit may use, and to which budget each belongs.

Every row ends in one of two places: used, or excluded with a reason. Nothing is dropped without a label, and the
order of the rows changes nothing: what is used is sorted before anything is computed from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError
from isoflop.fitting.clusters import Clusters, clusters_of
from isoflop.fitting.columns import REQUIRED, Floats, flags, numbers, places, require_columns, texts
from isoflop.fitting.conventions import conventions_of, params_by
from isoflop.fitting.labels import label_diverged, label_rows, label_strayed
from isoflop.flops import ParamsConvention

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUDGET_TOLERANCE", "REQUIRED", "Excluded", "Floats", "Points", "judge", "numbers", "require_columns"]

#: Where a table names no budgets: points cost the same if C lies within 5 % of the lowest C among them. Grids aim
#: within 1 %, and published ones put their budgets a factor of 1.5 or more apart.
BUDGET_TOLERANCE = 0.05


@dataclass(frozen=True)
class Excluded:
    """A row that the fit did not use: its place in the table (from 0), why, and the run's id where there is one."""

    row: int
    reason: str
    run: str | None = None


@dataclass(frozen=True, eq=False)
class Points:
    """The rows that a fit uses, sorted by budget, size, tokens and loss, and those it does not.

    Parameters
    ----------
    row
        Each point's place in the table.
    budget
        The table's label, or the median C of the points that cost the same.
    flops, params, tokens, loss
        As given, N by `params_convention`.
    sigma
        The sd of each run's ln loss, if the table has `loss_sigma`; NaN where its cell is empty.
    unique_tokens
        Distinct tokens that each run saw, if the table has them; all its tokens where the cell is empty.
    clusters
        By which columns points share their noise, the coarsest first; empty where none do.
    excluded
        The rows that are not used, with reasons.
    params_convention, conventions
        What `params` counts, and by which conventions the table could tell it.
    """

    row: NDArray[np.int64]
    budget: Floats
    flops: Floats
    params: Floats
    tokens: Floats
    loss: Floats
    sigma: Floats | None
    unique_tokens: Floats | None
    clusters: tuple[Clusters, ...]
    excluded: tuple[Excluded, ...]
    params_convention: ParamsConvention
    conventions: tuple[ParamsConvention, ...]

    @property
    def budgets(self) -> Floats:
        """The distinct budgets, ascending."""
        return np.unique(self.budget)

    @property
    def digest(self) -> str:
        """SHA-256 of the used numbers, whatever the order of the rows: equal for equal points."""
        columns = (self.budget, self.flops, self.params, self.tokens, self.loss, self.sigma, self.unique_tokens)
        table = np.stack([each for each in columns if each is not None]).astype("<f8")
        return hashlib.sha256(table.tobytes()).hexdigest()

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Points:
        """Some of the points, by mask or by ascending places; what is excluded stays as it is."""
        return replace(
            self,
            row=self.row[chosen],
            budget=self.budget[chosen],
            flops=self.flops[chosen],
            params=self.params[chosen],
            tokens=self.tokens[chosen],
            loss=self.loss[chosen],
            sigma=None if self.sigma is None else self.sigma[chosen],
            unique_tokens=None if self.unique_tokens is None else self.unique_tokens[chosen],
            clusters=tuple(each.only(chosen) for each in self.clusters),
        )


def judge(table: pd.DataFrame, params_convention: ParamsConvention = "total") -> Points:
    """Label every row of `table` used or excluded, and give each used one its budget.

    Excluded are rows whose `state` is not ``done``, that left the grid (`in_grid`), that hold a number which is not
    finite or not positive (everything downstream is a logarithm), that lie inside the warm-up (`warmup_tokens`) or
    before the end of their run (`step`), repetitions of a row (the same four numbers from the same `run` and `seed`,
    so far as the table names them), rows that do not cost what the others of their `budget` do, and runs that diverged
    (`isoflop.fitting.labels`).

    Raises
    ------
    InputError
        If a column is missing (the nearest one is named), holds text, or the table has no rows; or if a used row's
        `loss_sigma` or `unique_tokens` is not positive, or most rows do not cost what their `budget` does.
    """
    conventions = conventions_of(table, params_convention)
    told = [name for name in REQUIRED if name != "params" or not conventions]
    require_columns(table, told)
    if not len(table):
        raise InputError("a points table must have rows, but got none")
    columns = {
        name: params_by(table, params_convention) if name == "params" else numbers(table, name) for name in REQUIRED
    }
    reasons = label_rows(table, columns)
    row = np.array([place for place, reason in enumerate(reasons) if reason is None], dtype=np.int64)
    used = {name: values[row] for name, values in columns.items()}
    budget = _budgets(table, used["flops"], row)
    keep = np.ones(len(row), dtype=bool)
    for place, reason in label_strayed(budget, used["flops"]).items():
        reasons[row[place]], keep[place] = reason, False
    near = np.flatnonzero(keep)
    for place, reason in label_diverged(budget[near], used["params"][near], used["loss"][near]).items():
        reasons[row[near[place]]], keep[near[place]] = reason, False
    keys = (row, *(used[name] for name in ("flops", "loss", "tokens", "params")), budget)
    order = np.flatnonzero(keep)[np.lexsort([key[keep] for key in keys])]
    runs = texts(table, "run")
    unique_tokens = _optional(table, "unique_tokens", row[order])
    if unique_tokens is not None:
        unique_tokens = np.where(np.isnan(unique_tokens), used["tokens"][order], unique_tokens)
    return Points(
        row=row[order],
        budget=budget[order],
        **{name: values[order] for name, values in used.items()},
        sigma=_optional(table, "loss_sigma", row[order]),
        unique_tokens=unique_tokens,
        clusters=clusters_of(table, row[order]),
        excluded=tuple(
            Excluded(place, reason, None if runs is None else runs[place])
            for place, reason in enumerate(reasons)
            if reason is not None
        ),
        params_convention=params_convention,
        conventions=conventions,
    )


def simulated(table: pd.DataFrame) -> bool:
    """Whether the points come from a rehearsal: no model was trained.

    Raises
    ------
    InputError
        If some do and others do not: what is told of both together is true of neither.
    """
    if "simulated" not in table or not len(table):
        return False
    flagged = int(flags(table, "simulated").sum())
    if flagged not in (0, len(table)):
        raise InputError(
            f"the points of a table must be all simulated or all real, but got {flagged} simulated ones of {len(table)}"
        )
    return flagged > 0


def _optional(table: pd.DataFrame, name: str, row: NDArray[np.int64]) -> Floats | None:
    """The column `name` of the used rows, NaN where a cell is empty; None where all are."""
    if name not in table:
        return None
    values = numbers(table, name)[row]
    wrong = places(~((np.isfinite(values) & (values > 0)) | np.isnan(values)))
    if wrong:
        raise InputError(
            f"{name} must be positive and finite, or empty where it is not known, but row {row[wrong[0]]} (counted "
            f"from 0) holds {values[wrong[0]]:g}"
        )
    return None if np.isnan(values).all() else values


def _budgets(table: pd.DataFrame, flops: Floats, row: NDArray[np.int64]) -> Floats:
    """Each point's budget: the table's where it has one, or that of a point which costs the same, or a median C."""
    budget = numbers(table, "budget")[row] if "budget" in table else np.full(len(row), np.nan)
    unnamed = ~(np.isfinite(budget) & (budget > 0))
    if unnamed.any() and not unnamed.all():
        named = np.flatnonzero(~unnamed)[np.argsort(flops[~unnamed], kind="stable")]
        middles = np.sqrt(flops[named][1:] * flops[named][:-1])
        nearest = named[np.searchsorted(middles, flops)]
        same = unnamed & (np.abs(np.log(flops / flops[nearest])) <= np.log1p(BUDGET_TOLERANCE))
        budget[same] = budget[nearest[same]]
        unnamed &= ~same
    order = np.flatnonzero(unnamed)[np.argsort(flops[unnamed], kind="stable")]
    ordered = flops[order]
    start = 0
    while start < len(order):
        stop = int(np.searchsorted(ordered, (1 + BUDGET_TOLERANCE) * ordered[start], side="right"))
        budget[order[start:stop]] = np.median(ordered[start:stop])
        start = stop
    return budget
