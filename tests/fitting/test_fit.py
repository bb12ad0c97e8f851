"""The whole fit against known truths."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting import fit
from isoflop.fitting.minima import Status
from isoflop.fitting.repetition import effective_tokens
from isoflop.flops import Shape
from isoflop.reporting.figures import optimum_figure

SURFACE = (2.69, 1606.4, 3210.7, 0.34, 0.36)
FAST = settings(
    max_examples=4, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_without_a_floor_the_exponents_of_a_centred_grid_are_exact(study):
    law = fit(study((0.0, 1606.4, 3210.7, 0.34, 0.36)))
    assert law.exponents.a.value == pytest.approx(0.36 / 0.70, abs=1e-9)
    assert law.exponents.b.value == pytest.approx(0.34 / 0.70, abs=1e-9)
    assert law.exponents.ratio.value == pytest.approx(0.34 / 0.36, abs=1e-8)
    assert law.power_laws.loss.exponent.value == pytest.approx(-0.34 * 0.36 / 0.70, abs=1e-9)


@pytest.mark.parametrize(("window", "error"), [(5, 0.001), ("all", 0.004)])
def test_with_a_floor_a_parabola_is_off_by_no_more_than_stated(study, window, error):
    law = fit(study(width=16.0, sizes=9), window=window)
    assert law.exponents.a.value == pytest.approx(0.36 / 0.70, abs=error)
    assert law.exponents.a.value + law.exponents.b.value == pytest.approx(1, abs=1e-9)
    assert law.cost_model.form == "6nd"


def test_cs336s_public_points(shared):
    table = pd.read_json(shared / "cs336_isoflops.json")
    table = table.rename(columns={"parameters": "params", "compute_budget": "flops", "final_loss": "loss"})
    law = fit(table.assign(tokens=table["flops"] / 6 / table["params"]))
    surface = law.parametric
    assert surface.values == pytest.approx((2.69, 1606.4, 3210.7, 0.34, 0.36), rel=1e-6)
    assert law.methods.parametric.a == pytest.approx(0.5142857, abs=1e-6)
    assert law.method == "parametric"
    assert len(law.interior) == 9
    # The parabola's error is what the check predicts, and with it taken off the minima are exact.
    assert law.methods.parabola.a - law.methods.parabola.bias_a == pytest.approx(0.36 / 0.70, abs=1e-6)
    assert law.exponents.a.low <= 0.36 / 0.70 <= law.exponents.a.high
    assert law.loss_curve.floor == pytest.approx(2.69, abs=0.01)
    assert law.predict(1e9, 1e11).value == pytest.approx(surface.at(1e9, 1e11), rel=1e-3)


def test_porians_kaplan_set_needs_local_parabolas(shared):
    table = pd.read_csv(shared / "porian" / "isoflops.csv")
    table = table[table["exp"] == "rw|base|warm=long|decay=kaplan|count=kaplan|train"]
    published = 0.834
    local = fit(table, bootstrap=100)
    assert len(local.interior) == 11
    assert local.exponents.a.value == pytest.approx(published, abs=0.05)
    wide = fit(table, window="all", bootstrap=100)
    assert [minimum.budget for minimum in wide.minima[:3]] == [1.25e16, 2.5e16, 5e16]
    assert all(minimum.status is not Status.INTERIOR for minimum in wide.minima[:3])
    named = {check.name: check.message for check in wide.checks}["minima"]
    for budget in ("1.25e16", "2.5e16", "5e16"):
        assert f"C = {budget} (edge" in named


def test_counted_flops_tie_the_exponents_by_the_slope_of_the_cost_model():
    """A wide vocabulary: the head's FLOPs make γ = dln f/dln N differ from 1, and b = 1 − γ·a."""
    shapes = [Shape(max(2, d // 64), d, d // 64, d // 64, 64, 4 * d, 32768, 2048, False) for d in range(64, 2048, 64)]
    params = np.array([shape.parameters.total for shape in shapes], dtype=float)
    per_token = np.array([shape.training_flops(1) for shape in shapes])
    tables = []
    for flops in np.geomspace(1e18, 1e20, 5):
        tokens = flops / per_token
        loss = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
        near = np.argsort(loss)[:8]
        tables.append(pd.DataFrame({"flops": flops, "params": params, "tokens": tokens, "loss": loss}).iloc[near])
    law = fit(pd.concat(tables, ignore_index=True))
    a, b, cost = law.exponents.a.value, law.exponents.b.value, law.cost_model
    assert cost.form == "smooth"
    slopes = [cost.slope(minimum.params) for minimum in law.interior]
    assert abs(a + b - 1) > 0.01
    assert b == pytest.approx(1 - np.mean(slopes) * a, abs=0.01)
    assert next(check for check in law.checks if check.name == "accounting").status == "pass"
    for flops in (1e18, 1e19, 1e21):
        optimum = law.optimum(flops)
        assert cost.flops(optimum.params.value, optimum.tokens.value) == pytest.approx(flops, rel=1e-9)


def test_intervals_cover_the_truth_as_often_as_they_say(study):
    """Forty studies of five budgets × six sizes; nominal 95 %, and no wider than needed."""
    covered, half, errors = [], [], []
    for seed in range(40):
        law = fit(study(sizes=6, noise=0.003, seed=seed), bootstrap=100)
        truths = {"a": 0.36 / 0.70, "b": 0.34 / 0.70, "ratio": 0.34 / 0.36}
        found = {name: getattr(law.exponents, name) for name in truths}
        covered.append([found[name].low <= truths[name] <= found[name].high for name in truths])
        half.append((found["a"].high - found["a"].low) / 2)
        errors.append(found["a"].value - truths["a"])
    assert (np.mean(covered, axis=0) >= 0.92).all()
    assert np.median(half) < 4 * np.std(errors)


def test_forecasts_cover_the_next_decade(study, optimum):
    """N*, D* and the loss of a run at ten times the largest budget."""
    covered = []
    params, tokens, loss = optimum(SURFACE, 1e21)
    generator = np.random.default_rng(1)
    for seed in range(16):
        law = fit(study(sizes=9, width=16.0, noise=0.003, seed=seed), bootstrap=200)
        found = law.optimum(1e21)
        run = loss * np.exp(0.003 * generator.standard_normal())
        pairs = [(found.params, params), (found.tokens, tokens), (found.loss, run)]
        covered.append([interval.low <= truth <= interval.high for interval, truth in pairs])
    assert (np.mean(covered, axis=0) >= 0.87).all()


def without_rows(law):
    """The law's JSON without the places of rows, which follow the table."""
    record = law.to_json()
    influence = [{**each, "rows": None, "name": None} for each in record["influence"]]
    checks = [each for each in record["checks"] if each["name"] != "influence"]
    return record | {"influence": influence, "checks": checks}


@FAST
@given(order=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_changes_nothing(study, order):
    table = study(noise=0.003)
    shuffled = table.sample(frac=1, random_state=order)
    ours, theirs = (without_rows(fit(each, bootstrap=100)) for each in (table, shuffled))
    assert ours == theirs


@FAST
@given(params=st.floats(1e-3, 1e3), tokens=st.floats(1e-3, 1e3), loss=st.floats(0.01, 100))
def test_units_scale_the_answer_and_leave_the_exponents(study, params, tokens, loss):
    table = study(noise=0.003)
    units = {"params": params, "tokens": tokens, "flops": params * tokens, "loss": loss}
    law = fit(table, bootstrap=100)
    scaled = fit(table.assign(**{name: table[name] * unit for name, unit in units.items()}), bootstrap=100)
    for name in ("a", "b", "ratio"):
        ours, theirs = getattr(law.exponents, name), getattr(scaled.exponents, name)
        assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), rel=1e-6)
    ours, theirs = law.optimum(1e20), scaled.optimum(1e20 * params * tokens)
    assert theirs.params.value == pytest.approx(ours.params.value * params, rel=1e-6)
    assert theirs.tokens.high == pytest.approx(ours.tokens.high * tokens, rel=1e-6)
    assert theirs.loss.value == pytest.approx(ours.loss.value * loss, rel=1e-5)


def test_a_duplicate_changes_nothing_but_the_list_of_the_excluded(study):
    table = study(noise=0.003)
    doubled = fit(pd.concat([table, table.iloc[[4]]], ignore_index=True))
    assert [(each.row, each.reason) for each in doubled.points.excluded] == [(35, "repeats row 4")]
    assert doubled.to_json() | {"points": None} == fit(table).to_json() | {"points": None}


def test_refused_budgets_are_named_and_enter_nothing(study):
    table = study(noise=0.001)
    top = table["flops"] == table["flops"].max()
    cut = table[~top | (table["params"] < table.loc[top, "params"].median())]
    law = fit(cut)
    assert [minimum.status for minimum in law.minima] == [Status.INTERIOR] * 4 + [Status.EDGE]
    rest = fit(table[~top])
    for name in ("params", "tokens", "loss"):
        ours, theirs = getattr(law.power_laws, name).exponent, getattr(rest.power_laws, name).exponent
        assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), rel=1e-9)
    assert "add runs of" in next(check for check in law.checks if check.name == "minima").message


