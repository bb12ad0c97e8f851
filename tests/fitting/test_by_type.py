"""Two types of token on one grid, whose optima are known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting import fit
from isoflop.fitting.law import Law

#: Text wants models that grow faster than sound's: a = β/(α + β) under 6ND.
TEXT = (1.2, 600.0, 9000.0, 0.34, 0.42)
SOUND = (2.69, 1606.4, 3210.7, 0.36, 0.34)


def loss_at(surface, table):
    E, A, B, alpha, beta = surface
    return E + A / table["params"] ** alpha + B / table["tokens"] ** beta


def optimal(surface, flops):
    _, A, B, alpha, beta = surface
    return (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))


@pytest.fixture
def two(study):
    """The whole loss is sound's; text has a law of its own."""

    def make(noise=0.0, seed=0):
        points = study(SOUND, noise=noise, sizes=9, width=12.0, seed=seed)
        generator = np.random.default_rng(seed + 1)
        points["loss_sound"] = points["loss"]
        points["loss_text"] = loss_at(TEXT, points) * np.exp(noise * generator.standard_normal(len(points)))
        return points

    return make


def by_name(law):
    return {each.name: each for each in law.types}


def test_each_type_has_the_exponents_of_its_own_surface(two):
    law = fit(two(noise=1e-5))
    text, sound = by_name(law)["text"], by_name(law)["sound"]
    assert text.exponents.a.value == pytest.approx(0.42 / 0.76, abs=0.004)
    assert sound.exponents.a.value == pytest.approx(0.34 / 0.70, abs=0.004)
    assert text.against.a.value == pytest.approx(0.42 / 0.76 - 0.34 / 0.70, abs=0.004)
    ratio = optimal(TEXT, text.against.flops) / optimal(SOUND, text.against.flops)
    assert text.against.size.value == pytest.approx(ratio, rel=0.02)
    assert text.against.differs
    assert "wants another model than the total" in text.sentence


def test_what_is_the_total_differs_by_nothing(two):
    sound = by_name(fit(two(noise=0.003)))["sound"]
    for estimate, same in ((sound.against.a, 0.0), (sound.against.size, 1.0)):
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((same, same, same), abs=1e-12)
    assert not sound.against.differs
    assert "not told apart from the total" in sound.sentence


def test_noise_makes_an_interval_that_holds_the_difference(two):
    truth = 0.42 / 0.76 - 0.34 / 0.70
    held, widths = 0, []
    for seed in range(12):
        difference = by_name(fit(two(noise=0.001, seed=seed), bootstrap=200))["text"].against.a
        held += difference.low <= truth <= difference.high
        widths.append(difference.high - difference.low)
    assert held >= 10
    assert 0.005 < np.median(widths) < 0.2


def test_a_type_whose_loss_only_falls_has_no_law_and_says_why(two):
    points = two(noise=1e-4)
    points["loss_text"] = 1 + 1e3 / points["params"] ** 0.3
    text = by_name(fit(points))["text"]
    assert (text.exponents, text.against) == (None, None)
    assert {minimum.status for minimum in text.minima} == {"edge"}
    assert (
        text.sentence == "text has no law: a law needs 3 budgets with an interior minimum, but 0 of 5 budgets have one"
    )


def test_columns_that_hold_no_loss_of_a_type_are_not_taken_for_one(two):
    points = two(noise=0.003).drop(columns=["loss_sound"])
    points["loss_fn"] = "cross entropy"
    points["loss_sigma"] = 0.003
    points["loss_control"] = math.nan
    points.loc[::9, "loss_text"] = math.nan
    law = fit(points)
    assert [(each.name, each.runs) for each in law.types] == [("text", 40)]
    assert law.points.used == 45


def test_types_survive_json_and_stand_in_the_text(two):
    law = fit(two(noise=0.003))
    assert Law.from_json(law.to_json()) == law
    assert by_name(law)["text"].sentence in str(law)
    record = law.to_json()
    del record["types"]  # written before there were any
    assert Law.from_json(record).types == ()


def test_a_table_without_profiles_says_that_its_types_have_none(study):
    points = pd.concat(
        [study(noise=0.002, budgets=np.geomspace(1e18, 1e20, 30), sizes=1, offset=o) for o in (0.5, 2.0)]
    )
    points["loss_text"] = points["loss"]
    law = fit(points.reset_index(drop=True))
    assert not law.has_profiles
    assert law.types[0].reason.startswith("a law needs 3 budgets with an interior minimum, but 0")
