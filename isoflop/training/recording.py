"""What a run leaves on disk while it trains: rows of metrics, its status, checkpoints.

A callback of the Trainer, called after every chunk of steps. It writes what is due and nothing else, so that all
that a sweep needs costs a few per cent of the shortest steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from isoflop.errors import Interrupted
from isoflop.store import RunDirectory
from isoflop.training import checkpoints
from isoflop.training.checkpoints import Checkpoint
from isoflop.training.metrics import Progress, add_row, cut_metrics
from isoflop.training.module import TrainingModule
from isoflop.training.trunks import Trunk

#: The status is rewritten, and the caller told, at most this often.
STATUS_SECONDS = 1.0


class Recorder(Callback):
    """Writes a run's metrics, status and checkpoints while `module` trains.

    The row of a step is written before its checkpoint, and rows beyond the step where the run carries on are cut
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
    """

    def __init__(
        self,
        module: TrainingModule,
        directory: RunDirectory,
        trunk: Trunk,
        start: Checkpoint | None,
        resumed: int,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.module = module
        self.directory = directory
        self.trunk = trunk
        self.spent = start.seconds if start else 0.0
        self.shared = start.shared if start else 0
        self.resumed = resumed
        self.on_progress = on_progress
        self.steps, self.loss_sum, self.norm_sum = start.row if start else (0, 0.0, 0.0)
        self.loss = float("nan")
        self.began = self.told = time.perf_counter()
        self.first = module.done
        self.stop: Interrupted | None = None

    @property
    def seconds(self) -> float:
        """Spent on the run so far, over the starts that led here."""
        return self.spent + time.perf_counter() - self.began

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Cut the metrics at the step where the run carries on, and say that it does."""
        cut_metrics(self.directory, self.module.done)
        self.directory.write_status("running", step=self.module.done, steps=self.module.planned.steps)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write what is due after a chunk."""
        done, steps, cadence = self.module.done, self.module.planned.steps, self.module.cadence
        # One by one: so a row is the same to the last digit wherever chunks were cut.
        for loss, norm in zip(outputs["losses"], outputs["norms"], strict=True):
            self.steps += 1
            self.loss_sum += loss
            self.norm_sum += norm
        self.loss = self.loss_sum / self.steps
        if done % cadence.log == 0 or done == steps:
            self._write_row()
        if done in self.trunk.cuts:
            self.trunk.keep(self._checkpoint())
        stops = self.stop is not None and done % cadence.log == 0
        if done % cadence.checkpoint == 0 or done == steps or stops:
            checkpoints.save(self.directory.checkpoints, self._checkpoint())
        if self.stop is not None and stops:
            raise self.stop
        if time.perf_counter() - self.told >= STATUS_SECONDS or done == steps:
            try:
                self._tell()
            except Interrupted as stop:
                # Between two rows, a resumed run would write others than one that never stopped.
                self.stop = stop

    def _write_row(self) -> None:
        add_row(self.directory, self.module.planned, self.module.done, self.loss, self.norm_sum / self.steps)
        self.steps, self.loss_sum, self.norm_sum = 0, 0.0, 0.0

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            run=self.module.planned.id,
            step=self.module.done,
            model=self.module.decoder.state_dict(),
            optimizer=self.module.trainer.optimizers[0].state_dict(),
            seconds=self.seconds,
            resumed=self.resumed,
            shared=self.shared,
            row=(self.steps, self.loss_sum, self.norm_sum),
        )

    @property
    def progress(self) -> Progress:
        """How far the run has come; the loss is NaN before the first step of this start."""
        run, done = self.module.planned, self.module.done
        speed = (done - self.first) * run.tokens_per_step / (time.perf_counter() - self.began)
        return Progress(done, run.steps, self.loss, speed)

    def _tell(self) -> None:
        self.told = time.perf_counter()
        progress = self.progress
        self.directory.write_status("running", **vars(progress))
        if self.on_progress is not None:
            self.on_progress(progress)