def test_too_few_minima_are_no_answer_and_each_budget_is_named(study):
    table = study()
    with pytest.raises(NoAnswerError, match=r"2 of 2 budgets have one: add budgets"):
        fit(table[table["flops"] < 5e18])
    few = table.groupby("flops").head(3)
    with pytest.raises(NoAnswerError) as caught:
        fit(few)
    for flops in ("1e18", "3.16e18", "1e19", "3.16e19", "1e20"):
        assert f"C = {flops}: edge: the loss is lowest at the most parameters" in str(caught.value)
    uneven = table.groupby("flops").head(2)
    uneven = pd.concat([uneven, table[table["flops"] == 1e20], table[table["flops"] == 1e18]]).drop_duplicates()
    with pytest.raises(NoAnswerError, match="too_few: 2 distinct sizes, and a parabola needs 3"):
        fit(uneven)
    with pytest.raises(NoAnswerError, match="flat"):
        fit(table.assign(loss=3.0))
    with pytest.raises(NoAnswerError, match=r"all 35 are excluded \(loss is not finite: nan\)"):
        fit(table.assign(loss=np.nan))
    with pytest.raises(NoAnswerError, match="1 budget"):
        fit(table[table["flops"] == 1e18])


def test_what_leaves_no_interval_is_no_answer(study):
    three = np.geomspace(1e18, 1e20, 3)
    with pytest.raises(NoAnswerError, match="leave nothing over from which to tell an interval"):
        fit(study(budgets=three, sizes=3), window=3)
    law = fit(study(budgets=np.geomspace(1e18, 1e20, 4), sizes=3), window=3)
    assert law.noise == 0
    assert law.power_laws.params.exponent.method == "t"


