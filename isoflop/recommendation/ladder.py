"""The concrete model: the shape of a ladder nearest to what a law asks for, its run, and what that takes of a machine.

A ladder is a recipe with the vocabulary and the sequence length that give its shapes their sizes; then a shape becomes
a run with batch, rate and whole steps exactly as in a plan (`isoflop.planning.feasibility`), or is refused with the
reason, and the next nearest is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.words import power
from isoflop.flops import AnyShape, FlopsConvention, ParamsConvention
from isoflop.planning.feasibility import Dropped, Planner
from isoflop.planning.hardware import GIB, available, memory
from isoflop.planning.ledger import DataFacts
from isoflop.planning.recipe import Recipe
from isoflop.planning.recipes import named, published_ladder
from isoflop.planning.runs import Run
from isoflop.recommendation.resources import Machine
from isoflop.study import Model, Study
from isoflop.study_recipe import RecipeChoice

#: More accelerators than this are not looked at when the fewest that hold a model are sought.
_MOST_GPUS = 2**14
#: A run costs its budget to this; another batch is taken where whole steps cannot meet it.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Ladder:
    """A recipe at a vocabulary and a sequence length."""

    recipe: Recipe
    vocabulary: int
    model: Model

    @classmethod
    def named(cls, recipe: str, vocabulary: int, sequence_length: int, tied_head: bool = True) -> Ladder:
        """The ladder of the recipe of that name; `InputError` names the nearest known one."""
        study = Study.parse(
            {
                "name": "ladder",
                "data": {"abstract": {"vocabulary": vocabulary, "unique_tokens": 1}},
                "model": {"sequence_length": sequence_length, "tied_head": tied_head},
                "grid": {"budgets": [1]},
            },
            source="the ladder",
        )
        return cls(named(RecipeChoice(base=recipe)), vocabulary, study.model)

    def of(self, published: str) -> Ladder:
        """The same recipe on the published ladder of that name; `InputError` names the known ones."""
        return replace(self, recipe=replace(self.recipe, ladder=published_ladder(published)))

    @cached_property
    def shapes(self) -> tuple[AnyShape, ...]:
        """All of it."""
        return tuple(self.recipe.every_shape(self.vocabulary, self.model))

    def run(self, shape: AnyShape, flops: float, convention: FlopsConvention) -> Run | Dropped:
        """The run that spends `flops` training FLOPs on `shape`, or why the recipe can't."""
        study = Study(
            name="recommendation",
            model=self.model,
            grid={"budgets": (flops,), "convention": convention, "meet": "batch", "tolerance": _TOLERANCE},
            training={"precision": "bf16"},
        )
        return Planner(study, self.recipe, DataFacts("recommendation", self.vocabulary, None)).run(flops, shape, 0)


@dataclass(frozen=True)
class RunChoice:
    """How the recipe trains a shape.

    Parameters
    ----------
    recipe
        Its name.
    batch_size, steps, warmup_steps, decay_steps, learning_rate
        Sequences a step, steps in all and of the schedule's ends, peak rate.
    tokens
        batch × steps × sequence length.
    flops, counted_flops
        What they cost by the law's convention, and counted (attention in full), which is what a machine works off.
    """

    recipe: str
    batch_size: int
    steps: int
    warmup_steps: int
    decay_steps: int
    learning_rate: float
    tokens: int
    flops: float
    counted_flops: float


@dataclass(frozen=True)
class MachineUse:
    """What a run takes of a machine.

    Parameters
    ----------
    gpu, gpus
        The accelerator, and how many: those asked for, or the fewest (a power of two) that hold the model.
    mfu, mfu_given
        Utilisation of the bf16 peak, and whether it was given (else it is the accelerator's assumed one).
    gpu_hours, days
        For the counted FLOPs; start-up, validation and checkpoints left out.
    cost
        gpu_hours × price; None without a price.
    memory_gib, available_gib
        Of one accelerator at one sequence at a time with weights, gradients and moments spread over all of them
        (`isoflop.planning.hardware.memory`); what there is of it (None: not known).
    """

    gpu: str
    gpus: int
    mfu: float
    mfu_given: bool
    gpu_hours: float
    days: float
    cost: float | None
    memory_gib: float
    available_gib: float | None


