"""Parts of a study: directories within its own whose runs serve it and are no points of it.

A search's trials and an audit's runs are executed as a study's are, on its corpus, or pretended under its conditions
where it is a rehearsal. What was done in one of the two places need not be done in the other.
"""

from __future__ import annotations

from pathlib import Path

from isoflop import store
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory, read_json
from isoflop.study import Study


def open_part(study: StudyDirectory, part: StudyDirectory, settings: Study) -> None:
    """Write what workers need in `part` of the study at `study`, whose runs are those of `settings`."""
    store.write_text(part.study_file, settings.to_yaml())
    if study.probes_file.exists():
        store.write_json(part.probes_file, read_json(study.probes_file))
    if study.rehearsed:
        store.write_json(part.rehearsal_file, read_json(study.rehearsal_file))
    elif settings.data.embedded and not part.corpus.is_symlink():
        part.corpus.symlink_to(Path("..") / study.corpus.name)


def take_over(study: StudyDirectory, part: StudyDirectory, run: Run) -> None:
    """Write `run` into `part`, and what came of it where the study itself has done it."""
    here, there = part.run(run.id), study.run(run.id)
    if not here.run_file.exists():
        store.write_json(here.run_file, run.to_dict(), durable=False)
    result = None if here.result_file.exists() else there.result()
    if result is not None:
        if there.metrics_file.exists():
            store.write_text(here.metrics_file, there.metrics_file.read_text(encoding="utf-8"))
        here.publish(result)
