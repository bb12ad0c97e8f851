"""Noise is no trouble, a spike is counted, a loss that stays high or is no number ends the run: at the same step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isoflop.training.health import DIVERGED_STEPS, Health


def course(steps: int, seed: int = 0) -> list[float]:
    """A loss that falls from ln 256 to 2.5, with the noise of 32 tokens a step."""
    noise = np.random.default_rng(seed).normal(0, 0.3, steps)
    return [2.5 + 3.0 * math.exp(-step / 300) + float(noise[step]) for step in range(steps)]


def seen(health: Health, losses: list[float], first: int = 1) -> tuple[int, str]:
    """The step at which the run is found diverged and why; 0 if it is not."""
    for step, loss in enumerate(losses, first):
        trouble = health.see(step, loss, 1.0)
        if trouble:
            return step, trouble
    return 0, ""


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_trouble(seed: int) -> None:
    health = Health()
    assert seen(health, course(3000, seed)) == (0, "")
    assert health.spikes == 0
    assert health.mean == pytest.approx(2.5, abs=0.2)
    assert health.variance == pytest.approx(0.09, rel=0.5)
    assert health.good_step == 3000


@pytest.mark.parametrize("height", [4.0, 1e6])
def test_a_spike_is_counted_and_does_not_end_the_run(height: float) -> None:
    losses, health = course(2000), Health()
    losses[700] += height
    assert seen(health, losses) == (0, "")
    assert health.spikes == 1


@pytest.mark.parametrize(("length", "ends"), [(DIVERGED_STEPS - 1, 0), (DIVERGED_STEPS, 800 + DIVERGED_STEPS)])
def test_a_loss_that_stays_high_ends_the_run(length: int, ends: int) -> None:
    losses, health = course(2000), Health()
    for step in range(800, 800 + length):
        losses[step] = 5.5
    step, trouble = seen(health, losses)
    assert step == ends
    assert ("more than 1 nat above its lowest mean, 2." in trouble) is (ends > 0)
    if ends:
        assert health.last_good(32).startswith(f"last good: step 800, {800 * 32} tokens, loss 2.")


def test_a_loss_that_rises_from_the_first_step_on_ends_the_run() -> None:
    step, trouble = seen(Health(), [math.log(256)] * 5 + [9.0] * 500)
    assert step == 5 + DIVERGED_STEPS
    assert "5.545" in trouble


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])
def test_what_is_no_number_ends_the_run_at_once(loss: float, norm: float) -> None:
    health = Health()
    assert health.see(1, loss, norm) == "its loss or gradient was not finite"
    assert health.last_good(32) == "no step was good"


@pytest.mark.parametrize("stop", [1, 99, 100, 850])
def test_a_resumed_run_comes_to_the_same_verdict(stop: int) -> None:
    losses = course(800) + [6.0] * 300
    whole, first = Health(), Health()
    expected = seen(whole, losses)
    assert seen(first, losses[:stop]) == (0, "")
    resumed = Health(**first.to_dict())
    assert seen(resumed, losses[stop:], stop + 1) == expected
    assert resumed == whole
