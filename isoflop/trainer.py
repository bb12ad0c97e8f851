"""The contract of a trainer of one's own: what it is given, what it must do, what is done for it.

A study that names a trainer (its ``trainer`` section) is planned, launched, watched, fitted and reported as any other;
what trains its models is a function of the user's, a LightningModule with its data, or a command::

    def train(assignment: Assignment) -> float:
        model, first = resume(assignment.checkpoints) or (Model(**assignment.options), 0)
        for step in range(first, assignment.steps):
            loss = model.step(batch(step, assignment.seed), rate=assignment.rate(step))
            if (step + 1) % 100 == 0:
                save(assignment.checkpoints, model, step + 1)
                assignment.progress(step + 1, loss)
        return evaluate(model)

*It must*

- train the size that it is given on the samples that it is given, from its seed;
- keep checkpoints of its own under `Assignment.checkpoints` and carry on from them: it may be killed at any moment,
  and is then called again with the same assignment, in another process, maybe on another machine;
- call `Assignment.progress` with the steps done and the loss, several times a minute. The call may raise
  `isoflop.errors.Interrupted`, which asks it to stop: let it pass;
- return its loss on held-out data, a finite number, or a mapping with `loss` and what else is to be kept (`outcome`).

*It need not* claim runs, retry, write its status, or publish its result: that is done, and its errors end up as the
run's cause of failure. `isoflop check-trainer STUDY` tries all this on the study's cheapest run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from isoflop.errors import InputError
from isoflop.flops import Shape
from isoflop.planning.runs import Run

#: How far what a trainer says that it did may lie from what was planned (fraction): beyond, it did another run.
TOLERANCE = 0.01
#: What a result says of a run beside its trainer's own words: those are not for a trainer to use.
RESERVED = frozenset(
    {"run", "steps", "seconds", "tokens_per_second", "corrupt_checkpoints", "trainer", "told", "versions"}
)


@dataclass(frozen=True)
class Assignment:
    """One run, as its trainer is given it.

    Parameters
    ----------
    planned
        All that the plan says of it; what trainers want of that is here by name.
    checkpoints
        A folder that exists, for what is needed to carry on; removed when the run is done.
    outputs
        A folder that exists, for what is to stay.
    corpus
        The folder of token shards, where the study has one.
    accelerator
        ``cpu`` or ``gpu``: what the launcher gave this process.
    micro_batches
        Times as many forward passes a step as usual, for a run that ran out of memory before: 1, 2, 4 …
    progress
        To be called with the steps done and the loss (None where it is not known).
    """

    planned: Run
    checkpoints: Path
    outputs: Path
    corpus: Path | None = None
    accelerator: str = "cpu"
    micro_batches: int = 1
    progress: Callable[[int, float | None], None] = lambda step, loss: None

    @property
    def run(self) -> str:
        """The run's id."""
        return self.planned.id

    @property
    def size(self) -> str:
        """The name of the size in the study's ladder."""
        return self.planned.shape.label

    @property
    def shape(self) -> Shape | None:
        """The decoder's numbers, where the ladder has shapes; None where it is a table."""
        return self.planned.shape if isinstance(self.planned.shape, Shape) else None

    @property
    def params(self) -> int:
        """N: parameters of the size, by the ladder."""
        return self.planned.shape.parameters.total

    @property
    def options(self) -> dict[str, bool | int | float | str]:
        """The study's ``trainer.options``, and those of the size, which come first."""
        own = () if isinstance(self.planned.shape, Shape) else self.planned.shape.options
        return {**dict(self.planned.options), **dict(own)}

    @property
    def tokens(self) -> int:
        """D: training tokens to be seen (samples, where the ladder has FLOPs per sample)."""
        return self.planned.tokens

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.planned.steps

    @property
    def batch_size(self) -> int:
        """Sequences (samples) of one step."""
        return self.planned.batch_size

    @property
    def flops(self) -> float:
        """C: training FLOPs that the run costs, by the study's convention."""
        return self.planned.flops

    @property
    def seed(self) -> int:
        """Of the initialisation and the order of the data."""
        return self.planned.seed

    def rate(self, step: int) -> float:
        """The learning rate at `step`, 0-based, by the recipe: peak × schedule."""
        return self.planned.learning_rate * self.planned.schedule.factor(step)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a command: the named ones, and the whole plan of the run under ``planned``."""
        return {
            "run": self.run,
            "size": self.size,
            "params": self.params,
            "options": self.options,
            "tokens": self.tokens,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "flops": self.flops,
            "budget": self.planned.budget,
            "seed": self.seed,
            "learning_rate": self.planned.learning_rate,
            "warmup_steps": self.planned.warmup_steps,
            "decay_steps": self.planned.decay_steps,
            "data": self.planned.data,
            "corpus": None if self.corpus is None else str(self.corpus),
            "checkpoints": str(self.checkpoints),
            "outputs": str(self.outputs),
            "accelerator": self.accelerator,
            "micro_batches": self.micro_batches,
            "planned": self.planned.to_dict(),
        }


def outcome(planned: Run, returned: object) -> dict[str, Any]:
    """What a trainer returned, as the beginning of the result of `planned`.

    Parameters
    ----------
    planned
        The run.
    returned
        The loss; or a mapping with `loss`, and maybe `loss_<name>` (of parts of the held-out data), `params`, `tokens`
        and `flops` (what it counted itself: held against the plan), and whatever else under names of its own, as
        numbers, text, true or false.

    Raises
    ------
    InputError
        If there is no loss, a loss is not finite, a count is not the plan's, or a key is not the trainer's to use.
    """
    told = dict(returned) if isinstance(returned, Mapping) else {"loss": returned}
    if "loss" not in told:
        raise InputError(f"a trainer must return its loss, but got a mapping with {sorted(map(str, told))}")
    found: dict[str, Any] = {}
    for name, value in told.items():
        if not isinstance(name, str) or not name.isidentifier() or name in RESERVED:
            raise InputError(
                f"a trainer's keys must be plain names and not {', '.join(sorted(RESERVED))}, but got {name!r}"
            )
        found[name] = _plain(name, value)
        if name == "loss" or name.startswith("loss_"):
            _require_finite(name, found[name])
    planned_counts = {"params": planned.shape.parameters.total, "tokens": planned.tokens, "flops": planned.flops}
    for name, expected in planned_counts.items():
        if name not in found:
            continue
        _require_finite(name, found[name])
        if abs(found[name] / expected - 1) > TOLERANCE:
            raise InputError(
                f"a trainer's {name} must be within {TOLERANCE:.0%} of the plan's, {expected:,.10g}, but got "
                f"{found[name]:,.10g} (mend the trainer, or the ladder's table)"
            )
    return found


def _plain(name: str, value: object) -> bool | int | float | str:
    """`value` as JSON can hold it; NumPy's numbers and one-element tensors become Python's."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 0) == 0:
        value = item()
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, Real):
        return float(value)
    raise InputError(f"a trainer must return numbers, text, true or false, but got {name} = {type(value).__name__}")


def _require_finite(name: str, value: object) -> None:
    if isinstance(value, bool | str) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"a trainer's {name} must be a finite number, but got {value!r}")
