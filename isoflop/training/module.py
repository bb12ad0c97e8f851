"""The run as a Lightning module: the Trainer does the loop, a chunk of optimiser steps at a time.

At two milliseconds a step, a Trainer's work between two batches costs a third of the time. So optimisation is
manual and one Lightning batch is a *chunk*: a range of optimiser steps, cut wherever something is due (a row of
metrics, a checkpoint, another run's branch, the end). The loader makes the ranges that are left to do, the tokens of
a step come from its number, the learning rate too: where a run was interrupted leaves no trace in its weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from isoflop.errors import Diverged, InputError
from isoflop.planning.runs import Run, trainable
from isoflop.training import optimisers
from isoflop.training.checkpoints import Checkpoint
from isoflop.training.data import Source
from isoflop.training.loss import LossByType, token_losses, training_loss
from isoflop.training.model import Decoder

#: A chunk is as many steps as cost this many FLOPs (some tenths of a second on one core), one at least.
CHUNK_FLOPS = 1e10
#: And at most this many: beyond, there is nothing left to gain.
CHUNK_STEPS = 10
#: Logits of one validation batch: 2 MiB, which stay in a core's cache (16 MiB take twice as long at width 80).
VALIDATION_LOGITS = 2**19


@dataclass(frozen=True)
class Cadence:
    """Steps between two rows of metrics, and between two checkpoints.

    Raises
    ------
    InputError
        Unless ``checkpoint`` is a multiple of ``log``: a row is a mean over the steps since the last one, and a
        resumed run must write the same rows.
    """

    log: int = 50
    checkpoint: int = 200

    def __post_init__(self) -> None:
        if min(self.log, self.checkpoint) < 1 or self.checkpoint % self.log:
            raise InputError(
                "log >= 1 and checkpoint a multiple of log must hold, but got "
                f"log={self.log}, checkpoint={self.checkpoint}"
            )


@dataclass(frozen=True)
class Chunks:
    """The steps from `start` to `stop` as ranges, each ending at the next multiple of `size` or `log`, or at a cut."""

    start: int
    stop: int
    size: int
    log: int
    cuts: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start = self.start
        while start < self.stop:
            due = [start - start % length + length for length in (self.size, self.log)]
            stop = min(self.stop, *due, *(cut for cut in self.cuts if cut > start))
            yield start, stop
            start = stop


class Windows:
    """The rows of a matrix of tokens, `rows` at a time."""

    def __init__(self, tokens: Tensor, rows: int) -> None:
        self.parts = torch.split(tokens, rows)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.parts)


class TrainingModule(lightning.LightningModule):
    """One run: its model, its optimiser, its data order, and the step that it has come to.

    Parameters
    ----------
    run, source, cadence
        What to train, on what, and how often something is due.
    checkpoint
        Where to carry on; None starts from the seed.
    micro_batches
        Parts into which a batch is split where it does not fit into memory at once: the same gradient, to rounding.
    cuts
        Steps after which something is due besides.

    Attributes
    ----------
    decoder
        The model.
    done
        Optimiser steps done.
    losses
        The validation losses, after validation.
    """

    def __init__(
        self,
        run: Run,
        source: Source,
        cadence: Cadence,
        checkpoint: Checkpoint | None,
        micro_batches: int = 1,
        cuts: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.planned = run
        self.source = source
        self.cadence = cadence
        self.micro_batches = micro_batches
        self.cuts = cuts
        self.read = source.batches(run)
        self.decoder = Decoder(
            trainable(run),
            run.seed,
            initial_scale=run.initial_scale,
            mup_width=run.mup_width,
            document_start=source.document_start if run.mask_documents else None,
        )
        self.optimizer_state: dict[str, Any] | None = None
        self.done = 0
        if checkpoint is not None:
            self.decoder.load_state_dict(checkpoint.model)
            self.optimizer_state = checkpoint.optimizer
            self.done = checkpoint.step
        self.losses: dict[str, float] = {}

    def configure_optimizers(self) -> Optimizer:
        """The run's optimiser, where the run is carried on in the state that it had come to."""
        optimizer, self.factors = optimisers.make(self.planned, self.decoder)
        if self.optimizer_state is not None:
            optimizer.load_state_dict(self.optimizer_state)
            self.optimizer_state = None
        return optimizer

    def train_dataloader(self) -> Iterable[tuple[int, int]]:
        """The chunks that are left to do."""
        run = self.planned
        size = CHUNK_FLOPS / run.shape.training_flops(run.tokens_per_step)
        return Chunks(self.done, run.steps, int(min(max(size, 1), CHUNK_STEPS)), self.cadence.log, self.cuts)

    def training_step(self, chunk: tuple[int, int], batch_idx: int) -> dict[str, list[float]]:
        """Take the optimiser steps of `chunk`; returns their losses, and their gradient norms before clipping.

        Raises
        ------
        Diverged
            If one of them is not finite.
        """
        run, schedule = self.planned, self.planned.schedule
        optimizer = cast(LightningOptimizer, self.optimizers())
        parameters = list(self.decoder.parameters())
        losses, norms = [], []
        for step in range(*chunk):
            for group, factor in zip(optimizer.param_groups, self.factors, strict=True):
                group["lr"] = run.learning_rate * schedule.factor(step) * factor
            tokens = torch.from_numpy(self.read(step)).to(self.device)
            loss = self._backward(tokens)
            norms.append(nn.utils.clip_grad_norm_(parameters, run.clip, foreach=True))
            optimizer.step()
            for parameter in parameters:
                parameter.grad = None
            losses.append(loss)
        numbers = torch.stack(losses + norms).view(2, -1).tolist()
        if not all(map(math.isfinite, (*numbers[0], *numbers[1]))):
            raise Diverged(
                f"run {run.id} diverged: its loss or gradient is not finite between steps {chunk[0]} and {chunk[1]} "
                f"of {run.steps}"
            )
        self.done = chunk[1]
        return {"losses": numbers[0], "norms": numbers[1]}

    def _backward(self, tokens: Tensor) -> Tensor:
        """Add the gradient of the mean loss over `tokens`, a micro-batch at a time; returns that loss."""
        parts = tokens.tensor_split(min(self.micro_batches, len(tokens)))
        losses = []
        for part in parts:
            objective, loss = training_loss(self.decoder, part, self.planned.z_loss)
            if len(parts) > 1:
                objective, loss = (value * (len(part) / len(tokens)) for value in (objective, loss))
            self.manual_backward(objective)
            losses.append(loss)
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def val_dataloader(self) -> Iterable[Tensor]:
        """The held-out windows, (rows, s + 1)."""
        shape = self.planned.shape
        rows = max(1, VALIDATION_LOGITS // (shape.sequence_length * shape.vocabulary))
        return Windows(torch.from_numpy(self.source.validation(self.planned)), rows)

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self.tally = LossByType(self.source.types, self.source.token_types)

    def validation_step(self, tokens: Tensor, batch_idx: int) -> None:
        """Count the losses of one batch of windows."""
        self.tally.add(token_losses(self.decoder, tokens), tokens[:, 1:].reshape(-1))

    def on_validation_epoch_end(self) -> None:
        """Keep the losses, over everything and by type."""
        self.losses = self.tally.losses()
