"""Intervals from draws, whatever they are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isoflop.fitting.intervals import NORMAL, middle_interval, percentiles


def test_of_a_normal_sample_the_middle_gives_the_interval_of_its_sd():
    draws = 2 + 0.1 * np.random.default_rng(0).standard_normal(200_000)
    low, high = middle_interval(2.0, draws)
    assert (low, high) == pytest.approx((2 - 0.1 * NORMAL, 2 + 0.1 * NORMAL), abs=2e-3)
    assert percentiles(draws) == pytest.approx((low, high), abs=2e-3)


def test_a_tail_of_infinities_widens_one_side_and_a_middle_of_them_leaves_no_bound():
    """b/a of models that hardly grow."""
    draws = np.concatenate([np.linspace(1, 2, 80), np.full(20, np.inf)])
    low, high = middle_interval(1.6, draws)
    assert math.isfinite(low)
    assert high == math.inf
    for value, some in ((1.6, np.full(10, np.inf)), (math.inf, draws), (1.6, np.zeros(0))):
        assert middle_interval(value, some) == (-math.inf, math.inf)
