from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting import fit
from isoflop.fitting.minima import find_minimum
from isoflop.fitting.minima import profiles as profiles_of
from isoflop.fitting.points import judge
from isoflop.reporting.content import Content
from isoflop.reporting.profiles import minima_of, profiles_panel, series
from isoflop.reporting.runs import rows


@pytest.fixture(scope="module")
def panel(content):
    return profiles_panel(content, rows(content))


def chosen(panel, kind, **settings):
    return [layer for layer in panel["layers"] if layer["kind"] == kind and layer["when"] == settings]


def test_every_used_run_is_a_point_for_every_axis_and_loss(panel, points, law):
    for axis in ("params", "tokens"):
        for loss in ("loss", "loss_text", "loss_acoustic_0"):
            layers = chosen(panel, "points", x=axis, loss=loss, method="parabola")
            runs = {
                tip: place
                for each in layers
                for tip, place in zip(each["tips"], each["points"], strict=True)
                if isinstance(tip, int)
            }
            assert len(runs) == law.points.used
            for row, (x, y) in runs.items():
                assert x == pytest.approx(points.loc[row, axis], rel=1e-5)
                assert y == pytest.approx(points.loc[row, loss], rel=1e-5)


def test_minima_are_the_laws_with_their_intervals(panel, law):
    for axis in ("params", "tokens"):
        layers = chosen(panel, "points", x=axis, loss="loss", method="parabola")
        diamonds = [each for each in layers if each["marker"] == "diamond"]
        assert len(diamonds) == len(law.interior)
        for layer, minimum in zip(diamonds, law.interior, strict=True):
            assert layer["points"][0] == pytest.approx([getattr(minimum, axis), minimum.loss], rel=1e-5)
            ends = [getattr(minimum, f"{axis}_low"), getattr(minimum, f"{axis}_high")]
            assert layer["ends"][0] == pytest.approx(ends, rel=1e-5)
            assert layer["across"]


@pytest.mark.parametrize("method", ["parabola", "akima", "parametric"])
@pytest.mark.parametrize("axis", ["params", "tokens"])
def test_curves_are_lowest_at_their_minima(panel, law, method, axis):
    curves = [each for each in chosen(panel, "line", x=axis, loss="loss", method=method) if not each["dash"]]
    layers = chosen(panel, "points", x=axis, loss="loss", method=method)
    diamonds = [each["points"][0] for each in layers if each["marker"] == "diamond"]
    assert len(curves) == len(diamonds) >= len(law.interior)
    for curve, (place, lowest) in zip(curves, diamonds, strict=True):
        x, y = np.array(curve["points"]).T
        # The vertices against N and against D are two fits: their heights differ a little.
        assert y.min() == pytest.approx(lowest, rel=2e-3)
        if x.min() < place < x.max():
            assert x[y.argmin()] == pytest.approx(place, rel=0.12)


def test_a_refused_budget_is_dashed_hollow_and_says_why(panel, law):
    dashed = [each for each in chosen(panel, "line", x="params", loss="loss", method="parabola") if each["dash"]]
    assert len(dashed) == len(law.minima) - len(law.interior) == 1
    layers = chosen(panel, "points", x="params", loss="loss", method="parabola")
    (hollow,) = [each for each in layers if each.get("label") == "1e20 (edge)"]
    assert not any(hollow["filled"])


def test_points_in_the_window_are_filled(panel, law, points):
    layers = chosen(panel, "points", x="params", loss="loss", method="parabola")
    for minimum in law.interior:
        (runs,) = [each for each in layers if each["marker"] == "circle" and each["color"] == law.minima.index(minimum)]
        low, high = minimum.window_params
        inside = [low * 0.9999 <= points.loc[row, "params"] <= high * 1.0001 for row in runs["tips"]]
        assert runs["filled"] == inside
        assert sum(inside) == 5


def test_types_have_the_minima_of_their_own_laws(panel, content, law):
    text = next(each for each in law.types if each.name == "text")
    shown = [each for each in panel["layers"] if each["when"]["loss"] == "loss_text" and each["when"]["x"] == "params"]
    places = [each["points"][0][0] for each in shown if each.get("marker") == "diamond"]
    assert places == pytest.approx([each.params for each in text.minima if each.status == "interior"], rel=1e-5)
    early = profiles_panel(Content("early", content.points), rows(Content("early", content.points)))
    assert {each["kind"] for each in early["layers"] if each["when"]["loss"] == "loss_text"} == {"points"}


def test_minima_of_any_loss_can_be_drawn(content):
    judged = judge(content.points.assign(loss=content.points["loss_text"]))
    minima = [find_minimum(each, 5) for each in profiles_of(judged)]
    found = series(rows(content), content.judged, profiles_of(judged), "loss_text", "parabola", minima)
    diamonds = [each for each in found if each.get("marker") == "diamond" and each["when"]["x"] == "params"]
    assert [each["points"][0][0] for each in diamonds] == pytest.approx(
        [each.params for each in minima if each.status == "interior"], rel=1e-5
    )


def test_switches_offer_what_there_is_and_start_with_what_leads(panel, law):
    x, loss, method = panel["switches"]
    assert [value for value, _ in x["choices"]] == ["params", "tokens"]
    assert loss["choices"] == [["loss", "total"], ["loss_text", "text"], ["loss_acoustic_0", "acoustic 0"]]
    assert [value for value, _ in method["choices"]] == ["parabola", "akima", "parametric"]
    assert method["chosen"] == law.method


def test_without_a_law_the_minima_so_far_are_found(points, content):
    early = Content("early", points)
    assert [each.params for each in minima_of(early)] == pytest.approx(
        [each.params for each in content.law.minima], nan_ok=True
    )
    panel = profiles_panel(early, rows(early))
    assert chosen(panel, "line", x="params", loss="loss", method="parabola")
    assert not chosen(panel, "line", x="params", loss="loss", method="parametric")
    few = Content("few", points[points["budget"] < 2e18].head(2))
    assert [each.status for each in minima_of(few)] == ["too_few"]


def test_profiles_without_a_label_where_they_are_many(content, points):
    many = [
        points.assign(**{name: points[name] * 1.7**step for name in ("budget", "flops", "tokens")}) for step in range(4)
    ]
    crowd = replace(content, points=pd.concat(many, ignore_index=True), law=None)
    panel = profiles_panel(crowd, rows(crowd))
    assert not any("label" in each for each in panel["layers"])


def test_a_type_that_some_budgets_lack_is_drawn_where_it_is_in_the_budgets_own_colors(content, points):
    table = points.copy()
    table.loc[table["budget"] == table["budget"].min(), "loss_text"] = np.nan
    some = replace(content, points=table, law=fit(table))
    panel = profiles_panel(some, rows(some))
    shown = chosen(panel, "points", x="params", loss="loss_text", method="parabola")
    shown = [each for each in shown if each.get("marker") != "diamond"]
    assert [each["color"] for each in shown] == [1, 2, 3, 4]
    assert shown[0]["label"] == "3.16e18"
