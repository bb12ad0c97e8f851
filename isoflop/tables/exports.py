"""What experiment trackers export, as points tables.

*Wide*: a chart saved as CSV by W&B has a column ``Step`` and, for each run and metric, ``run - metric`` (with
``run - metric__MIN`` and ``__MAX`` beside it). *Long*: a run's history, a row per logged step, with a column that
names the run (W&B's API). *Tall*: TensorBoard's scalars, a row per run, step and ``tag`` with its ``value``. Each
becomes rows of `run`, `step` and a column per metric; `isoflop.fitting.labels` then uses each run's last row and labels
the others mid-schedule. W&B's table of runs has a row per run already; its ``Name`` and ``State`` become `run` and
`state` too, so that runs which crashed are told from those that finished.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from isoflop.errors import InputError

#: How trackers name the step, and a run, the likelier names first.
_STEPS = ("step", "Step", "_step", "global_step", "trainer/global_step", "train/global_step")
_RUNS = ("run", "Run", "run_name", "run_id", "Name", "ID")
_SEPARATOR = " - "
_ENVELOPES = ("__MIN", "__MAX")


def from_export(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return `table` as a points table if it is an export, else as it is.

    `columns` are ours to the file's: names that they use are left alone.
    """
    named = set(columns.values())
    if {"Name", "State"} <= set(table.columns) - named:
        told = {"run": table["Name"], "state": table["State"]}
        table = table.assign(**{name: value for name, value in told.items() if name not in {*table, *columns}})
    if {"run", "tag", "step", "value"} <= set(table.columns) - named:
        return _from_tall(table, columns.get("loss"))
    step = next((name for name in _STEPS if name in table and name not in named), None)
    if step is None:
        return table
    wide = [name for name in table if _SEPARATOR in str(name) and name not in named]
    if wide and not set(_RUNS) & set(table.columns):
        names = [str(name) for name in wide if not str(name).endswith(_ENVELOPES)]
        return _from_wide(table, step, names, columns.get("loss"))
    run = next((name for name in _RUNS if name in table and name not in named), None)
    if run is None or not table[run].duplicated().any():
        return table
    return _from_long(table.rename(columns={step: "step", run: "run"}), columns.get("loss"))


def _from_tall(table: pd.DataFrame, loss: str | None) -> pd.DataFrame:
    """A row for each run and step, a column for each tag."""
    again = table.duplicated(["run", "step", "tag"])
    if again.any():
        row = int(again.to_numpy().argmax())
        raise InputError(
            f"an export must hold each tag of a run and step once, but row {row} (counted from 0) repeats "
            f"{table['tag'].iloc[row]!r} of {table['run'].iloc[row]!r} at step {table['step'].iloc[row]}"
        )
    metrics = table.pivot_table(index=["run", "step"], columns="tag", values="value", aggfunc="first")
    return _from_long(metrics.rename_axis(columns=None).reset_index(), loss)


def _from_wide(table: pd.DataFrame, step: str, names: list[str], loss: str | None) -> pd.DataFrame:
    """A row for each run and each step at which it logged anything."""
    runs: dict[str, dict[str, str]] = {}
    for name in names:
        run, _, metric = str(name).rpartition(_SEPARATOR)
        runs.setdefault(run, {})[name] = metric
    parts = []
    for run, metrics in runs.items():
        if len(set(metrics.values())) < len(metrics):
            raise InputError(f"an export must hold each metric of a run once, but got {list(metrics)}")
        part = table[[step, *metrics]].rename(columns={step: "step", **metrics})
        part = part.loc[:, ~part.columns.isin(["_step"])]
        part = part.dropna(how="all", subset=[name for name in part if name != "step"])
        part.insert(0, "run", run)
        parts.append(part)
    return _from_long(pd.concat(parts, ignore_index=True), loss)


def _from_long(table: pd.DataFrame, loss: str | None) -> pd.DataFrame:
    """Settings and counters that were logged at other steps than the loss are carried forward within each run."""
    step = pd.to_numeric(table["step"], errors="coerce")
    order = np.lexsort((np.arange(len(table)), step, table["run"].astype(str)))
    ordered = table.iloc[order]
    carried = [name for name in ordered if name not in ("run", "step", loss) and not _is_loss(str(name))]
    filled = ordered.assign(**ordered.groupby("run", sort=False)[carried].ffill()) if carried else ordered
    return filled.iloc[np.argsort(order)].reset_index(drop=True)


def _is_loss(name: str) -> bool:
    return "loss" in name.casefold() or "nll" in name.casefold()
