"""A trainer that only pretends: it sleeps, and its loss is that of a law of known truth with noise on it.

It has the signature of `isoflop.training.run.run`, leaves the same files, resumes where it was interrupted, and fails
as often as it is asked to: so a launcher, a store and a fit meet all that a sweep is made of, without torch, a token or
a GPU. What it pretends stands in ``<study>/rehearsal.json`` (`Conditions`). Runs that share a trunk start from it, as
trained ones do, and take the time of what they add.

Noise and faults are drawn from the seed and the run's id (its trunk's, for noise), the faults from the number of the
attempt too. So every process draws the same, and a retry may succeed where an attempt failed.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, NoReturn, Self, get_args

import numpy as np

import isoflop
from isoflop.errors import CorruptFileError, Diverged, InputError
from isoflop.fitting.cost import CostModel
from isoflop.flops import ParamsConvention
from isoflop.planning.prior import Line, Prior, Surface, Valley
from isoflop.planning.runs import TRAINING_REVISION, Run
from isoflop.store import RunDirectory, StudyDirectory, TrunkDirectory, read_json, write_json, write_text
from isoflop.training.metrics import Progress, add_row, cut_metrics

#: At every mark a row of metrics, a pretended checkpoint and a status are written: this many seconds apart at most, and
#: this many of them in a run at least.
_MARK_SECONDS = 0.5
_FEWEST_MARKS = 4

Fault = Literal["crash", "error", "divergence", "preemption"]


@dataclass(frozen=True)
class BestRate:
    """What a peak rate costs that is not the best: ln loss rises by curvature·ln²(rate/best), for a search to find.

    Parameters
    ----------
    scale, width_exponent, batch_exponent
        The best: scale · d_model^width_exponent · (sequences a step)^batch_exponent.
    curvature
        Of ln loss in ln rate; no unit.
    """

    scale: float
    width_exponent: float
    batch_exponent: float
    curvature: float

    def of(self, run: Run) -> float:
        """The best peak rate of a run like `run`."""
        by_width = math.pow(run.shape.d_model, self.width_exponent)
        return self.scale * by_width * math.pow(run.batch_size, self.batch_exponent)

    def cost(self, run: Run) -> float:
        """How far ln loss of `run` lies above what its best rate would give."""
        return self.curvature * math.log(run.learning_rate / self.of(run)) ** 2


@dataclass(frozen=True)
class Conditions:
    """What a rehearsal pretends.

    Parameters
    ----------
    prior, cost
        The law that is the truth, and C(N, D) along the study's ladder.
    noise
        Sd of one run's ln loss; runs of one trunk share theirs, as they would share their weights and data.
    fail
        Probability that an attempt at a run meets a fault, each kind as often as the others.
    seed
        Of the noise and the faults.
    seconds_per_flop
        How long a training FLOP takes.
    rate
        What rates cost; None: nothing, every rate is the best.
    """

    prior: Prior
    cost: CostModel
    noise: float
    fail: float
    seed: int
    seconds_per_flop: float
    rate: BestRate | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise InputError(f"noise must be the sd of ln loss, 0 or more, but got {self.noise}")
        if not 0 <= self.fail < 1:
            raise InputError(f"0 <= fail < 1 must hold, but got {self.fail}")
        if self.seed < 0:
            raise InputError(f"seed >= 0 must hold, but got {self.seed}")
        if not (math.isfinite(self.seconds_per_flop) and self.seconds_per_flop >= 0):
            raise InputError(f"seconds of a FLOP must be finite and 0 or more, but got {self.seconds_per_flop}")

    def truth(self, run: Run, tokens: int) -> float:
        """Loss of the model of `run` after `tokens` tokens, without noise, in nats per token."""
        params = float(run.shape.parameters.total)
        best = float(self.prior.loss(np.array([params]), self.cost.flops(params, float(tokens)), self.cost)[0])
        return best if self.rate is None else best * math.exp(self.rate.cost(run))

    def loss(self, run: Run) -> float:
        """Final loss of `run`, in nats per token."""
        return self.truth(run, run.tokens) * math.exp(self.noise * NormalDist().inv_cdf(self._draw("noise", run.trunk)))

    def fault(self, run_id: str, attempt: int) -> tuple[Fault, float] | None:
        """What befalls an `attempt` (from 1) at a run, and how far through what is left of it; None: nothing."""
        if self._draw("fault", run_id, attempt) >= self.fail:
            return None
        kinds = get_args(Fault)
        return kinds[int(self._draw("kind", run_id, attempt) * len(kinds))], self._draw("moment", run_id, attempt)

    def _draw(self, *names: object) -> float:
        """A number between 0 and 1, uniform over seeds and names, the same in every process."""
        text = ":".join(map(str, (self.seed, *names)))
        return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") + 0.5) / 2**48

    def to_json(self) -> dict[str, Any]:
        """Plain values at full precision."""
        return asdict(self)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `to_json` gave, equal; `CorruptFileError` names the file where it is none."""
        record = read_json(path)
        try:
            prior, cost = record["prior"], record["cost"]
            surface, line = prior["surface"], prior["line"]
            return cls(
                Prior(
                    str(prior["name"]),
                    str(prior["source"]),
                    surface=None if surface is None else Surface(**surface),
                    line=None if line is None else Line(**line),
                    valley=Valley(**prior["valley"]),
                    counts=prior.get("counts"),
                ),
                CostModel(**{**cost, "coefficients": tuple(cost["coefficients"])}),
                noise=float(record["noise"]),
                fail=float(record["fail"]),
                seed=int(record["seed"]),
                seconds_per_flop=float(record["seconds_per_flop"]),
                rate=None if record.get("rate") is None else BestRate(**record["rate"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(f"{path} must hold what a rehearsal pretends, but: {error!r}") from error


@dataclass(frozen=True)
class Pretence:
    """The checkpoint of a run that is not trained: how far it has come, in which attempt, after how many seconds."""

    step: int = 0
    attempts: int = 0
    seconds: float = 0.0

    @classmethod
    def load(cls, place: RunDirectory) -> Self:
        """The run's checkpoint, or that of a run not begun; `CorruptFileError` names a file that is none."""
        path = cls.path(place)
        if not path.exists():
            return cls()
        try:
            return cls(**read_json(path))
        except TypeError as error:
            raise CorruptFileError(f"{path} must be a pretended checkpoint, but: {error}") from error

    def save(self, place: RunDirectory) -> None:
        """Write it in place of the one before."""
        write_json(self.path(place), dict(vars(self)), durable=False)

    @classmethod
    def of_trunk(cls, trunk: TrunkDirectory, run: Run) -> tuple[Self, str]:
        """What `run` can start from: the furthest checkpoint up to its branch, and the metrics up to there."""
        steps = [step for step in trunk.stored() if step <= run.branch_step]
        if not steps:
            return cls(), ""
        path = cls.path_in(trunk, max(steps))
        record = read_json(path)
        try:
            return cls(step=max(steps), seconds=record["seconds"]), record["metrics"]
        except KeyError as error:
            raise CorruptFileError(f"{path} must be a pretended checkpoint, but lacks {error}") from error

    def keep(self, trunk: TrunkDirectory, place: RunDirectory) -> None:
        """Keep it for the runs that branch off here, unless one stands."""
        if self.step not in trunk.stored():
            metrics = place.metrics_file.read_text(encoding="utf-8")
            write_json(self.path_in(trunk, self.step), {"seconds": self.seconds, "metrics": metrics})

    @staticmethod
    def path_in(trunk: TrunkDirectory, step: int) -> Path:
        """Where it lives for a trunk's branch after `step` steps."""
        return trunk.checkpoints / f"step-{step:08d}.json"

    @staticmethod
    def path(place: RunDirectory) -> Path:
        """Where it lives: beside a trained run's checkpoints, and gone as they are once the run is done."""
        return place.checkpoints / "pretended.json"


def run(
    run: Run,
    directory: Path,
    *,
    conditions: Conditions | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    accelerator: str = "cpu",
    micro_batches: int = 1,
) -> dict[str, Any]:
    """Pretend to train `run` in the study directory `directory` and return its result.

    Call it in a worker: where a crash or a preemption is drawn, the process that called it dies of it.

    Parameters
    ----------
    run
        What to pretend.
    directory
        The study directory.
    conditions
        What is pretended; None reads the study directory's.
    on_progress
        Called at every mark; what it raises ends the run, which stays resumable.
    accelerator, micro_batches
        As training's; they change nothing here.

    Returns
    -------
    dict
        As training's, without losses by type, and with ``simulated``, true, and ``attempts``, those it took.

    Raises
    ------
    Diverged
        If a divergence was drawn; the status says ``failed`` and the cause.
    RuntimeError
        If an error was drawn.
    CorruptFileError
        If a file is not what was written; it names the file.
    """
    study = StudyDirectory(directory)
    place = study.run(run.id)
    result = place.result()
    if result is None:
        result = _finish(run, study, conditions or Conditions.load(study.rehearsal_file), on_progress)
    shutil.rmtree(place.checkpoints, ignore_errors=True)
    return result


def _finish(
    run: Run, study: StudyDirectory, conditions: Conditions, on_progress: Callable[[Progress], None] | None
) -> dict[str, Any]:
    """Carry the run on from where it is to its result, unless something befalls it."""
    place, trunk = study.run(run.id), study.trunk(run.trunk)
    earlier, (shared, metrics) = Pretence.load(place), Pretence.of_trunk(trunk, run)
    attempt = earlier.attempts + 1
    if not place.run_file.exists():
        write_json(place.run_file, run.to_dict())
    if shared.step > earlier.step:
        earlier = shared
        write_text(place.metrics_file, metrics)
    begun = earlier.step
    # Before anything can befall it: the next attempt draws anew.
    Pretence(begun, attempt, earlier.seconds).save(place)
    cut_metrics(place, begun)
    place.write_status("running", step=begun, steps=run.steps)
    cuts = {step for step in trunk.branches().values() if begun < step <= run.branch_step}
    marks = sorted({*_marks(run, begun, conditions), *cuts})
    fault = conditions.fault(run.id, attempt)
    struck = None if fault is None else int(fault[1] * len(marks))
    began, done = time.perf_counter(), begun
    for number, mark in enumerate(marks):
        if fault is not None and number == struck:
            _strike(fault[0], run, place, done)
            # A preemption's signal has been heard: whoever watches stops the run here, not a mark later.
            if on_progress is not None:
                on_progress(Progress(done, run.steps, math.nan, 0.0))
        # Until then, not for so long: what is written at the marks is a part of what a run takes.
        due = began + conditions.seconds_per_flop * run.flops * (mark - begun) / run.steps
        time.sleep(max(0.0, due - time.perf_counter()))
        done, spent = mark, time.perf_counter() - began
        loss = conditions.truth(run, done * run.tokens_per_step)
        add_row(place, run, done, loss, math.nan)
        if done in cuts:
            Pretence(done, seconds=earlier.seconds + spent).keep(trunk, place)
        progress = Progress(done, run.steps, loss, (done - begun) * run.tokens_per_step / spent)
        if done < run.steps:
            Pretence(done, attempt, earlier.seconds + spent).save(place)
            place.write_status("running", **vars(progress))
        if on_progress is not None:
            on_progress(progress)
    result = _result(run, conditions, attempt, earlier.seconds + time.perf_counter() - began)
    result = place.publish(result)
    place.write_status("done", step=run.steps, steps=run.steps, loss=result["loss"])
    return result


def _marks(run: Run, begun: int, conditions: Conditions) -> list[int]:
    """The steps after `begun` at which something is written, the last one the run's."""
    seconds = conditions.seconds_per_flop * run.flops * (run.steps - begun) / run.steps
    count = max(_FEWEST_MARKS, math.ceil(seconds / _MARK_SECONDS))
    return sorted({round(step) for step in np.linspace(begun, run.steps, count + 1)[1:].tolist()} - {begun})


def _strike(fault: Fault, run: Run, place: RunDirectory, done: int) -> None:
    """Let `fault` befall the run; returns only where a preemption's signal is handled by the caller's process."""
    sys.stderr.write(f"simulated {fault} of {run.id} at step {done}\n")
    sys.stderr.flush()
    if fault == "crash":
        # As the kernel's memory killer does.
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "preemption":
        os.kill(os.getpid(), signal.SIGTERM)
    elif fault == "error":
        raise RuntimeError(f"simulated error at step {done} of {run.steps}")
    else:
        _diverge(run, place, done)


def _diverge(run: Run, place: RunDirectory, done: int) -> NoReturn:
    error = Diverged(f"run {run.id} diverged: simulated, at step {done} of {run.steps}")
    place.write_status("failed", cause="diverged", message=str(error), step=done, steps=run.steps)
    raise error


def _result(run: Run, conditions: Conditions, attempts: int, seconds: float) -> dict[str, Any]:
    params = run.shape.parameters
    return {
        "run": run.id,
        "simulated": True,
        "attempts": attempts,
        "loss": conditions.loss(run),
        "tokens": run.tokens,
        "flops": run.shape.training_flops(run.tokens),
        "params": {name: params.by(name) for name in get_args(ParamsConvention)},
        "steps": run.steps,
        "seconds": seconds,
        "tokens_per_second": run.tokens / seconds,
        "resumed": attempts - 1,
        "corrupt_checkpoints": [],
        "validation_tokens": run.validation_tokens,
        "device": "simulated",
        "threads": 1,
        "versions": {"isoflop": isoflop.__version__, "training": TRAINING_REVISION},
    }
