"""What runs tell before they are run, held against what fits of them scatter by."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from isoflop.errors import InputError
from isoflop.fitting.cost import six_nd
from isoflop.fitting.parametric import fit_surface
from isoflop.planning.information import Aim, Frame, Goal, Information
from isoflop.planning.prior import published

COST = six_nd(1e7, 1e12)
SURFACE = published("besiroglu2024").surface
GOALS = (Goal("ratio", 0.1), Goal("a", 0.1), Goal("params", 0.1, 1e21), Goal("loss", 0.1, 1e21))
NOISE = 0.001


def cells(width=16.0, sizes=9, budgets=6):
    flops = np.repeat(np.geomspace(1e18, 1e21, budgets), sizes)
    spread = np.tile(np.exp(np.linspace(-0.5, 0.5, sizes) * math.log(width)), budgets)
    params = np.array([published("besiroglu2024").optimum(each, COST) for each in flops]) * spread
    return params, flops / 6 / params


def told(params, tokens, unseen):
    frame = Frame.about(SURFACE, params, tokens, COST)
    information = replace(Information.of(frame, params, tokens, NOISE), unseen=unseen)
    reference = math.exp(float(np.log(6 * params * tokens).mean()))
    return frame, information, [Aim.of(goal, frame, reference) for goal in GOALS]


def test_the_covariance_is_that_of_refitted_noise():
    params, tokens = cells()
    _, information, aims = told(params, tokens, 0.0)
    generator = np.random.default_rng(0)
    found = []
    for _ in range(60):
        loss = SURFACE.loss(params, tokens) * np.exp(NOISE * generator.standard_normal(len(params)))
        fitted = fit_surface(params, tokens, loss, delta=None)
        optimum, _, lowest = fitted.optimum(1e21, COST)
        a, b = fitted.exponents(1e20, COST)
        found.append([b / a, a, math.log(optimum), math.log(lowest)])
    for aim, sd in zip(aims, np.std(found, axis=0), strict=True):
        assert information.half_width(aim) == pytest.approx(1.96 * sd, rel=0.25), aim.goal


@pytest.mark.parametrize("unseen", [0.0, 0.002])
def test_one_more_run_is_the_same_by_rank_one_and_from_the_start(unseen):
    params, tokens = cells(width=8.0, sizes=4, budgets=5)
    more_params, more_tokens = np.array([3e8, 1e9]), np.array([2e10, 5e11])
    frame, information, aims = told(params, tokens, unseen)
    slopes = frame.slopes(more_params, more_tokens)
    places = np.log(np.stack([more_params, more_tokens], axis=1))
    by_rank_one = information.variances_with(aims, slopes, places)
    for place in range(2):
        both = np.append(params, more_params[place]), np.append(tokens, more_tokens[place])
        anew = replace(Information.of(frame, *both, NOISE), unseen=unseen)
        grown = information.with_run(slopes[place], places[place])
        for row, aim in enumerate(aims):
            assert by_rank_one[row, place] == pytest.approx(anew.variance(aim), rel=1e-6)
            assert grown.variance(aim) == pytest.approx(anew.variance(aim), rel=1e-6)


def test_replicates_average_noise_out_and_a_lack_of_fit_not():
    params, tokens = cells(sizes=5, budgets=5)
    again = np.tile(params, 100), np.tile(tokens, 100)
    _, once, aims = told(params, tokens, 0.0)
    _, often, _ = told(*again, 0.0)
    assert often.half_width(aims[0]) == pytest.approx(once.half_width(aims[0]) / 10, rel=0.05)
    _, blind, _ = told(*again, 0.002)
    _, little, _ = told(params, tokens, 0.002)
    assert blind.half_width(aims[0]) > 0.5 * little.half_width(aims[0])


def test_a_forecast_far_away_is_less_sure_than_one_among_the_runs():
    params, tokens = cells()
    frame, information, _ = told(params, tokens, 0.002)

    def sd(size, length):
        return information.forecast_sd(frame.slopes(np.array([size]), np.array([length]))[0], np.log([size, length]))

    inside, outside = sd(float(params[22]), float(tokens[22])), sd(1e12, 1e13)
    assert NOISE <= inside < 3 * NOISE
    assert outside > 2 * inside


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("size", 0.1), "must be one of"),
        (("ratio", 0.0), "half-width must be positive"),
        (("ratio", 0.1, 1e20), "unless it is an exponent"),
        (("params", 0.1), "unless it is an exponent"),
        (("loss", 0.1, -1.0), "flops must be positive"),
    ],
)
def test_goals_state_their_rules(arguments, rule):
    with pytest.raises(InputError, match=rule):
        Goal(*arguments)


def test_goals_are_read_as_people_write_them():
    assert Goal.parse("ratio±0.05") == Goal("ratio", 0.05)
    assert Goal.parse("params@1e22 +- 0.1") == Goal("params", 0.1, 1e22)
    for text in ("ratio", "ratio±x", "params@±0.1", "±0.1", ""):
        with pytest.raises(InputError, match="a goal must be like"):
            Goal.parse(text)
