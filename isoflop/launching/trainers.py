"""What a worker executes in a study directory: training, the study's own trainer, or in a rehearsal what pretends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory
from isoflop.training.metrics import Progress


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


def trainer_of(study: StudyDirectory) -> Trainer:
    """What executes the runs of `study`, with all that it needs opened and checked: once per process.

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
    from isoflop.planning.hardware import flops_of_hours
    from isoflop.study import Study

    known = Study.load(study.study_file) if study.study_file.exists() else None
    if known is not None and known.trainer is not None:
        from isoflop.launching import own

        corpus = None if known.data.external is not None else study.corpus_of(known).resolve()
        return partial(own.run, trainer=known.trainer, corpus=corpus)
    from isoflop.training.data import open_source
    from isoflop.training.options import Options
    from isoflop.training.run import run

    options = Options()
    if known is not None:
        asked, machine = known.training, known.machine
        options = Options(
            known.micro_batch,
            asked.recompute,
            asked.compile,
            asked.keep_weights,
            asked.validate_every or 0,
            0.0 if machine is None else machine.gpus_per_run * flops_of_hours(1 / 3600, machine, asked.precision),
        )
    return partial(run, source=open_source(study.shards()), options=options)
