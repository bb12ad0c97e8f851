"""A study's own trainer, executed: what `isoflop.trainer` promises is done here.

It has the signature of `isoflop.training.run.run` and leaves the same files, so a worker, a launcher and whatever reads
a study directory cannot tell the difference. Nothing of the trainer is imported before a run is taken up: what is wrong
with it is that run's cause of failure, told by its status.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import isoflop
from isoflop.errors import Diverged, InputError
from isoflop.planning.runs import Run
from isoflop.store import RunDirectory, StudyDirectory, write_json
from isoflop.study_ladder import load_target
from isoflop.study_trainer import TrainerChoice
from isoflop.trainer import Assignment, outcome
from isoflop.training.metrics import Progress, add_row, cut_metrics

#: Seconds between two rewritings of the status: soon at first, so that short runs are seen too, then once a second.
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 1.0


def run(
    run: Run,
    directory: Path,
    *,
    trainer: TrainerChoice,
    corpus: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    accelerator: str = "cpu",
    micro_batches: int = 1,
) -> dict[str, Any]:
    """Have `trainer` carry `run` on in the study directory `directory`, and return its result.

    Parameters
    ----------
    run
        What to train.
    directory
        The study directory.
    trainer
        The study's.
    corpus
        Its token shards, where it has some.
    on_progress
        Called about once a second while the trainer tells its progress, and before the result is published; what it
        raises ends the run, which stays resumable.
    accelerator, micro_batches
        Passed on.

    Returns
    -------
    dict
        What the trainer returned (`isoflop.trainer.outcome`), and ``run``, ``params``, ``tokens``, ``flops``,
        ``steps``; ``seconds`` since this start, ``corrupt_checkpoints`` (none known), ``trainer``, which counts it
        ``told`` itself, ``versions``.

    Raises
    ------
    InputError
        If the trainer is not that of the run, cannot be found, or returns what is no result.
    Interrupted
        If `on_progress` raised it and the trainer let it pass.
    Diverged
        If the trainer told a loss that is not finite; the status says ``failed`` and the cause.
    RunError
        If a command failed.
    """
    place = StudyDirectory(directory).run(run.id)
    result = place.result()
    if result is None:
        if run.trainer != trainer.identity:
            raise InputError(
                f"a run must be of the study's trainer, {trainer.identity}, but got one of {run.trainer!r}"
            )
        result = _finish(run, place, trainer, corpus, on_progress, accelerator, micro_batches)
    # Here, not only after training: a kill may have come between the result and this.
    for folder in (place.checkpoints, place.exchange):
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _finish(
    run: Run,
    place: RunDirectory,
    trainer: TrainerChoice,
    corpus: Path | None,
    on_progress: Callable[[Progress], None] | None,
    accelerator: str,
    micro_batches: int,
) -> dict[str, Any]:
    train = _callable(trainer, place.exchange)
    if not place.run_file.exists():
        write_json(place.run_file, run.to_dict())
    for folder in (place.checkpoints, place.outputs):
        folder.mkdir(parents=True, exist_ok=True)
    heart = _Heart(run, place, on_progress)
    assignment = Assignment(
        planned=run,
        checkpoints=place.checkpoints.resolve(),
        outputs=place.outputs.resolve(),
        corpus=corpus,
        accelerator=accelerator,
        micro_batches=micro_batches,
        progress=heart.beat,
    )
    began = time.perf_counter()
    try:
        told = outcome(run, train(assignment))
    except Diverged as error:
        place.write_status("failed", cause="diverged", message=str(error), step=heart.step, steps=run.steps)
        raise
    seconds = time.perf_counter() - began
    # Whoever watches may know of another that has taken the run over meanwhile.
    if on_progress is not None:
        on_progress(Progress(run.steps, run.steps, told["loss"], heart.speed))
    params = run.shape.parameters
    result = {
        "run": run.id,
        "params": params.total,
        "tokens": run.tokens,
        "flops": run.flops,
        **told,
        "steps": run.steps,
        "seconds": seconds,
        "tokens_per_second": heart.speed,
        "corrupt_checkpoints": [],
        "trainer": trainer.identity,
        "told": sorted({"params", "tokens", "flops"} & told.keys()),
        "versions": {"isoflop": isoflop.__version__},
    }
    result = place.publish(result)
    place.write_status("done", step=run.steps, steps=run.steps, loss=result["loss"])
    return result


def _callable(trainer: TrainerChoice, exchange: Path) -> Callable[[Assignment], object]:
    """What trains, of whichever kind."""
    if trainer.command is not None:
        from isoflop.launching.command import Command

        return Command(trainer, exchange)
    if trainer.python is not None:
        train: Callable[[Assignment], object] = load_target(trainer.python, trainer.folder)
        return train
    assert trainer.lightning is not None  # noqa: S101 - held by TrainerChoice
    from isoflop.training.foreign import trained_by

    return trained_by(load_target(trainer.lightning, trainer.folder))


class _Heart:
    """Where a trainer's progress goes: a row of metrics each time, the status and whoever watches about once a second.

    The first beat says where the run carries on: rows from there on are cut away, since its trainer writes them again.
    """

    def __init__(self, run: Run, place: RunDirectory, on_progress: Callable[[Progress], None] | None) -> None:
        self._run = run
        self._place = place
        self._on_progress = on_progress
        self._first: tuple[int, float] | None = None
        self._pause = _FIRST_PAUSE
        self._told = float("-inf")
        self.step = int(place.status().get("step") or 0)
        self.speed = 0.0
        place.write_status("running", step=self.step, steps=run.steps)

    def beat(self, step: int, loss: float | None = None) -> None:
        """See `Assignment.progress`."""
        run, value = self._run, math.nan if loss is None else float(loss)
        if not 0 <= step <= run.steps:
            raise InputError(f"progress must be told of a step from 0 to {run.steps}, but got {step}")
        if loss is not None and not math.isfinite(value):
            raise Diverged(f"run {run.id} diverged: the loss that its trainer told at step {step} is not finite")
        now = time.perf_counter()
        if self._first is None:
            self._first = int(step), now
            cut_metrics(self._place, int(step) - 1)
        self.step = int(step)
        if now > self._first[1]:
            self.speed = (self.step - self._first[0]) * run.tokens_per_step / (now - self._first[1])
        if self.step:
            add_row(self._place, run, self.step, value, math.nan)
        if now - self._told < self._pause and self.step < run.steps:
            return
        if self._told > 0:
            self._pause = min(_LAST_PAUSE, 2 * self._pause)
        self._told = now
        known = {} if loss is None else {"loss": value}
        self._place.write_status("running", step=self.step, steps=run.steps, tokens_per_second=self.speed, **known)
        if self._on_progress is not None and self.step < run.steps:
            self._on_progress(Progress(self.step, run.steps, value, self.speed))
