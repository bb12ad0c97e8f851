"""Train one run: what a job executes.

::

    from isoflop.training.data import open_source
    from isoflop.training.run import run

    source = open_source(StudyDirectory(study).shards())     # once per process
    result = run(planned, study, source=source)              # {"run": …, "loss": …, "loss_text": …, "tokens": …}

`run` writes into ``<study>/runs/<id>/``: ``status.json`` about once a second, ``metrics.csv``, ``validation.csv``,
``checkpoints/``, and last, at once and whole, ``result.json``: from then on the run is done and its checkpoints are
gone. Called again for a run that was interrupted, at whatever moment, it carries on from the newest whole checkpoint;
on a CPU with the same number of threads, the same hardware and the same torch it ends in the same weights and loss, bit
for bit. So it does where others share its stable part and it starts from their trunk, ``<study>/trunks/<id>/`` (see
`isoflop.training.trunks`): the one thing that it writes besides.
Calls leave nothing behind in the process: any number of runs may follow each other in one.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import Callback

import isoflop
from isoflop.errors import Diverged, InputError, RunError
from isoflop.flops import ParamsConvention
from isoflop.planning.runs import TRAINING_REVISION, Run
from isoflop.store import RunDirectory, StudyDirectory, write_json, write_text
from isoflop.training import checkpoints, data, loggers
from isoflop.training.checkpoints import Checkpoint
from isoflop.training.group import Job, train_together
from isoflop.training.metrics import Progress
from isoflop.training.module import Cadence, TrainingModule
from isoflop.training.options import Options
from isoflop.training.parallel import ALONE, Member, room
from isoflop.training.recording import Recorder
from isoflop.training.trunks import KEPT, Trunk

#: Where Lightning tells about accelerators and tips at every start of a Trainer.
_CHATTER = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")
_CADENCE = Cadence()
_OPTIONS = Options()
_PRECISION: dict[str, Literal["32-true", "bf16-mixed"]] = {"32": "32-true", "bf16": "bf16-mixed"}


def run(
    run: Run,
    directory: Path,
    *,
    source: data.Source | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cadence: Cadence = _CADENCE,
    accelerator: str = "cpu",
    micro_batches: int = 1,
    options: Options = _OPTIONS,
) -> dict[str, Any]:
    """Train `run` in the study directory `directory` and return its result.

    Parameters
    ----------
    run
        What to train.
    directory
        The study directory.
    source
        The tokens; None opens the study directory's corpus (and checks every shard: open it once for many runs).
    on_progress
        Called about once a second, and before the result is published; what it raises ends the run, which stays
        resumable. `Interrupted` does so at the next row of metrics, with a checkpoint.
    cadence
        Steps between rows of metrics and between checkpoints; no effect on the result.
    accelerator
        Lightning's name: ``cpu``, ``gpu``, ``auto``.
    micro_batches
        Times as many forward passes a step as `options` ask for, where those do not fit into memory; the result is the
        same to rounding.
    options
        How: what changes the result by rounding at most. Weights that are kept are in ``weights/`` once the result is
        there.

    Returns
    -------
    dict
        ``run`` (its id), ``loss`` and ``loss_<type>`` in nats per token over the held-out tokens, where there is sound
        ``bits_per_audio_second``, where there are several sources ``loss_from_<source>`` and ``by_source``, by type;
        ``tokens``, ``flops`` (counted), ``params`` by convention, ``steps``, forward ``passes`` of one, ``spikes``;
        ``seconds``, ``tokens_per_second`` and ``flops_per_second`` of the work that counted (not of steps that an
        interruption undid, but of ``shared_steps``, those that it found in a checkpoint of its trunk), what was
        ``planned_flops_per_second`` where the study names hardware, and how often it was ``resumed`` from a checkpoint;
        ``corrupt_checkpoints``, the names of those that were not used; ``validation_tokens``, ``device``, ``threads``,
        ``versions``.

    Raises
    ------
    InputError
        If the tokens are not those that the run was planned on, or fewer than one of its sequences, or the devices do
        not divide a step; nothing is written.
    MissingExtraError
        If a logger's package is missing; nothing is written.
    Interrupted
        If `on_progress` raised it.
    Diverged
        If the loss is not finite, or rose and stayed high (`isoflop.training.health`; a `RunError`); the status says
        ``failed``, the cause and the last good point.
    OSError
        If the disk is full, or else does not let us write; the run stays resumable.
    CorruptFileError
        If the result or a whole checkpoint is not this run's, or the trunk's file is not what was written; it names
        the file.
    """
    study = StudyDirectory(directory)
    place = study.run(run.id)
    result = place.result()
    if result is None:
        options.rows(run)
        loggers.check(options.loggers)
        tokens = source or data.open_source(study.shards())
        data.check(tokens, run)
        job = Job(run, directory, cadence, accelerator, micro_batches, options)
        if options.devices == 1:
            result = finish(job, tokens, on_progress)
        elif isinstance(tokens, data.CorpusSource):
            result = train_together(job, tokens.corpus.directory, on_progress)
        else:
            raise InputError(
                f"tokens must be a corpus on disk for a run on {options.devices} devices, but got "
                f"{type(tokens).__name__}"
            )
    # Here, not only after training: a kill may have come between the result and this.
    shutil.rmtree(place.checkpoints, ignore_errors=True)
    return result


def finish(
    job: Job, source: data.Source, on_progress: Callable[[Progress], None] | None = None, member: Member = ALONE
) -> dict[str, Any]:
    """Carry the run of `job` on from where it is to its result: as its only process, or as a `member` of several.

    Of several each must call it; those that do not lead write nothing and return nothing.
    """
    run, options, study = job.run, job.options, StudyDirectory(job.directory)
    place, trunk = study.run(run.id), Trunk(study, run)
    start = None
    if member.leads:
        _sweep(place)
        start = _begin(run, place, trunk)
    if member.size > 1:
        member, start = _agree(job, trunk, member, start)
    trunk.share(member)
    validations = options.validations(run)
    cuts = trunk.cuts, validations
    module = TrainingModule(run, source, job.cadence, start, options.passes(run, job.micro_batches), cuts, member)
    options.apply(module)
    # What another run of the trunk left is a beginning, what the run itself left there is its own.
    resumed = 0 if start is None else start.resumed + (start.run == run.id or start.made_by == run.id)
    recorder = Recorder(module, place, trunk, start, resumed, on_progress, validations, options.loggers)
    try:
        device = train_module(module, [recorder], job.accelerator)
        if not member.leads:
            if options.keep_weights:
                module.state(None)
            return {}
        result = _result(module, recorder, device, options)
        recorder.writer.finish()
    except Diverged as error:
        if member.leads:
            place.write_status("failed", cause="diverged", message=str(error), step=module.done, steps=run.steps)
        raise
    finally:
        # Nothing writes on when this call has ended, however it did.
        recorder.close()
    # Whoever watches may know of another that has taken the run over meanwhile: the validation may have been long.
    if on_progress is not None:
        on_progress(recorder.progress)
    if options.keep_weights:
        weights, nothing = module.state(None)
        kept = Checkpoint(run.id, run.steps, weights, nothing, seconds=recorder.seconds, resumed=recorder.resumed)
        checkpoints.save(place.weights, kept)
    result = place.publish(result)
    place.write_status("done", step=run.steps, steps=run.steps, loss=result["loss"])
    return result


def _begin(run: Run, place: RunDirectory, trunk: Trunk) -> Checkpoint | None:
    """Where the run is carried on, with its directory made ready for that."""
    own = checkpoints.load_newest(place.checkpoints, run.id)
    shared = trunk.newest(after=own.step if own else 0)
    if not place.run_file.exists():
        write_json(place.run_file, run.to_dict())
    if shared is not None:
        write_text(place.metrics_file, shared.metrics)
        if shared.validation:
            write_text(place.validation_file, shared.validation)
    return shared or own


def _agree(job: Job, trunk: Trunk, member: Member, start: Checkpoint | None) -> tuple[Member, Checkpoint | None]:
    """What every member must know as the first one does: the strategy, and where to carry on."""
    run, place = job.run, StudyDirectory(job.directory).run(job.run.id)
    strategy = job.options.strategy(run, room(job.accelerator)) if member.leads else ""
    said = {
        "strategy": strategy,
        "step": 0 if start is None else start.step,
        "own": start is not None and start.run == run.id,
    }
    agreed = json.loads(member.share(json.dumps(said)))
    step = agreed["step"]
    if step and not member.leads:
        # Whole, as the first one has just found; and so not copied into the memory of each.
        if agreed["own"]:
            start = checkpoints.load_newest(place.checkpoints, run.id, after=step - 1, last=step, checked=True)
        else:
            start = trunk.newest(step - 1, step, checked=True)
        if start is None:
            raise RunError(f"the checkpoint of run {run.id} after {step} steps must stand while it starts, but is gone")
    return replace(member, strategy=agreed["strategy"]), start


def _sweep(place: RunDirectory) -> None:
    """Remove what a killed process was in the middle of writing."""
    for directory in (place.root, place.checkpoints, place.checkpoints / KEPT):
        for unfinished in directory.glob(".*"):
            if unfinished.is_file():
                unfinished.unlink(missing_ok=True)


def train_module(module: TrainingModule, callbacks: Sequence[Callback], accelerator: str) -> str:
    """Take the steps that are left, then the validation loss (which ends Lightning's one epoch); returns the device."""
    with _quiet(), _interruptible():
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=module.member.size,
            strategy=module.member.lightning(),
            # Named, or Lightning would find SLURM's by itself, take its ranks for ours and requeue its jobs.
            plugins=[LightningEnvironment()],
            precision=_PRECISION[module.planned.precision],
            callbacks=[*callbacks, _Termination()],
            # The loader ends when the run does; a Trainer is for one run.
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            # Weights that are shared out are made whole in buffers that training takes up again.
            inference_mode=module.member.strategy != "fsdp",
        )
        if module.done < module.planned.steps:
            trainer.fit(module)
        else:
            trainer.validate(module, verbose=False)
        return str(trainer.strategy.root_device)


