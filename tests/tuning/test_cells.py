"""Cells, and the runs of a trial."""

from __future__ import annotations

import pytest

from isoflop import workflow
from isoflop.errors import InputError
from isoflop.planning.feasibility import Dropped
from isoflop.tuning.cells import chosen


@pytest.fixture
def planned(small_study):
    return workflow.plan(small_study())


def test_the_usual_cells_are_middle_ones_of_several_widths(planned):
    cells = chosen(planned)
    assert [cell.base.budget for cell in cells] == [2e8, 4e8, 8e8]
    assert sorted(cell.base.shape.d_model for cell in cells) == [12, 16, 24]


def test_cells_may_be_asked_for_and_must_be_the_plans(planned):
    (cell,) = chosen(planned, ["4e8:24"])
    assert (cell.base.budget, cell.base.shape.d_model, cell.name) == (4e8, 24, "4e+08-d24-l2")
    assert chosen(planned, ["4e8:d24-l2"]) == (cell,)
    for wrong in ("4e8", "4e8:25", "5e8:24", "x:y"):
        with pytest.raises(InputError, match=f"but got '{wrong}'"):
            chosen(planned, [wrong])
    with pytest.raises(InputError, match="must be distinct"):
        chosen(planned, ["4e8:24", "4e8:24"])


def test_the_trial_that_changes_nothing_is_the_studys_own_run(planned):
    (cell,) = chosen(planned, ["4e8:24"])
    first, second = cell.runs({"lr": 1.0}, 2)
    assert first == cell.base
    assert (second.seed, second.learning_rate) == (first.seed + 1, first.learning_rate)


def test_a_trial_s_runs_have_its_hyperparameters(planned):
    (cell,) = chosen(planned, ["8e8:16"])
    values = cell.snapped({"lr": 1.23456, "batch": 1.7, "beta2": 0.0123456, "weight_decay": 0.2})
    assert values == {"lr": 1.235, "batch": 1.5, "beta2": 0.01235, "weight_decay": 0.2}
    (run,) = cell.runs(values, 1)
    assert run.batch_size == 3
    assert run.learning_rate == pytest.approx(1.235 * cell.base.learning_rate)
    assert (run.beta2, run.weight_decay) == (pytest.approx(1 - 0.01235), 0.2)
    assert run.tokens == pytest.approx(cell.base.tokens, rel=0.05)


def test_a_trial_that_cannot_be_run_says_why(planned):
    (cell,) = chosen(planned, ["2e8:32"])
    dropped = cell.runs({"batch": 64.0}, 1)
    assert isinstance(dropped, Dropped)
    assert "FLOPs" in dropped.reason


def test_rates_that_no_rule_gives_are_not_tuned(small_study):
    rows = [
        {"name": f"m{n}", "params": n * 10**4, "flops_per_token": n * 6e4, "learning_rate": 1e-3} for n in (1, 2, 3)
    ]
    study = small_study(
        recipe={"base": "tiny", "tokens_per_step": 32, "ladder": rows},
        grid={"budgets": [2e9], "tolerance": 0.05, "min_cells": 3},
    )
    with pytest.raises(InputError, match="m1, m2, m3 have their own"):
        chosen(workflow.plan(study))
