"""Rules recovered from known optima, and the recipes that say them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from isoflop import workflow
from isoflop.errors import NoAnswerError
from isoflop.fitting.intervals import NORMAL, Interval
from isoflop.planning.recipes import named
from isoflop.study_recipe import RecipeChoice
from isoflop.tuning.cells import chosen
from isoflop.tuning.optimum import Optimum, Status
from isoflop.tuning.rules import constants, rules, told

GRID = {"budgets": [2e8, 4e8, 8e8, 1.6e9], "sizes": [8, 12, 16, 24, 32], "tolerance": 0.05, "min_cells": 2}


def at_cells(small_study, *asked):
    return chosen(workflow.plan(small_study(grid=GRID)), asked)


def known(error, **values):
    made = {
        name: Interval(v, v * math.exp(-NORMAL * error), v * math.exp(NORMAL * error)) for name, v in values.items()
    }
    return Optimum(Status.INTERIOR, made, 3.0, 0.001, trials=8)


def spread(small_study):
    return at_cells(small_study, "2e8:8", "2e8:24", "4e8:16", "8e8:8", "8e8:24", "1.6e9:16")


def tuned(cell, recipe, found):
    """The recipe with the constants of `found`, by way of the study file's section."""
    before = cell.planner.study.recipe.model_dump(exclude_none=True)
    return named(RecipeChoice.model_validate({**before, **constants(found, recipe, [cell])}))


def test_power_laws_of_width_and_tokens_are_recovered_and_the_recipe_says_them(small_study):
    cells = spread(small_study)
    recipe = cells[0].planner.recipe

    def best(width, tokens):
        return 1.7 * (width / 16) ** -0.4 * (tokens / 1e5) ** 0.15

    optima = {cell.name: known(0.01, lr=best(cell.base.shape.d_model, cell.base.tokens)) for cell in cells}
    (rule,) = rules(cells, optima)
    assert {name: each.value for name, each in rule.exponents.items()} == pytest.approx({"width": -0.4, "tokens": 0.15})
    assert told(rule, "width")
    now = tuned(cells[0], recipe, [rule])
    for cell in cells:
        run = cell.base
        expected = run.learning_rate * best(run.shape.d_model, run.tokens)
        assert now.peak_rate(run.shape, run.batch_size, run.tokens) == pytest.approx(expected, rel=1e-4)
    # What is tuned again starts from there, at other anchors.
    again = {cell.name: known(0.01, lr=best(cell.base.shape.d_model, cell.base.tokens)) for cell in cells}
    twice = tuned(cells[0], now, rules(cells, again))
    run = cells[-1].base
    expected = run.learning_rate * best(run.shape.d_model, run.tokens) ** 2
    assert twice.peak_rate(run.shape, run.batch_size, run.tokens) == pytest.approx(expected, rel=1e-4)


def test_exponents_that_may_be_nothing_are_told_and_left_out(small_study):
    cells = spread(small_study)
    generator = np.random.default_rng(0)
    held = kept = 0
    for _ in range(100):
        optima = {cell.name: known(0.1, lr=2 * math.exp(0.1 * generator.standard_normal())) for cell in cells}
        (rule,) = rules(cells, optima)
        held += rule.exponents["width"].low <= 0 <= rule.exponents["width"].high
        kept += "rate_width_exponent" in constants([rule], cells[0].planner.recipe, cells)
        assert "rate_times_width" in constants([rule], cells[0].planner.recipe, cells)
    assert held >= 88
    assert held + kept == 100


def test_scatter_that_the_cells_own_errors_cannot_explain_widens_the_interval(small_study):
    cells = spread(small_study)
    optima = {cell.name: known(0.01, lr=2.0 + place % 2) for place, cell in enumerate(cells)}
    (rule,) = rules(cells, optima)
    assert rule.scale.low < 2.0 < 3.0 < rule.scale.high


def test_few_cells_keep_the_form_of_the_rule(small_study):
    cells = at_cells(small_study, "2e8:8", "8e8:24")
    (rule,) = rules(cells, {cell.name: known(0.02, lr=1.5) for cell in cells})
    assert rule.exponents == {}
    assert constants([rule], cells[0].planner.recipe, cells) == {"rate_times_width": pytest.approx(0.3)}


def test_cells_without_an_optimum_count_for_nothing_and_none_at_all_is_no_answer(small_study):
    cells = at_cells(small_study, "2e8:8", "8e8:24")
    edge = replace(known(0.02, lr=8.0), status=Status.EDGE)
    (rule,) = rules(cells, {cells[0].name: known(0.02, lr=1.5), cells[1].name: edge})
    assert (rule.cells, rule.scale.value) == (1, pytest.approx(1.5))
    with pytest.raises(NoAnswerError, match=r"none has: .*the loss still falls"):
        rules(cells, {cell.name: edge for cell in cells})


def test_batch_beta2_and_decay_become_constants_and_the_rate_follows_the_batch(small_study):
    cells = spread(small_study)
    recipe = cells[0].planner.recipe
    slope = Interval(0.5, 0.45, 0.55)
    optima = {
        cell.name: replace(
            known(0.02, lr=1.5, batch=2 * (cell.base.budget / 2e8) ** 0.3, beta2=0.01, weight_decay=0.2),
            rate_by_batch=slope,
        )
        for cell in cells
    }
    found = rules(cells, optima)
    assert [rule.name for rule in found] == ["rate", "batch", "beta2", "weight_decay"]
    assert found[1].exponents["flops"].value == pytest.approx(0.3)
    assert found[2].scale.value == pytest.approx(0.99)
    assert found[2].scale.low < 0.99 < found[2].scale.high
    now = tuned(cells[0], recipe, found)
    assert (now.beta2, now.weight_decay, now.batch_exponent) == pytest.approx((0.99, 0.2, 0.3))
    assert now.rate_batch_exponent == pytest.approx(0.5)
    shape, middle = cells[0].base.shape, found[0].middle["batch"]
    here = now.peak_rate(shape, middle, 1e5)
    assert here == pytest.approx(1.5 * recipe.peak_rate(shape, middle, 1e5), rel=1e-4)
    assert now.peak_rate(shape, 4 * middle, 1e5) == pytest.approx(2 * here)
