"""How every figure looks: colours, ticks, grids; on white paper and on a dark page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from isoflop.fitting.words import count

#: The colour of what warns (Okabe and Ito's vermilion), which every eye tells from viridis; markers differ, too.
WARNING = "#d55e00"


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


def tick(axis: Axis, steps: tuple[float, ...]) -> None:
    """Label a logarithmic axis at `steps` of each decade, with suffixes for thousands and millions."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axis.set_minor_formatter(NullFormatter())


def dress(axes: Axes, theme: Theme, *, x: str, y: str, title: str) -> None:
    """Title, labels, grid and colours of a panel."""
    axes.set_facecolor("none")
    axes.set_title(title, color=theme.ink, fontsize=10.5, loc="left", pad=9)
    axes.set_xlabel(x, color=theme.ink)
    axes.set_ylabel(y, color=theme.ink)
    axes.grid(visible=True, which="major", color=theme.faint, alpha=0.25, linewidth=0.6)
    axes.tick_params(which="both", colors=theme.ink, labelsize=9)
    _color_spines(axes.spines.values(), theme)


def _color_spines(spines: Iterable[Any], theme: Theme) -> None:
    for spine in spines:
        spine.set_color(theme.faint)
        spine.set_visible(spine.spine_type in ("left", "bottom"))
