"""What was found, as plots: N*, D* and the loss against C; forecasts rolled forward; the runs that hold the law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from isoflop.fitting.columns import Floats
from isoflop.fitting.influence import Influence
from isoflop.fitting.intervals import Interval
from isoflop.fitting.law import Law, Optimum
from isoflop.fitting.rollforward import Drift, Step
from isoflop.fitting.words import bound, count, percent, power
from isoflop.recommendation import Recommendation
from isoflop.reporting.panels import band, line, linear_axis, log_axis, pairs, panel, places_axis, points, rounded

Quantity = Literal["params", "tokens", "loss"]

#: How far laws are drawn beyond the largest budget where no recommendation says so.
_BEYOND = 10.0
#: Budgets at which a law is drawn.
_STEPS = 24


@dataclass(frozen=True, eq=False)
class Course:
    """What a law says along its budgets and beyond them, on to the recommendation's."""

    flops: Floats
    optima: tuple[Optimum, ...]

    def of(self, quantity: Quantity) -> tuple[Floats, Floats, Floats]:
        """Values with the low and the high ends of their intervals."""
        told: list[Interval] = [getattr(each, quantity) for each in self.optima]
        value, low, high = np.array([(each.value, each.low, each.high) for each in told]).T
        return value, low, high


def course(law: Law, recommendation: Recommendation | None) -> Course:
    """Ask `law` for its optima, from below its smallest budget to beyond its largest."""
    lowest, highest = law.budgets
    asked = highest * _BEYOND if recommendation is None else recommendation.flops
    first = min(lowest, asked) / 1.6
    last = asked if recommendation is None else max(highest, asked) * 1.6
    flops = np.geomspace(first, last, _STEPS)
    return Course(flops, tuple(law.optimum(float(each)) for each in flops))


def law_panels(law: Law, found: Course, recommendation: Recommendation | None) -> list[dict[str, Any]]:
    """N*, D* and the loss at the optimum against C."""
    a, b = law.exponents.a, law.exponents.b
    kinds: tuple[tuple[Quantity, str, str], ...] = (
        ("params", "parameters", f"N* ∝ Cᵃ, a = {a.value:.3f} [{bound(a.low)}, {bound(a.high)}]"),
        ("tokens", "tokens", f"D* ∝ Cᵇ, b = {b.value:.3f} [{bound(b.low)}, {bound(b.high)}]"),
        ("loss", "nats per token", "loss at the optimum"),
    )
    return [_law_panel(law, found, recommendation, *kind) for kind in kinds]


def _law_panel(
    law: Law, found: Course, recommendation: Recommendation | None, quantity: Quantity, unit: str, title: str
) -> dict[str, Any]:
    value, low, high = found.of(quantity)
    lowest, highest = law.budgets
    fitted = (found.flops >= lowest) & (found.flops <= highest)
    layers = [
        band(found.flops, low, high, color="accent"),
        line(pairs(found.flops, value), color="accent", dash=True),
        line(pairs(found.flops[fitted], value[fitted]), color="accent", width=2.4),
    ]
    minima = law.interior
    heights = [float(getattr(each, quantity) or math.nan) for each in minima]
    if minima:
        ends = [
            rounded([getattr(each, f"{quantity}_low", None), getattr(each, f"{quantity}_high", None)])
            for each in minima
        ]
        layers.append(
            points(
                pairs([each.flops for each in minima], heights),
                color="ink",
                tips=[
                    [f"minimum at C = {power(each.budget)}", f"{told(quantity, height)}{_interval(quantity, end)}"]
                    for each, height, end in zip(minima, heights, ends, strict=True)
                ],
                filled=False,
                marker="diamond",
                size=5,
                ends=ends,
            )
        )
    shown = [*value, *low, *high, *heights]
    if recommendation is not None:
        chosen: Interval = getattr(recommendation, quantity)
        end = rounded([chosen.low, chosen.high])
        tip = [
            f"recommended at C = {power(recommendation.flops)}",
            told(quantity, chosen.value) + _interval(quantity, end),
        ]
        place = pairs([recommendation.flops], [chosen.value])
        layers.append(points(place, color="warning", tips=[tip], marker="star", size=9, ends=[end]))
        shown.append(chosen.value)
    return panel(
        f"law-{quantity}",
        title,
        f"{title} against the budget, with the minima and a 95 % band.",
        log_axis("budget C, training FLOPs", found.flops, budgets=True),
        log_axis(unit, shown) if quantity != "loss" else linear_axis(unit, shown),
        layers,
    )


def told(quantity: Quantity, value: float) -> str:
    """A quantity with its symbol."""
    return f"L* {value:.4f}" if quantity == "loss" else f"{'N*' if quantity == 'params' else 'D*'} {count(value)}"


def _interval(quantity: Quantity, ends: list[float | None]) -> str:
    low, high = ends
    if low is None or high is None:
        return ""
    name = "{:.4f}".format if quantity == "loss" else count
    return f", 95 %: {name(low)} to {name(high)}"


