from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isoflop.fitting import fit
from isoflop.reporting.findings import course, hold_out_panels, influence_panel, law_panels


def layers(panel, kind, **wanted):
    return [each for each in panel["layers"] if each["kind"] == kind and wanted.items() <= each.items()]


def test_the_laws_are_drawn_with_their_bands_minima_and_recommendation(law, recommendation):
    panels = law_panels(law, course(law, recommendation), recommendation)
    for panel, name in zip(panels, ("params", "tokens", "loss"), strict=True):
        (band,) = layers(panel, "band")
        flops, low, high = np.array(band["points"]).T
        assert flops[0] < law.budgets[0] < law.budgets[1] < recommendation.flops < flops[-1]
        told = [getattr(law.optimum(float(each)), name) for each in flops]
        np.testing.assert_allclose(low, [each.low for each in told], rtol=1e-4)
        np.testing.assert_allclose(high, [each.high for each in told], rtol=1e-4)
        (solid,) = layers(panel, "line", dash=False)
        assert law.budgets[0] <= solid["points"][0][0] <= solid["points"][-1][0] <= law.budgets[1]
        (minima,) = layers(panel, "points", marker="diamond")
        assert [place[1] for place in minima["points"]] == pytest.approx(
            [getattr(each, name) for each in law.interior], rel=1e-5
        )
        (star,) = layers(panel, "points", marker="star")
        chosen = getattr(recommendation, name)
        assert star["points"][0] == pytest.approx([recommendation.flops, chosen.value], rel=1e-5)
        assert star["ends"][0] == pytest.approx([chosen.low, chosen.high], rel=1e-5)


def test_without_a_recommendation_a_law_is_drawn_a_decade_beyond_its_budgets(law):
    along = course(law, None)
    assert along.flops[-1] == pytest.approx(10 * law.budgets[1])
    assert not layers(law_panels(law, along, None)[0], "points", marker="star")


def test_every_cut_and_every_added_budget_is_held_out(points):
    law = fit(points[points["budget"] < points["budget"].max()], bootstrap=100)
    cuts, drift = hold_out_panels(law)
    shown = [place for each in layers(cuts, "points") for place in each["points"]]
    assert sorted(shown) == [pytest.approx([step.cut, 100 * step.bias], rel=1e-4) for step in law.hold_out.steps]
    crosses = layers(cuts, "points", marker="cross")[0]["points"]
    assert len(crosses) == sum(step.held < step.forecasts for step in law.hold_out.steps)
    assert len(layers(drift, "points")[0]["points"]) == len(law.hold_out.drift)


def test_influence_shows_where_a_would_be_without_each_run(law):
    panel = influence_panel(law)
    shown = {
        tip[0]: place[0]
        for each in layers(panel, "points")
        for tip, place in zip(each["tips"], each["points"], strict=True)
    }
    assert shown == {each.name: pytest.approx(each.a, rel=1e-5) for each in law.influence}
    assert influence_panel(replace(law, influence=())) is None


def test_what_a_law_does_not_have_is_not_drawn(law):
    assert hold_out_panels(replace(law, hold_out=replace(law.hold_out, steps=(), drift=()))) == []
