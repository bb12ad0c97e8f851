"""Some real steps of a run, timed: its model, its optimiser, its batch, on the device where it is to be trained.

The steps are those of `isoflop.training.module.TrainingModule` under the Trainer that trains runs; nothing is written.
Where there is no corpus yet the tokens are uniform, which changes no time but that of reading them.
"""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray

import isoflop
from isoflop.planning.probes import Probe, settings_of
from isoflop.planning.runs import Run, trainable
from isoflop.training import parallel
from isoflop.training.data import Source, Tokens
from isoflop.training.group import Job
from isoflop.training.module import Cadence, TrainingModule
from isoflop.training.parallel import Member
from isoflop.training.run import train_module

#: Steps that are taken, and of these the first, which are not timed.
STEPS, WARM_UP = 20, 5


class Uniform:
    """Tokens of the vocabulary of `run`, each as likely."""

    types = ("any",)
    document_start = 0
    audio_rate = 0.0

    def __init__(self, run: Run) -> None:
        self.names = (run.data,)
        self.vocabulary = run.shape.vocabulary
        self.token_types = np.zeros(self.vocabulary, dtype=np.uint8)

    def _windows(self, rows: int, run: Run, seed: int) -> Tokens:
        return np.random.default_rng(seed).integers(0, self.vocabulary, (rows, run.shape.sequence_length + 1))

    def batches(self, run: Run) -> Callable[[int], Tokens]:
        """See `isoflop.training.data.Source`."""
        return lambda step: self._windows(run.batch_size, run, step)

    def validation(self, run: Run) -> Tokens:
        """See `isoflop.training.data.Source`."""
        return self._windows(run.validation_tokens // run.shape.sequence_length, run, 0)

    def origins(self, run: Run) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """See `isoflop.training.data.Source`."""
        return ("any",), np.zeros(run.validation_tokens // run.shape.sequence_length, dtype=np.int64)


class _Clock(Callback):
    """Notes when the steps began, when the warm-up ended and when the last step did."""

    def __init__(self) -> None:
        self.read: dict[int, float] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Read the clock."""
        self.read[0] = time.perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the clock; the losses have come back from the device, so the steps are done."""
        assert isinstance(pl_module, TrainingModule)  # noqa: S101
        self.read[pl_module.done] = time.perf_counter()

    @property
    def step_seconds(self) -> float:
        """Of a step after the warm-up."""
        return (self.read[STEPS] - self.read[WARM_UP]) / (STEPS - WARM_UP)

    @property
    def start_seconds(self) -> float:
        """What the warm-up took beyond the time of its steps."""
        return max(0.0, self.read[WARM_UP] - self.read[0] - WARM_UP * self.step_seconds)


def measure(job: Job, source: Source, member: Member) -> dict[str, Any]:
    """Take the steps as a `member` of those that train the run of `job`; returns the `Probe` as plain values."""
    run, options = job.run, job.options
    shape = trainable(run)
    member = replace(member, strategy=options.strategy(run, parallel.room(job.accelerator)))
    short = replace(run, steps=STEPS, warmup_steps=1, decay_steps=1, validation_tokens=shape.sequence_length)
    passes = options.passes(run, job.micro_batches)
    # A chunk ends where the warm-up does.
    module = TrainingModule(short, source, Cadence(WARM_UP, WARM_UP), None, passes, (), member)
    options.apply(module)
    clock = _Clock()
    on_gpu = train_module(module, [clock], job.accelerator).startswith("cuda")
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return asdict(
        Probe(
            size=shape.label,
            shape=dict(vars(shape)),
            settings=settings_of(run),
            batch_size=run.batch_size,
            kind="gpu" if on_gpu else "cpu",
            device=torch.cuda.get_device_name()
            if on_gpu
            else f"{platform.machine()}, {torch.get_num_threads()} threads",
            devices=member.size,
            strategy=member.strategy,
            micro_batch=-(-options.rows(run) // passes),
            recompute=options.recompute,
            compiled=bool(options.compile),
            step_seconds=clock.step_seconds,
            peak_bytes=peak,
            flops=shape.training_flops(run.tokens_per_step),
            causal_flops=shape.flops_per_token("counted", "causal") * run.tokens_per_step,
            versions={"isoflop": isoflop.__version__, "torch": torch.__version__},
            start_seconds=clock.start_seconds,
        )
    )
