from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isoflop.fitting import fit
from isoflop.reporting.diagnostics import hold_out_figure, influence_figure, residuals_figure


def test_residuals_are_the_losses_over_the_surfaces(points, law):
    left, right = residuals_figure(points, law).axes
    for axes, name in ((left, "params"), (right, "tokens")):
        x, y = axes.collections[-1].get_offsets().T
        assert len(x) == law.points.used
        used = points.drop(index=[each.row for each in law.points.excluded])
        expected = np.log(used["loss"]) - np.log(
            law.parametric.at(used["params"].to_numpy(), used["tokens"].to_numpy())
        )
        order = np.argsort(used[name].to_numpy(), kind="stable")
        np.testing.assert_allclose(np.sort(y), np.sort(expected), atol=1e-12)
        np.testing.assert_allclose(np.sort(x), used[name].to_numpy()[order])


def test_what_a_law_does_not_have_is_not_drawn(points, law):
    assert residuals_figure(points, replace(law, parametric=None)) is None
    assert influence_figure(replace(law, influence=())) is None
    nothing = replace(law.hold_out, steps=(), drift=())
    assert hold_out_figure(replace(law, hold_out=nothing)) is None
    assert len(hold_out_figure(replace(law, hold_out=replace(law.hold_out, steps=()))).axes) == 1


def test_influence_names_each_run_and_where_a_would_be(law):
    (axes,) = influence_figure(law).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == len(law.influence)
    assert labels[-1].startswith(law.influence[0].name)
    assert axes.lines[-1].get_xdata()[1] == pytest.approx(law.influence[0].a)


def test_the_hold_out_shows_every_cut_and_every_added_budget(study_points):
    law = fit(study_points, bootstrap=100)
    left, right = hold_out_figure(law).axes
    assert len(left.texts) == len(law.hold_out.steps) > 0
    assert len(right.lines[0].get_xdata()) == len(law.hold_out.drift)


@pytest.fixture
def study_points(points):
    """The same runs without the refused budget, enough below each cut to be rolled forward."""
    return points[points["budget"] < points["budget"].max()]