class _Termination(Callback):
    """Gives SIGTERM back to whom it was told before Lightning takes it to end the process at the next batch."""

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def _give_back(self) -> None:
        if self._handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Before the first step."""
        self._give_back()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Where all steps are done."""
        self._give_back()


def _result(module: TrainingModule, recorder: Recorder, device: str, options: Options) -> dict[str, Any]:
    """The result of a run that has been trained and validated."""
    run, seconds = module.planned, recorder.seconds
    params, flops = run.shape.parameters, run.shape.training_flops(run.tokens)
    if not math.isfinite(module.losses["loss"]):
        good = recorder.health.last_good(run.tokens_per_step)
        raise Diverged(f"run {run.id} diverged: its validation loss is not finite; {good}")
    planned = {"planned_flops_per_second": options.flops_per_second} if options.flops_per_second else {}
    by_source = module.tally.by_source()
    return {
        "run": run.id,
        **module.losses,
        **({"by_source": by_source} if len(by_source) > 1 else {}),
        "tokens": run.tokens,
        "flops": flops,
        "params": {name: params.by(name) for name in get_args(ParamsConvention)},
        "steps": run.steps,
        "passes": module.micro_batches,
        "shared_steps": recorder.shared,
        "spikes": recorder.health.spikes,
        "seconds": seconds,
        "tokens_per_second": run.tokens / seconds,
        "flops_per_second": flops / seconds,
        **planned,
        "resumed": recorder.resumed,
        "corrupt_checkpoints": checkpoints.corrupt(recorder.directory.checkpoints),
        "validation_tokens": module.tally.tokens,
        "device": device,
        "devices": module.member.size,
        "strategy": module.member.strategy,
        "compiled": bool(options.compile),
        "threads": torch.get_num_threads(),
        "versions": {
            "isoflop": isoflop.__version__,
            "training": TRAINING_REVISION,
            "torch": torch.__version__,
            "lightning": lightning.__version__,
        },
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Lightning tells about accelerators, tips and the end of a fit from every run's log."""
    loggers = [logging.getLogger(name) for name in _CHATTER]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 on torch 2.13: its own use of its own pytree.
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            # The name that older versions of torch know.
            warnings.filterwarnings("ignore", r"`broadcast_buffers` is deprecated")
            # A run is one process, whether or not the machine has a cluster's tools.
            warnings.filterwarnings("ignore", r"The `srun` command is available", PossibleUserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the exit that Lightning makes of Ctrl-C back into a KeyboardInterrupt, which callers can handle."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise stop.__context__ from None
        raise
