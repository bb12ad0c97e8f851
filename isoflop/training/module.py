"""The run as a Lightning module: the Trainer does the loop, a chunk of optimiser steps at a time.

At two milliseconds a step, a Trainer's work between two batches costs a third of the time. So optimisation is
manual and one Lightning batch is a *chunk*: a range of optimiser steps, cut wherever something is due (a row of
metrics, a validation, a checkpoint, another run's branch, the end). The loader makes the ranges that are left to do,
the tokens of a step come from its number, the learning rate too: where a run was interrupted leaves no trace in its
weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from isoflop.errors import InputError
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
    """The steps from `start` to `stop` as ranges, each ending at the next multiple of `size` or `log`, or at a cut.

    Cuts may be added while the chunks are read; the one that is read next is made by then.
    """

    start: int
    stop: int
    size: int
    log: int
    cuts: tuple[Sequence[int], ...] = ()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start = self.start
        while start < self.stop:
            due = [start - start % length + length for length in (self.size, self.log)]
            stop = min(self.stop, *due, *(cut for cuts in self.cuts for cut in cuts if cut > start))
            yield start, stop
            start = stop


class Windows:
    """The rows of a matrix of tokens with the number of the source of each, `rows` at a time."""

    def __init__(self, tokens: Tensor, origins: Tensor, rows: int) -> None:
        self.parts = list(zip(torch.split(tokens, rows), torch.split(origins, rows), strict=True))

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.parts)


@dataclass(frozen=True)
class Steps:
    """What optimiser steps tell of themselves, a row or a number each.

    Parameters
    ----------
    sums, counts
        Losses summed by type of token, nats, and the tokens of each type; both (steps, types).
    norms
        Gradient norms before clipping.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]
    norms: list[float]


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
        Steps after which something is due besides, ascending; lists of them may grow.

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
        cuts: tuple[Sequence[int], ...] = (),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.planned = run
        self.source = source
        self.cadence = cadence
        self.micro_batches = micro_batches
        self.cuts = cuts
        self.read = source.batches(run)
        self.register_buffer("types", torch.from_numpy(source.token_types.astype(np.int64)), persistent=False)
        self.types: Tensor
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

    def training_step(self, chunk: tuple[int, int], batch_idx: int) -> dict[str, Steps]:
        """Take the optimiser steps of `chunk`; returns what they tell."""
        run, schedule = self.planned, self.planned.schedule
        # Itself, without Lightning's hooks around a step, which nobody uses here: with those around a backward pass
        # they take 5 % of a step of 2 ms.
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        parameters = list(self.decoder.parameters())
        losses, targets, norms = [], [], []
        for step in range(*chunk):
            for group, factor in zip(optimizer.param_groups, self.factors, strict=True):
                group["lr"] = run.learning_rate * schedule.factor(step) * factor
            tokens = torch.from_numpy(self.read(step)).to(self.device)
            losses += self._backward(tokens)
            targets.append(tokens[:, 1:].reshape(-1))
            norms.append(nn.utils.clip_grad_norm_(parameters, run.clip, foreach=True))
            optimizer.step()
            for parameter in parameters:
                parameter.grad = None
        self.done = chunk[1]
        return {"steps": self._told(torch.cat(losses), torch.cat(targets), norms)}

    def _told(self, losses: Tensor, targets: Tensor, norms: list[Tensor]) -> Steps:
        """Sum the losses of steps by type, each step by itself: so no sum depends on where chunks were cut."""
        steps, kinds = len(norms), len(self.source.types)
        first = kinds * torch.arange(steps, device=self.device)[:, None]
        cells = (self.types[targets].view(steps, -1) + first).view(-1)
        table = torch.zeros(2, steps * kinds, dtype=torch.float64, device=self.device)
        table[0].scatter_add_(0, cells, losses.double())
        table[1].scatter_add_(0, cells, torch.ones_like(losses, dtype=torch.float64))
        # All at once: on a GPU, each reading waits for the work that was sent there.
        numbers = torch.cat([table.view(-1), torch.stack(norms).double()]).cpu().numpy()
        sums, counts = numbers[: -len(norms)].reshape(2, steps, kinds)
        return Steps(sums, counts.astype(np.int64), numbers[-len(norms) :].tolist())

    def _backward(self, tokens: Tensor) -> list[Tensor]:
        """Add the gradient of the mean loss over `tokens`, a micro-batch at a time; returns each one's losses."""
        parts = tokens.tensor_split(min(self.micro_batches, len(tokens)))
        losses = []
        for part in parts:
            objective, each = training_loss(self.decoder, part, self.planned.z_loss)
            if len(parts) > 1:
                objective = objective * (len(part) / len(tokens))
            if self.trainer.world_size > 1:
                self.manual_backward(objective)
            else:
                objective.backward()  # type: ignore[no-untyped-call]
            losses.append(each)
        return losses

    def val_dataloader(self) -> Iterable[tuple[Tensor, Tensor]]:
        """The held-out windows, (rows, s + 1), and where they are from."""
        shape = self.planned.shape
        rows = max(1, VALIDATION_LOGITS // (shape.sequence_length * shape.vocabulary))
        tokens = torch.from_numpy(self.source.validation(self.planned))
        return Windows(tokens, torch.from_numpy(self.source.origins(self.planned)[1]), rows)

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        sources, _ = self.source.origins(self.planned)
        self.tally = LossByType(self.source.types, self.source.token_types, sources)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count the losses of one batch of windows."""
        tokens, origins = batch
        losses = token_losses(self.decoder, tokens)
        self.tally.add(losses, tokens[:, 1:].reshape(-1), origins.repeat_interleave(tokens.shape[1] - 1))

    def on_validation_epoch_end(self) -> None:
        """Keep the losses, over everything, by type and by source."""
        self.losses = self.tally.losses()
        bits = self.tally.bits_per_second(self.source.audio_rate)
        if bits is not None:
            self.losses["bits_per_audio_second"] = bits

    def validate(self) -> None:
        """Take the held-out losses of the weights as they are now, in the middle of the training."""
        self.on_validation_epoch_start()
        with torch.inference_mode(), self.trainer.precision_plugin.val_step_context():
            for number, (tokens, origins) in enumerate(self.val_dataloader()):
                self.validation_step((tokens.to(self.device), origins), number)
        self.on_validation_epoch_end()
