"""From a cell to the run that meets its budget, or to the reason why there is none.

Nothing falls out silently: a cell that cannot be run comes back as `Dropped`, with the rule and the value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from isoflop.errors import InputError
from isoflop.fitting.words import percent, power
from isoflop.flops import AnyShape
from isoflop.planning import hardware
from isoflop.planning.ledger import DataFacts
from isoflop.planning.recipe import Recipe
from isoflop.planning.runs import Run
from isoflop.study import Study
from isoflop.study_grid import Grid

#: How far from the recipe's batch another one may lie that meets the budget better (``grid.meet: batch``).
_OTHER_BATCHES = 2
#: Numbers of steps beyond this are told as powers of ten.
_LEGIBLE = 10**12


@dataclass(frozen=True)
class Dropped:
    """A cell that fell out of the grid: its `size` by name, its width (0 where it has none), its training FLOPs."""

    budget: float
    size: str
    d_model: int
    reason: str


@dataclass(frozen=True)
class Planner:
    """What every cell of a study has in common."""

    study: Study
    recipe: Recipe
    data: DataFacts

    def run(self, budget: float, shape: AnyShape, seed: int) -> Run | Dropped:
        """The run that meets `budget` with `shape`, or why there is none.

        Raises
        ------
        InputError
            If the recipe cannot be applied at all: a batch of no whole number of sequences, a size without width
            under a rate that needs one.
        """
        made = self._run(budget, shape, seed)
        return Dropped(budget, shape.label, shape.d_model, made) if isinstance(made, str) else made

    def _run(self, budget: float, shape: AnyShape, seed: int) -> Run | str:
        grid, recipe, trainer = self.study.grid, self.recipe, self.study.trainer
        per_token = shape.flops_per_token(grid.convention, grid.attention)
        length = shape.sequence_length
        tokens = budget / per_token
        batch = recipe.batch_size(length, budget, tokens)
        rate = recipe.peak_rate(shape, max(batch, 1), tokens)
        halved = ""
        while recipe.target_steps and rate > recipe.max_rate and batch >= recipe.min_batch:
            batch //= 2
            rate = recipe.peak_rate(shape, max(batch, 1), tokens)
            halved = f", halved until the rate is at most {recipe.max_rate:g}"
        if batch < recipe.min_batch:
            return (
                f"a step must have {recipe.min_batch} sequences or more, but the rule gives {batch}{halved} (min_batch)"
            )
        if rate > recipe.max_rate:
            return f"the peak rate must be at most {recipe.max_rate:g}, but the rule gives {rate:.3g} (max_rate)"
        batch = _meeting(budget, per_token * length, batch, recipe.min_batch, grid)
        rate = recipe.peak_rate(shape, batch, tokens)
        per_step = per_token * length * batch
        steps = round(budget / per_step)
        warmup, decay = recipe.warmup(steps), recipe.decay_steps(steps)
        reason = self._reason(budget, per_step, steps, warmup, decay)
        if reason is not None:
            return reason
        run = Run(
            budget=budget,
            flops=steps * per_step,
            shape=shape,
            batch_size=batch,
            steps=steps,
            warmup_steps=warmup,
            decay_steps=decay,
            learning_rate=rate,
            weight_decay=recipe.weight_decay,
            beta1=recipe.beta1,
            beta2=recipe.second_moment(batch),
            epsilon=recipe.epsilon,
            clip=recipe.clip,
            seed=seed,
            data=self.data.fingerprint,
            mixture=self.data.mixture,
            held_out_mixture=self.data.held_out_mixture,
            validation_tokens=self.study.training.validation_tokens,
            precision=self.study.training.precision,
            optimizer=recipe.optimizer,
            decay=recipe.decay,
            final_rate=recipe.final_rate,
            embedding_rate=recipe.embedding_rate,
            head_rate=recipe.head_rate,
            norm_rate=recipe.norm_rate,
            initial_scale=recipe.initial_scale,
            mup_width=recipe.mup_width,
            z_loss=recipe.z_loss,
            mask_documents=self.study.model.mask_documents,
            trainer="" if trainer is None else trainer.identity,
            options=() if trainer is None else tuple(sorted(trainer.options.items())),
        )
        return self._too_much(run) or run

    def _reason(self, budget: float, per_step: float, steps: int, warmup: int, decay: int) -> str | None:
        """Why the steps cannot be: they miss the budget, are too few, or too many."""
        tolerance = self.study.grid.tolerance
        if steps < 1:
            return f"a step must cost no more than the budget, but one costs {per_step:.3g} FLOPs"
        miss = steps * per_step / budget - 1
        if abs(miss) > tolerance:
            return (
                f"planned FLOPs must be within {percent(tolerance)} of the budget, but the nearest whole number of "
                f"steps, {steps:,}, is {percent(abs(miss))} {'over' if miss > 0 else 'under'}"
            )
        stable = 0 if self.recipe.decay_fraction == 1 else 1
        if steps < warmup + decay + stable or steps <= warmup:
            return (
                "steps must exceed warm-up and decay together, "
                f"but got {steps} steps, {warmup} of warm-up and {decay} of decay"
            )
        if steps > self.recipe.max_steps:
            taken = f"{steps:,}" if steps < _LEGIBLE else power(steps)
            return f"steps must be at most {self.recipe.max_steps:,}, but the budget takes {taken} (max_steps)"
        return None

    def _too_much(self, run: Run) -> str | None:
        """Why the run cannot be afforded: unique tokens, memory, hours."""
        limits, machine = self.study.limits, self.study.machine
        epochs = self.data.epochs(run.tokens)
        if epochs is not None and epochs > limits.epochs and limits.beyond_epochs == "drop":
            return f"epochs must be at most {limits.epochs:g}, but got {epochs:.3g} (limits.epochs)"
        if machine is None:
            if limits.hours is not None:
                raise InputError(f"hardware must be given where limits.hours is, but got hours {limits.hours:g} alone")
            return None
        if run.batch_size % machine.gpus_per_run:
            return (
                f"a step must have as many sequences for each of a run's {machine.gpus_per_run} accelerators, but has "
                f"{run.batch_size} in all (hardware.gpus_per_run)"
            )
        device = hardware.accelerator(machine.accelerator)
        room = hardware.available(device)
        needed = hardware.run_memory(run, machine, self.study.training.recompute).total
        if room is not None and needed > room:
            return (
                f"memory must be at most {room / hardware.GIB:.1f} GiB of a {device.name}, but got "
                f"{needed / hardware.GIB:.1f} GiB at {machine.micro_batch} sequences at once (hardware)"
            )
        hours = hardware.gpu_hours(run, device, machine.mfu) / machine.gpus_per_run
        if limits.hours is not None and hours > limits.hours:
            return f"a run must take {limits.hours:g} hours or less, but this takes {hours:.3g} (limits.hours)"
        return None


def _meeting(budget: float, per_sequence: float, batch: int, least: int, grid: Grid) -> int:
    """The batch nearest to `batch` by which whole steps meet the budget; `batch` itself if none does, or none may."""

    def met(size: int) -> bool:
        steps = round(budget / (per_sequence * size))
        return steps >= 1 and abs(steps * per_sequence * size / budget - 1) <= grid.tolerance

    if grid.meet == "steps" or met(batch):
        return batch
    others = range(max(least, math.ceil(batch / _OTHER_BATCHES)), batch * _OTHER_BATCHES + 1)
    by_distance = sorted(others, key=lambda size: abs(math.log(size / batch)))
    return next((size for size in by_distance if met(size)), batch)