def hold_out_panels(law: Law) -> list[dict[str, Any]]:
    """Forecasts fitted below each budget against what came, the exponent a as budgets came; those that there are."""
    found = []
    if law.hold_out.steps:
        found.append(_forecasts_panel(law.hold_out.steps))
    if len(law.hold_out.drift) > 1:
        found.append(_drift_panel(law.hold_out.drift, law.exponents.a.value))
    return found


def _forecasts_panel(steps: Sequence[Step]) -> dict[str, Any]:
    """How far off the forecasts above each cut were, in per cent, with their intervals."""
    ends = [rounded([100 * (step.bias - step.half_width), 100 * (step.bias + step.half_width)]) for step in steps]
    layers = [line(pairs([steps[0].cut / 2, steps[-1].cut * 2], [0.0, 0.0]), color="faint", width=1)]
    for missed in (False, True):
        here = [place for place, step in enumerate(steps) if (step.held < step.forecasts) is missed]
        layers.append(
            points(
                pairs([steps[place].cut for place in here], [100 * steps[place].bias for place in here]),
                color="warning" if missed else "accent",
                marker="cross" if missed else "circle",
                size=6,
                ends=[ends[place] for place in here],
                tips=[_forecast_tip(steps[place]) for place in here],
            )
        )
    return panel(
        "hold-out",
        "forecasts of the runs above each cut",
        "How far forecasts fitted below each budget were off for the runs above it.",
        log_axis("fitted to runs of at most C", [step.cut for step in steps], budgets=True),
        linear_axis("forecast over loss", [end for each in ends for end in each], unit=" %"),
        layers,
    )


def _forecast_tip(step: Step) -> list[str]:
    side = "over" if step.bias > 0 else "under"
    return [
        f"fitted to the {step.rows} runs of at most C = {power(step.cut)}",
        f"{step.held} of {step.forecasts} losses above lay in their intervals",
        f"off by {percent(step.error)}, on average {side} by {percent(abs(step.bias))}",
    ]


def _drift_panel(drift: Sequence[Drift], level: float) -> dict[str, Any]:
    """The exponent a as budgets came, beside its value by all."""
    # Three minima make intervals that would hide all others.
    most = 4 * max(float(np.ptp([each.a for each in drift])), 0.05)
    ends = [rounded([max(each.low, each.a - most), min(each.high, each.a + most)]) for each in drift]
    flops = [each.flops for each in drift]
    tips = [
        [f"budgets up to C = {power(each.flops)}", f"a = {each.a:.3f}, 95 %: {bound(each.low)} to {bound(each.high)}"]
        for each in drift
    ]
    places = pairs(flops, [each.a for each in drift])
    return panel(
        "drift",
        "the exponent a as budgets came",
        "The exponent a fitted to the budgets up to each one.",
        log_axis("budgets up to C", flops, budgets=True),
        linear_axis("a", [end for each in ends for end in each]),
        [
            line(pairs([flops[0] / 2, flops[-1] * 2], [level, level]), color="faint", width=1),
            points(places, color="accent", marker="diamond", size=6, ends=ends, tips=tips),
        ],
    )


def influence_panel(law: Law) -> dict[str, Any] | None:
    """The exponent a without each of the runs that move it most; None where there are none."""
    if not law.influence:
        return None
    estimate = law.power_laws.params.exponent
    worst = law.influence
    places = range(len(worst))
    outside = [not estimate.low <= each.a <= estimate.high for each in worst]
    layers: list[dict[str, Any]] = [
        line(pairs([end, end], [-0.6, len(worst) - 0.4]), color="faint", width=1, dash=True)
        for end in (estimate.low, estimate.high)
        if math.isfinite(end)
    ]
    layers.append(line(pairs([estimate.value] * 2, [-0.6, len(worst) - 0.4]), color="faint", width=1.2))
    layers += [
        line(pairs([estimate.value, each.a], [place, place]), color="accent", width=1.4)
        for place, each in zip(places, worst, strict=True)
    ]
    for missed in (False, True):
        here = [place for place in places if outside[place] is missed]
        layers.append(
            points(
                pairs([worst[place].a for place in here], here),
                color="warning" if missed else "accent",
                marker="cross" if missed else "circle",
                size=6,
                tips=[_influence_tip(worst[place]) for place in here],
            )
        )
    labels = [f"N {count(each.params)} at C {power(each.budget)}" for each in worst]
    return panel(
        "influence",
        "the runs that move a most",
        "The exponent a without each of the runs that move it most; dashed lines are its 95 % interval.",
        linear_axis("a without the run", [estimate.low, estimate.high]),
        places_axis(labels),
        layers,
    )


def _influence_tip(each: Influence) -> list[str]:
    told = [
        each.name,
        f"C {power(each.budget)}, N {count(each.params)}",
        f"without it a = {each.a:.3f} ({each.move:+.3f})",
    ]
    return [*told, "without it the budget has no minimum"] if each.lost else told
