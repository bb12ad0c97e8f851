"""What could be wrong, drawn: residuals of the surface, forecasts rolled forward, the runs that hold the law.

Colours come from the same ramp as the other figures' (lightness tells budgets apart in grey, too); what warns is drawn
with another marker, never by colour alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from isoflop.fitting.law import Law
from isoflop.fitting.points import judge
from isoflop.fitting.repetition import tokens_worth
from isoflop.fitting.words import count, power
from isoflop.reporting.style import LIGHT, WARNING, Theme, dress, panels, ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: More points than this are thinned in a figure: it would be one blot.
_MOST_POINTS = 5000
#: Signs of a run's name that stand beside a figure; more would leave it no room.
_LONGEST_NAME = 44


def residuals_figure(points: pd.DataFrame, law: Law, theme: Theme = LIGHT) -> Figure | None:
    """What the surface leaves over, against N and against D; None where the law has no surface."""
    surface = law.parametric
    if surface is None:
        return None
    judged = judge(points, law.provenance.params_convention)
    kept = judged.only(np.arange(0, len(judged.row), -(-len(judged.row) // _MOST_POINTS)))
    tokens = tokens_worth(kept.tokens, kept.unique_tokens, surface.repetition)
    residual = np.log(kept.loss) - np.log(surface.at(kept.params, tokens))
    budgets = kept.budgets
    colors = np.array(ramp(theme, len(budgets)))[np.searchsorted(budgets, kept.budget)]
    figure, (left, right) = panels(10.4, 2, gap=0.3, sharey=True)
    for axes, values, name in ((left, kept.params, "parameters N"), (right, tokens, "tokens D")):
        axes.axhline(0, color=theme.faint, linewidth=1)
        axes.axhspan(-2 * surface.noise, 2 * surface.noise, color=theme.faint, alpha=0.15, linewidth=0)
        axes.scatter(values, residual, s=18, c=colors, linewidths=0)
        axes.set_xscale("log")
        dress(axes, theme, x=name, y="loss over the surface's", title="")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.set_title(
        f"residuals of L = {surface.E:.3g} + {surface.A:.3g}/N^{surface.alpha:.3f} + "
        f"{surface.B:.3g}/D^{surface.beta:.3f}, darker: less C",
        color=theme.ink,
        fontsize=10.5,
        loc="left",
    )
    right.set_ylabel("")
    return figure


def hold_out_figure(law: Law, theme: Theme = LIGHT) -> Figure | None:
    """Forecasts fitted below each budget against what came, and the exponent a as budgets came; None without any."""
    rolled = law.hold_out
    if not rolled.steps and len(rolled.drift) < 2:
        return None
    parts = [part for part, shown in ((_draw_forecasts, rolled.steps), (_draw_drift, len(rolled.drift) > 1)) if shown]
    figure, drawn = panels(10.4, len(parts))
    for axes, part in zip(drawn, parts, strict=True):
        part(axes, law, theme)
    return figure


def _draw_forecasts(axes: Axes, law: Law, theme: Theme) -> None:
    """How far off the forecasts above each cut were, with their intervals and how many of these held."""
    axes.axhline(0, color=theme.faint, linewidth=1)
    for step in law.hold_out.steps:
        wrong = step.held < step.forecasts
        axes.errorbar(
            [step.cut],
            [step.bias],
            yerr=[step.half_width],
            fmt="X" if wrong else "o",
            color=WARNING if wrong else ramp(theme, 5)[2],
            capsize=3,
        )
        axes.annotate(
            f"{step.held}/{step.forecasts}",
            (step.cut, step.bias),
            xytext=(6, 4),
            textcoords="offset points",
            color=theme.ink,
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    dress(axes, theme, x="fitted to runs of at most C", y="forecast over loss", title="forecasts of the runs above")


def _draw_drift(axes: Axes, law: Law, theme: Theme) -> None:
    """The exponent a as budgets came, with its intervals."""
    drift = law.hold_out.drift
    a = np.array([each.a for each in drift])
    ends = np.array([[each.a - each.low, each.high - each.a] for each in drift]).T
    # Three minima make intervals that would hide all others.
    shown = np.minimum(ends, 4 * max(float(np.ptp(a)), 0.05))
    axes.errorbar([each.flops for each in drift], a, yerr=shown, fmt="D", color=ramp(theme, 5)[2], capsize=3)
    axes.axhline(law.exponents.a.value, color=theme.faint, linewidth=1)
    axes.set_xscale("log")
    dress(axes, theme, x="budgets up to C", y="a", title="the exponent a as budgets came")


def _shorten(name: str) -> str:
    """A run's name, or several, as a figure has room for."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def influence_figure(law: Law, theme: Theme = LIGHT) -> Figure | None:
    """The exponent a without each of the runs that move it most; None where there are none."""
    if not law.influence:
        return None
    worst = law.influence[::-1]
    estimate = law.power_laws.params.exponent
    figure = Figure(figsize=(8.6, 0.36 * len(worst) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    low, high = (end if math.isfinite(end) else estimate.value for end in (estimate.low, estimate.high))
    axes.axvspan(low, high, color=theme.faint, alpha=0.15, linewidth=0)
    axes.axvline(estimate.value, color=theme.faint, linewidth=1)
    for place, each in enumerate(worst):
        outside = not low <= each.a <= high
        axes.plot([estimate.value, each.a], [place, place], color=ramp(theme, 5)[2], linewidth=1.2)
        axes.scatter(
            [each.a],
            [place],
            marker="X" if outside else "o",
            s=40,
            color=WARNING if outside else [ramp(theme, 5)[2]],
            zorder=3,
        )
    labels = [f"{_shorten(each.name)}  (C = {power(each.budget)}, N = {count(each.params)})" for each in worst]
    axes.set_yticks(range(len(worst)), labels)
    dress(axes, theme, x="a without it", y="", title="the runs that move the minima's exponent a most")
    axes.grid(visible=False, axis="y")
    return figure
