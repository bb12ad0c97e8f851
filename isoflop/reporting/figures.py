"""IsoFLOP profiles, and N*, D* and the loss against C.

Budgets are told apart by lightness (a viridis ramp, ordered as the budgets are) and by labels at their profiles, so
the figures survive a grey printer and colour-blind eyes. Figures are made without pyplot: nothing global is touched.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isoflop.fitting.akima import evaluate
from isoflop.fitting.columns import Floats
from isoflop.fitting.intervals import Estimate, Interval
from isoflop.fitting.law import Law
from isoflop.fitting.minima import Minimum, Status
from isoflop.fitting.points import Points, judge, simulated
from isoflop.fitting.words import bound, power
from isoflop.recommendation import Recommendation
from isoflop.reporting.ablation import ablation_figure
from isoflop.reporting.content import Content
from isoflop.reporting.diagnostics import hold_out_figure, influence_figure, residuals_figure
from isoflop.reporting.findings import Course, Quantity, course
from isoflop.reporting.style import DARK, LIGHT, WARNING, Theme, announce, dress, panels, ramp, tick
from isoflop.store import replacing

__all__ = ["DARK", "LIGHT", "Drawings", "draw", "optimum_figure", "profiles_figure", "svg", "write_figures"]

#: Every figure: the name of its file, without the suffix.
NAMES = ("profiles", "optimum", "residuals", "hold_out", "influence", "ablation")
#: Those that a page shows where scripts are off.
PAGE_NAMES = ("profiles", "optimum", "ablation")

#: Dots per inch of the PNG files: 200 and more on paper at the width of a page.
_DPI = 150
#: What stands over the figures of a rehearsal.
_SIMULATED = "simulated: a rehearsal, no model was trained"
#: More profiles than this are not labelled: their labels would hide them.
_MOST_LABELS = 16


def profiles_figure(points: pd.DataFrame, law: Law | None, theme: Theme = LIGHT) -> Figure:
    """Loss against N, a colour per budget, with the local parabolas over their windows and their minima.

    Points in a parabola's window are filled, others hollow; a refused budget is hollow and dashed throughout, and its
    label says why. Without a law all profiles look so.
    """
    judged = judge(points) if law is None else judge(points, law.provenance.params_convention)
    minima = {} if law is None else {minimum.budget: minimum for minimum in law.minima}
    figure = Figure(figsize=(8.6, 5.2), layout="constrained")
    axes = figure.add_subplot()
    budgets = judged.budgets
    spline = law is not None and law.provenance.options.minimum == "akima"
    for budget, color in zip(budgets, ramp(theme, len(budgets)), strict=True):
        _draw_profile(axes, judged, float(budget), minima.get(float(budget)), color, theme, spline=spline)
    if law is not None and law.interior:
        found = law.interior
        path = [(each.params, each.loss) for each in found if each.params is not None and each.loss is not None]
        axes.plot(*zip(*path, strict=True), color=theme.faint, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    axes.set_xscale("log")
    axes.margins(x=0.11)
    dress(
        axes, theme, x="parameters N", y="loss, nats per token", title="IsoFLOP profiles, labelled by budget C in FLOPs"
    )
    tick(axes.xaxis, (1, 2, 5))
    if simulated(points):
        announce(figure, theme, _SIMULATED)
    return figure


def optimum_figure(
    law: Law, recommendation: Recommendation | None = None, theme: Theme = LIGHT, asked: Course | None = None
) -> Figure:
    """Draw N*, D* and the loss against C, with the law, its 95 % band and, if there is one, the recommendation.

    The law is solid over the budgets it was fitted to and dashed beyond them; `asked` is what it says there, where it
    was asked already.
    """
    figure, drawn = panels(11.4, 3)
    a, b = law.exponents.a, law.exponents.b
    along = course(law, recommendation) if asked is None else asked
    color = ramp(theme, 5)[2]
    panels_of: tuple[tuple[Quantity, str, str], ...] = (
        ("params", "parameters", _title("N* ∝ Cᵃ, a", a)),
        ("tokens", "tokens", _title("D* ∝ Cᵇ, b", b)),
        ("loss", "nats per token", "loss at the optimum"),
    )
    for axes, (name, unit, title) in zip(drawn, panels_of, strict=True):
        _draw_law(axes, law, along, name, color)
        _draw_minima(axes, law, name, theme)
        if recommendation is not None:
            _draw_choice(axes, recommendation.flops, getattr(recommendation, name), theme)
        axes.set_xscale("log")
        axes.set_yscale("log")
        dress(axes, theme, x="budget C, training FLOPs", y=unit, title=title)
        # Losses span less than a decade, so a decade's ticks would leave the axis bare.
        tick(axes.yaxis, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7) if name == "loss" else (1, 2, 5))
    if law.provenance.simulated:
        announce(figure, theme, _SIMULATED)
    return figure


def svg(figure: Figure) -> str:
    """Return the figure as SVG text, the same for the same figure: no date, and ids that are not random."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "isoflop"}):
        figure.savefig(text, format="svg", facecolor="none", metadata={"Date": None})
    return text.getvalue()


