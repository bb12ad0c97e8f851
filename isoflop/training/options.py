"""How a run is executed: what costs or saves memory and time, and changes its result by rounding at most.

So none of it is part of a run's id. A study's `training` section says it for all of its runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from isoflop.errors import InputError
from isoflop.planning.hardware import Strategy, strategy
from isoflop.planning.probes import Probe
from isoflop.planning.runs import Run, rows_of_each
from isoflop.training.loss import softmax
from isoflop.training.model import Decoder

#: What torch compiles with.
BACKEND = "inductor"


@dataclass(frozen=True)
class Options:
    """How a run is executed.

    Parameters
    ----------
    micro_batch
        Sequences of one forward pass; 0: those of a whole step. The gradients of a step's passes are added up.
    recompute
        Whether only what enters a block is kept for the backward pass, and the rest computed again: a third more
        work, for a fraction of the memory. The result is the same, bit for bit on a CPU.
    compile
        Whether blocks, and what the loss does with a large vocabulary, are compiled. It takes from some seconds to a
        minute a run: not for short ones, nor small models on a CPU.
    keep_weights
        Whether the final weights stay on disk.
    validate_every
        Tokens between two validations on the way; 0: at the end alone.
    flops_per_second
        Training FLOP/s that the plan counts on; 0: it names no hardware.
    devices
        Devices (on a CPU processes) of this machine that train the run together; each takes its rows of every step.
    sharded
        Whether they share out the weights too; None: where these do not fit otherwise (`hardware.strategy`).
    loggers
        Where metrics go beside metrics.csv, by name (`isoflop.training.loggers`).
    """

    micro_batch: int = 0
    recompute: bool = False
    compile: bool = False
    keep_weights: bool = False
    validate_every: int = 0
    flops_per_second: float = 0.0
    devices: int = 1
    sharded: bool | None = None
    loggers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.micro_batch < 0:
            raise InputError(f"micro_batch >= 0 must hold, but got {self.micro_batch}")
        if self.validate_every < 0:
            raise InputError(f"validate_every >= 0 must hold, but got {self.validate_every}")
        if self.devices < 1:
            raise InputError(f"devices >= 1 must hold, but got {self.devices}")

    def rows(self, run: Run) -> int:
        """Sequences of a step of `run` on each device.

        Raises
        ------
        InputError
            If the devices do not divide the step.
        """
        return rows_of_each(run, self.devices)

    def passes(self, run: Run, times: int = 1) -> int:
        """Forward passes of one step of `run`: as many as asked for, and `times` that where it took too much memory."""
        rows = self.rows(run)
        asked = -(-rows // self.micro_batch) if self.micro_batch else 1
        return min(rows, asked * times)

    def as_probed(self, probe: Probe) -> Options:
        """The same with no more sequences at once than fitted where it was tried, and shared out where it had to be."""
        fitting = min(self.micro_batch or probe.micro_batch, probe.micro_batch)
        if fitting == probe.batch_size // probe.devices:
            # A whole step fitted.
            fitting = self.micro_batch
        return replace(self, micro_batch=fitting, sharded=probe.strategy == "fsdp")

    def strategy(self, run: Run, room: float | None) -> Strategy:
        """How the devices train `run` together, with `room` bytes on each (see `hardware.strategy`)."""
        return strategy(run, self.devices, self.micro_batch, self.recompute, self.sharded, room)

    def validations(self, run: Run) -> tuple[int, ...]:
        """Steps of `run` after which it is validated on its way: the first to reach each multiple of so many tokens.

        Nothing in them depends on the run's length: the runs of a trunk agree.
        """
        if not self.validate_every:
            return ()
        times = range(1, run.tokens // self.validate_every + 1)
        steps = {-(-time * self.validate_every // run.tokens_per_step) for time in times}
        return tuple(sorted(step for step in steps if step < run.steps))

    def apply(self, decoder: Decoder) -> None:
        """Make `decoder` compute its blocks so."""
        decoder.recompute = self.recompute
        if self.compile:
            # All blocks of a run share one compiled graph; torch keeps eight, then compiles no more.
            torch.compiler.reset()
            for block in decoder.blocks:
                block.compile(backend=BACKEND, dynamic=False)
            # Its passes over the logits become one or two.
            decoder.chunk = torch.compile(softmax, backend=BACKEND, dynamic=False)
