"""Which cells of a plan lie beyond what its recipe was tuned on."""

from __future__ import annotations

import pytest

from isoflop import workflow
from isoflop.planning.tuned import beyond_tuning, tuning_findings

TUNED = {
    "widths": [12, 24],
    "tokens": [1e4, 1e5],
    "rates": [0.004, 0.02],
    "trials": 18,
    "seeds": 2,
    "data": "some",
    "source": "a test",
}


@pytest.fixture
def planned(small_study, small_content):
    return lambda **tuned: workflow.plan(small_study(recipe={**small_content["recipe"], "tuned": {**TUNED, **tuned}}))


def test_cells_of_other_widths_and_rates_are_marked(planned):
    found = planned()
    outside = beyond_tuning(found)
    # The rate is 0.2/width: at 32 it was tried, at 8 it was not.
    assert sorted({run.shape.d_model for run in outside}) == [8, 32]
    (finding,) = tuning_findings(found)
    assert (finding.severity, finding.kind, finding.budgets) == ("flag", "tuning", (2e8, 4e8, 8e8))
    assert "6 of 15 runs lie outside" in finding.reason
    assert "its width, 32, was not tuned (12 to 24)" in finding.reason
    assert "isoflop tune --cells 2e+08:32" in finding.cure
    marks = {record["id"]: record["beyond_tuning"] for record in found.to_json()["runs"]}
    assert {run for run, mark in marks.items() if mark} == {run.id for run in outside}


def test_nothing_is_marked_within_nor_where_nothing_was_tuned(planned, small_study):
    assert tuning_findings(planned(widths=[8, 32], rates=[0.001, 0.1])) == ()
    untuned = workflow.plan(small_study())
    assert tuning_findings(untuned) == ()
    assert "beyond_tuning" not in untuned.to_json()["runs"][0]
