"""A recommendation in words: its lines for a person, and what to know before spending the budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from isoflop.fitting.intervals import Interval
from isoflop.fitting.words import count, percent, power
from isoflop.flops import Shape
from isoflop.recommendation.ladder import ShapeChoice
from isoflop.recommendation.source import Place, Source

if TYPE_CHECKING:
    from isoflop.recommendation.answer import Data, Recommendation

#: A shape whose FLOPs per token differ from the law's cost model by more (in ln) is not of the law's ladder.
_OTHER_ACCOUNTING = 0.05
#: Muennighoff et al. 2023: up to so many epochs repetitions are worth almost what fresh tokens are.
_EPOCHS = 4


def lines(found: Recommendation) -> list[str]:
    """The recommendation for a person."""
    told = [
        f"with {power(found.flops)} FLOPs, train",
        f"  {count(found.params.value):>7} parameters{_ends(found.params, count, 2)}",
        f"  {count(found.tokens.value):>7} tokens{_ends(found.tokens, count, 6)}{_audio(found)}",
    ]
    if not math.isnan(found.loss.value):
        told.append(f"  {found.loss.value:7.4f} loss{_ends(found.loss, '{:.4f}'.format, 8)}")
    told.append(f"by the law {found.law} ({found.origin}); {found.status.replace('_', ' ')}; {found.binds} binds")
    if found.shape is not None:
        told += _shape_lines(found.shape)
    for near in found.near:
        sizes = f"{count(near.low)} to {count(near.high)} parameters"
        told.append(f"  within {percent(near.tolerance)} of the optimal loss: {sizes}")
    for each in found.overtraining:
        way = ""
        if each.flops_ratio is not None:
            way = f"; the same loss takes ×{each.flops_ratio:.2f} the compute"
            if math.isinf(each.flops_ratio):
                way = "; it never reaches that loss"
        told.append(
            f"  ×{each.multiple:g} tokens per parameter: {count(each.params)} on {count(each.tokens)}, "
            f"{percent(each.loss_ratio - 1)} more loss{way}"
        )
    if found.data is not None:
        told.append(
            f"  {found.data.epochs:.2f} epochs of {count(found.data.unique_tokens)} unique tokens, worth "
            f"{count(found.data.effective_tokens)} fresh ones"
        )
    if found.serving is not None:
        told.append(
            f"  training {power(found.serving.training_flops)} FLOPs, with serving "
            f"{count(found.serving.tokens_served)} tokens {power(found.serving.lifetime_flops)}: "
            f"{percent(found.serving.saved)} less than the optimum of training alone, at its loss"
        )
    return told + [f"! {warning}" for warning in found.warnings]


def _ends(interval: Interval, show: Callable[[float], str], gap: int) -> str:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    return f"{' ' * gap}[{show(interval.low)}, {show(interval.high)}]"


def _audio(found: Recommendation) -> str:
    return "" if found.audio_hours is None else f", {count(found.audio_hours)} hours of audio"


def _shape_lines(choice: ShapeChoice) -> list[str]:
    told = [
        f"  nearest shape: {_named(choice)}, {count(choice.params)} parameters, {count(choice.tokens)} tokens, "
        f"{percent(choice.loss_ratio - 1)} more loss"
    ]
    if choice.run is not None:
        run = choice.run
        told.append(
            f"  by the recipe {run.recipe}: {run.batch_size:,} sequences a step, {run.steps:,} steps, peak rate "
            f"{run.learning_rate:.3g}"
        )
    if choice.machine is not None:
        use = choice.machine
        cost = "" if use.cost is None else f", cost {use.cost:,.0f}"
        of = "" if use.available_gib is None else f" of {use.available_gib:.1f}"
        told.append(
            f"  on {use.gpus} {use.gpu}: {use.days:.3g} days ({count(use.gpu_hours)} GPU-hours at MFU {use.mfu:g}"
            f"{'' if use.mfu_given else ', assumed'}){cost}; {use.memory_gib:.1f}{of} GiB each"
        )
    return told


def _named(choice: ShapeChoice) -> str:
    shape = choice.shape
    return f"{shape.n_layers} layers of width {shape.d_model}" if isinstance(shape, Shape) else shape.label


def far_shape(choice: ShapeChoice, params: Interval) -> str:
    """The sentence on a shape that is far from the size that was asked for."""
    ratio = choice.size_ratio
    side = f"{ratio:.2f} times larger" if ratio > 1 else f"{1 / ratio:.2f} times smaller"
    place = ""
    if math.isfinite(params.low) and math.isfinite(params.high):
        place = f" ({'inside' if params.low <= choice.params <= params.high else 'outside'} its interval)"
    change = choice.loss_ratio - 1
    # A size that was given may be far from the optimum, and its nearest shape better.
    effect = f"costs about {percent(change)} of the loss" if change > 0 else f"has about {percent(-change)} less loss"
    return f"The nearest shape of the ladder is {side} than {count(params.value)} parameters{place}, which {effect}."


def warnings(
    source: Source, place: Place, choice: ShapeChoice | None, off_ladder: str, data: Data | None, moved: bool
) -> list[str]:
    """What to know before spending the budget, in sentences."""
    found = _of_law(source) + _of_reach(source, place) + _of_checks(source)
    if moved and source.law is not None:
        found.append("The intervals are those of the law's own optimum at this budget, as wide, about these values.")
    if data is not None and data.epochs > 1:
        origin = "the law's own" if data.own else "Muennighoff et al.'s for text, as the law has none"
        found.append(
            f"The unique tokens are seen {data.epochs:.2f} times; what repetitions are worth follows R* = "
            f"{data.repetition:.3g}, {origin}."
        )
        if data.epochs > _EPOCHS:
            found.append(
                "What excess parameters lose is left out, so this size is an upper bound; more unique tokens would "
                "help more than compute."
            )
    if off_ladder:
        found.append(off_ladder)
    if choice is not None:
        found += _of_shape(source, place, choice)
    return found


def _of_law(source: Source) -> list[str]:
    if source.law is None:
        found = ["This is a published law: it comes without intervals, and what it was fitted to may not be your data."]
        if source.surface is None:
            found.append("It tells only where the optimum lies: what lies beside it is another law's profile, moved.")
        return found
    if source.law.provenance.simulated:
        return ["The law is a rehearsal's: its points are simulated, and no model was trained."]
    return []


def _of_checks(source: Source) -> list[str]:
    if source.law is None:
        return []
    from isoflop.fitting.checks import CheckStatus  # late: a published law has no checks, and they import much

    suspect = [check.name for check in source.law.checks if check.status is not CheckStatus.PASS]
    if suspect:
        return [f"The law is suspect in: {', '.join(suspect)}. Read its checks before you rely on it."]
    return []


def _of_reach(source: Source, place: Place) -> list[str]:
    if source.budgets is None:
        return ["The law does not say which budgets it rests on: this may be an extrapolation."]
    lowest, highest = source.budgets
    times = count(10 ** abs(place.decades))
    if place.decades < 0:
        return [
            f"{power(place.flops)} FLOPs are {times} times less than the law's smallest budget, {power(lowest)}: "
            "train a few sizes instead, they are cheap."
        ]
    found = []
    if place.decades > 0:
        held = "The intervals hold if the power laws go on" if source.law is not None else "It holds if the law goes on"
        found.append(
            f"This is an extrapolation: {power(place.flops)} FLOPs are {times} times the largest budget of the law, "
            f"{power(highest)}, from budgets that span {math.log10(highest / lowest):.2f} decades. {held} unchanged "
            "and the larger runs are tuned as well as the smaller ones were."
        )
    if place.decades > 1.001 and source.law is not None:
        found.append("Beyond ×10 of the largest budget the intervals are uncalibrated: expect more than they say.")
    return found


def _of_shape(source: Source, place: Place, choice: ShapeChoice) -> list[str]:
    found = []
    expected = source.cost.tokens(float(choice.params), place.flops)
    bought = place.flops / choice.shape.flops_per_token(source.convention)
    if abs(math.log(bought / expected)) > _OTHER_ACCOUNTING:
        found.append(
            f"The shape's own FLOPs buy it {count(bought)} tokens, and those that the law's points counted "
            f"{count(expected)}: their C or N follow another convention, or their shapes another ladder."
        )
    if choice.run is not None and abs(choice.run.counted_flops / choice.run.flops - 1) > _OTHER_ACCOUNTING:
        found.append(
            f"The law's C is {source.convention}; counted, with attention in full, the shape's run is "
            f"{power(choice.run.counted_flops)} FLOPs, and hours follow those."
        )
    if choice.refused:
        found.append(f"The recipe cannot train nearer shapes: {choice.refused[0]}.")
    return found