def _draw_profile(
    axes: Axes, judged: Points, budget: float, minimum: Minimum | None, color: Any, theme: Theme, *, spline: bool
) -> None:
    mask = judged.budget == budget
    params, loss = judged.params[mask], judged.loss[mask]
    label = power(budget)
    if minimum is None or minimum.status is not Status.INTERIOR:
        filled = np.zeros(len(params), dtype=bool)
        label += "" if minimum is None else f" ({minimum.status.replace('_', ' ')})"
        axes.plot(params, loss, color=color, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    else:
        low, high = minimum.window_params or (0.0, 0.0)
        filled = (params >= low * (1 - 1e-6)) & (params <= high * (1 + 1e-6))
        _draw_minimum(axes, minimum, _spline(params, loss) if spline else _parabola(minimum), color, theme)
    axes.scatter(params[~filled], loss[~filled], s=20, facecolors="none", edgecolors=[color], linewidths=1, zorder=3)
    axes.scatter(params[filled], loss[filled], s=22, color=[color], linewidths=0, zorder=3)
    if len(judged.budgets) > _MOST_LABELS:
        return
    axes.annotate(
        label,
        (params[-1], loss[params.argmax()]),
        xytext=(7, 0),
        textcoords="offset points",
        color=color,
        fontsize=9,
        va="center",
    )


def _parabola(minimum: Minimum) -> tuple[Floats, Floats]:
    """The parabola over its window."""
    place, lowest, bend = minimum.params or 0.0, minimum.loss or 0.0, minimum.curvature or 0.0
    sizes = np.geomspace(*(minimum.window_params or (place, place)), 80)
    return sizes, lowest * np.exp(bend * np.log(sizes / place) ** 2)


def _spline(params: Floats, loss: Floats) -> tuple[Floats, Floats]:
    """The spline through the (mean) losses of all sizes."""
    sizes, group, runs = np.unique(params, return_inverse=True, return_counts=True)
    height = np.bincount(group.reshape(-1), np.log(loss)) / runs
    drawn = np.geomspace(sizes[0], sizes[-1], 240)
    return drawn, np.exp(evaluate(np.log(sizes), height, np.log(drawn)))


def _draw_minimum(axes: Axes, minimum: Minimum, curve: tuple[Floats, Floats], color: Any, theme: Theme) -> None:
    """The curve through the runs, and the minimum with its interval."""
    place, lowest = minimum.params or 0.0, minimum.loss or 0.0
    axes.plot(*curve, color=color, linewidth=1.6, zorder=2)
    axes.plot(
        [minimum.params_low or place, minimum.params_high or place],
        [lowest] * 2,
        color=color,
        linewidth=3.2,
        alpha=0.45,
    )
    axes.scatter(
        [place], [lowest], marker="D", s=34, facecolors=theme.face, edgecolors=[color], linewidths=1.6, zorder=4
    )


def _draw_law(axes: Axes, law: Law, along: Course, name: Quantity, color: Any) -> None:
    flops = along.flops
    center, low, high = along.of(name)
    axes.fill_between(flops, low, high, color=color, alpha=0.22, linewidth=0, zorder=1)
    lowest, highest = law.budgets
    fitted = (flops >= lowest) & (flops <= highest)
    axes.plot(flops, center, color=color, linewidth=1.3, linestyle=(0, (4, 3)), zorder=2)
    axes.plot(flops[fitted], center[fitted], color=color, linewidth=2, zorder=2)


def _draw_minima(axes: Axes, law: Law, name: str, theme: Theme) -> None:
    found = law.interior
    if not found:
        return
    flops = [each.flops for each in found]
    values = np.array([getattr(each, name) for each in found])
    errors = None
    if name != "loss":
        ends = np.array(
            [[getattr(each, f"{name}_low"), getattr(each, f"{name}_high")] for each in found], dtype=np.float64
        )
        # Minima without intervals (where the surface speaks for want of profiles) have none drawn.
        errors = np.abs(ends - values[:, None]).T
    axes.errorbar(
        flops,
        values,
        yerr=errors,
        fmt="D",
        markersize=5,
        color=theme.ink,
        markerfacecolor=theme.face,
        elinewidth=1.2,
        zorder=3,
    )


def _draw_choice(axes: Axes, flops: float, chosen: Interval, theme: Theme) -> None:
    axes.axvline(flops, color=theme.faint, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    errors = [[chosen.value - chosen.low], [chosen.high - chosen.value]]
    axes.errorbar([flops], [chosen.value], yerr=errors, fmt="*", markersize=13, color=WARNING, elinewidth=1.6, zorder=4)


def _title(name: str, exponent: Estimate) -> str:
    return f"{name} = {exponent.value:.3f} [{bound(exponent.low)}, {bound(exponent.high)}]"


@dataclass(frozen=True, eq=False)
class Drawings:
    """Figures by name; `course` is what the law says along its budgets, None without a law."""

    figures: dict[str, Figure]
    course: Course | None


def draw(content: Content, names: Collection[str] = NAMES) -> Drawings:
    """Draw the figures of these `names` that there are, for white paper; none where no point can be drawn."""
    points, law, chosen = content.points, content.law, content.recommendation
    if not len(content.judged.row):
        return Drawings({}, None)
    if content.ablation is not None:
        return Drawings({"ablation": ablation_figure(content.ablation)} if "ablation" in names else {}, None)
    along = None if law is None else course(law, chosen)
    makers: dict[str, Callable[[], Figure | None]] = {"profiles": lambda: profiles_figure(points, law)}
    if law is not None:
        makers |= {
            "optimum": lambda: optimum_figure(law, chosen, asked=along),
            "residuals": lambda: residuals_figure(points, law),
            "hold_out": lambda: hold_out_figure(law),
            "influence": lambda: influence_figure(law),
        }
    found = {name: make() for name, make in makers.items() if name in names}
    return Drawings({name: figure for name, figure in found.items() if figure is not None}, along)


def write_figures(directory: Path, drawings: Drawings) -> list[Path]:
    """Write every figure to `directory` as PNG, each whole or not at all, in place of those before; returns paths."""
    for name in NAMES:
        if name not in drawings.figures:
            (directory / f"{name}.png").unlink(missing_ok=True)
    written = []
    for name, figure in drawings.figures.items():
        path = directory / f"{name}.png"
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
        written.append(path)
    return written
