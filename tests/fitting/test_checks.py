"""Each check speaks up for what it is there for, and is silent on a clean study."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting import fit

NAMES = [
    *("minima", "budgets", "spread", "noise", "scatter", "loss", "window", "centring", "bias", "influence"),
    *("accounting", "cost_model", "surface", "lack_of_fit", "headline", "forecast", "extrapolation", "bootstrap"),
    "hold_out",
]


def checks_of(table, **options):
    return {check.name: check for check in fit(table, **options).checks}


def test_a_clean_study_passes_every_check(study):
    found = checks_of(study(noise=0.001, seed=1))
    assert list(found) == NAMES
    assert {check.status for check in found.values()} == {"pass"}
    assert all(check.message.endswith(".") for check in found.values())


def test_minima_names_the_refused_budget_and_its_cure(study):
    table = study()
    top = table["flops"] == table["flops"].max()
    check = checks_of(table[~top | (table["params"] < table.loc[top, "params"].median())])["minima"]
    assert check.status == "warn"
    assert "1 of 5 budgets are left out. C = 1e20 (edge: the loss is lowest at the most parameters" in check.message
    assert "add runs of" in check.message


@pytest.mark.parametrize(
    ("budgets", "message"),
    [(np.geomspace(1e18, 1e20, 3), "3 minima over 2.00 decades"), (np.geomspace(1e18, 5e18, 5), "at least 1 decade")],
)
def test_budgets_wants_enough_of_them_far_enough_apart(study, budgets, message):
    check = checks_of(study(budgets=budgets, noise=0.001))["budgets"]
    assert check.status == "warn"
    assert message in check.message


def test_spread_sees_points_that_do_not_cost_their_budget(study):
    table = study()
    table["budget"] = table["flops"]
    table.loc[table["budget"] == 1e19, "flops"] *= np.linspace(0.97, 1.03, 7)
    check = checks_of(table)["spread"]
    assert check.status == "warn"
    assert "(C = 1e19)" in check.message


def test_noise_says_when_nothing_tells_it_and_when_it_takes_minima_away(study):
    exact = checks_of(study(sizes=3), window=3)["noise"]
    assert (exact.status, "leave nothing over" in exact.message) == ("warn", True)
    noisy = checks_of(study(noise=0.008))["noise"]
    assert noisy.status == "warn"
    assert "has no interior minimum in" in noisy.message
    swamped = checks_of(study(noise=0.02, budgets=np.geomspace(1e18, 1e20, 4)))["noise"]
    assert (swamped.status, "of such studies would have no law" in swamped.message) == ("fail", True)


def test_scatter_sees_a_budget_that_was_tuned_otherwise(study):
    table = study(noise=0.0005, width=16.0, sizes=9)
    odd = table["flops"] == 1e19
    # Its profile as if the models were 40 % larger than they are.
    shifted = table.assign(params=table["params"].where(~odd, table["params"] * 1.4))
    shifted["tokens"] = shifted["flops"] / 6 / shifted["params"]
    check = checks_of(shifted)["scatter"]
    assert check.status == "warn"
    assert "more than the noise of the losses explains" in check.message
    assert "the farthest is C = 1e19" in check.message


def test_loss_sees_budgets_off_the_curve_and_a_missing_floor(study):
    table = study(noise=0.001)
    table.loc[table["flops"] == 1e19, "loss"] *= 1.03
    assert "far more than the noise of a run" in checks_of(table)["loss"].message
    floorless = checks_of(study((0.0, 1606.4, 3210.7, 0.34, 0.36), noise=0.0001))["loss"]
    assert (floorless.status, "no floor shows yet" in floorless.message) == ("warn", True)


def test_window_sees_parabolas_over_too_much(study):
    check = checks_of(study(width=64.0, sizes=7))["window"]
    assert check.status == "warn"
    assert "asymmetry" in check.message


def test_centring_sees_minima_near_the_end_of_their_sizes(study):
    check = checks_of(study(offset=2.2, width=8.0, sizes=9))["centring"]
    assert check.status == "warn"
    assert "close to an end" in check.message


def test_accounting_sees_profiles_that_follow_two_conventions(study):
    table = study()
    # Tokens of the larger budgets counted twice, so C(N, D) is not one function.
    large = table["flops"] > 2e19
    check = checks_of(table.assign(tokens=table["tokens"].where(~large, table["tokens"] * 2)))["accounting"]
    assert check.status == "warn"
    assert "follow another convention" in check.message


def test_cost_model_sees_models_of_one_size_that_cost_differently(study):
    table = study()
    generator = np.random.default_rng(0)
    table["tokens"] *= generator.uniform(0.9, 1.1, len(table))
    check = checks_of(table)["cost_model"]
    assert check.status == "warn"
    assert "ladder of shapes" in check.message


def test_influence_names_the_run_that_holds_the_law(study):
    table = study(noise=0.0002, sizes=5)
    table["run"] = [f"run-{place}" for place in range(len(table))]
    # One run of the smallest budget is off by 3 %: without it the minimum is elsewhere.
    table.loc[1, "loss"] *= 0.97
    found = {check.name: check for check in fit(table).checks}["influence"]
    assert "run-" in found.message
    law = fit(table)
    assert law.influence[0].budget == 1e18
    without = fit(table.drop(index=law.influence[0].rows[0]).reset_index(drop=True))
    line = without.methods.parabola.a
    assert law.influence[0].a == pytest.approx(line, abs=1e-9)


def test_bias_is_what_the_method_gets_wrong_without_noise(study):
    law = fit(study(width=16.0, sizes=9), window="all")
    truth = 0.36 / 0.70
    assert law.methods.parabola.bias_a == pytest.approx(law.methods.parabola.a - truth, abs=1e-6)
    for minimum in law.minima:
        exact = (0.34 * 1606.4 / (0.36 * 3210.7)) ** (1 / 0.70) * (minimum.flops / 6) ** truth
        assert minimum.params_corrected == pytest.approx(exact, rel=1e-5)
        assert abs(minimum.params / exact - 1) > 1e-3


def test_lack_of_fit_sees_a_form_that_is_not_the_surfaces(study):
    table = study(noise=0.001, sizes=9)
    wave = 0.005 * np.sin(2 * np.log(table["tokens"]))
    law = fit(table.assign(loss=table["loss"] * np.exp(wave)))
    found = {check.name: check for check in law.checks}
    assert found["lack_of_fit"].status == "warn"
    assert "with a form of its own" in found["lack_of_fit"].message
    assert "the minima lead, not the surface" in found["headline"].message
    assert law.method == "parabola"


def test_headline_does_not_pass_where_the_surface_leads_for_want_of_anything_else():
    params, tokens = (each.reshape(-1) for each in np.meshgrid(np.geomspace(1e7, 2e9, 7), np.geomspace(2e8, 7e10, 9)))
    loss = 2.69 + 1606.4 / params**0.34 + 3210.7 / tokens**0.36
    loss *= np.exp(0.001 * np.random.default_rng(1).standard_normal(len(loss)))
    crossed = pd.DataFrame({"flops": 6 * params * tokens, "params": params, "tokens": tokens, "loss": loss})
    found = checks_of(crossed, bootstrap=100)
    assert (found["headline"].status, found["lack_of_fit"].status) == ("warn", "pass")
    assert "no minima confirm it. Train several sizes at each of three budgets" in found["headline"].message
    twist = np.exp(0.005 * np.log(params / 1e8) * np.log(tokens / 4e9))
    found = checks_of(crossed.assign(loss=loss * twist), bootstrap=100)
    assert (found["headline"].status, found["lack_of_fit"].status) == ("fail", "warn")
    assert "it does not fit (lack_of_fit): the exponents are those of another form" in found["headline"].message


def test_centring_sees_a_grid_that_drifts_off_its_minima(study):
    tables = [
        study(budgets=np.array([flops]), sizes=9, width=8.0, offset=offset, noise=0.0002)
        for flops, offset in zip(np.geomspace(1e18, 1e20, 5), np.geomspace(0.55, 1.8, 5), strict=True)
    ]
    check = checks_of(pd.concat(tables, ignore_index=True))["centring"]
    assert "drifts off its minima" in check.message
