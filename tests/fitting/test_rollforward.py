"""The hold-out finds what a law could not have known, and is silent where it could."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting.forecasts import Runs
from isoflop.fitting.minima import find_minimum, profiles
from isoflop.fitting.points import judge
from isoflop.fitting.rollforward import RollForward, Step, check_hold_out, follow_exponent, roll_forward

CHINCHILLA = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)
PUBLIC = Path(__file__).parents[2] / "../shared/data"


def runs(table):
    return Runs.sorted(*(table[name].to_numpy(dtype=float) for name in ("flops", "params", "tokens", "loss")))


def rolled(table, **options):
    minima = [find_minimum(profile, 5) for profile in profiles(judge(table))]
    return roll_forward(runs(table), minima, **options)


@pytest.fixture
def seven(study):
    return study(CHINCHILLA, np.geomspace(3e18, 3e20, 7), sizes=9, noise=0.002, seed=3)


def test_a_clean_study_forecasts_its_own_larger_budgets(seven):
    found = rolled(seven)
    # Below the fourth budget lies a decade; the seventh has nothing above it.
    assert [step.cut for step in found.steps] == pytest.approx(np.geomspace(3e18, 3e20, 7)[3:6])
    assert found.forecasts == sum(step.forecasts for step in found.steps) > 40
    assert found.error < 0.01
    assert found.coverage > 0.9
    check = check_hold_out(found)
    assert check.status == "pass"
    assert "fitted below each of 3 budgets" in check.message
    assert "a was 0.5" in check.message


def test_a_budget_that_went_wrong_is_warned_of(seven):
    dearest = seven["flops"] == seven["flops"].max()
    check = check_hold_out(rolled(seven.assign(loss=seven["loss"] * np.where(dearest, 1.12, 1.0))))
    assert check.status == "pass"  # above 5 % of the best at lower compute: nobody would recommend these runs
    steeper = seven.assign(loss=seven["loss"] * (seven["flops"] / 3e19) ** np.where(seven["flops"] > 3.1e19, -0.06, 0))
    check = check_hold_out(rolled(steeper))
    assert check.status == "warn"
    assert "too few; the farthest off were those from C = 3e19 down" in check.message


def test_an_exponent_that_moves_is_warned_of(study):
    tables = [
        study(CHINCHILLA, np.array([flops]), sizes=9, offset=offset)
        for flops, offset in zip(np.geomspace(3e18, 3e20, 7), [1, 1, 1, 1, 1, 1, 1.6], strict=True)
    ]
    table = pd.concat(tables, ignore_index=True)
    size = table.groupby("flops")["params"].transform(lambda values: np.exp(np.log(values).mean()))
    table["loss"] = 3.0 * (table["flops"] / 3e18) ** -0.05 * np.exp(0.03 * np.log(table["params"] / size) ** 2)
    drift = follow_exponent([find_minimum(profile, 5) for profile in profiles(judge(table))])
    assert [each.flops for each in drift] == pytest.approx(np.geomspace(3e18, 3e20, 7)[2:])
    assert drift[-2].a == pytest.approx(0.3658 / 0.7136, abs=1e-3)
    assert drift[-1].a > drift[-2].a + 0.02
    check = check_hold_out(RollForward(0.9, (), drift))
    assert check.status == "warn"
    assert "with C = 3e20 a left the interval that it had without" in check.message


def test_too_few_budgets_say_so(study):
    found = rolled(study(CHINCHILLA, np.geomspace(1e18, 6e18, 3)))
    assert found.steps == ()
    assert math.isnan(found.coverage)
    assert math.isnan(found.error)
    check = check_hold_out(found)
    assert check.status == "warn"
    assert "no budget leaves runs enough below it" in check.message


def test_sums_weigh_each_forecast_alike():
    steps = (Step(1e18, 20, 10, 0.5, 9, 0.0, 0.01, 0.02), Step(1e19, 30, 5, 0.7, 3, 0.0, 0.04, 0.03))
    found = RollForward(0.9, steps, ())
    assert found.forecasts == 15
    assert found.coverage == pytest.approx(12 / 15)
    assert found.error == pytest.approx(math.sqrt((10 * 0.01**2 + 5 * 0.04**2) / 15))


@pytest.mark.skipif(not (PUBLIC / "porian").is_dir(), reason="the public points are not beside the repository")
def test_public_studies_are_held():
    """Of runs with 3 to 10 times the compute, nominal 90 % intervals hold about nine in ten."""
    porian = pd.read_csv(PUBLIC / "porian/isoflops.csv")
    gadre = pd.read_csv(PUBLIC / "gadre/losses.csv")
    gadre = gadre[gadre["val"].str.startswith("c4_val")]
    gadre = gadre.assign(flops=6.0 * gadre["params"] * gadre["tokens"], exp=gadre["dataset"])
    found = [
        roll_forward(runs(part), nearest=3, farthest=10, draws=50)
        for table in (porian[porian["exp"].str.contains("tuned|chinchilla")], gadre)
        for _, part in table.groupby("exp")
    ]
    steps = [step for each in found for step in each.steps]
    forecasts = sum(step.forecasts for step in steps)
    assert forecasts > 500
    assert 0.85 <= sum(step.held for step in steps) / forecasts <= 0.97
    assert np.median([step.half_width for step in steps]) < 0.06
