"""Runs as their recipe would have them with other constants."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isoflop import workflow
from isoflop.planning.feasibility import Dropped, Planner
from isoflop.planning.recipes import named
from isoflop.planning.variations import varied


@pytest.fixture
def planner(small_study):
    study = small_study()
    return Planner(study, named(study.recipe), workflow.plan(study).data)


def base_of(planner, budget=4e8, width=24):
    planned = workflow.plan(planner.study)
    return next(run for run in planned.runs if (run.budget, run.shape.d_model) == (budget, width))


def test_what_changes_nothing_is_the_run_itself(planner):
    for run in workflow.plan(planner.study).runs:
        assert varied(planner, run, {}, run.seed) == run


def test_a_rate_or_a_seed_changes_that_alone(planner):
    base = base_of(planner)
    faster = varied(planner, base, {"lr": 2.0}, base.seed)
    assert faster == replace(base, learning_rate=2 * base.learning_rate)
    assert varied(planner, base, {}, 7) == replace(base, seed=7)
    assert len({base.id, faster.id, varied(planner, base, {"lr": 0.5}, base.seed).id}) == 3


def test_another_batch_has_as_many_tokens_and_what_the_rules_say_of_it(planner):
    recipe = replace(planner.recipe, rate_batch_exponent=0.5, beta2_batch=2.0)
    ruled = replace(planner, recipe=recipe)
    base = varied(ruled, base_of(planner), {}, 0)
    larger = varied(ruled, base, {"batch": 2.0}, 0)
    assert larger.batch_size == 2 * base.batch_size
    assert larger.tokens == pytest.approx(base.tokens, rel=0.02)
    assert larger.learning_rate == pytest.approx(2**0.5 * base.learning_rate)
    assert larger.beta2 == pytest.approx(base.beta2**2)
    assert varied(ruled, base, {"batch": 2.0, "lr": 2.0}, 0).learning_rate == pytest.approx(2 * larger.learning_rate)


def test_what_cannot_be_run_says_why(planner):
    dropped = varied(planner, base_of(planner), {"batch": 64.0}, 0)
    assert isinstance(dropped, Dropped)
    assert "steps" in dropped.reason
