"""Optima against closed forms and against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isoflop.errors import NoAnswerError
from isoflop.recommendation import recommend
from isoflop.recommendation.optima import Repeated, size_that_costs
from isoflop.recommendation.source import by_name

BESIROGLU = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)


def brute_force(objective, center, reach=8.0, steps=2_000_001):
    """N of the least of `objective`, of arrays of N, by trying every one: 8e-6 apart in ln N."""
    sizes = np.exp(np.linspace(math.log(center) - reach, math.log(center) + reach, steps))
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(sizes[np.nanargmin(objective(sizes))])


def test_under_6nd_the_optimum_is_the_closed_form_for_a_thousand_laws(make_source, random_laws):
    budgets = np.exp(np.random.default_rng(1).uniform(np.log(1e16), np.log(1e26), 1000))
    for (e, a, b, alpha, beta), flops in zip(random_laws(1000), budgets, strict=True):
        found = make_source((e, a, b, alpha, beta)).place(float(flops))
        scale = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
        params = scale * (flops / 6) ** (beta / (alpha + beta))
        tokens = (flops / 6) ** (alpha / (alpha + beta)) / scale
        assert found.params.value == pytest.approx(params, rel=1e-9)
        assert found.tokens.value == pytest.approx(tokens, rel=1e-9)
        assert found.loss.value == pytest.approx(e + a / params**alpha + b / tokens**beta, rel=1e-9)


@pytest.mark.parametrize("unique", [1e9, 1e10, 5e10])
def test_the_optimum_with_few_unique_tokens_is_that_of_brute_force(make_source, random_laws, unique):
    for values in [BESIROGLU, *random_laws(3, seed=2)]:
        found = recommend(make_source(values, repetition=7.0), flops=1e22, unique_tokens=unique)
        e, a, b, alpha, beta = values

        def loss(sizes, e=e, a=a, b=b, alpha=alpha, beta=beta):
            tokens = 1e22 / 6 / sizes
            again = np.maximum(tokens / unique - 1, 0)
            worth = np.minimum(tokens, unique) * (1 + 7.0 * (1 - np.exp(-again / 7.0)))
            return e + a / sizes**alpha + b / worth**beta

        best = brute_force(loss, found.params.value)
        assert found.params.value == pytest.approx(best, rel=1e-4)
        assert found.tokens.value == pytest.approx(1e22 / 6 / best, rel=1e-4)
        assert found.loss.value == pytest.approx(float(loss(np.array([best]))[0]), rel=1e-4)


@pytest.mark.parametrize("served", [1e10, 1e12, 1e14])
def test_the_optimum_over_a_life_is_that_of_brute_force(make_source, random_laws, served):
    for values in [BESIROGLU, *random_laws(3, seed=3)]:
        source = make_source(values)
        e, a, b, alpha, beta = values
        target = source.place(1e22).loss.value

        def trained(sizes, e=e, a=a, b=b, alpha=alpha, beta=beta, target=target):
            gap = target - e - a / sizes**alpha
            return np.where(gap > 0, (b / np.where(gap > 0, gap, np.nan)) ** (1 / beta), np.nan)

        found = recommend(source, flops=1e22, tokens_served=served)
        best = brute_force(lambda n, d=trained: 6 * n * d(n) + 2 * n * served, found.params.value)
        assert found.params.value == pytest.approx(best, rel=1e-4)
        assert found.tokens.value == pytest.approx(float(trained(np.array([found.params.value]))[0]), rel=1e-4)
        assert found.loss.value == pytest.approx(target, rel=1e-9)
        lifetime = 6 * found.params.value * found.tokens.value + 2 * found.params.value * served
        assert found.serving.lifetime_flops == pytest.approx(lifetime, rel=1e-6)
        assert found.training_flops >= 1e22 * (1 - 1e-9)
        assert 0 <= found.serving.saved < 1


def test_with_few_tokens_and_a_life_the_loss_is_kept(make_source):
    source = make_source(BESIROGLU, repetition=15.0)
    trained = recommend(source, flops=1e22, unique_tokens=2e10)
    served = recommend(source, flops=1e22, unique_tokens=2e10, tokens_served=1e12)
    assert served.loss.value == pytest.approx(trained.loss.value, rel=1e-9)
    assert served.params.value < trained.params.value
    assert served.data.epochs > trained.data.epochs
    alternative = trained.flops + 2 * trained.params.value * 1e12
    assert served.serving.saved == pytest.approx(1 - served.serving.lifetime_flops / alternative, rel=1e-9)


def test_tokens_for_a_loss_invert_the_loss_of_repeated_data():
    source = by_name("soda-surface")
    repeated = Repeated(source.needed_surface(), source.cost, unique=1e9, repetition=15.4)
    tokens = np.array([1e8, 1e9, 3e9, 2e10])
    for size in (1e8, 1e9):
        loss = repeated.loss(np.full(4, size), tokens)
        back = [float(repeated.tokens_for(np.log([size]), each)[0]) for each in loss]
        assert back == pytest.approx(tokens, rel=1e-6)
    assert repeated.tokens_for(np.log([1e9]), 3.2)[0] == math.inf
    with pytest.raises(NoAnswerError, match="no model reaches that loss"):
        repeated.serving(3.17, 1e9, 1e9)


def test_the_sizes_within_a_per_cent_lose_just_that(make_source):
    source = make_source(BESIROGLU)
    found = recommend(source, flops=1e21)
    for near in found.near:
        for size in (near.low, near.high):
            worse = recommend(source, flops=1e21, params=size).loss.value / found.loss.value
            assert worse == pytest.approx(1 + near.tolerance, rel=1e-9)
        assert near.low < found.params.value < near.high
    assert [near.tolerance for near in found.near] == [0.001, 0.01]


@pytest.mark.parametrize("name", ["besiroglu2024", "soda-surface"])
def test_over_training_costs_what_its_model_loses(name):
    source = by_name(name)
    found = recommend(source, flops=1e21)
    ratio = found.tokens.value / found.params.value
    for each in found.overtraining:
        assert each.tokens / each.params == pytest.approx(each.multiple * ratio, rel=1e-9)
        assert source.cost.flops(each.params, each.tokens) == pytest.approx(1e21, rel=1e-9)
        worse = recommend(source, flops=1e21, params=each.params).loss.value
        assert worse / found.loss.value == pytest.approx(each.loss_ratio, rel=1e-9)
        if math.isfinite(each.flops_ratio):
            paid = recommend(source, flops=1e21 * each.flops_ratio, params=each.params)
            assert paid.loss.value == pytest.approx(found.loss.value, rel=1e-9)
    assert [each.multiple for each in found.overtraining] == [2, 5, 20]


def test_the_size_that_costs_a_budget_does():
    cost = by_name("soda-surface").cost
    assert cost.flops(size_that_costs(cost, 1e20, 3e9), 3e9) == pytest.approx(1e20, rel=1e-9)
