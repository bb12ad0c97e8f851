"""What a report says in words: the question, the answer, the verdict, the law, how it was made. Plain strings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from isoflop.fitting.ablation import Ablation
from isoflop.fitting.evidence import CheckStatus
from isoflop.fitting.intervals import Estimate, Interval
from isoflop.fitting.law import Law
from isoflop.fitting.minima import Minimum, Status
from isoflop.fitting.words import bound, count, percent, power
from isoflop.flops import Shape
from isoflop.recommendation import Recommendation
from isoflop.recommendation import Status as Advice
from isoflop.recommendation.ladder import MachineUse, ShapeChoice
from isoflop.reporting.content import Content

#: Excluded rows that are named.
LISTED = 40

SIMULATED = (
    "Simulated: this is a rehearsal. No model was trained; every loss is that of a known law plus noise, and what "
    "follows says how the study reads such losses, nothing about real models."
)

#: Statuses of a recommendation that make a sound law's answer suspect.
_SUSPECT = {
    Advice.NOT_IDENTIFIABLE: "the points do not identify the recommendation",
    Advice.UNCALIBRATED: "the recommendation lies farther out than anything was calibrated for",
    Advice.OFF_LADDER: "the recipe builds no model of about the recommended size",
}


@dataclass(frozen=True)
class Verdict:
    """Whether to believe the answer, and why; `checks` names those that say so."""

    word: Literal["sound", "suspect", "refused", "open"]
    sentence: str
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """One number of the answer: its name, its value and its 95 % interval in words, what it means."""

    name: str
    value: str
    interval: str
    meaning: str = ""
    relation: str = ""


def question(content: Content) -> str:
    """What the study was to find out."""
    if content.ablation is not None:
        names = [factor.name for factor in content.ablation.factors]
        return f"What {'does' if len(names) == 1 else 'do'} {' and '.join(names)} do to the loss of each token type?"
    if content.recommendation is not None:
        return f"With {power(content.recommendation.flops)} training FLOPs: how large a model, on how many tokens?"
    return "How do the best model size and the best amount of data grow with training compute?"


def summary(content: Content) -> str:
    """The study in one line: runs by state, budgets, minima."""
    told = ", ".join(f"{number} {state}" for state, number in content.states.items())
    outside = len(content.points) - len(content.in_grid)
    if outside:
        told += f" ({outside} more, not in the grid)"
    budgets = content.judged.budgets
    if not len(budgets):
        return f"{told}."
    span = f"{len(budgets)} budgets from {power(budgets[0])} to {power(budgets[-1])} FLOPs"
    if len(budgets) == 1:
        span = f"one budget, {power(budgets[0])} FLOPs"
    if content.law is None:
        return f"{told}; {span}."
    return f"{told}; {span}, {len(content.law.interior)} of them with an interior minimum."


def verdict(content: Content) -> Verdict:
    """Sound, suspect or refused; open while runs are missing and there is no law yet."""
    law = content.law
    if content.ablation is not None:
        return _compared(content, content.ablation)
    if law is None:
        missing = any(state != "done" for state in content.states if state != "points")
        return Verdict("open" if missing else "refused", content.reason or "no law has been fitted")
    failed = tuple(_name(check.name) for check in law.checks if check.status is CheckStatus.FAIL)
    if failed:
        return Verdict("refused", "Do not use the headline as it stands: a check of the law failed", failed)
    warned = tuple(_name(check.name) for check in law.checks if check.status is CheckStatus.WARN)
    doubts = [f"{len(warned)} of {len(law.checks)} checks warn"] if warned else []
    if content.recommendation is not None:
        doubts += [words for status, words in _SUSPECT.items() if status in content.recommendation.statuses]
    if doubts:
        return Verdict("suspect", f"Usable with care: {'; '.join(doubts)}", warned)
    return Verdict("sound", f"All {len(law.checks)} checks passed")


def _compared(content: Content, ablation: Ablation) -> Verdict:
    """Whether to believe a comparison of arms: by whether its runs are there, and by their seeds."""
    if any(state != "done" for state in content.states):
        return Verdict("open", "Provisional: runs of some arms are missing")
    # An arm may lack a token type; of all tokens each has a loss.
    seeds = min(len(row.losses) for row in ablation.rows if row.measure == "loss")
    arms = len({row.levels for row in ablation.rows})
    if seeds < 2:
        return Verdict("suspect", f"Usable with care: {arms} arms of one seed, so nobody knows what the noise is")
    return Verdict("sound", f"{arms} arms, each of {seeds} seeds that are paired with the baseline's")


def _name(check: str) -> str:
    return check.replace("_", " ")


def notes(content: Content) -> list[str]:
    """What the reader must know before any number."""
    return [SIMULATED, *content.notes] if content.simulated else list(content.notes)


def exponents(law: Law) -> list[Figure]:
    """a, b and their ratio."""
    told = law.exponents
    return [
        _exponent("N* ∝ C", "a", "model size", told.a),
        _exponent("D* ∝ C", "b", "training tokens", told.b),
        _exponent("", "b/a", "how fast data grow against the model, in exponent", told.ratio),
    ]


def _exponent(relation: str, name: str, meaning: str, estimate: Estimate) -> Figure:
    return Figure(name, f"{estimate.value:.3f}", ends(estimate.low, estimate.high), meaning, relation)


def ends(low: float, high: float) -> str:
    """The interval of an exponent."""
    return f"{bound(low)} to {bound(high)}"


def answer(recommendation: Recommendation) -> list[Figure]:
    """N, D and the loss to expect."""
    told = [
        _quantity("parameters", recommendation.params, count),
        _quantity("tokens", recommendation.tokens, count),
    ]
    if math.isfinite(recommendation.loss.value):
        told.append(_quantity("expected loss", recommendation.loss, lambda value: f"{value:.3f}"))
    return told


def _quantity(name: str, interval: Interval, text: object) -> Figure:
    show = text if callable(text) else str
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return Figure(name, show(interval.value), "")
    return Figure(name, show(interval.value), f"{show(interval.low)} to {show(interval.high)}")


def to_train(recommendation: Recommendation) -> list[str]:
    """What to train: the shape, how, on what; the sizes that do as well."""
    told = []
    choice = recommendation.shape
    if choice is not None:
        told.append(_shape(choice))
        if choice.run is not None:
            run = choice.run
            told.append(
                f"By the recipe {run.recipe}: batches of {run.batch_size:,} sequences, {run.steps:,} steps "
                f"({run.warmup_steps:,} of warm-up, {run.decay_steps:,} of decay), peak learning rate "
                f"{run.learning_rate:.3g}; {count(run.tokens)} tokens, {power(run.flops)} FLOPs."
            )
        if choice.machine is not None:
            told.append(_machine(choice.machine))
    near = [
        f"{percent(each.tolerance)}: {count(each.low)} to {count(each.high)} parameters" for each in recommendation.near
    ]
    if near:
        told.append(f"Sizes at the same C that cost more of the loss by at most {'; '.join(near)}.")
    return told


def _shape(choice: ShapeChoice) -> str:
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


def _machine(use: MachineUse) -> str:
    cost = "" if use.cost is None else f", cost {use.cost:,.0f}"
    of = "" if use.available_gib is None else f" of {use.available_gib:.1f}"
    return (
        f"On {use.gpus} × {use.gpu}: {use.days:.3g} days ({count(use.gpu_hours)} GPU-hours at MFU {use.mfu:g}"
        f"{'' if use.mfu_given else ', assumed'}){cost}; {use.memory_gib:.1f}{of} GiB each."
    )


def minimum_words(minimum: Minimum) -> str:
    """Why a budget has no minimum, and what would help; empty where it has one."""
    if minimum.status is Status.INTERIOR:
        return ""
    return f"{minimum.reason}; {minimum.cure}"


def audited(content: Content) -> list[str]:
    """What the audit of the design found, but for single choices; empty without one."""
    audit, law = content.audit, content.law
    if audit is None:
        return []
    told = [*audit.headlines(), *audit.remarks()]
    if law is None or law.provenance.points_digest != audit.points_digest:
        told.insert(0, "Take care: this was found of earlier points, not of those here; isoflop audit does it anew")
    return [f"{each}." for each in told]


def method(law: Law) -> list[str]:
    """How the law was computed."""
    return [
        _minimum_sentence(law),
        _headline_sentence(law),
        _interval_sentence(law),
        "The loss along the optimum is a curve with a floor, L*(C) = E + K·C^−s; its interval is that of one run.",
        f"A run's loss has a noise of {percent(law.noise)} (sd).",
    ]


def _minimum_sentence(law: Law) -> str:
    options = law.provenance.options
    width = "all sizes" if options.window is None else f"the {options.window} sizes nearest its vertex"
    if not law.has_profiles:
        return "The table has no IsoFLOP profiles: the exponents are those of a surface fitted to all runs."
    if options.minimum == "akima":
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


def provenance(content: Content) -> list[tuple[str, str]]:
    """Where it comes from: names and values."""
    told = list(content.made_with)
    law = content.law
    if law is None:
        return told
    return [
        ("parameters", f"N is {law.provenance.params_convention} parameters"),
        ("FLOPs", _flops_convention(law)),
        ("points used", f"{law.points.used}, and {len(law.points.excluded)} excluded"),
        ("digest of the points", law.provenance.points_digest),
        ("seed of the bootstrap", str(law.provenance.options.seed)),
        ("fitted by", f"isoflop {law.provenance.isoflop}, law schema {law.schema}"),
        *told,
    ]


def _flops_convention(law: Law) -> str:
    if law.cost_model.form == "6nd":
        return "C = 6·N·D"
    return f"counted: C = 3·f(N)·D, with f fitted to the points (residual {percent(law.cost_model.rms)})"
