"""Probing: some real steps of each of a study's models on this machine's devices, before a launcher is let loose.

Each model is tried in processes of its own. Where memory runs out its weights are shared out over the run's devices,
if it has several; then half as many sequences go through at once, and so on down to one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isoflop import store
from isoflop.claims import hold
from isoflop.errors import InputError, RunError
from isoflop.launching.profiles import LocalProfile
from isoflop.launching.trainers import corpora
from isoflop.planning.probes import Probe
from isoflop.planning.runs import Run, trainable
from isoflop.store import StudyDirectory
from isoflop.study import Study


@dataclass(frozen=True)
class Outcome:
    """What came of probing: what was measured, and by run id why the others could not be."""

    probes: tuple[Probe, ...]
    failed: dict[str, str]


def probe(
    study: Study,
    place: StudyDirectory,
    runs: Sequence[Run],
    profile: LocalProfile,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Probe the models of `runs` on what `profile` gives a run, and write down what was measured.

    Parameters
    ----------
    study, place
        Where the options and the tokens are from, and the directory that keeps the measurements. Without a corpus
        there the tokens are uniform.
    runs
        One of each model (see `isoflop.planning.probes.chosen`).
    profile
        Devices of a run, and threads.
    told
        Called with models done and models in all.

    Raises
    ------
    InputError
        If the devices do not divide a step, or a model or the trainer is not one of ours.
    """
    if study.trainer is not None:
        raise InputError("models must be ours to be probed, but got a study with a trainer of its own")
    for run in runs:
        trainable(run)
        profile.check(run)
    tokens = corpora(place, study)
    found: list[Probe] = []
    failed: dict[str, str] = {}
    for number, run in enumerate(runs):
        told(number, len(runs))
        try:
            found.append(_fitting(study, place, run, profile, tokens.get(run.data)))
        except (RunError, InputError, MemoryError) as error:
            failed[run.id] = str(error) or type(error).__name__
            continue
        # At once, so that none is lost with those that follow.
        with hold(place.root, patience=60.0):
            store.write_json(place.probes_file, store.probes(place).added(found[-1]).to_json())
    told(len(runs), len(runs))
    return Outcome(tuple(found), failed)


def _fitting(study: Study, place: StudyDirectory, run: Run, profile: LocalProfile, corpus: Path | None) -> Probe:
    """The probe of one model, in the largest parts that fit."""
    from isoflop.launching.trainers import options_of
    from isoflop.training import group
    from isoflop.training.module import Cadence

    options, times = options_of(study, profile.devices_per_run), 1
    while True:
        job = group.Job(run, place.root, Cadence(), "gpu" if profile.gpus else "cpu", times, options)
        try:
            return Probe.from_json(group.probe(job, corpus, threads=1))
        except MemoryError:
            if options.devices > 1 and options.sharded is None:
                options = replace(options, sharded=True)
            elif options.passes(run, times) < options.rows(run):
                times *= 2
            else:
                raise
