"""The report: one HTML page that a person can open, send, print and keep.

It holds everything it shows (style, figures as SVG, no script) and asks nothing of any network: its content security
policy forbids it. Every text that comes from a study passes through jinja2's escaping. What is said is decided here,
as plain strings; how it looks, in ``template.html.j2``.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

import isoflop
from isoflop.fitting.intervals import Estimate, Interval
from isoflop.fitting.law import Law
from isoflop.fitting.minima import Minimum, Status
from isoflop.fitting.points import Points, judge, simulated
from isoflop.fitting.words import bound, count, percent, power
from isoflop.flops import Shape
from isoflop.recommendation import Recommendation
from isoflop.reporting.figures import DARK, LIGHT, optimum_figure, profiles_figure, svg
from isoflop.store import write_text

#: Longer tables are folded at first.
_FOLDED_ROWS = 40
#: Rows of the table of runs beyond which a page is no place for them.
_MOST_ROWS = 1000

_PROFILES_CAPTION = (
    "IsoFLOP profiles. Filled points lie in the parabola's window, hollow ones outside it; diamonds are the minima, "
    "thick bars their 95 % intervals. Dashed profiles were refused."
)
_OPTIMUM_CAPTION = "The minima, the laws through them (dashed where they extrapolate) and 95 % bands."
_SIMULATED = (
    "Simulated: this is a rehearsal. No model was trained; every loss is that of a known law plus noise, and what "
    "follows says how the study reads such losses, nothing about real models."
)
_STAR_CAPTION = " The star is the recommendation: its tokens are what its parameters leave of the budget."


def write_report(
    path: Path,
    *,
    study_name: str,
    points: pd.DataFrame,
    law: Law | None,
    recommendation: Recommendation | None = None,
    reason: str | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report to `path`, whole or not at all.

    Parameters
    ----------
    path
        Where; its folder is made.
    study_name
        The heading.
    points
        The points table that `law` was fitted to, with every run, finished or not.
    law, reason
        The law; or None, and the sentence that says why there is none yet.
    recommendation
        What to train next, by that law.
    notes
        Sentences that the reader must see before any number.

    Raises
    ------
    InputError
        If `points` is no points table, or mixes simulated points with real ones.
    """
    write_text(
        path,
        render_report(
            study_name=study_name, points=points, law=law, recommendation=recommendation, reason=reason, notes=notes
        ),
    )


def render_report(
    *,
    study_name: str,
    points: pd.DataFrame,
    law: Law | None,
    recommendation: Recommendation | None = None,
    reason: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Return the report as HTML text; the parameters are `write_report`'s."""
    judged = judge(points) if law is None else judge(points, law.provenance.params_convention)
    rehearsed = simulated(points)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("isoflop.reporting").joinpath("template.html.j2").read_text("utf-8"))
    runs = _runs(points.head(_MOST_ROWS), judged, "used" if law is not None else "usable")
    return template.render(
        study=f"{study_name} (simulated)" if rehearsed else study_name,
        notes=[_SIMULATED, *notes] if rehearsed else list(notes),
        reason=reason or "no law has been fitted",
        version=isoflop.__version__,
        summary=_summary(points, judged, law),
        law=None if law is None else _law(law),
        recommendation=None if recommendation is None else _recommendation(recommendation),
        figures=_figures(points, judged, law, recommendation),
        minima=[] if law is None else [_minimum(minimum) for minimum in law.minima],
        runs=runs,
        fold_runs=len(runs["rows"]) > _FOLDED_ROWS,
        more_runs=max(len(points) - _MOST_ROWS, 0),
        excluded=[
            {"row": each.row, "run": each.run or "", "reason": each.reason} for each in judged.excluded[:_FOLDED_ROWS]
        ],
        more_excluded=max(len(judged.excluded) - _FOLDED_ROWS, 0),
    )


def _summary(points: pd.DataFrame, judged: Points, law: Law | None) -> str:
    states = points["state"].value_counts(sort=False) if "state" in points else pd.Series({"points": len(points)})
    told = ", ".join(f"{number} {state}" for state, number in states.items())
    budgets = judged.budgets
    if not len(budgets):
        return f"{told}."
    span = f"{len(budgets)} budgets from {power(budgets[0])} to {power(budgets[-1])} FLOPs"
    if len(budgets) == 1:
        span = f"one budget, {power(budgets[0])} FLOPs"
    if law is None:
        return f"{told}; {span}."
    return f"{told}; {span}, {len(law.interior)} of them with an interior minimum."


