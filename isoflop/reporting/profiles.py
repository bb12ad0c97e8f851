"""The IsoFLOP profiles as a plot with switches: against N or D, by token type, by method.

`series` takes one loss and the minima found of it; the total's and the token types' are the law's, with intervals, and
those of the other methods are found here, from the same points. Without a law the types are drawn as points alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from isoflop.fitting.akima import evaluate
from isoflop.fitting.by_type import PREFIX
from isoflop.fitting.columns import Floats
from isoflop.fitting.law import Law
from isoflop.fitting.minima import Method, Minimum, Profile, Status, find_minimum
from isoflop.fitting.minima import profiles as profiles_of
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.points import Points
from isoflop.fitting.words import count, power
from isoflop.reporting.content import Content
from isoflop.reporting.panels import line, linear_axis, log_axis, pairs, panel, points, rounded
from isoflop.reporting.runs import Row, loss_columns, loss_name

Axis = Literal["params", "tokens"]

AXES: dict[Axis, str] = {"params": "parameters N", "tokens": "training tokens D"}
#: Names of methods for people.
METHODS = {"parabola": "parabola", "akima": "Akima spline", "parametric": "loss surface"}
#: Places at which a curve is drawn.
_STEPS = 48
#: More profiles than this are not labelled: their labels would hide them.
_MOST_LABELS = 16


@dataclass(frozen=True)
class Curve:
    """One budget by one method: the curve through its runs, and its minimum.

    `ends` are those of its interval, None where it has none; `window` the first and last place that the curve rests
    on, None for all.
    """

    x: Floats
    loss: Floats
    place: float
    lowest: float
    ends: tuple[float | None, float | None]
    window: tuple[float, float] | None = None


def profiles_panel(content: Content, rows: Sequence[Row]) -> dict[str, Any]:
    """The panel, with its switches and the lines to show of each run."""
    judged, law = content.judged, content.law
    every = profiles_of(judged)
    width = _width(content, every)
    own: Method = "parabola" if law is None else law.provenance.options.minimum
    by_type = {} if law is None else {PREFIX + each.name: each.minima for each in law.types}
    layers: list[dict[str, Any]] = []
    for column in loss_columns(content):
        if column == "loss":
            by_method = _minima(content, every, width)
            for method, minima in by_method.items():
                layers += series(rows, judged, every, column, method, minima)
            if law is not None and law.parametric is not None:
                layers += _surface_layers(rows, judged, every, law)
        elif any(rows[int(row)].losses[column] > 0 for row in judged.row):
            layers += series(rows, judged, _profiles_by(judged, rows, column), column, own, by_type.get(column, ()))
    losses = list(dict.fromkeys(layer["when"]["loss"] for layer in layers))
    methods = list(dict.fromkeys(layer["when"]["method"] for layer in layers))
    leading = own if law is None else law.method
    return panel(
        "profiles",
        "IsoFLOP profiles",
        "Loss against parameters or tokens, one profile per budget, with the minimum of each.",
        {axis: log_axis(title, getattr(judged, axis)) for axis, title in AXES.items()},
        linear_axis("loss, nats per token"),
        layers,
        tips=[row.tip for row in rows],
        switches=[
            {"name": "x", "label": "against", "choices": [[axis, title] for axis, title in AXES.items()]},
            {"name": "loss", "label": "loss", "choices": [[each, loss_name(each)] for each in losses]},
            {
                "name": "method",
                "label": "minimum by",
                "choices": [[each, METHODS[each]] for each in methods],
                "chosen": leading if leading in methods else own,
            },
        ],
    )


def minima_of(content: Content) -> tuple[Minimum, ...]:
    """The minima that the report tells of: the law's, or those that the points so far have."""
    if content.law is not None:
        return content.law.minima
    every = profiles_of(content.judged) if len(content.judged.row) else ()
    return tuple(find_minimum(profile, _width(content, every)) for profile in every)


def series(
    rows: Sequence[Row],
    judged: Points,
    every: Sequence[Profile],
    column: str,
    method: Method,
    minima: Sequence[Minimum],
) -> list[dict[str, Any]]:
    """Layers of one loss by one method, against N and against D.

    Parameters
    ----------
    rows, judged
        The runs, and those that a fit uses.
    every
        Their profiles by this loss, one for each budget that has it.
    column
        The loss: ``loss``, ``loss_text``, ….
    method, minima
        Its minima by that method; a budget without one is dashed, or, where nobody looked for any, points alone.
    """
    found = {minimum.budget: minimum for minimum in minima}
    layers = []
    for axis in AXES:
        for profile in every:
            color = int(np.searchsorted(judged.budgets, profile.budget))
            minimum = found.get(profile.budget)
            curve = None
            if minimum is not None and minimum.status is Status.INTERIOR:
                curve = _spline(profile, minimum, axis) if method == "akima" else _parabola(minimum, axis)
            when = {"x": axis, "loss": column, "method": method}
            layers += _budget_layers(rows, judged, profile.budget, color, curve, when, refused=minimum)
    return [_labelled(layer, len(every)) for layer in layers]


def _profiles_by(judged: Points, rows: Sequence[Row], column: str) -> tuple[Profile, ...]:
    """The profiles of the loss in `column`, from the runs that have it."""
    loss = np.array([rows[int(row)].losses[column] for row in judged.row])
    told = np.isfinite(loss) & (loss > 0)
    return profiles_of(replace(judged.only(told), loss=loss[told]))


def _width(content: Content, every: Sequence[Profile]) -> int:
    """Sizes in a local parabola, as the fit takes them."""
    asked = content.window if content.law is None else content.law.provenance.options.window
    return max(max((len(each.runs) for each in every), default=0) if not isinstance(asked, int) else asked, FEWEST)