def test_noise_that_swamps_the_profiles_is_no_answer(study):
    table = study(budgets=np.geomspace(1e18, 1e20, 3), noise=0.3, repeats=4, seed=22)
    with pytest.raises(NoAnswerError, match=r"swamps the profiles: with other noise only .*\n  C = 1e18: \d+ % of"):
        fit(table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 2}, "window must be at least 3"),
        ({"bootstrap": 10}, "bootstrap must be at least 100"),
        ({"minimum": "spline"}, "minimum must be one of parabola, akima, but got 'spline'"),
        ({"huber_delta": 0.0}, "huber_delta must be 'auto', None or positive"),
        ({"pins": {"C": 1.0}}, "a pin must be of E, A, B, alpha, beta, but got 'C'"),
        ({"ties": ["E=A"]}, "a tie must be one of alpha=beta, A=B, but got 'E=A'"),
        ({"seed": -1}, "seed >= 0 must hold, but got -1"),
        ({"params_convention": "big"}, "must be one of total, non_embedding, body_and_head, but got 'big'"),
    ],
)
def test_wrong_options_are_refused(study, options, message):
    with pytest.raises(InputError, match=message):
        fit(study(), **options)


def test_importing_the_room_loads_nothing_heavy():
    code = "import isoflop.fitting, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert not {"matplotlib", "scipy.stats", "scipy.special", "scipy.optimize", "torch"} & set(loaded)


def test_a_table_without_profiles_has_the_surface_alone_and_says_so(study):
    """Four sizes crossed with six numbers of tokens: no two runs cost the same."""
    params = np.repeat([1e7, 5e7, 2.5e8, 1.1e9], 6)
    tokens = params * np.tile([5, 12, 30, 80, 200, 500], 4)
    loss = (1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28) * np.exp(
        0.002 * np.random.default_rng(0).standard_normal(24)
    )
    table = pd.DataFrame({"flops": 6 * params * tokens, "params": params, "tokens": tokens, "loss": loss})
    law = fit(table, bootstrap=200)
    assert law.method == "parametric"
    assert law.interior == ()
    assert law.methods.parabola.a is None
    assert law.exponents.a.low <= 0.28 / 0.62 <= law.exponents.a.high
    assert "no IsoFLOP profiles" in str(law)
    assert {check.name: check.status for check in law.checks}["minima"] == "warn"
    optimum = law.optimum(1e20)
    assert optimum.params.value == pytest.approx(law.power_laws.params.at(1e20), rel=1e-9)
    assert optimum.loss.value == pytest.approx(law.parametric.optimum(1e20, law.cost_model)[2], rel=1e-9)
    assert law.excess(2 * optimum.params.value, 1e20) > 1.001


