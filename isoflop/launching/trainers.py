"""What a worker executes in a study directory: training, the study's own trainer, or in a rehearsal what pretends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory, probes
from isoflop.training.metrics import Progress

if TYPE_CHECKING:
    from isoflop.planning.probes import Probes
    from isoflop.study import Study
    from isoflop.study_trainer import TrainerChoice
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
        return partial(_hand_over, trainer=known.trainer, corpora=corpora(study, known))
    from isoflop.training.data import open_source

    folders = [study.shards()] if known is None else study.corpora_of(known)
    opened = [open_source(folder) for folder in folders]
    sources = {name: source for source in reversed(opened) for name in source.names}
    return partial(_train, sources=sources, options=options_of(known, devices), known=probes(study))


def corpora(place: StudyDirectory, study: Study) -> dict[str, Path]:
    """Where the corpora of `study` lie that stand, by what runs call them (`Run.data`)."""
    from isoflop.tokens.shards import Corpus

    opened = [Corpus.open(folder) for folder in place.corpora_of(study) if Corpus.stands(folder)]
    return {name: corpus.directory for corpus in opened for name in (corpus.fingerprint, corpus.digest)}


def _hand_over(
    run: Run, directory: Path, *, trainer: TrainerChoice, corpora: Mapping[str, Path], **how: Any
) -> dict[str, Any]:
    """Have the study's own `trainer` train `run` on the corpus that it was planned on."""
    from isoflop.launching import own

    corpus = corpora.get(run.data)
    return own.run(run, directory, trainer=trainer, corpus=None if corpus is None else corpus.resolve(), **how)


def _train(
    run: Run,
    directory: Path,
    *,
    sources: Mapping[str, Source],
    options: Options,
    known: Probes,
    on_progress: Callable[[Progress], None] | None = None,
    accelerator: str = "cpu",
    micro_batches: int = 1,
) -> dict[str, Any]:
    """Train `run` on the tokens that it was planned on, as its model fitted where it was probed.

    One that was planned on others is refused by training, with both names.
    """
    from isoflop.training import run as training

    probe = known.of(
        run, devices=options.devices, kind=accelerator, recompute=options.recompute, compiled=options.compile
    )
    return training.run(
        run,
        directory,
        source=sources.get(run.data, next(iter(sources.values()))),
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
