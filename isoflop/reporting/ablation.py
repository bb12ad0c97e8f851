"""An ablation in a report: a table for each loss, and plots of what each arm costs against the baseline."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isoflop.fitting.ablation import Ablation, Cell, Row
from isoflop.fitting.ablation_text import arm, change, measure_name, p_value, place, shown, unit, verdict
from isoflop.reporting.panels import line, linear_axis, pairs, panel, places_axis, points, rounded
from isoflop.reporting.style import LIGHT, WARNING, Theme, announce, dress, ramp

#: How a verdict looks.
_LOOKS = {"worse": "fail", "better": "pass", "baseline": "pass"}
#: Panels of a figure side by side; inches of one.
_COLUMNS, _WIDTH, _HEIGHT = 3, 4.2, 3.4
#: An axis of differences is logarithmic away from zero where the largest is over this many times the median.
_SPREAD = 20.0


def ablation_tables(found: Ablation) -> list[dict[str, Any]]:
    """A table for each loss at each cell, its numbers as text."""
    return [
        {
            "title": f"{measure_name(measure)}, {unit(measure)}, at {place(cell)}",
            "rows": [_row(found, row) for row in found.of(measure, cell)],
        }
        for cell in found.cells
        for measure in found.measures
    ]


def _row(found: Ablation, row: Row) -> dict[str, str]:
    against, word = row.against, verdict(row, found.baseline)
    return {
        "arm": arm(row.levels),
        "mean": shown(row.measure, row.mean),
        "change": "" if against is None else change(row.measure, against),
        "p": p_value(against),
        "seeds": str(len(row.losses)),
        "verdict": word,
        "ok": _LOOKS.get(word, "warn"),
    }


def ablation_panels(found: Ablation) -> list[dict[str, Any]]:
    """A plot for each loss at each cell: differences to the baseline, an arm a line, with their intervals."""
    return [_panel(found, cell, measure) for cell in found.cells for measure in found.measures]


def _panel(found: Ablation, cell: Cell, measure: str) -> dict[str, Any]:
    rows = found.of(measure, cell)
    layers = [line(pairs([0.0, 0.0], [-0.6, len(rows) - 0.4]), color="faint", width=1.2)]
    compared = [(number, row) for number, row in enumerate(rows) if row.against is not None]
    values = [0.0]
    for worse in (False, True):
        places, ends, tips = [], [], []
        for number, row in compared:
            against = row.against
            if against is None or (row.verdict == "worse") is not worse:
                continue
            places.append((against.value, float(number)))
            interval = [against.low, against.high] if math.isfinite(against.high) else [against.value] * 2
            ends.append(rounded(interval))
            values += [against.value, *interval]
            tips.append([arm(row.levels), change(measure, against), f"{row.verdict}, {against.seeds} seeds"])
        layers.append(
            points(
                [rounded(each) for each in places],
                color="warning" if worse else "accent",
                marker="cross" if worse else "circle",
                size=6,
                ends=ends,
                across=True,
                tips=tips,
            )
        )
    title = f"{measure_name(measure)} at {place(cell)}"
    return panel(
        f"ablation-{found.cells.index(cell)}-{measure}",
        title,
        f"What each arm's {title} is less the baseline's, with 95 % intervals.",
        linear_axis(f"less the baseline, {unit(measure)}", values),
        places_axis([arm(row.levels) for row in rows]),
        layers,
    )


def ablation_figure(found: Ablation, theme: Theme = LIGHT) -> Figure:
    """Differences to the baseline by arm, a panel for each loss at each cell; faint dots are single seeds.

    Arms stand evenly, in the order of their values; orange crosses are certainly worse.
    """
    shown_in = [(cell, measure) for cell in found.cells for measure in found.measures]
    columns = min(_COLUMNS, len(shown_in))
    rows = -(-len(shown_in) // columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for each, (cell, measure) in zip(axes, shown_in, strict=False):
        _draw(each, found, cell, measure, theme)
    for each in axes[len(shown_in) :]:
        each.set_visible(False)
    if found.simulated:
        announce(figure, theme, "simulated: a rehearsal, no model was trained")
    return figure


def _draw(axes: Axes, found: Ablation, cell: Cell, measure: str, theme: Theme) -> None:
    rows = found.of(measure, cell)
    base = next((row.losses for row in rows if row.levels == found.baseline), {})
    color = ramp(theme, 5)[2]
    axes.axhline(0.0, color=theme.faint, linewidth=1.2)
    for number, row in enumerate(rows):
        against = row.against
        if against is None:
            continue
        single = [loss - base[seed] for seed, loss in row.losses.items() if seed in base]
        axes.scatter([number] * len(single), single, s=10, color=theme.faint, linewidths=0, zorder=2)
        worse = row.verdict == "worse"
        half = (against.high - against.low) / 2
        axes.errorbar(
            [number],
            [against.value],
            yerr=[half if math.isfinite(half) else 0.0],
            fmt="X" if worse else "o",
            color=WARNING if worse else color,
            markersize=6,
            capsize=3,
            zorder=3,
        )
    sizes = sorted(abs(row.against.value) for row in rows if row.against is not None and row.against.value)
    if sizes and sizes[-1] > _SPREAD * sizes[len(sizes) // 2]:
        axes.set_yscale("symlog", linthresh=sizes[len(sizes) // 2])
    labels = [arm(row.levels) for row in rows]
    long = max(map(len, labels)) * len(labels) > 40
    axes.set_xticks(
        range(len(rows)), labels, rotation=35 if long else 0, ha="right" if long else "center", parse_math=False
    )
    axes.set_xlim(-0.6, len(rows) - 0.4)
    names = ", ".join(factor.name for factor in found.factors)
    dress(axes, theme, x=names, y=f"Δ {unit(measure)}", title=f"{measure_name(measure)}, {place(cell)}")
    axes.grid(visible=False, axis="x")