def _minima(content: Content, every: Sequence[Profile], width: int) -> dict[Method, list[Minimum]]:
    """The minima of the total loss by both methods: the law's own where it has them."""
    found: dict[Method, list[Minimum]] = {}
    methods: tuple[Method, ...] = ("parabola", "akima")
    for method in methods:
        found[method] = [find_minimum(profile, width, method) for profile in every]
    if content.law is not None and content.law.has_profiles:
        found[content.law.provenance.options.minimum] = list(content.law.minima)
    return found


def _budget_layers(
    rows: Sequence[Row],
    judged: Points,
    budget: float,
    color: int,
    curve: Curve | None,
    when: dict[str, str],
    refused: Minimum | None,
) -> list[dict[str, Any]]:
    """The runs of one budget, the curve through them and their minimum."""
    here = np.flatnonzero(judged.budget == budget)
    x = np.array([getattr(judged, when["x"])[place] for place in here])
    loss = np.array([rows[int(judged.row[place])].losses[when["loss"]] for place in here])
    told = np.isfinite(loss)
    here, x, loss = here[told], x[told], loss[told]
    if not len(here):
        return []
    order = np.argsort(x, kind="stable")
    runs = pairs(x, loss)
    label = power(budget)
    layers = []
    if curve is not None:
        layers.append(line(pairs(curve.x, curve.loss), color=color, width=1.8, when=when))
    elif refused is not None:
        layers.append(line([runs[place] for place in order], color=color, width=1, dash=True, when=when))
        if refused.status is not Status.INTERIOR:
            label += f" ({refused.status.replace('_', ' ')})"
    window = (-np.inf, np.inf) if curve is None or curve.window is None else curve.window
    inside = (x >= window[0] * (1 - 1e-6)) & (x <= window[1] * (1 + 1e-6)) & (curve is not None or refused is None)
    layers.append(
        points(
            runs,
            color=color,
            tips=[int(judged.row[place]) for place in here],
            filled=[bool(each) for each in inside],
            when=when,
        )
    )
    layers[-1]["label"] = label
    if curve is not None:
        layers.append(_minimum_layer(curve, label, color, when))
    return layers


def _minimum_layer(curve: Curve, label: str, color: int, when: dict[str, str]) -> dict[str, Any]:
    name = "N*" if when["x"] == "params" else "D*"
    low, high = curve.ends
    interval = "" if low is None or high is None else f", 95 %: {count(low)} to {count(high)}"
    tip = [f"minimum at C = {label}", f"{name} {count(curve.place)}{interval}", f"loss {curve.lowest:.4f}"]
    return points(
        pairs([curve.place], [curve.lowest]),
        color=color,
        tips=[tip],
        filled=False,
        marker="diamond",
        size=6,
        ends=[rounded([low, high])],
        across=True,
        when=when,
    )


def _labelled(layer: dict[str, Any], budgets: int) -> dict[str, Any]:
    """The layer, without its label where there are too many."""
    return layer if budgets <= _MOST_LABELS else {name: value for name, value in layer.items() if name != "label"}


def _parabola(minimum: Minimum, axis: Axis) -> Curve:
    """The parabola of ln loss over its window."""
    by_params = axis == "params"
    place = (minimum.params if by_params else minimum.tokens) or 0.0
    bend = (minimum.curvature if by_params else minimum.curvature_tokens) or 0.0
    window = (minimum.window_params if by_params else minimum.window_tokens) or (place, place)
    ends = (minimum.params_low, minimum.params_high) if by_params else (minimum.tokens_low, minimum.tokens_high)
    lowest = minimum.loss or 0.0
    x = np.geomspace(*window, _STEPS)
    return Curve(x, lowest * np.exp(bend * np.log(x / place) ** 2), place, lowest, ends, window)


def _spline(profile: Profile, minimum: Minimum, axis: Axis) -> Curve:
    """The Akima spline through ln loss of all sizes."""
    by_params = axis == "params"
    size = profile.log_params if by_params else profile.log_tokens[profile.by_tokens]
    loss = profile.log_loss if by_params else profile.log_loss[profile.by_tokens]
    place = (minimum.params if by_params else minimum.tokens) or 0.0
    ends = (minimum.params_low, minimum.params_high) if by_params else (minimum.tokens_low, minimum.tokens_high)
    x = np.linspace(size[0], size[-1], 2 * _STEPS)
    return Curve(np.exp(x), np.exp(evaluate(size, loss, x)), place, minimum.loss or 0.0, ends)


def _surface_layers(rows: Sequence[Row], judged: Points, every: Sequence[Profile], law: Law) -> list[dict[str, Any]]:
    """The surface cut along each budget, on tokens that are seen once, to its optimum there at least."""
    surface = law.parametric
    if surface is None:
        return []
    layers = []
    for color, profile in enumerate(every):
        best = surface.optimum(profile.flops, law.cost_model)
        # As far as its optimum, where no run went there.
        sizes = [*profile.log_params, np.log(best[0])]
        params = np.exp(np.linspace(min(sizes), max(sizes), _STEPS))
        tokens = law.cost_model.tokens(params, np.full_like(params, profile.flops))
        loss = surface.at(params, tokens)
        curves: dict[Axis, Curve] = {
            "params": Curve(params, loss, best[0], best[2], (None, None)),
            "tokens": Curve(tokens, loss, best[1], best[2], (None, None)),
        }
        for axis, curve in curves.items():
            when = {"x": axis, "loss": "loss", "method": "parametric"}
            layers += _budget_layers(rows, judged, profile.budget, color, curve, when, refused=None)
    return [_labelled(layer, len(every)) for layer in layers]
