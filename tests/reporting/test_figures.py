from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from isoflop.fitting import fit
from isoflop.reporting.content import Content
from isoflop.reporting.figures import DARK, draw, optimum_figure, profiles_figure, svg, write_figures


def test_profiles_show_every_used_point_every_minimum_and_why_a_budget_was_refused(points, law):
    (axes,) = profiles_figure(points, law).axes
    dots = sum(len(collection.get_offsets()) for collection in axes.collections)
    assert dots == law.points.used + len(law.interior)
    labels = [text.get_text() for text in axes.texts]
    assert labels == ["1e18", "3.16e18", "1e19", "3.16e19", "1e20 (edge)"]
    # A parabola and an interval for each interior budget, a dashed line for the refused one, the path of the minima.
    assert len(axes.lines) == 2 * len(law.interior) + 2


def test_parabolas_are_drawn_through_their_minima_over_their_windows(points, law):
    (axes,) = profiles_figure(points, law).axes
    for minimum, line in zip(law.interior, axes.lines[::2], strict=False):
        x, y = line.get_data()
        assert (x[0], x[-1]) == pytest.approx(minimum.window_params)
        assert y.min() == pytest.approx(minimum.loss, rel=1e-4)
        assert x[np.argmin(y)] == pytest.approx(minimum.params, rel=0.05)


def test_without_a_law_the_points_are_there(points):
    (axes,) = profiles_figure(points, None).axes
    assert [text.get_text() for text in axes.texts] == ["1e18", "3.16e18", "1e19", "3.16e19", "1e20"]


def test_budgets_differ_in_lightness_so_that_grey_and_colour_blind_eyes_tell_them_apart(points, law):
    for theme in ((), (DARK,)):
        (axes,) = profiles_figure(points, law, *theme).axes
        colors = np.array([text.get_color()[:3] for text in axes.texts])
        lightness = colors @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(lightness) > 0.04).all()


def test_the_optimum_is_drawn_with_its_law_its_minima_and_the_recommendation(points, law, recommendation):
    panels = optimum_figure(law, recommendation).axes
    titles = [axes.get_title(loc="left") for axes in panels]
    assert f"{law.exponents.a.value:.3f}" in titles[0]
    assert f"{law.exponents.b.value:.3f}" in titles[1]
    for axes, name in zip(panels, ("params", "tokens", "loss"), strict=True):
        dashed = axes.lines[0]
        x, y = dashed.get_data()
        assert x.max() > recommendation.flops
        assert (np.diff(y) > 0).all() if name != "loss" else (np.diff(y) < 0).all()
        stars = [line for line in axes.lines if line.get_marker() == "*"]
        assert stars[0].get_ydata()[0] == getattr(recommendation, name).value
    assert len(optimum_figure(law).axes) == 3


def test_svg_is_the_same_for_the_same_figure_and_has_no_background(points, law):
    text = svg(profiles_figure(points, law))
    assert text == svg(profiles_figure(points, law))
    assert text.startswith("<?xml")


def test_png_files_are_written_whole_and_nothing_else(content, points, tmp_path):
    written = write_figures(tmp_path / "figures", draw(content))
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        *("hold_out.png", "influence.png", "optimum.png", "profiles.png", "residuals.png"),
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    first = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in write_figures(tmp_path / "figures", draw(content))] == first
    # Figures of a law that is no more go with it.
    again = write_figures(tmp_path / "figures", draw(Content("early", points)))
    assert again == list((tmp_path / "figures").iterdir()) == [tmp_path / "figures" / "profiles.png"]


def test_pyplot_is_never_loaded():
    code = "import isoflop.reporting.page, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert not {"matplotlib.pyplot", "torch"} & set(loaded)


def test_splines_are_drawn_through_every_size(points):
    law = fit(points, minimum="akima", bootstrap=100)
    (axes,) = profiles_figure(points, law).axes
    for minimum, line in zip(law.interior, axes.lines[::2], strict=False):
        x, y = line.get_data()
        assert (x[0], x[-1]) == pytest.approx(minimum.window_params)
        assert y.min() == pytest.approx(minimum.loss, rel=1e-4)


def test_figures_of_simulated_points_say_so(points, law):
    rehearsed = points.assign(simulated=True)
    for figure in (profiles_figure(rehearsed, law), optimum_figure(fit(rehearsed))):
        assert figure.get_suptitle() == "simulated: a rehearsal, no model was trained"
    for figure in (profiles_figure(points, law), optimum_figure(law)):
        assert figure.get_suptitle() == ""
