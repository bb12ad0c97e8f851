"""A plot as plain JSON: axes, and layers of points, lines and bands on them. ``report.js`` draws and computes nothing.

Colours are names of the page's (``ink``, ``faint``, ``accent``, ``warning``) or a place in its ramp of budgets. A layer
may hold only for some settings of the page's switches (`when`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isoflop.fitting.words import count, power

#: Digits that a screen shows.
_DIGITS = 6
#: Beyond so many decades an axis has ticks at powers of ten only.
_MANY_DECADES = 3.0
#: An axis of fewer may lie between two ticks.
_FEWEST_DECADES = 0.5
#: What an axis has beyond its data, in parts of their span.
_MARGIN = 0.06

Color = str | int


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Numbers of `_DIGITS` digits; what is not finite is None, which JSON has."""
    return [None if each is None or not math.isfinite(each) else float(f"{each:.{_DIGITS}g}") for each in values]


def pairs(x: Iterable[float], y: Iterable[float]) -> list[list[float | None]]:
    """Points of a layer."""
    return [rounded(each) for each in zip(x, y, strict=True)]


def log_axis(title: str, values: Iterable[float], budgets: bool = False) -> dict[str, Any]:
    """A logarithmic axis that holds the positive `values`, ticked at 1, 2 and 5 or at powers of ten.

    Labels are those of FLOPs where it shows `budgets`, else with suffixes.
    """
    logs = [math.log10(each) for each in values if math.isfinite(each) and each > 0]
    low, high = (min(logs), max(logs)) if logs else (0.0, 1.0)
    margin = max(_MARGIN * (high - low), (_FEWEST_DECADES - (high - low)) / 2)
    low, high = low - margin, high + margin
    steps = (1,) if high - low > _MANY_DECADES else (1, 2, 5)
    ticks = [step * 10.0**decade for decade in range(math.floor(low), math.ceil(high)) for step in steps]
    shown = [each for each in ticks if low <= math.log10(each) <= high]
    name = power if budgets else count
    return {
        "title": title,
        "log": True,
        "min": float(f"{10**low:.4g}"),
        "max": float(f"{10**high:.4g}"),
        "ticks": [{"value": each, "label": name(each)} for each in shown],
    }


def linear_axis(title: str, values: Iterable[float | None] = (), unit: str = "") -> dict[str, Any]:
    """A linear axis, numbered with `unit`, that holds the `values` beside what is drawn."""
    axis: dict[str, Any] = {"title": title, "log": False, "unit": unit}
    shown = [each for each in values if each is not None and math.isfinite(each)]
    return axis | ({"low": min(shown), "high": max(shown)} if shown else {})


def places_axis(labels: Sequence[str]) -> dict[str, Any]:
    """An axis of places 0, 1, … downwards, each with its label."""
    ticks = [{"value": place, "label": label} for place, label in enumerate(labels)]
    ends = {"min": -0.6, "max": len(labels) - 0.4}
    return {"title": "", "log": False, "unit": "", **ends, "reverse": True, "ticks": ticks}


def points(
    places: list[list[float | None]],
    *,
    color: Color,
    tips: list[list[str]] | list[int] | None = None,
    filled: bool | list[bool] = True,
    marker: str = "circle",
    size: float = 4,
    ends: list[list[float | None]] | None = None,
    across: bool = False,
    when: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A layer of points; `tips` are the lines shown at each, or places in the panel's list of them.

    `ends` are those of the error bars, upright or, with `across`, level.
    """
    layer: dict[str, Any] = {"kind": "points", "points": places, "color": color, "marker": marker, "size": size}
    layer |= {"filled": filled, "when": dict(when or {})}
    if tips is not None:
        layer["tips"] = tips
    if ends is not None:
        layer |= {"ends": ends, "across": across}
    return layer


def line(
    places: list[list[float | None]],
    *,
    color: Color,
    width: float = 1.5,
    dash: bool = False,
    label: str = "",
    when: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A layer with a line; its `label` stands at its right end."""
    layer = {"kind": "line", "points": places, "color": color, "width": width, "dash": dash, "when": dict(when or {})}
    return layer | ({"label": label} if label else {})


def band(x: Iterable[float], low: Iterable[float], high: Iterable[float], *, color: Color) -> dict[str, Any]:
    """A layer with the area between two lines."""
    ends = [rounded(each) for each in zip(x, low, high, strict=True)]
    return {"kind": "band", "points": ends, "color": color, "when": {}}


def panel(
    name: str,
    title: str,
    says: str,
    x: Any,
    y: Any,
    layers: list[dict[str, Any]],
    *,
    switches: Sequence[dict[str, Any]] = (),
    tips: Sequence[list[str]] = (),
) -> dict[str, Any]:
    """A plot; `says` is what it shows, for those who cannot see it.

    `switches` choose among layers and, that of ``x``, among axes; `tips` are the lines that layers share.
    """
    told = {"name": name, "title": title, "says": says, "x": x, "y": y, "layers": layers}
    return {**told, "switches": list(switches), "tips": list(tips)}
