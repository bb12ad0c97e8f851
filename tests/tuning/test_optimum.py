"""Optima of known parabolas, their intervals, and when there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isoflop.tuning.optimum import Edge, Sample, Status, optimum, standard_error, terms
from isoflop.tuning.space import parsed

RATE = parsed("lr")
BOTH = parsed("lr,batch")


def along(best, curvature=0.05, noise=0.0, seeds=2, count=8, generator=None, low=1 / 8, high=8.0):
    """Trials of rates spread over the range, about a known best one."""
    factors = np.geomspace(low, high, count)
    draw = (lambda: 0.0) if generator is None else (lambda: noise * generator.standard_normal())
    return [
        Sample({"lr": float(each)}, tuple(1.0 + curvature * math.log(each / best) ** 2 + draw() for _ in range(seeds)))
        for each in factors
    ]


@pytest.mark.parametrize("best", [0.4, 1.0, 2.7])
def test_a_parabola_gives_its_minimum_and_no_doubt(best):
    found = optimum(RATE, along(best))
    assert found.status is Status.INTERIOR
    assert found.values["lr"].value == pytest.approx(best, rel=1e-6)
    assert found.values["lr"].high / found.values["lr"].low == pytest.approx(1, abs=1e-6)
    assert found.loss == pytest.approx(math.e, rel=1e-6)


def test_intervals_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = widths = 0
    for _ in range(200):
        best = math.exp(generator.uniform(-0.7, 0.7))
        found = optimum(RATE, along(best, noise=0.004, generator=generator)).values["lr"]
        held += found.low <= best <= found.high
        widths += math.log(found.high / found.low) / 200
    assert 0.88 <= held / 200 <= 0.99
    assert widths < 0.6


def test_noise_is_that_of_a_trial_s_mean():
    generator = np.random.default_rng(1)
    found = [optimum(RATE, along(1.0, noise=0.01, generator=generator)).noise for _ in range(50)]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(0.01 / math.sqrt(2), rel=0.2)


@pytest.mark.parametrize(("best", "upper"), [(30.0, True), (1 / 40, False)])
def test_a_loss_that_falls_to_the_end_is_an_edge(best, upper):
    found = optimum(RATE, along(best))
    assert found.status is Status.EDGE
    assert found.edges == (Edge("lr", upper),)
    assert found.values["lr"].value == pytest.approx(8.0 if upper else 1 / 8)


def test_noise_that_hides_the_optimum_is_told():
    generator = np.random.default_rng(3)
    found = [optimum(RATE, along(1.0, 1e-4, noise=0.02, generator=generator)) for _ in range(20)]
    assert all(each.status is not Status.INTERIOR or standard_error(each.values["lr"]) > 0.1 for each in found)
    assert sum(each.status is Status.FLAT for each in found) >= 5


def test_too_few_trials_are_told():
    assert optimum(RATE, along(1.0)[:3]).status is Status.FEW
    assert optimum(RATE, []).status is Status.FEW


def test_what_the_loss_does_not_feel_is_left_out_and_the_rest_is_told():
    generator = np.random.default_rng(0)
    places = np.exp(generator.uniform(-1.5, 1.5, (14, 2)))
    samples = [
        Sample(
            {"lr": rate, "weight_decay": 0.1 * decay},
            tuple(1.0 + 0.05 * math.log(rate / 1.5) ** 2 + 0.002 * generator.standard_normal() for _ in range(2)),
        )
        for rate, decay in places.tolist()
    ]
    found = optimum(parsed("lr,weight_decay"), samples)
    assert (found.status, found.flat, list(found.values)) == (Status.INTERIOR, ("weight_decay",), ["lr"])
    assert found.values["lr"].value == pytest.approx(1.5, rel=0.1)


def test_the_best_rate_moves_with_the_batch():
    """With ln(rate/best) = slope·ln(batch) along the valley, the valley's slope and its end are found."""
    assert terms(BOTH) == 6
    generator = np.random.default_rng(0)
    places = np.exp(generator.uniform(-1.2, 1.2, (24, 2)))
    samples = [
        Sample(
            {"lr": rate, "batch": batch},
            (0.05 * (math.log(rate / 1.5) - 0.5 * math.log(batch)) ** 2 + 0.02 * math.log(batch / 0.8) ** 2,),
        )
        for rate, batch in places.tolist()
    ]
    found = optimum(BOTH, samples)
    assert found.status is Status.INTERIOR
    assert found.values["batch"].value == pytest.approx(0.8, rel=1e-6)
    assert found.values["lr"].value == pytest.approx(1.5 * 0.8**0.5, rel=1e-6)
    assert found.rate_by_batch.value == pytest.approx(0.5, rel=1e-6)
