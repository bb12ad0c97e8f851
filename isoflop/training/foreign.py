"""A LightningModule of the user's with its data module, as a trainer of the study's own (`isoflop.trainer`).

::

    trainer: {lightning: mypackage.models:build}

    def build(assignment):
        return MyModule(**assignment.options, rate=assignment.rate), MyData(assignment.batch_size)

The module is fitted for the run's steps and validated once: `val_loss` (or `loss`), as it logs it, is the run's loss,
and `loss_<name>` go with it. An epoch of the data module is what survives an interruption: at the start of each the
random generators are seeded from the run's seed and the steps done, and a checkpoint is written. So a run that
was killed takes its unfinished epoch again, with the same batches, and ends in the same weights on a CPU. Give long
runs short epochs.
"""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Checkpoint

from isoflop.errors import InputError
from isoflop.files import replacing
from isoflop.trainer import Assignment

#: Words on how it goes, over a run.
_WORDS = 200
_KINDS = (lightning.LightningModule, lightning.LightningDataModule)
_PRECISION: dict[str, Literal["32-true", "bf16-mixed"]] = {"32": "32-true", "bf16": "bf16-mixed"}


def trained_by(build: Callable[[Assignment], object]) -> Callable[[Assignment], dict[str, Any]]:
    """The trainer that fits what `build` returns; it raises `InputError` where that is no module with its data."""

    def train(assignment: Assignment) -> dict[str, Any]:
        _seed(assignment, "initialisation")
        built = build(assignment)
        module, data = built if isinstance(built, tuple) and len(built) == len(_KINDS) else (built, None)
        if not isinstance(module, _KINDS[0]) or not isinstance(data, _KINDS[1]):
            raise InputError(
                "trainer.lightning must return a LightningModule and a LightningDataModule, but got "
                f"{type(built).__name__}"
            )
        return _fit(module, data, assignment)

    return train


def _fit(
    module: lightning.LightningModule, data: lightning.LightningDataModule, assignment: Assignment
) -> dict[str, Any]:
    file = assignment.checkpoints / "epoch.ckpt"
    trainer = _trainer(assignment, file, max_steps=assignment.steps, max_epochs=-1, limit_val_batches=0)
    loader = data.train_dataloader
    data.train_dataloader = lambda: _Seeded(loader(), assignment, lambda: trainer.global_step)  # type: ignore[method-assign]
    trainer.fit(module, datamodule=data, ckpt_path=file if file.exists() else None, weights_only=True)
    if trainer.global_step != assignment.steps:
        raise InputError(f"a module must take {assignment.steps} steps, but took {trainer.global_step}")
    _seed(assignment, "validation")
    logged = dict(_trainer(assignment, file).validate(module, datamodule=data, verbose=False)[0])
    if "loss" not in logged and "val_loss" in logged:
        logged["loss"] = logged.pop("val_loss")
    return {**logged, "params": sum(weight.numel() for weight in module.parameters())}


def _trainer(assignment: Assignment, file: Path, **limits: Any) -> lightning.Trainer:
    """One for a single use: a used Trainer does nothing."""
    return lightning.Trainer(
        accelerator=assignment.accelerator,
        devices=1,
        # Named, or Lightning would find SLURM's by itself, take its ranks for ours and requeue its jobs.
        plugins=[LightningEnvironment()],
        precision=_PRECISION[assignment.planned.precision],
        callbacks=[_Epochs(assignment, file)],
        default_root_dir=assignment.outputs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **limits,
    )


class _Epochs(Checkpoint):
    """Seeds every epoch, keeps a checkpoint of the last, and tells how it goes.

    A `Checkpoint`, so that Lightning adds none of its own, and calls it after all other callbacks.
    """

    def __init__(self, assignment: Assignment, file: Path) -> None:
        self._assignment = assignment
        self._file = file
        self._every = max(1, assignment.steps // _WORDS)
        self._handler = signal.getsignal(signal.SIGTERM)

    def _listen(self) -> None:
        """Give SIGTERM back to whom it was told before Lightning takes it to end the process."""
        if self._handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Before the first step."""
        self._listen()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """After the last."""
        self._listen()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep what is needed to go on from here: not a moment before, when schedules by epochs are still to step."""
        if trainer.global_step:
            with replacing(self._file) as temporary:
                trainer.save_checkpoint(temporary)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say that no batch of the epoch is done: as Lightning counts, those of the one before are not over yet."""
        fit = checkpoint["loops"]["fit_loop"]
        for name in ("total", "current"):
            epochs = fit["epoch_progress"][name]
            epochs.update(dict.fromkeys(epochs, epochs["processed"]))
        batches = fit["epoch_loop.batch_progress"]
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed what the module draws; what its data draw is seeded by `_Seeded`, before."""
        if batch_idx == 0:
            _seed(self._assignment, f"model {trainer.global_step}")

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell, from time to time."""
        if trainer.global_step % self._every == 0:
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            self._assignment.progress(trainer.global_step, None if loss is None else float(loss))


class _Seeded:
    """A loader whose every pass draws from the run's seed and the steps done: whenever it is begun, and how often."""

    def __init__(self, loader: Any, assignment: Assignment, steps: Callable[[], int]) -> None:
        self._loader = loader
        self._assignment = assignment
        self._steps = steps

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        _seed(self._assignment, f"data {self._steps()}")
        return iter(self._loader)


def _seed(assignment: Assignment, what: str) -> None:
    """Seed Python, NumPy and torch for a part of the run."""
    seed = int.from_bytes(hashlib.sha256(f"{assignment.seed} {what}".encode()).digest()[:4], "little")
    lightning.seed_everything(seed, workers=True, verbose=False)
