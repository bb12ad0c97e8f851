"""What a worker executes in a study directory: training, the study's own trainer, or in a rehearsal what pretends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory, probes
from isoflop.training.metrics import Progress

if TYPE_CHECKING:
    from isoflop.planning.probes import Probes
    from isoflop.study import Study
    from isoflop.training.data import Source
    from isoflop.training.options import Options


class Trainer(Protocol):
    """Carries a run on to its result, from wherever it is; see `isoflop.training.run.run`."""

    def __call__(
        self,
        run: Run,
        directory: Path,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        accelerator: str = "cpu",
        micro_batches: int = 1,
    ) -> dict[str, Any]:
        """Train `run` in the study directory `directory` and return its result."""
        ...


def trainer_of(study: StudyDirectory, devices: int = 1) -> Trainer:
    """What executes the runs of `study` on so many devices each, with all that it needs opened and checked: once.

    Torch is imported here, and only where isoflop trains; a study's own trainer is looked for with its first run.

    Raises
    ------
    InputError
        If the corpus is not there.
    CorruptFileError
        If the corpus, or what a rehearsal pretends, is not what was written.
    """
    if study.rehearsed:
        from isoflop.launching import synthetic

        return partial(synthetic.run, conditions=synthetic.Conditions.load(study.rehearsal_file))
    from isoflop.study import Study

    known = Study.load(study.study_file) if study.study_file.exists() else None
    if known is not None and known.trainer is not None:
        from isoflop.launching import own

        corpus = None if known.data.external is not None else study.corpus_of(known).resolve()
        return partial(own.run, trainer=known.trainer, corpus=corpus)
    from isoflop.training.data import open_source

    return partial(_train, source=open_source(study.shards()), options=options_of(known, devices), known=probes(study))


def _train(
    run: Run,
    directory: Path,
    *,
    source: Source,
    options: Options,
    known: Probes,
    on_progress: Callable[[Progress], None] | None = None,
    accelerator: str = "cpu",
    micro_batches: int = 1,
) -> dict[str, Any]:
    """Train `run` as its model fitted where it was probed."""
    from isoflop.training import run as training

    probe = known.of(run, devices=options.devices, kind=accelerator)
    return training.run(
        run,
        directory,
        source=source,
        on_progress=on_progress,
        accelerator=accelerator,
        micro_batches=micro_batches,
        options=options if probe is None else options.as_probed(probe),
    )


def options_of(study: Study | None, devices: int = 1) -> Options:
    """How the runs of `study` are executed on so many devices each."""
    from isoflop.planning.hardware import flops_of_hours
    from isoflop.training.options import Options

    if study is None:
        return Options(devices=devices)
    asked, machine = study.training, study.machine
    return Options(
        micro_batch=study.micro_batch,
        recompute=asked.recompute,
        compile=asked.compile,
        keep_weights=asked.keep_weights,
        validate_every=asked.validate_every or 0,
        flops_per_second=(
            0.0 if machine is None else machine.gpus_per_run * flops_of_hours(1 / 3600, machine, asked.precision)
        ),
        devices=devices,
        sharded=None if machine is None else machine.sharded,
        loggers=asked.logger,
    )
