"""What a trainer is given agrees with the run that was planned."""

from __future__ import annotations

import json

import pytest

from isoflop import workflow
from isoflop.study import Study
from isoflop.trainer import Assignment, outcome


@pytest.fixture
def assignment(small_study, tmp_path):
    """Of a run whose ladder has shapes, on a corpus."""
    study = small_study(trainer={"python": "a:b", "options": {"dropout": 0.1}})
    return Assignment(workflow.plan(study).runs[0], tmp_path / "checkpoints", tmp_path / "outputs", corpus=tmp_path)


def test_it_says_what_was_planned(assignment):
    planned = assignment.planned
    assert (assignment.size, assignment.shape, assignment.params) == (
        "d8-l2",
        planned.shape,
        planned.shape.parameters.total,
    )
    assert assignment.tokens == assignment.steps * assignment.batch_size * planned.shape.sequence_length
    assert assignment.options == {"dropout": 0.1}
    rates = [assignment.rate(step) for step in range(assignment.steps)]
    assert max(rates) == planned.learning_rate
    assert rates[0] < max(rates) > rates[-1] > 0
    told = json.loads(json.dumps(assignment.to_json()))
    assert {name: told[name] for name in ("run", "tokens", "seed")} == {
        "run": planned.id,
        "tokens": planned.tokens,
        "seed": planned.seed,
    }


def test_a_size_s_own_options_come_first(small_content, tmp_path):
    row = {"params": 1000, "flops_per_token": 6000, "options": {"depth": 3}}
    content = {
        **small_content,
        "trainer": {"python": "a:b", "options": {"depth": 1, "width": 2}},
        "recipe": {"base": "tiny", "tokens_per_step": 32, "learning_rate": 0.1, "ladder": [{"name": "one", **row}]},
        "grid": {"budgets": [1e7], "tolerance": 0.05, "min_cells": 1},
    }
    (run,) = workflow.plan(Study.parse(content)).runs
    made = Assignment(run, tmp_path, tmp_path)
    assert made.options == {"depth": 3, "width": 2}
    assert made.shape is None


def test_counts_within_a_hundredth_will_do(assignment):
    planned = assignment.planned
    near = outcome(planned, {"loss": 2, "tokens": planned.tokens * 1.009, "flops": planned.flops, "loss_a": 1})
    assert near == {"loss": 2, "tokens": planned.tokens * 1.009, "flops": planned.flops, "loss_a": 1}
    assert outcome(planned, 2) == {"loss": 2}
