from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting import fit
from isoflop.fitting.intervals import Estimate
from isoflop.fitting.law import HANDED_OVER, Law, Reach

#: Names that readers of the JSON rely on. A name may be added (and the schema's number stays); none may go.
SCHEMA = {
    "schema": None,
    "method": None,
    "exponents": {"a", "b", "ratio"},
    "methods": {"parabola", "akima", "parametric"},
    "power_laws": {"params", "tokens", "loss", "shared"},
    "loss_curve": {"floor", "scale", "exponent", "reference", "scatter"},
    "minima": None,
    "bands": {"flops", "params", "tokens", "loss"},
    "cost_model": {"form", "center", "scale", "coefficients", "low", "high", "rms", "worst"},
    "flops_range": None,
    "noise": None,
    "parametric": {
        *("E", "A", "B", "alpha", "beta", "a", "b", "reference", "residual", "objective", "delta", "noise", "status"),
        *("reason", "condition", "starts", "agreeing", "points", "pins", "ties", "repetition", "repetition_low"),
        *("repetition_high", "intervals", "clusters", "floor", "adequacy", "misfit"),
    },
    "forecast": None,
    "conventions": None,
    "influence": None,
    "hold_out": {"level", "steps", "drift"},
    "checks": None,
    "points": {"used", "excluded"},
    "provenance": {"isoflop", "points_digest", "params_convention", "flops_convention", "options", "simulated"},
    "types": None,
}
OPTIONS = {"window", "bootstrap", "seed", "minimum", "huber_delta", "pins", "ties"}
METHOD = {"a", "b", "difference_a", "difference_b", "budgets", "bias_a", "bias_b"}
CONVENTION = {
    *("convention", "headline", "a", "b", "minima_a", "minima_b", "parametric_a", "parametric_b"),
}
TYPE = {"name", "runs", "minima", "exponents", "against", "reason"}
ESTIMATE = {"value", "low", "high", "method", "t", "bootstrap"}
MINIMUM = {
    *("budget", "flops", "status", "reason", "cure", "sizes", "runs", "params", "params_low", "params_high"),
    *("tokens", "tokens_low", "tokens_high", "loss", "curvature", "curvature_tokens", "window_params", "window_tokens"),
    *("tenth_percent", "one_percent", "params_corrected"),
}


@pytest.fixture
def table(study):
    points = study(noise=0.003)
    points["loss_text"] = points["loss"] + 1
    # One budget refused, one row excluded.
    top = points["flops"] == points["flops"].max()
    points = points[~top | (points["params"] < points.loc[top, "params"].median())].reset_index(drop=True)
    points.loc[len(points)] = [1e19, 1e8, 1e9, math.nan, math.nan]
    return points


def test_the_json_schema_is_the_frozen_one(table):
    record = fit(table).to_json()
    assert record["schema"] == 2
    assert set(record) == set(SCHEMA)
    for name, inner in SCHEMA.items():
        if inner is not None:
            assert set(record[name]) == inner, name
    assert all(set(each) == ESTIMATE for each in record["exponents"].values())
    assert all(set(each) == MINIMUM for each in record["minima"])
    assert all(set(each) == METHOD for each in record["methods"].values())
    assert all(set(each) == CONVENTION for each in record["conventions"])
    assert [set(each) for each in record["types"]] == [TYPE]
    assert set(record["types"][0]["against"]) == {"a", "size", "flops"}
    assert set(record["provenance"]["options"]) == OPTIONS
    assert {"E", "A", "B", "alpha", "beta", "a", "b"} <= set(record["parametric"]["intervals"])
    assert all(set(each) == {"name", "status", "message"} for each in record["checks"])
    assert record["points"]["used"] == 31
    assert record["points"]["excluded"] == [{"row": 31, "reason": "loss is not finite: nan", "run": None}]
    assert record["minima"][-1]["status"] == "edge"
    assert record["minima"][-1]["params"] is None
    assert len(record["provenance"]["points_digest"]) == 64


def test_a_law_read_back_from_json_text_is_equal_and_gives_equal_answers(table):
    law = fit(table)
    again = Law.from_json(json.loads(json.dumps(law.to_json(), allow_nan=False)))
    assert again == law
    assert again.optimum(3e21) == law.optimum(3e21)
    assert str(again) == str(law)


def test_unbounded_ends_are_null_in_json_and_infinite_again(table):
    law = fit(table)
    ratio = Estimate(1.5, -math.inf, math.inf, "t", (-math.inf, math.inf), (1.0, math.inf))
    law = replace(law, exponents=replace(law.exponents, ratio=ratio))
    record = json.loads(json.dumps(law.to_json(), allow_nan=False))
    assert record["exponents"]["ratio"]["low"] is None
    assert record["exponents"]["ratio"]["bootstrap"] == [1.0, None]
    assert Law.from_json(record) == law
    assert "[−∞, ∞]" in str(law)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 3}, "schema 2, which this version of isoflop reads, but got 3: a newer isoflop wrote it"),
        ({"schema": 1}, "but got 1: fit its points again"),
        ({"schema": None}, "but got None"),
        ({"exponents": {}}, "a law's exponents.a must be valid"),
        ({"noise": "loud"}, "a law's noise must be valid"),
    ],
)
def test_what_is_no_law_is_refused(table, change, message):
    with pytest.raises(InputError, match=message):
        Law.from_json({**fit(table).to_json(), **change})
    with pytest.raises(InputError, match="got None"):
        Law.from_json({})