def _law(law: Law) -> dict[str, Any]:
    exponents, options = law.exponents, law.provenance.options
    width = "all sizes" if options.window is None else f"the {options.window} sizes nearest its vertex"
    return {
        "exponents": [
            _exponent("N* ∝ C", "a", "model size", exponents.a),
            _exponent("D* ∝ C", "b", "training tokens", exponents.b),
            _exponent("", "b/a", "how fast data grow against the model, in exponent", exponents.ratio),
        ],
        "checks": [
            {"name": check.name.replace("_", " "), "status": str(check.status), "message": check.message}
            for check in law.checks
        ],
        "method": [
            _minimum_sentence(law, width),
            _headline_sentence(law),
            _interval_sentence(law),
            "The loss along the optimum is a curve with a floor, L*(C) = E + K·C^−s; its interval is that of one run.",
            f"A run's loss has a noise of {percent(law.noise)} (sd).",
        ],
        "provenance": [
            ("parameters", f"N is {law.provenance.params_convention} parameters"),
            ("FLOPs", _flops_convention(law)),
            ("points used", f"{law.points.used}, and {len(law.points.excluded)} excluded"),
            ("digest of the points", law.provenance.points_digest),
            ("seed of the bootstrap", str(options.seed)),
            ("fitted by", f"isoflop {law.provenance.isoflop}, law schema {law.schema}"),
        ],
    }


def _minimum_sentence(law: Law, width: str) -> str:
    if not law.has_profiles:
        return "The table has no IsoFLOP profiles: the exponents are those of a surface fitted to all runs."
    if law.provenance.options.minimum == "akima":
        return (
            "Each budget's loss has its minimum where an Akima spline through ln loss is lowest, in ln N and, "
            "separately, in ln D. Minima at an end of the sizes are refused by name."
        )
    return (
        f"Each budget's loss has its minimum where a parabola through ln loss over {width} has its vertex, in ln N "
        "and, separately, in ln D. Minima are refused by name unless points on both sides show the loss rising."
    )


def _interval_sentence(law: Law) -> str:
    draws = law.provenance.options.bootstrap
    if law.method == "parametric":
        return (
            f"The exponents are the surface's; their 95 % intervals are those of a bootstrap of {draws} resamples of "
            "the runs, widened by what a lack of fit that no test sees could do."
        )
    shared = law.power_laws.shared
    heeded = "" if shared is None else f", of which the points of one {shared.column} share a part"
    return (
        "N*, D* ∝ C^· are least-squares lines through the logarithms of the minima. Of two 95 % intervals the "
        "wider is shown: Student's t with n − 2 degrees of freedom, from the minima's scatter about the line, "
        f"and a bootstrap of {draws} resamples of the parabolas' residuals, from the runs' noise{heeded}."
    )


def _headline_sentence(law: Law) -> str:
    told = [
        f"a = {found.a:.3f} by {name}"
        for name, found in (
            ("local parabolas", law.methods.parabola),
            ("splines", law.methods.akima),
            ("the surface L = E + A/N^α + B/D^β", law.methods.parametric),
        )
        if found.a is not None
    ]
    lead = "the surface leads" if law.method == "parametric" else "the minima lead"
    return f"All methods: {', '.join(told)}; {lead} (see the check of the headline)."


def _flops_convention(law: Law) -> str:
    if law.cost_model.form == "6nd":
        return "C = 6·N·D"
    return f"counted: C = 3·f(N)·D, with f fitted to the points (residual {percent(law.cost_model.rms)})"


def _exponent(relation: str, name: str, meaning: str, estimate: Estimate) -> dict[str, str]:
    return {
        "relation": relation,
        "name": name,
        "meaning": meaning,
        "value": f"{estimate.value:.3f}",
        "interval": _ends(estimate.low, estimate.high),
        "t": _ends(*estimate.t),
        "bootstrap": _ends(*estimate.bootstrap),
    }


def _ends(low: float, high: float) -> str:
    return f"{bound(low)} to {bound(high)}"


def _recommendation(recommendation: Recommendation) -> dict[str, Any]:
    return {
        "flops": power(recommendation.flops),
        "tiles": [
            _tile("parameters", recommendation.params, count),
            _tile("tokens", recommendation.tokens, count),
            _tile("expected loss", recommendation.loss, lambda value: f"{value:.3f}"),
        ],
        "shape": _shape(recommendation),
        "warnings": list(recommendation.warnings),
    }


