"""The run as a Lightning module: the Trainer does the loop, a chunk of optimiser steps at a time.

At two milliseconds a step, a Trainer's work between two batches costs a third of the time. So optimisation is
manual and one Lightning batch is a *chunk*: a range of optimiser steps, cut wherever something is due (a row of
metrics, a validation, a checkpoint, another run's branch, the end). The loader makes the ranges that are left to do,
the tokens of a step come from its number, the learning rate too: where a run was interrupted leaves no trace in its
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from isoflop.errors import InputError
from isoflop.planning.runs import Run, trainable
from isoflop.training import optimisers, parallel
from isoflop.training.checkpoints import Checkpoint
from isoflop.training.data import Source
from isoflop.training.loss import LossByType, token_losses, training_loss
from isoflop.training.model import Decoder
from isoflop.training.parallel import ALONE, Member

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
    """The rows of a matrix of tokens with the number of the source of each, `rows` at a time.

    Of several members each has its own, equally many: where there is none left for one it gets the first again, and
    ``real`` says how many are its own.
    """

    def __init__(self, tokens: Tensor, origins: Tensor, rows: int, member: Member = ALONE) -> None:
        parts = list(zip(torch.split(tokens, rows), torch.split(origins, rows), strict=True))
        own = parts[member.rank :: member.size]
        self.real = len(own)
        self.parts = [*own, *parts[: -(-len(parts) // member.size) - len(own)]]

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
        Steps after which something is due besides, ascending; lists of them may grow, for all members at once.
    member
        Which of the processes that train the run this one is.

    Attributes
    ----------
    decoder
        The model.
    done
        Optimiser steps done.
    loss, compiled
        What takes the loss of a batch (`isoflop.training.loss.training_loss`), and whether that compiles.
    losses
        The validation losses, after validation.
    stopping, branching
        Whether the member that leads is asked to stop the run, and whether it saw new branches; all know it one chunk
        later, by ``stops`` and ``branches``.
    """

    def __init__(
        self,
        run: Run,
        source: Source,
        cadence: Cadence,
        checkpoint: Checkpoint | None,
        micro_batches: int = 1,
        cuts: tuple[Sequence[int], ...] = (),
        member: Member = ALONE,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.planned = run
        self.source = source
        self.cadence = cadence
        self.micro_batches = micro_batches
        self.cuts = cuts
        self.member = member
        self.stopping = self.stops = self.branching = self.branches = False
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
        self.loss: Callable[[Decoder, Tensor, float], tuple[Tensor, Tensor]] = training_loss
        self.compiled = False
        self.losses: dict[str, float] = {}
        self.spread = False

    def configure_model(self) -> None:
        """Share out the weights where that is the strategy; called at every start of a Trainer."""
        if self.member.strategy == "fsdp" and not self.spread:
            assert self.device_mesh is not None  # noqa: S101 - Lightning's strategy has made it
            parallel.spread(self.decoder, self.device_mesh["data_parallel"])
            self.spread = True

    def configure_optimizers(self) -> Optimizer:
        """The run's optimiser, where the run is carried on in the state that it had come to."""
        optimizer, self.factors = optimisers.make(self.planned, self.decoder)
        if self.optimizer_state is not None:
            optimizer.load_state_dict(parallel.share_out(self.optimizer_state, optimizer))
            self.optimizer_state = None
        return optimizer

    def state(self, optimizer: Optimizer | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The whole weights, and the whole state of the optimiser where one is given: for the member that leads.

        Every member must call it.
        """
        moments = {} if optimizer is None else optimizer.state_dict()
        model: dict[str, Any] = parallel.whole(self.decoder.state_dict(), self.member.leads)
        return model, parallel.whole(moments, self.member.leads)

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
            tokens = self.member.rows(torch.from_numpy(self.read(step))).to(self.device)
            losses += self._backward(tokens)
            targets.append(tokens[:, 1:].reshape(-1))
            norms.append(parallel.clip(parameters, run.clip))
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
        read = torch.cat([table.view(-1), torch.stack(norms).double()]).cpu().numpy()
        # So for what members tell each other: then each knows what one by itself would, and what its leader is asked.
        numbers = self.member.total(np.append(read, [self.stopping, self.branching]))
        self.stops, self.branches = (numbers[-2:] > 0).tolist()
        sums, counts = numbers[: 2 * steps * kinds].reshape(2, steps, kinds)
        # Each has the norm over all.
        return Steps(sums, counts.astype(np.int64), (numbers[2 * steps * kinds : -2] / self.member.size).tolist())

    def _backward(self, tokens: Tensor) -> list[Tensor]:
        """Add the gradient of the mean loss over `tokens`, a micro-batch at a time; returns each one's losses."""
        parts = tokens.tensor_split(min(self.micro_batches, len(tokens)))
        losses = []
        for number, part in enumerate(parts, 1):
            objective, each = self.loss(self.decoder, part, self.planned.z_loss)
            if len(parts) > 1:
                objective = objective * (len(part) / len(tokens))
            if self.member.size > 1:
                # Copies of the weights exchange gradients once a step; parts of them have no room to wait.
                waits = self.member.strategy == "ddp" and number < len(parts)
                with self.trainer.model.no_sync() if waits else nullcontext():  # type: ignore[operator, union-attr]
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
        _, origins = self.source.origins(self.planned)
        self.windows = Windows(tokens, torch.from_numpy(origins), rows, self.member)
        return self.windows

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        sources, _ = self.source.origins(self.planned)
        self.tally = LossByType(self.source.types, self.source.token_types, sources)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count the losses of one batch of windows."""
        tokens, origins = batch
        # Batches of other sizes than training's, for which all would be compiled again.
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
            losses = token_losses(self.decoder, tokens)
        if batch_idx < self.windows.real:
            self.tally.add(losses, tokens[:, 1:].reshape(-1), origins.repeat_interleave(tokens.shape[1] - 1))

    def on_validation_epoch_end(self) -> None:
        """Keep the losses, over everything, by type and by source: of all members' windows."""
        self.tally.sums = self.member.total(self.tally.sums)
        self.tally.counts = self.member.total(self.tally.counts)
        self.losses = self.tally.losses()
        bits = self.tally.bits_per_second(self.source.audio_rate)
        if bits is not None:
            self.losses["bits_per_audio_second"] = bits

    def validate(self) -> None:
        """Take the held-out losses of the weights as they are now, in the middle of the training."""
        self.on_validation_epoch_start()
        # Weights that are shared out are made whole in buffers that training takes up again.
        without_gradients = torch.no_grad() if self.spread else torch.inference_mode()
        with without_gradients, self.trainer.precision_plugin.val_step_context():
            for number, (tokens, origins) in enumerate(self.val_dataloader()):
                self.validation_step((tokens.to(self.device), origins), number)
        if self.spread:
            parallel.rest(self.decoder)
        self.on_validation_epoch_end()
