"""How a run is executed: what costs or saves memory and time, and changes its result by rounding at most.

So none of it is part of a run's id. A study's `training` section says it for all of its runs.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from isoflop.errors import InputError
from isoflop.planning.hardware import CHUNKED_VOCABULARY, Strategy, strategy
from isoflop.planning.probes import Probe
from isoflop.planning.runs import Run, rows_of_each
from isoflop.training.loss import ending, softmax, training_loss
from isoflop.training.module import TrainingModule

#: What torch compiles with.
BACKEND = "inductor"
#: Up to so many blocks a model is compiled as one: a tenth faster than block by block where steps take milliseconds,
#: but what it takes to compile grows with each.
WHOLE_LAYERS = 8


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
        Whether the model and its loss are compiled; None: where a probe of the model found that it pays. It takes up
        to half a minute for the first run of a shape on a machine, a second or two for the others.
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
    compile: bool | None = None
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
        """The same with no more sequences at once than fitted where it was tried, shared out and compiled as there."""
        fitting = min(self.micro_batch or probe.micro_batch, probe.micro_batch)
        if fitting == probe.batch_size // probe.devices:
            # A whole step fitted.
            fitting = self.micro_batch
        compiled = probe.compiled if self.compile is None else self.compile
        return replace(self, micro_batch=fitting, sharded=probe.strategy == "fsdp", compile=compiled)

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

    def apply(self, module: TrainingModule) -> None:
        """Have `module` train so."""
        decoder = module.decoder
        decoder.recompute = self.recompute
        if not self.compile:
            return
        _keep_private()
        # All blocks of a run share one compiled graph; torch keeps eight, then compiles no more.
        torch.compiler.reset()
        compiled = partial(torch.compile, backend=BACKEND, dynamic=False)
        module.compiled = True
        shape = decoder.shape
        whole = shape.n_layers <= WHOLE_LAYERS and shape.vocabulary < CHUNKED_VOCABULARY
        if whole and not self.recompute and module.member.strategy != "fsdp":
            module.loss = compiled(training_loss)
        else:
            for block in decoder.blocks:
                block.compile(backend=BACKEND, dynamic=False)
            # Their passes over the logits become one or two.
            module.loss = partial(training_loss, chunk=compiled(softmax), end=compiled(ending))


def _keep_private() -> None:
    """Have torch keep what it compiles where nobody else writes: it is loaded, and executed, by the next run.

    By itself torch takes (and sets) a folder by the user's name in that for temporary files, whoever made it. Ours is
    there too, since it is the machine's own: what is compiled is for its processor.

    Raises
    ------
    InputError
        If somebody else has made that folder, or may write there.
    """
    name, its_own = "TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "torchinductor_")
    if not os.environ.get(name, its_own).startswith(its_own):
        return
    place = Path(tempfile.gettempdir()) / f"isoflop-compiled-{os.getuid()}"
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise InputError(
            f"what torch compiles must lie where nobody else writes, but {place} is another's or open to others; "
            f"remove it, or name a folder of yours in {name}"
        )
    os.environ[name] = str(place)
