"""Exports of trackers: each run's last row is used, the others are labelled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isoflop.errors import InputError
from isoflop.fitting.points import judge
from isoflop.tables import read_points

LONG = pd.DataFrame(
    {
        "Name": ["small"] * 3 + ["large"] * 3,
        "_step": [100, 200, 300] * 2,
        "params": [1e6] * 3 + [2e6] * 3,
        "tokens": [1e8, 2e8, 3e8, 0.5e8, 1e8, np.nan],
        "flops": [6e14, 1.2e15, 1.8e15, 6e14, 1.2e15, 1.8e15],
        "val/loss": [4.0, 3.5, 3.2, 4.1, 3.4, np.nan],
    }
)


def used(table):
    judged = judge(table)
    return dict(zip(judged.params, judged.loss, strict=True)), {each.row: each.reason for each in judged.excluded}


def test_a_history_gives_the_last_finite_row_of_each_run(tmp_path):
    path = tmp_path / "history.csv"
    LONG.to_csv(path, index=False)
    table = read_points(path, {"loss": "val/loss"})
    losses, excluded = used(table)
    assert losses == {1e6: 3.2, 2e6: 3.4}
    assert excluded[0] == "mid-schedule: step 100 of a run that goes on to 300"
    assert excluded[3] == "mid-schedule: step 100 of a run that goes on to 200"
    assert excluded[5] == "loss is not finite: nan"


def test_a_chart_with_a_column_per_run_and_metric(tmp_path):
    wide = pd.DataFrame({"Step": [100, 200, 300]})
    for run, part in LONG.groupby("Name"):
        for metric in ("params", "tokens", "flops", "val/loss"):
            wide[f"{run} - {metric}"] = part[metric].to_numpy()
        wide[f"{run} - val/loss__MIN"] = 0.0
        wide[f"{run} - val/loss__MAX"] = 9.0
    # Settings are logged once.
    wide.loc[1:, ["small - params", "large - params"]] = np.nan
    path = tmp_path / "chart.csv"
    wide.to_csv(path, index=False)
    table = read_points(path, {"loss": "val/loss"})
    assert used(table)[0] == {1e6: 3.2, 2e6: 3.4}
    assert sorted(table["run"].unique()) == ["large", "small"]


def test_counters_are_carried_forward_and_losses_are_not(tmp_path):
    path = tmp_path / "history.csv"
    LONG.assign(tokens=[1e8, np.nan, np.nan] * 2).to_csv(path, index=False)
    table = read_points(path, {"loss": "val/loss"})
    assert list(table["tokens"]) == [1e8] * 6
    assert np.isnan(table["loss"].iloc[5])


def test_scalars_with_a_row_per_tag(tmp_path):
    path = tmp_path / "scalars.csv"
    named = LONG.rename(columns={"Name": "run", "_step": "step"})
    named.melt(["run", "step"], var_name="tag").assign(wall_time=1.5).to_csv(path, index=False)
    assert used(read_points(path, {"loss": "val/loss"}))[0] == {1e6: 3.2, 2e6: 3.4}
    pd.read_csv(path).iloc[[0, 1, 0]].to_csv(path, index=False)
    with pytest.raises(InputError, match=r"each tag .* once, but row 2 \(counted from 0\) repeats 'params' of 'small'"):
        read_points(path)


def test_a_table_of_runs_tells_which_crashed(tmp_path):
    path = tmp_path / "runs.csv"
    LONG[LONG["_step"] == 200].drop(columns="_step").assign(State=["crashed", "finished"]).to_csv(path, index=False)
    table = read_points(path, {"loss": "val/loss"}, where=["Name=small"])
    assert used(table) == ({}, {0: "the run is crashed"})
    assert used(read_points(path, {"loss": "val/loss"}))[0] == {2e6: 3.4}


def test_a_points_table_with_a_step_is_no_export(tmp_path):
    path = tmp_path / "points.csv"
    table = LONG.groupby("Name", sort=False).nth(1).rename(columns={"Name": "run", "_step": "step", "val/loss": "loss"})
    table.to_csv(path, index=False)
    assert list(read_points(path)["loss"]) == [3.5, 3.4]
