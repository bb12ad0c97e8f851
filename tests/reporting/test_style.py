"""Panels have room for all that is written beside them, whoever made the figure."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from isoflop.fitting import fit
from isoflop.reporting.diagnostics import hold_out_figure, residuals_figure
from isoflop.reporting.figures import optimum_figure


def boxes(figure: Figure):
    """The figure's box, and those of the panels with all their ticks, names and titles."""
    FigureCanvasAgg(figure)
    figure.canvas.draw()
    return figure.bbox, [axes.get_tightbbox() for axes in figure.axes]


@pytest.mark.parametrize("name", ["optimum", "recommended", "residuals", "hold_out"])
def test_nothing_is_cut_off_and_no_panel_reaches_into_another(points, law, recommendation, name):
    figure = {
        "optimum": lambda: optimum_figure(law),
        "recommended": lambda: optimum_figure(law, recommendation),
        "residuals": lambda: residuals_figure(points, law),
        "hold_out": lambda: hold_out_figure(law),
    }[name]()
    whole, panels = boxes(figure)
    for box in panels:
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert whole.y0 <= box.y0
        assert box.y1 <= whole.y1
    # One title may stand over several panels.
    for axes in figure.axes:
        axes.set_title("", loc="left")
    for one, other in combinations(boxes(figure)[1], 2):
        assert one.x1 <= other.x0 or other.x1 <= one.x0


def test_a_line_over_the_figure_covers_no_title(points):
    figure = optimum_figure(fit(points.assign(simulated=True)))
    _, panels = boxes(figure)
    line = figure._suptitle.get_window_extent()
    assert all(box.y1 <= line.y0 for box in panels)
