from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from isoflop.errors import InputError
from isoflop.fitting import fit
from isoflop.fitting.checks import Check, CheckStatus
from isoflop.fitting.surface import SurfaceStatus
from isoflop.flops import Shape
from isoflop.recommendation import Status, recommend


def shape(width):
    heads = width // 64
    return Shape(max(2, width // 64), width, heads, heads, 64, 4 * width, 32768, 2048, tied_head=False)


LADDER = [shape(width) for width in range(64, 4096, 64)]


def make_law(six_nd):
    """A law of noisy points on Hoffmann's surface, under 6ND or the counted FLOPs of the ladder."""
    generator = np.random.default_rng(0)
    params = np.array([each.parameters.total for each in LADDER], dtype=float)
    per_token = 6 * params if six_nd else np.array([each.training_flops(1) for each in LADDER])
    tables = []
    for flops in np.geomspace(1e18, 1e20, 5):
        tokens = flops / per_token
        loss = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
        table = pd.DataFrame({"flops": flops, "params": params, "tokens": tokens, "loss": loss})
        near = table.iloc[np.argsort(loss)[:9]]
        tables.append(near.assign(loss=near["loss"] * np.exp(0.001 * generator.standard_normal(9))))
    return fit(pd.concat(tables, ignore_index=True))


@pytest.fixture(scope="module", params=[True, False], ids=["6nd", "counted"])
def law(request):
    return make_law(request.param)


@pytest.mark.parametrize("flops", [2e18, 1e20, 1e21])
def test_the_pair_costs_the_budget_and_lies_in_its_intervals(law, flops):
    found = recommend(law, flops=flops)
    assert law.cost_model.flops(found.params.value, found.tokens.value) == pytest.approx(flops, rel=1e-3)
    for interval in (found.params, found.tokens, found.loss):
        assert interval.low < interval.value < interval.high
    assert found.shape is None
    assert found.provenance == law.provenance


def test_the_nearest_shape_is_trained_for_the_whole_budget_under_its_own_flops(law):
    found = recommend(law, flops=1e21, ladder=LADDER)
    choice = found.shape
    sizes = np.array([each.parameters.total for each in LADDER])
    assert choice.params == sizes[np.abs(np.log(sizes / found.params.value)).argmin()]
    assert choice.shape.parameters.total == choice.params
    convention = law.provenance.flops_convention
    assert choice.shape.training_flops(choice.tokens, convention) == pytest.approx(1e21, rel=1e-9)
    assert choice.size_ratio == pytest.approx(choice.params / found.params.value)
    assert choice.loss_ratio == pytest.approx(1, abs=1e-3)
    assert not any("nearest shape" in warning for warning in found.warnings)


def test_a_coarse_ladder_is_named_with_what_it_costs(law):
    coarse = [shape(64), shape(4032)]
    found = recommend(law, flops=1e21, ladder=coarse)
    assert max(found.shape.size_ratio, 1 / found.shape.size_ratio) > 1.25
    assert found.shape.loss_ratio > 1
    (warning,) = [each for each in found.warnings if "nearest shape" in each]
    assert "outside its interval" in warning
    with pytest.raises(InputError, match="at least one shape"):
        recommend(law, flops=1e21, ladder=[])


def test_a_ladder_of_other_shapes_than_the_laws_is_named():
    other = [replace(each, vocabulary=256, sequence_length=65536) for each in LADDER]
    found = recommend(make_law(six_nd=False), flops=1e20, ladder=other)
    assert any("follow another convention" in warning for warning in found.warnings)


def test_extrapolation_is_said_plainly_and_how_far(law):
    inside, ten, hundred = (recommend(law, flops=flops) for flops in (1e19, 1e21, 1e22))
    assert (inside.status, inside.decades) == (Status.INSIDE, 0.0)
    assert not any("extrapolation" in warning for warning in inside.warnings)
    assert ten.status is Status.EXTRAPOLATED
    assert "1e21 FLOPs are 10 times the largest budget of the law, 1e20, from budgets that span 2.00 decades" in str(
        ten
    )
    assert hundred.status is Status.UNCALIBRATED
    assert hundred.decades == pytest.approx(2, abs=1e-6)
    assert any("uncalibrated" in warning for warning in hundred.warnings)
    below = recommend(law, flops=1e16)
    assert below.status is Status.BELOW
    assert "100 times less than the law's smallest budget" in below.warnings[0]
    widths = [each.params.high / each.params.low for each in (inside, ten, hundred)]
    assert widths == sorted(widths)


def test_a_suspect_law_says_so(law):
    clean = replace(law, checks=())
    suspect = replace(law, checks=(Check("window", CheckStatus.WARN, "…"), Check("noise", CheckStatus.PASS, "…")))
    assert recommend(clean, flops=1e19).warnings == ()
    assert recommend(suspect, flops=1e19).warnings == (
        "The law is suspect in: window. Read its checks before you rely on it.",
    )


def test_json_has_the_frozen_names_and_text_the_numbers(law):
    found = recommend(law, flops=1e21, ladder=LADDER)
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert set(record) == {
        *("law", "origin", "flops", "training_flops", "params", "tokens", "loss", "shape", "status", "statuses"),
        *("decades", "binds", "near", "overtraining", "data", "serving", "audio_hours", "warnings", "provenance"),
    }
    for name in ("params", "tokens", "loss"):
        assert set(record[name]) == {"value", "low", "high"}
    names = {"shape", "params", "tokens", "size_ratio", "loss_ratio", "refused", "run", "machine"}
    assert set(record["shape"]) == names
    assert record["status"] == "extrapolated"
    assert str(found).startswith("with 1e21 FLOPs, train")
    assert f"{found.shape.shape.n_layers} layers of width {found.shape.shape.d_model}" in str(found)


@pytest.mark.parametrize("flops", [0.0, -1e18, float("nan"), float("inf")])
def test_a_budget_must_be_a_number_above_zero(law, flops):
    with pytest.raises(InputError, match="flops must be positive and finite"):
        recommend(law, flops=flops)


def test_a_rehearsals_law_warns_that_it_is_simulated(law):
    pretended = replace(law, provenance=replace(law.provenance, simulated=True))
    assert "points are simulated" in recommend(pretended, flops=1e19).warnings[0]
    assert not any("simulated" in warning for warning in recommend(law, flops=1e19).warnings)


def test_a_law_that_the_points_do_not_hold_says_so(law):
    assert law.parametric is not None
    vague = replace(law, method="parametric", parametric=replace(law.parametric, status=SurfaceStatus.NOT_IDENTIFIABLE))
    found = recommend(vague, flops=1e19)
    assert found.status is Status.NOT_IDENTIFIABLE
    scarce = recommend(replace(vague, method="parabola"), flops=1e19, unique_tokens=1e7)
    assert scarce.status is Status.NOT_IDENTIFIABLE


def test_a_fitted_law_on_few_tokens_keeps_its_budget_and_carries_its_intervals(law):
    free = recommend(law, flops=1e20)
    scarce = recommend(law, flops=1e20, unique_tokens=free.tokens.value / 20)
    assert (free.binds, scarce.binds) == ("compute", "data")
    assert law.cost_model.flops(scarce.params.value, scarce.tokens.value) == pytest.approx(1e20, rel=1e-3)
    assert scarce.loss.value > free.loss.value
    assert scarce.data.effective_tokens < scarce.tokens.value
    assert scarce.params.high / scarce.params.value == pytest.approx(free.params.high / free.params.value)
    assert any("Muennighoff" in warning for warning in scarce.warnings)


def test_enough_unique_tokens_change_nothing(law):
    free = recommend(law, flops=1e20)
    plenty = recommend(law, flops=1e20, unique_tokens=free.tokens.value * 2)
    assert (plenty.params, plenty.tokens, plenty.loss) == (free.params, free.tokens, free.loss)
    assert plenty.data.epochs == pytest.approx(0.5)
    assert plenty.data.effective_tokens == plenty.tokens.value


def test_a_size_or_tokens_take_the_place_of_a_budget(law):
    size = recommend(law, params=1e8)
    assert (size.params.value, size.binds) == (1e8, "size")
    assert law.optimal_params(size.flops) == pytest.approx(1e8, rel=1e-6)
    tokens = recommend(law, tokens=3e9, token_rate=100)
    assert tokens.tokens.value == pytest.approx(3e9, rel=1e-6)
    assert tokens.audio_hours == pytest.approx(3e9 / 100 / 3600, rel=1e-6)
    assert tokens.binds == "data"
    assert recommend(law, unique_tokens=3e9).params == tokens.params
    both = recommend(law, params=1e8, tokens=3e9)
    assert both.flops == pytest.approx(law.cost_model.flops(1e8, 3e9))
    assert both.loss.value > recommend(law, flops=both.flops).loss.value
    given = recommend(law, flops=both.flops, tokens=3e9)
    assert given.params.value == pytest.approx(1e8, rel=1e-6)
    assert given.loss.value == pytest.approx(both.loss.value, rel=1e-6)


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({}, "one of flops, params, tokens and unique_tokens must be given"),
        ({"flops": 1e20, "params": 1e9, "tokens": 1e9}, "params and tokens must cost flops"),
        ({"flops": 1e20, "params": 1e9, "tokens_served": 1e9}, "tokens_served must go with flops alone"),
        ({"params": 1e9, "tokens_served": 1e9}, "tokens_served must go with flops alone"),
        ({"flops": 1e20, "unique_tokens": 0.0}, "unique_tokens must be positive"),
        ({"flops": 1e20, "token_rate": -1.0}, "token_rate must be positive"),
    ],
)
def test_contradictions_are_refused(law, asked, rule):
    with pytest.raises(InputError, match=rule):
        recommend(law, **asked)