def test_a_few_minima_in_a_table_without_profiles_do_not_make_the_law(study):
    params, tokens = (each.reshape(-1) for each in np.meshgrid(np.geomspace(1e7, 2e9, 5), np.geomspace(2e8, 7e10, 9)))
    crossed = pd.DataFrame({"flops": 6 * params * tokens, "params": params, "tokens": tokens})
    crossed["loss"] = 2.69 + 1606.4 / params**0.34 + 3210.7 / tokens**0.36
    law = fit(pd.concat([crossed, study(sizes=5, budgets=[1e18, 1e19])]), bootstrap=100)
    assert not law.has_profiles
    assert len(law.interior) == 2
    assert law.optimum(1e18).loss_from == "parametric"
    assert "warn  headline: a by each method: parametric 0.514; the surface leads, because nothing else can" in str(law)
    assert "too_few" not in str(law)
    assert optimum_figure(law).axes


def test_fixed_tokens_per_parameter_are_not_identifiable():
    params = np.geomspace(1e7, 1e9, 20)
    loss = 1.69 + 406.4 / params**0.34 + 410.7 / (20 * params) ** 0.28
    table = pd.DataFrame({"flops": 120 * params**2, "params": params, "tokens": 20 * params, "loss": loss})
    with pytest.raises(NoAnswerError, match="ln D follows ln N"):
        fit(table)


def test_pins_ties_and_deltas_reach_the_surface(study):
    table = study(noise=0.002)
    law = fit(table, bootstrap=100, pins={"E": 2.69}, ties=["alpha=beta"], huber_delta=0.001)
    assert pytest.approx(2.69, rel=1e-12) == law.parametric.E
    assert law.parametric.alpha == law.parametric.beta
    assert law.parametric.delta == pytest.approx(0.001)
    assert law.provenance.options.pins == (("E", 2.69),)
    assert fit(table, bootstrap=100, huber_delta=None).parametric.delta is None


def test_splines_lead_where_they_are_asked_for(study):
    table = study((2.69, 1606.4, 3210.7, 0.34, 0.36), noise=0.001)
    # Something that the surface cannot follow, so that minima lead.
    wave = 0.02 * np.sin(2 * np.log(table["tokens"]))
    law = fit(table.assign(loss=table["loss"] * np.exp(wave)), minimum="akima", bootstrap=100)
    assert law.method == "akima"
    assert law.methods.akima.difference_a == 0
    assert law.methods.parabola.difference_a == law.methods.parabola.a - law.methods.akima.a


def test_very_many_points_of_repeated_data_keep_their_effective_tokens():
    generator = np.random.default_rng(0)
    rows = 24_000
    flops = generator.choice(np.geomspace(1e18, 1e20, 5), rows)
    params = np.exp(generator.uniform(-1.5, 1.5, rows)) * 1e8 * np.sqrt(flops / 1e18)
    tokens = flops / 6 / params
    unique = tokens / generator.choice([1, 2, 4, 16, 60], rows)
    worth = effective_tokens(tokens, unique, 15.0)
    loss = (1.69 + 406.4 / params**0.34 + 410.7 / worth**0.28) * np.exp(0.003 * generator.standard_normal(rows))
    table = pd.DataFrame({"flops": flops, "params": params, "tokens": tokens, "loss": loss, "unique_tokens": unique})
    law = fit(table, bootstrap=100)
    assert law.parametric.repetition == pytest.approx(15.0, rel=0.05)
    assert law.parametric.beta == pytest.approx(0.28, abs=0.02)
    assert {check.name: check.status for check in law.checks}["bootstrap"] == "pass"


def test_a_million_rows_are_averaged_and_it_is_said():
    generator = np.random.default_rng(0)
    rows = 60_000
    flops = generator.choice(np.geomspace(1e18, 1e20, 5), rows)
    params = np.exp(generator.uniform(-1.5, 1.5, rows)) * 1e8 * np.sqrt(flops / 1e18)
    tokens = flops / 6 / params
    loss = (1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28) * np.exp(0.003 * generator.standard_normal(rows))
    law = fit(pd.DataFrame({"flops": flops, "params": params, "tokens": tokens, "loss": loss}), bootstrap=200)
    assert law.points.used == rows
    assert law.parametric.alpha == pytest.approx(0.34, abs=0.02)
    assert "60k points were averaged into 160 cells" in {check.name: check.message for check in law.checks}["bootstrap"]
