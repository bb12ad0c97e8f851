"""What a run leaves on disk while it trains: rows of metrics and of validations, its status, checkpoints.

A callback of the Trainer, called after every chunk of steps. It writes what is due and nothing else, so that all
that a sweep needs costs a few per cent of the shortest steps. And it sees to the run's health: a divergence ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback

from isoflop.errors import CorruptFileError, Diverged, Interrupted
from isoflop.store import RunDirectory, write_text
from isoflop.training import checkpoints, metrics
from isoflop.training.checkpoints import Checkpoint, Writer
from isoflop.training.health import Health
from isoflop.training.loggers import Copies
from isoflop.training.loss import by_type, type_columns, validation_columns
from isoflop.training.metrics import Progress
from isoflop.training.module import Steps, TrainingModule
from isoflop.training.trunks import Trunk

#: The status is rewritten, and the caller told, at most this often.
STATUS_SECONDS = 1.0


class Recorder(Callback):
    """Writes a run's metrics, validations, status and checkpoints while `module` trains.

    The rows of a step are written before its checkpoint, and rows beyond the step where the run carries on are cut
    away when training starts: every row is there once, however often the run was interrupted.

    Parameters
    ----------
    module
        The run.
    directory
        Its directory.
    trunk
        What it keeps for others.
    start
        Where it carries on; None at its beginning.
    resumed
        How often it was resumed, this start included.
    on_progress
        Called when the status is rewritten and after the last step; what it raises ends the run, `Interrupted` at the
        next row of metrics and with a checkpoint.
    validations
        Steps after which the held-out losses are taken, beside the last.
    loggers
        Where metrics go beside their file, by name.
    """

    def __init__(
        self,
        module: TrainingModule,
        directory: RunDirectory,
        trunk: Trunk,
        start: Checkpoint | None,
        resumed: int,
        on_progress: Callable[[Progress], None] | None,
        validations: Sequence[int] = (),
        loggers: Sequence[str] = (),
    ) -> None:
        self.module = module
        self.directory = directory
        self.trunk = trunk
        self.writer = Writer()
        self.spent = start.seconds if start else 0.0
        self.shared = start.shared if start else 0
        self.resumed = resumed
        self.on_progress = on_progress
        self.validations = frozenset(validations)
        self.types = module.source.types
        self.columns = type_columns(self.types)
        self.steps, self.loss_sum, self.norm_sum = start.row if start else (0, 0.0, 0.0)
        sums, counts = start.row_types if start else ((), ())
        self.sums = np.array(sums or [0.0] * len(self.types))
        self.counts = np.array(counts or [0] * len(self.types))
        self.health = Health(**start.health) if start else Health()
        self.told_spikes = start.row_spikes if start else 0
        self.loss = float("nan")
        self.began = self.told = time.perf_counter()
        self.first = module.done
        self.leads = module.member.leads
        self.stop: Interrupted | None = None
        self.loggers = loggers
        self.copies: Copies | None = None

    @property
    def seconds(self) -> float:
        """Spent on the run so far, over the starts that led here."""
        return self.spent + time.perf_counter() - self.began

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Cut the rows at the step where the run carries on, and say that it does."""
        if self.leads:
            metrics.cut_metrics(self.directory, self.module.done, self.columns)
            self._cut_validations(self.module.done)
            self._copy()
            self.directory.write_status("running", step=self.module.done, steps=self.module.planned.steps)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write what is due after a chunk."""
        done, steps, cadence = self.module.done, self.module.planned.steps, self.module.cadence
        self._see(outputs["steps"])
        if done % cadence.log == 0 or done == steps:
            self._write_row()
        if done in self.validations:
            self.module.validate()
            if self.leads:
                self._write_validation()
        if self.trunk.wants(done, self.module.member):
            kept = self._checkpoint()
            if self.leads:
                self.writer.write(self.trunk.with_rows(kept), self.trunk.keep)
        stops = self.module.stops and done % cadence.log == 0
        if done % cadence.checkpoint == 0 or done == steps or stops:
            newest = self._checkpoint()
            if self.leads:
                self.writer.write(newest, self._save)
        if stops:
            self.writer.finish()
            # None ends before it is written.
            self.module.member.share("written")
            raise self.stop or Interrupted("asked to stop")
        if self.module.branches:
            self._branch()
        if self.leads and (time.perf_counter() - self.told >= STATUS_SECONDS or done == steps):
            try:
                self._tell()
            except Interrupted as stop:
                # Between two rows, a resumed run would write others than one that never stopped.
                self.stop, self.module.stopping = stop, True

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the last validation's row, where the way to it has some; a kill may have come right after it."""
        if self.leads:
            self._cut_validations(self.module.planned.steps - 1)
            self._write_validation()

    def _see(self, told: Steps) -> None:
        """Take note of the steps of a chunk, one by one: so a row is the same wherever chunks were cut."""
        run, first = self.module.planned, self.module.done - len(told.norms)
        for number, norm in enumerate(told.norms):
            sums, counts = told.sums[number], told.counts[number]
            loss = float(sums.sum()) / int(counts.sum())
            trouble = self.health.see(first + number + 1, loss, norm)
            if trouble:
                step, good = first + number + 1, self.health.last_good(run.tokens_per_step)
                raise Diverged(f"run {run.id} diverged: {trouble}, at step {step} of {run.steps}; {good}")
            self.steps += 1
            self.loss_sum += loss
            self.norm_sum += norm
            self.sums += sums
            self.counts += counts
        self.loss = self.loss_sum / self.steps

    def _write_row(self) -> None:
        if self.leads:
            self._append_row()
            self._copy()
        self.steps, self.loss_sum, self.norm_sum, self.told_spikes = 0, 0.0, 0.0, self.health.spikes
        self.sums[:], self.counts[:] = 0, 0

    def _append_row(self) -> None:
        run, spikes = self.module.planned, self.health.spikes - self.told_spikes
        losses = by_type(self.types, self.sums, self.counts)
        values = [losses.get(column, float("nan")) for column in self.columns]
        metrics.add_row(self.directory, run, self.module.done, self.loss, self.norm_sum / self.steps, spikes, values)

    @property
    def _validation_columns(self) -> tuple[str, ...]:
        sources, _ = self.module.source.origins(self.module.planned)
        return ("step", "tokens", *validation_columns(self.types, sources))

    def _cut_validations(self, step: int) -> None:
        path = self.directory.validation_file
        if path.exists():
            write_text(path, metrics.cut(path.read_text(encoding="utf-8"), step, self._validation_columns))

    def _write_validation(self) -> None:
        path, done, losses = self.directory.validation_file, self.module.done, self.module.losses
        columns = self._validation_columns
        if not path.exists():
            write_text(path, ",".join(columns) + "\n")
        values = [losses.get(column, float("nan")) for column in columns[2:]]
        metrics.append(path, (done, done * self.module.planned.tokens_per_step, *values))
        self._copy()

    def _copy(self) -> None:
        """Pass on to the loggers what they do not have yet."""
        if self.copies is None:
            self.copies = Copies(self.loggers, self.module.planned, self.directory)
        self.copies.update()

    def _save(self, checkpoint: Checkpoint) -> None:
        checkpoints.save(self.directory.checkpoints, checkpoint)

    def _checkpoint(self) -> Checkpoint:
        model, optimizer = self.module.state(self.module.trainer.optimizers[0])
        return Checkpoint(
            run=self.module.planned.id,
            step=self.module.done,
            model=model,
            optimizer=optimizer,
            seconds=self.seconds,
            resumed=self.resumed,
            shared=self.shared,
            row=(self.steps, self.loss_sum, self.norm_sum),
            row_types=(tuple(self.sums.tolist()), tuple(self.counts.tolist())),
            row_spikes=self.told_spikes,
            health=self.health.to_dict(),
        )

    def _branch(self) -> None:
        self.trunk.share(self.module.member)
        self.module.branching = False

    def close(self) -> None:
        """Wait for what is being written, and let the loggers write what they have."""
        self.writer.wait()
        if self.copies is not None:
            self.copies.close()

    @property
    def progress(self) -> Progress:
        """How far the run has come; the loss is NaN before the first step of this start."""
        run, done = self.module.planned, self.module.done
        speed = (done - self.first) * run.tokens_per_step / (time.perf_counter() - self.began)
        return Progress(done, run.steps, self.loss, speed)

    def _tell(self) -> None:
        self.told = time.perf_counter()
        progress = self.progress
        flops = progress.tokens_per_second * self.module.planned.shape.training_flops(1)
        self.directory.write_status("running", **vars(progress), flops_per_second=flops, spikes=self.health.spikes)
        with suppress(CorruptFileError):  # what it said before still holds
            self.module.branching = self.trunk.look()
        if self.module.branching and self.module.member.size == 1:
            self._branch()
        if self.on_progress is not None:
            self.on_progress(progress)
