"""What somebody has, in training FLOPs or tokens."""

from __future__ import annotations

import pytest

from isoflop.errors import InputError
from isoflop.recommendation.resources import (
    Machine,
    amount,
    amounts,
    flops_of_cost,
    flops_of_days,
    flops_of_hours,
    tokens_of_audio,
)


def test_hours_money_and_days_of_the_same_gpus_are_the_same_flops():
    machine = Machine("h100", gpus=10, mfu=0.4, price=2.5)
    hours = flops_of_hours(2400, machine)
    assert hours == pytest.approx(2400 * 3600 * 989e12 * 0.4)
    assert flops_of_cost(6000, machine) == pytest.approx(hours)
    assert flops_of_days(10, machine) == pytest.approx(hours)
    assert flops_of_hours(1, Machine("h100")) == pytest.approx(3600 * 989e12 * 0.35)


def test_audio_is_tokens_at_a_rate():
    assert tokens_of_audio(100_000, 100) == 3.6e10


@pytest.mark.parametrize(
    ("text", "value"), [("1e22", 1e22), (" 5.76E+23 ", 5.76e23), ("1.7B", 1.7e9), ("135M", 135e6), ("20k", 2e4)]
)
def test_amounts_are_read_as_people_write_them(text, value):
    assert amount(text, "--params") == pytest.approx(value)
    assert amounts(f"{text},2T", "--suite") == pytest.approx([value, 2e12])


@pytest.mark.parametrize("text", ["1e22 FLOP/s", "1e22FLOPs", "lots", "", "nan", "inf", "1,5", "1e22 1e23", "5 m"])
def test_misspelt_units_are_refused_with_the_rule_and_the_value(text):
    with pytest.raises(InputError, match="must be a plain number of training FLOPs, like 1e22, but got") as caught:
        amount(text, "--flops")
    assert repr(text) in str(caught.value)
    assert ("speed" in str(caught.value)) == ("/s" in text)


@pytest.mark.parametrize("text", ["0", "-1e18", "1e999"])
def test_amounts_are_positive_and_finite(text):
    with pytest.raises(InputError, match="--flops must be positive and finite"):
        amount(text, "--flops")


def test_machines_are_known_and_used_in_part():
    with pytest.raises(InputError, match=r"gpu must be one of a100-80, h100.* but got 'h101'; did you mean 'h100'"):
        Machine("h101")
    with pytest.raises(InputError, match=r"0 < mfu <= 1 must hold \(0.4 is 40 %\), but got 40"):
        Machine("h100", mfu=40)
    with pytest.raises(InputError, match="gpus >= 1"):
        Machine("h100", gpus=0)
    with pytest.raises(InputError, match="price must be positive"):
        Machine("h100", price=0)
    with pytest.raises(InputError, match="a cost must go with a price"):
        flops_of_cost(10, Machine("h100"))
    with pytest.raises(InputError, match="days must go with a number of GPUs"):
        flops_of_days(10, Machine("h100"))
