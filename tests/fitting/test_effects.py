"""Effects of a choice: carried to all points, and of the rate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isoflop.errors import NoAnswerError
from isoflop.fitting.effects import Effect, carried, pairs_of, rate_response

BUDGETS = (1e18, 1e19, 1e20)


def effects(change, sizes=3):
    """Effects at `sizes` sizes of each budget, in steps of ×1.5."""
    return [
        Effect(budget, budget, params, change(budget, params))
        for number, budget in enumerate(BUDGETS)
        for params in 1e6 * 3.0**number * 1.5 ** np.arange(sizes)
    ]


def test_lines_of_each_budget_and_a_common_bend_are_carried_exactly():
    def change(budget, params):
        x = math.log(params / 1e7)
        return 0.01 * math.log10(budget) + 0.002 * math.log(budget) * x + 0.03 * x**2

    budget = np.repeat(BUDGETS, 4)
    params = np.tile([3e5, 1e6, 1e7, 1e8], 3)
    expected = [change(*each) for each in zip(budget, params, strict=True)]
    assert carried(effects(change), budget, params) == pytest.approx(expected)


def test_two_cells_give_a_line_one_a_level_and_a_budget_without_any_nothing():
    found = carried([Effect(1.0, 1.0, 1e6, 0.1), Effect(1.0, 1.0, 1e8, 0.3)], np.ones(2), np.array([1e7, 1e9]))
    assert found == pytest.approx([0.2, 0.4])
    alone = carried([Effect(1.0, 1.0, 1e6, 0.1)], np.array([1.0, 1.0, 2.0]), np.array([1e6, 1e9, 1e6]))
    assert alone == pytest.approx([0.1, 0.1, 0.0])


def rates(curvature=0.03, level=0.3, by_params=0.2, by_flops=-0.05, noise=0.0):
    """What half and twice the rate do where the best rate is a power law of N and C."""
    generator = np.random.default_rng(0)

    def best(budget, params):
        return level + by_params * math.log(params / 1e7) + by_flops * math.log(budget / 1e19)

    def made(step):
        return effects(
            lambda budget, params: (
                curvature * ((step - best(budget, params)) ** 2 - best(budget, params) ** 2)
                + noise * generator.standard_normal()
            )
        )

    return best, pairs_of(made(-math.log(2)), made(math.log(2)))


def test_the_rate_s_response_is_recovered():
    best, pairs = rates()
    found = rate_response(pairs, 2.0)
    assert found.curvature == pytest.approx(0.03)
    for budget, params in ((1e18, 1e5), (1e21, 1e9)):
        at = np.array([params]), np.array([budget])
        assert np.log(found.best(*at))[0] == pytest.approx(best(budget, params))
        assert found.excess(*at)[0] == pytest.approx(0.03 * best(budget, params) ** 2)
    assert not found.beyond
    _, far = rates(level=1.0)
    assert rate_response(far, 2.0).beyond
    noisy = rate_response(rates(noise=0.002)[1], 2.0)
    assert noisy.curvature_low < 0.03 < noisy.curvature_high


def test_what_the_noise_hides_is_not_told():
    with pytest.raises(NoAnswerError, match="the noise hides how the loss depends on the rate"):
        rate_response(rates(curvature=0.001, noise=0.01)[1], 2.0)
    with pytest.raises(NoAnswerError, match="needs 3 cells re-run at both rates, and 2 were"):
        rate_response(rates()[1][:2], 2.0)


def test_pairs_are_of_one_cell():
    lower = [Effect(1.0, 1.0, 1e6, 0.1), Effect(2.0, 2.0, 1e6, 0.2)]
    higher = [Effect(2.0, 2.0, 1e6, 0.3), Effect(2.0, 2.0, 1e7, 0.4)]
    assert pairs_of(lower, higher) == [(lower[1], higher[0])]