def _tile(name: str, interval: Interval, text: Any) -> dict[str, str]:
    return {"name": name, "value": text(interval.value), "interval": f"{text(interval.low)} to {text(interval.high)}"}


def _shape(recommendation: Recommendation) -> str:
    choice = recommendation.shape
    if choice is None:
        return ""
    shape = choice.shape
    off = abs(choice.size_ratio - 1)
    side = "larger" if choice.size_ratio > 1 else "smaller"
    model = shape.label
    if isinstance(shape, Shape):
        model = f"{shape.n_layers} layers of width {shape.d_model}, {shape.n_heads} heads, MLP {shape.d_mlp}"
    return (
        f"Nearest shape of the study's ladder: {model}: "
        f"{count(choice.params)} parameters ({percent(off)} {side} than N*), which the same "
        f"budget trains on {count(choice.tokens)} tokens, at about {percent(choice.loss_ratio - 1)} more loss."
    )


def _minimum(minimum: Minimum) -> dict[str, str]:
    interior = minimum.status is Status.INTERIOR
    return {
        "budget": power(minimum.budget),
        "status": minimum.status.replace("_", " "),
        "ok": "pass" if interior else "warn",
        "params": _number(minimum.params, count),
        "params_interval": _span(minimum.params_low, minimum.params_high),
        "tokens": _number(minimum.tokens, count),
        "tokens_interval": _span(minimum.tokens_low, minimum.tokens_high),
        "loss": _number(minimum.loss, lambda value: f"{value:.4f}"),
        "runs": f"{minimum.runs}" if minimum.runs == minimum.sizes else f"{minimum.runs} of {minimum.sizes} sizes",
        "words": "" if interior else f"{minimum.reason}; {minimum.cure}",
    }


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{count(low)} to {count(high)}"


def _number(value: Any, text: Any) -> str:
    return "–" if value is None or not math.isfinite(value) else str(text(value))


def _figures(
    points: pd.DataFrame, judged: Points, law: Law | None, recommendation: Recommendation | None
) -> list[dict[str, str]]:
    """Light and dark SVG of each figure as data URIs, with a caption that also serves readers who cannot see it."""
    if not len(judged.row):
        return []
    found = [
        {
            "light": _data_uri(svg(profiles_figure(points, law, LIGHT))),
            "dark": _data_uri(svg(profiles_figure(points, law, DARK))),
            "alt": "Loss against parameters, one profile per budget",
            "caption": _PROFILES_CAPTION if law is not None else "The losses that are there so far, by budget.",
        }
    ]
    if law is not None:
        found.append(
            {
                "light": _data_uri(svg(optimum_figure(law, recommendation, LIGHT))),
                "dark": _data_uri(svg(optimum_figure(law, recommendation, DARK))),
                "alt": "Optimal parameters, optimal tokens and their loss against the budget",
                "caption": _OPTIMUM_CAPTION + ("" if recommendation is None else _STAR_CAPTION),
            }
        )
    return found


def _data_uri(text: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def _runs(points: pd.DataFrame, judged: Points, used: str) -> dict[str, Any]:
    """Header and rows of the table of runs: each with its state, and `used` or why the fit left it out."""
    reasons = {each.row: each.reason for each in judged.excluded}
    by_type = [str(name) for name in points.columns if str(name).startswith("loss_") and name != "loss_sigma"]
    rows = []
    for place, record in enumerate(points.to_dict("records")):
        state = str(record.get("state", "done"))
        rows.append(
            {
                "run": str(record.get("run", f"row {place}")),
                "state": state,
                "ok": {"done": "pass", "failed": "fail"}.get(state, "warn"),
                "numbers": [
                    _number(_float(record.get("budget", record["flops"])), power),
                    _number(_float(record["params"]), count),
                    _number(_float(record["tokens"]), count),
                    *(_number(_float(record[name]), lambda value: f"{value:.4f}") for name in ("loss", *by_type)),
                ],
                "verdict": reasons.get(place, used),
            }
        )
    header = ["C", "N", "D", "loss", *(name.removeprefix("loss_").replace("_", " ") for name in by_type)]
    return {"header": header, "rows": rows}


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
