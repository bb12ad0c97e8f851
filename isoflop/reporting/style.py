"""How every figure looks: colours, ticks, grids; on white paper and on a dark page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from isoflop.fitting.words import count, power

#: The colour of what warns (Okabe and Ito's vermilion), which every eye tells from viridis; markers differ, too.
WARNING = "#d55e00"

#: Inches: left of each panel (tick labels and name), right of the last, below and above, of a line, and in all.
MARGIN, _END, _FOOT, _HEAD, _LINE, _HEIGHT = 0.85, 0.15, 0.55, 0.4, 0.25, 4.1


@dataclass(frozen=True)
class Theme:
    """Colours: of text, of what is secondary, inside open markers; and the part of viridis for the budgets."""

    ink: str
    faint: str
    face: str
    ramp: tuple[float, float]


LIGHT = Theme(ink="#1c2430", faint="#8a94a3", face="white", ramp=(0.0, 0.78))
DARK = Theme(ink="#e6e9ee", faint="#7d8896", face="#161b22", ramp=(0.28, 1.0))


def ramp(theme: Theme, steps: int) -> list[Any]:
    """Colours for `steps` ordered things, dark to light."""
    low, high = theme.ramp
    return [matplotlib.colormaps["viridis"](place) for place in np.linspace(low, high, max(steps, 1))]


def hex_ramp(theme: Theme, steps: int) -> list[str]:
    """The same colours as a page writes them."""
    return [to_hex(color) for color in ramp(theme, steps)]


def panels(width: float, count: int, *, gap: float = MARGIN, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` panels side by side, `width` inches wide in all and `gap` inches apart.

    Margins are those that `dress`ed panels need: to measure all labels, as layout engines do, costs as much as drawing.
    """
    figure = Figure(figsize=(width, _HEIGHT))
    inner = (width - MARGIN - _END - (count - 1) * gap) / count
    figure.subplots_adjust(left=MARGIN / width, right=1 - _END / width, wspace=gap / inner)
    figure.subplots_adjust(bottom=_FOOT / _HEIGHT, top=1 - _HEAD / _HEIGHT)
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=sharey)[0])


def announce(figure: Figure, theme: Theme, text: str) -> None:
    """Put a line over the whole figure, and move its panels down for it where no layout engine does."""
    figure.suptitle(text, color=theme.ink, fontsize=10.5, fontweight="bold")
    if figure.get_layout_engine() is None:
        figure.subplots_adjust(top=figure.subplotpars.top - _LINE / figure.get_figheight())


def tick(axis: Axis, steps: tuple[float, ...]) -> None:
    """Label a logarithmic axis at `steps` of each decade, with suffixes for thousands and millions."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axis.set_minor_locator(NullLocator())


def dress(axes: Axes, theme: Theme, *, x: str, y: str, title: str) -> None:
    """Title, labels, grid and colours of a panel."""
    axes.set_facecolor("none")
    axes.set_title(title, color=theme.ink, fontsize=10.5, loc="left", pad=9)
    axes.set_xlabel(x, color=theme.ink)
    axes.set_ylabel(y, color=theme.ink)
    axes.grid(visible=True, which="major", color=theme.faint, alpha=0.25, linewidth=0.6)
    # Ticks are most of what a figure costs: these tell a logarithmic axis as well as eight a decade do, and plain
    # labels, the page's own, as well as typeset powers.
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
            axis.set_minor_locator(LogLocator(subs=(2, 5)))
            axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", colors=theme.ink, labelsize=9)
    _color_spines(axes.spines.values(), theme)


def _color_spines(spines: Iterable[Any], theme: Theme) -> None:
    for spine in spines:
        spine.set_color(theme.faint)
        spine.set_visible(spine.spine_type in ("left", "bottom"))
