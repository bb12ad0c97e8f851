"""What is searched over."""

from __future__ import annotations

import pytest

from isoflop.errors import InputError
from isoflop.tuning.space import Dimension, distance, parsed


def test_names_bring_ranges_and_given_ones_win():
    assert parsed("lr") == (Dimension("lr", 1 / 8, 8.0),)
    rate, batch, beta2, decay = parsed("lr=0.1:10, batch,beta2=0.9:0.999,weight_decay=0.02:0.5")
    assert (rate.low, rate.high, batch.low, batch.high) == (0.1, 10.0, 0.25, 4.0)
    assert (beta2.low, beta2.high) == pytest.approx((0.001, 0.1))
    assert (decay.low, decay.high) == (0.02, 0.5)
    assert (rate.at(0.5), beta2.shown(0.02), rate.shown(0.5)) == (pytest.approx(1.0), "0.98", "0.5")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("rate", "must be some of lr, batch, beta2, weight_decay, but got 'rate'"),
        ("lr,lr", "must be distinct, but got 'lr' twice"),
        ("lr=2", "must be LOW:HIGH, but got '2'"),
        ("lr=2:1", "0 < low < high must hold of lr, but got 2 and 1"),
        ("lr=0:1", "0 < low < high must hold of lr, but got 0 and 1"),
        ("lr=1:inf", "0 < low < high must hold of lr"),
        ("beta2=-0.5:0.9", "0 <= beta2 < 1 must hold, but got a beta2 down to -0.5"),
    ],
)
def test_what_is_no_range_is_refused(text, rule):
    with pytest.raises(InputError, match=rule):
        parsed(text)


def test_ranges_are_extended_fourfold_and_no_beta2_leaves_its_own():
    assert parsed("lr")[0].extended == (1 / 32, 32.0)
    assert parsed("beta2=0.5:0.9")[0].extended[1] < 1


def test_distances_are_of_the_farthest_dimension():
    dimensions = parsed("lr,weight_decay")
    assert distance(dimensions, {"lr": 1, "weight_decay": 0.1}, {"lr": 4, "weight_decay": 0.2}) == pytest.approx(1.0)