def test_laws_of_groups_are_no_law():
    with pytest.raises(InputError, match="these are laws of groups: x, y; take one"):
        Law.from_json({"groups": {"x": {}, "y": {}}})


def test_predictions_hold_runs_and_name_what_they_need(study):
    law = fit(study(noise=0.003, sizes=9))
    told = law.predict(1e9, 2e11)
    assert told.low < told.value < told.high
    truth = 2.69 + 1606.4 / 1e9**0.34 + 3210.7 / 2e11**0.36
    assert told.low < truth < told.high
    assert told.decades == pytest.approx(math.log10(1.2e21 / 1e20))
    for pair in ((0.0, 1e9), (1e9, math.nan)):
        with pytest.raises(InputError, match="positive and finite"):
            law.predict(*pair)
    with pytest.raises(NoAnswerError, match="this law has no forecast of single runs"):
        replace(law, forecast=None).predict(1e9, 1e10)


def test_the_text_names_exponents_minima_refusals_and_checks(table):
    law = fit(table)
    text = str(law)
    assert f"a = {law.exponents.a.value:.3f} [" in text
    assert "law from 31 points (1 excluded), 4 of 5 budgets with a minimum, 1e18 to 3.16e19 FLOPs" in text
    assert "\n  excluded: row 31: loss is not finite: nan\nN is total parameters" in text
    assert "1e20  edge: the loss is lowest at the most parameters" in text
    assert "warn  minima: 1 of 5 budgets are left out" in text


def test_an_optimum_costs_its_budget_and_says_how_far_it_reaches(study):
    law = fit(study(noise=0.003))
    for flops, reach in [
        (1e17, Reach.BELOW),
        (1e18, Reach.INSIDE),
        (1e20, Reach.INSIDE),
        (2e20, Reach.EXTRAPOLATED),
        (1e21, Reach.EXTRAPOLATED),
        (1e22, Reach.UNCALIBRATED),
    ]:
        optimum = law.optimum(flops)
        assert optimum.reach is reach
        assert 6 * optimum.params.value * optimum.tokens.value == pytest.approx(flops, rel=1e-9)
        for interval in (optimum.params, optimum.tokens, optimum.loss):
            assert interval.low < interval.value < interval.high
    assert law.optimum(1e21).decades == pytest.approx(1)
    assert law.optimum(1e17).decades == pytest.approx(1)
    for flops in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="positive and finite"):
            law.optimum(flops)


@pytest.mark.parametrize("profiles", [True, False])
def test_the_loss_goes_over_from_the_curve_to_the_forecaster_without_a_jump(study, profiles):
    points = study(noise=0.003)
    if not profiles:
        # Sizes crossed with numbers of tokens: no two runs cost the same, and the surface leads.
        params, tokens = np.repeat([3e7, 9e7, 2.5e8, 7e8, 2e9], 7), np.tile(np.geomspace(3e8, 6e10, 7), 5)
        loss = 2.69 + 1606.4 / params**0.34 + 3210.7 / tokens**0.36
        loss *= np.exp(0.003 * np.random.default_rng(0).standard_normal(35))
        points = pd.DataFrame({"flops": 6 * params * tokens, "params": params, "tokens": tokens, "loss": loss})
    law = fit(points, bootstrap=100)
    assert law.has_profiles is profiles
    largest = law.budgets[1]
    flops = largest * 10 ** np.linspace(-0.1, 0.4, 501)
    optima = [law.optimum(each).loss for each in flops]
    for name in ("value", "low", "high"):
        steps = np.diff(np.log([getattr(each, name) for each in optima]))
        # A thousandth of a decade moves no end by more than a few times what it does on average.
        assert np.abs(steps).max() < 5 * np.abs(steps).mean(), name
    assert (np.diff([each.value for each in optima]) < 0).all()
    assert law.optimum(largest).loss.value == law.loss_curve.at(largest)
    there = law.optimum(largest * 10**HANDED_OVER)
    told = law.forecast.predict(there.params.value, there.tokens.value, there.flops, 0.95)
    assert (there.loss.value, there.loss.low, there.loss.high) == pytest.approx((told.value, told.low, told.high))


def test_intervals_widen_with_the_distance_from_the_budgets(study):
    law = fit(study(noise=0.003))
    for name in ("params", "tokens", "loss"):
        found = [getattr(law.optimum(flops), name) for flops in 1e20 * 10 ** np.arange(0, 5, 0.5)]
        widths = np.diff([np.log(each.high / each.low) for each in found])
        assert (widths > 0).all(), name


def test_the_headline_is_the_wider_interval(study):
    law = fit(study(noise=0.003))
    for each in (law.power_laws.params.exponent, law.power_laws.tokens.exponent):
        widths = {"t": each.t[1] - each.t[0], "bootstrap": each.bootstrap[1] - each.bootstrap[0]}
        assert each.method == max(widths, key=widths.__getitem__)
        assert (each.low, each.high) == getattr(each, each.method)


def test_a_law_of_simulated_points_says_so(study):
    points = study(noise=0.001)
    real, pretended = fit(points), fit(points.assign(simulated=True))
    assert pretended.provenance == replace(real.provenance, simulated=True)
    assert pretended.exponents == real.exponents
    assert Law.from_json(json.loads(json.dumps(pretended.to_json()))) == pretended
    assert "SIMULATED points" in str(pretended)
    assert "SIMULATED" not in str(real)
    earlier = real.to_json()
    del earlier["provenance"]["simulated"]
    assert Law.from_json(earlier) == real
    with pytest.raises(InputError, match="must be all simulated or all real"):
        fit(points.assign(simulated=[True, *[False] * (len(points) - 1)]))
