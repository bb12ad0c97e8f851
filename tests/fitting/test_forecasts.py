"""Forecasts hit runs that were not trained yet, and their intervals mean what they say."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.forecasts import (
    EXPONENT_PRIOR,
    FEWEST_ROWS,
    LEVEL,
    Forecaster,
    Runs,
    fit_forecaster,
)
from isoflop.fitting.parametric_search import TUNING
from isoflop.fitting.surface_newton import descend
from isoflop.fitting.surface_objective import constrain

#: Besiroglu et al. 2024; a surface for SODA, whose floor is far from the prior's; CS336's public points.
SURFACES = {
    "chinchilla": (1.8172, 482.01, 2085.43, 0.3478, 0.3658),
    "soda": (3.169, 215_886.0, 4_750.0, 0.684, 0.439),
    "cs336": (2.69, 1606.4, 3210.7, 0.34, 0.36),
}
COLUMNS = ("flops", "params", "tokens", "loss")


def columns(table):
    return [table[name].to_numpy(copy=True) for name in COLUMNS]


def forecaster_of(flops, params, tokens, loss, **options):
    return fit_forecaster(Runs.sorted(flops, params, tokens, loss), **options)


def seven_budgets(study, surface, **options):
    return study(surface, np.geomspace(3e18, 3e20, 7), sizes=9, **options)


@pytest.mark.parametrize("name", SURFACES)
def test_an_exact_surface_is_forecast_exactly(study, optimum, name):
    forecaster = forecaster_of(*columns(seven_budgets(study, SURFACES[name])))
    params, tokens, loss = optimum(SURFACES[name], 3e21)
    told = forecaster.predict(params, tokens, 3e21)
    assert told.value == pytest.approx(loss, rel=1e-4)
    assert told.decades == pytest.approx(1.0)
    assert (told.low, told.high) == pytest.approx((loss, loss), rel=0.05)


@pytest.mark.parametrize("name", SURFACES)
def test_ten_times_beyond_noisy_studies_lies_in_the_interval(study, optimum, name):
    params, tokens, loss = optimum(SURFACES[name], 3e21)
    told = [
        forecaster_of(*columns(seven_budgets(study, SURFACES[name], noise=0.003, seed=seed)), draws=50).predict(
            params, tokens, 3e21
        )
        for seed in range(12)
    ]
    assert sum(each.low <= loss <= each.high for each in told) >= 11
    assert abs(np.mean([math.log(each.value / loss) for each in told])) < 0.007
    assert np.median([math.log(each.high / each.value) for each in told]) < 0.035


def test_the_order_of_the_rows_changes_nothing_and_units_change_only_themselves(study):
    table = seven_budgets(study, SURFACES["chinchilla"], noise=0.003)
    flops, params, tokens, loss = columns(table)
    forecaster = forecaster_of(flops, params, tokens, loss)
    assert forecaster_of(*columns(table.sample(frac=1, random_state=1))) == forecaster
    told = forecaster.predict(1e10, 4e10, 2.4e21)
    other = forecaster_of(flops * 7, params * 1e-3, tokens * 1e-3, loss * 2).predict(1e7, 4e7, 7 * 2.4e21)
    assert (other.value, other.low, other.high) == pytest.approx(
        (2 * told.value, 2 * told.low, 2 * told.high), rel=1e-5
    )
    assert other.decades == pytest.approx(told.decades)


def test_intervals_grow_with_distance_and_level(study, optimum):
    surface = SURFACES["chinchilla"]
    forecaster = forecaster_of(*columns(seven_budgets(study, surface, noise=0.003)))

    def half(flops, level=LEVEL):
        params, tokens, _ = optimum(surface, flops)
        told = forecaster.predict(params, tokens, flops, level)
        return math.log(told.high / told.value)

    assert half(3e20) < half(9e20) < half(3e21) < half(3e22)
    assert half(3e21, 0.95) == pytest.approx(half(3e21, 0.9) * 1.959964 / 1.644854, rel=1e-5)


def test_a_form_that_does_not_last_widens_the_interval(study):
    table = seven_budgets(study, SURFACES["chinchilla"], noise=0.002)
    good = forecaster_of(*columns(table))
    # From 3e19 on the losses fall less than they should.
    late = np.maximum(np.log10(table["flops"] / 3e19), 0)
    bad = forecaster_of(*columns(table.assign(loss=table["loss"] * np.exp(0.1 * late))))
    assert bad.cuts == good.cuts > 0
    assert bad.roll_error > 1.5 * good.roll_error


def test_runs_far_from_the_best_do_not_count_and_a_wild_one_hardly(study):
    table = seven_budgets(study, SURFACES["chinchilla"], noise=0.002)
    flops, params, tokens, loss = columns(table)
    forecaster = forecaster_of(flops, params, tokens, loss)
    failed = [np.append(column, 1.0) for column in (flops, params, tokens, loss)]
    for column, value in zip(failed, (1e20, 1e9, 1e20 / 6e9, 4.0), strict=True):
        column[-1] = value
    assert forecaster_of(*failed) == forecaster
    wild = loss.copy()
    wild[-5] *= 1.06
    moved = forecaster_of(flops, params, tokens, wild).predict(1e10, 5e10, 3e21).value
    assert moved == pytest.approx(forecaster.predict(1e10, 5e10, 3e21).value, rel=0.01)


def test_the_priors_leave_one_basin(study):
    runs = Runs.sorted(*columns(seven_budgets(study, SURFACES["soda"], noise=0.004)))
    for centre in runs.centres.values():
        start = np.repeat(centre.theta[None], 9, axis=0)
        start[:, 3:] = np.stack(np.meshgrid([0.1, 0.4, 1.0], [0.1, 0.4, 1.0]), axis=-1).reshape(9, 2)
        found = descend(
            centre.problem,
            constrain(centre.problem, {}, ()),
            start,
            centre.weights[None],
            TUNING * centre.noise,
            centre.penalty,
        )
        best = found.theta[found.value.argmin()]
        assert best == pytest.approx(centre.theta, rel=0.05)


def test_without_points_enough_the_answer_is_a_sentence(study):
    table = study(SURFACES["chinchilla"], np.geomspace(1e18, 4e18, 5))
    with pytest.raises(NoAnswerError, match=r"over 1 decade of C, but got \d+ over 0\.60: add budgets"):
        forecaster_of(*columns(table))
    with pytest.raises(NoAnswerError, match=f"needs {FEWEST_ROWS} runs within 10% of the best"):
        forecaster_of(*columns(study(SURFACES["chinchilla"]).iloc[::7]))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_wrong_numbers_are_refused(study, value):
    forecaster = forecaster_of(*columns(study(SURFACES["chinchilla"], noise=0.001)))
    with pytest.raises(InputError, match="positive and finite"):
        forecaster.predict(1e9, value, 1e20)
    with pytest.raises(InputError, match="0 < level < 1"):
        forecaster.predict(1e9, 1e10, 1e20, level=value)
    flops, params, tokens, loss = columns(study())
    loss[3] = value
    with pytest.raises(InputError, match="loss must be positive and finite"):
        forecaster_of(flops, params, tokens, loss)


def test_no_runs_are_refused():
    with pytest.raises(InputError, match="must rest on runs"):
        forecaster_of(*np.zeros((4, 0)))


def test_a_forecaster_is_plain_json(study):
    forecaster = forecaster_of(*columns(study(SURFACES["chinchilla"], noise=0.001)))
    adapter = TypeAdapter(Forecaster)
    back = adapter.validate_python(json.loads(json.dumps(adapter.dump_python(forecaster, mode="json"))))
    assert back == forecaster
    assert replace(back, rows=0) != forecaster


def test_very_many_rows_are_thinned_but_keep_the_dearest(study):
    table = study(SURFACES["chinchilla"], np.geomspace(1e18, 1e20, 5), sizes=9, repeats=700, noise=0.003)
    runs = Runs.sorted(*columns(table))
    assert len(runs.flops) < 2_001
    assert runs.flops[-1] == table["flops"].max()
    assert forecaster_of(*columns(table)).alpha == pytest.approx(0.3478, rel=0.15)


def test_best_at_a_compute_and_cuts():
    flops = np.array([1e18, 1.04e18, 1.2e18, 3e18, 3.1e18, 1e19])
    runs = Runs.sorted(flops, np.ones(6), np.ones(6), np.array([3.0, 2.9, 2.95, 2.7, 2.8, 2.75]))
    assert runs.best.tolist() == [2.9, 2.9, 2.9, 2.7, 2.7, 2.7]
    assert runs.cuts == [1.2e18, 3.1e18, 1e19]
    assert runs.near_best(0.03).loss.tolist() == [2.9, 2.95, 2.7, 2.75]


def test_the_prior_holds_what_the_points_do_not(study):
    """One term of the loss is invisible where every run sees the same ratio of tokens to parameters."""
    generator = np.random.default_rng(0)
    params = np.geomspace(1e8, 1e10, 20)
    tokens = 20 * params
    loss = (1.8172 + 482.01 / params**0.3478 + 2085.43 / tokens**0.3658) * np.exp(0.003 * generator.standard_normal(20))
    forecaster = forecaster_of(6 * params * tokens, params, tokens, loss)
    assert forecaster.alpha == pytest.approx(math.exp(EXPONENT_PRIOR.mean), rel=0.6)
    told = forecaster.predict(3e10, 6e11, 6 * 3e10 * 6e11)
    truth = 1.8172 + 482.01 / 3e10**0.3478 + 2085.43 / 6e11**0.3658
    assert told.low < truth < told.high