@dataclass(frozen=True)
class ShapeChoice:
    """The shape of a ladder that lies nearest to the optimal N in ln N, among those that the recipe can train.

    Parameters
    ----------
    shape
        The model.
    params
        Its size, by the law's convention.
    tokens
        What the budget buys it under its own FLOPs, counted or 6ND as the law's points were.
    size_ratio
        `params` over the optimal N.
    loss_ratio
        The loss to expect over that of the optimum: what snapping to the ladder costs. It grows with the square of
        ln `size_ratio`; within a factor of two in N it is a matter of a per cent.
    refused
        Nearer shapes that the recipe cannot train at this budget, each with the reason.
    run
        Batch, steps and rate; None where the ladder is shapes alone.
    machine
        GPUs, memory, days; None where none was named.
    """

    shape: AnyShape
    params: int
    tokens: float
    size_ratio: float
    loss_ratio: float
    refused: tuple[str, ...] = ()
    run: RunChoice | None = None
    machine: MachineUse | None = None


@dataclass(frozen=True)
class Snapped:
    """A shape with its place beside the optimum, before its loss is known; fields as `ShapeChoice`'s."""

    shape: AnyShape
    params: int
    refused: tuple[str, ...]
    run: RunChoice | None


def sizes_of(ladder: Ladder | Sequence[AnyShape]) -> Sequence[AnyShape]:
    """The shapes of a ladder; `InputError` where there are none."""
    shapes = ladder.shapes if isinstance(ladder, Ladder) else ladder
    if not shapes:
        raise InputError("a ladder must hold at least one shape, but got none")
    return shapes


def snap(
    ladder: Ladder | Sequence[AnyShape],
    params: float,
    flops: float,
    convention: FlopsConvention,
    params_convention: ParamsConvention,
) -> Snapped:
    """The shape nearest to `params` that can be trained for `flops`.

    Raises
    ------
    InputError
        If the ladder is empty.
    NoAnswerError
        If the recipe can train none of its shapes at that budget.
    """
    by_distance = sorted(
        sizes_of(ladder), key=lambda shape: abs(math.log(shape.parameters.by(params_convention) / params))
    )
    if not isinstance(ladder, Ladder):
        return Snapped(by_distance[0], by_distance[0].parameters.by(params_convention), (), None)
    refused: list[str] = []
    for shape in by_distance:
        made = ladder.run(shape, flops, convention)
        if isinstance(made, Run):
            chosen = RunChoice(
                recipe=ladder.recipe.name,
                batch_size=made.batch_size,
                steps=made.steps,
                warmup_steps=made.warmup_steps,
                decay_steps=made.decay_steps,
                learning_rate=made.learning_rate,
                tokens=made.tokens,
                flops=made.flops,
                counted_flops=shape.training_flops(made.tokens),
            )
            return Snapped(shape, shape.parameters.by(params_convention), tuple(refused), chosen)
        refused.append(f"{made.size}: {made.reason}")
    raise NoAnswerError(
        f"The recipe {ladder.recipe.name} can train none of its shapes for {power(flops)} FLOPs. {refused[0]}."
    )


def machine_use(shape: AnyShape, counted_flops: float, machine: Machine) -> MachineUse:
    """GPUs, memory, hours and cost of `counted_flops` FLOPs on `shape`."""
    device = machine.device
    room = available(device)
    gpus = machine.gpus or 1
    while machine.gpus is None and room is not None and gpus < _MOST_GPUS:
        if memory(shape, 1, "bf16", gpus).total <= room:
            break
        gpus *= 2
    hours = counted_flops / machine.rate / 3600
    return MachineUse(
        gpu=device.name,
        gpus=gpus,
        mfu=machine.mfu or device.mfu,
        mfu_given=machine.mfu is not None,
        gpu_hours=hours,
        days=hours / gpus / 24,
        cost=None if machine.price is None else hours * machine.price,
        memory_gib=memory(shape, 1, "bf16", gpus).total / GIB,
        available_gib=None if room is None else room / GIB,
    )
