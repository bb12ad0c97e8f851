"""Probing: some real steps of each of a study's models on this machine's devices, before a launcher is let loose.

Each model is tried in processes of its own. Where memory runs out its weights are shared out over the run's devices,
if it has several; then half as many sequences go through at once, and so on down to one. Where the study leaves it open
whether to compile, what fits is tried compiled too, and the faster way over the study's runs of the model is its probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop import store
from isoflop.claims import hold
from isoflop.errors import InputError, RunError
from isoflop.launching.profiles import LocalProfile
from isoflop.launching.trainers import corpora
from isoflop.planning.probes import Probe, one_of_each
from isoflop.planning.runs import Run, trainable
from isoflop.store import StudyDirectory
from isoflop.study import Study

if TYPE_CHECKING:
    from isoflop.training.group import Job


@dataclass(frozen=True)
class Outcome:
    """What came of probing, by the id of the run that each model was tried with.

    Parameters
    ----------
    probes
        What was measured: of two ways the one that is faster over the study's runs of the model.
    slower
        And the other way, where there are two.
    failed, uncompiled
        Why a model could not be probed, and why one that might have been compiled could not be.
    """

    probes: dict[str, Probe] = field(default_factory=dict)
    slower: dict[str, Probe] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    uncompiled: dict[str, str] = field(default_factory=dict)


def models(study: Study, runs: Sequence[Run], profile: LocalProfile) -> dict[Run, float]:
    """What is probed for `runs` of `study`, and their mean steps (see `isoflop.planning.probes.one_of_each`).

    Raises
    ------
    InputError
        If the devices that `profile` gives a run do not divide a step, or a model or the trainer is not one of ours.
    """
    if study.trainer is not None:
        raise InputError("models must be ours to be probed, but got a study with a trainer of its own")
    found = one_of_each(runs)
    for run in found:
        trainable(run)
        profile.check(run)
    return found


def probe(
    study: Study,
    place: StudyDirectory,
    runs: Mapping[Run, float],
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
        One of each model, with the mean steps of the study's runs of it: what `models` gave.
    profile
        Devices of a run, and threads.
    told
        Called with models done and models in all.
    """
    tokens, outcome = corpora(place, study), Outcome()
    for number, (run, steps) in enumerate(runs.items()):
        told(number, len(runs))
        corpus = tokens.get(run.data)
        try:
            job, eager = _fitting(study, place, run, profile, corpus)
        except _FAILS as error:
            outcome.failed[run.id] = _words(error)
            continue
        outcome.probes[run.id] = eager
        # At once, so that none is lost with those that follow.
        _keep(place, eager)
        if job.options.compile is None:
            try:
                compiled = _compiled(job, corpus)
            except (*_FAILS, OSError) as error:
                outcome.uncompiled[run.id] = _words(error)
                known = [eager]
            else:
                known = sorted((eager, compiled), key=lambda each: each.seconds(steps))
                outcome.slower[run.id] = known[1]
            outcome.probes[run.id] = replace(known[0], chosen=True)
            _keep(place, *known[1:], outcome.probes[run.id])
    told(len(runs), len(runs))
    return outcome


def _keep(place: StudyDirectory, *probes: Probe) -> None:
    with hold(place.root, patience=60.0):
        known = store.probes(place)
        for each in probes:
            known = known.added(each)
        store.write_json(place.probes_file, known.to_json())


#: What a model that cannot be probed raises.
_FAILS = (RunError, InputError, MemoryError)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _fitting(
    study: Study, place: StudyDirectory, run: Run, profile: LocalProfile, corpus: Path | None
) -> tuple[Job, Probe]:
    """The probe of one model in the largest parts that fit, and how that was."""
    from isoflop.launching.trainers import options_of
    from isoflop.training.group import Job
    from isoflop.training.module import Cadence

    options, times = options_of(study, profile.devices_per_run), 1
    while True:
        job = Job(run, place.root, Cadence(), "gpu" if profile.gpus else "cpu", times, options)
        try:
            return job, _measured(job, corpus)
        except MemoryError:
            if options.devices > 1 and options.sharded is None:
                options = replace(options, sharded=True)
            elif options.passes(run, times) < options.rows(run):
                times *= 2
            else:
                raise


def _compiled(job: Job, corpus: Path | None) -> Probe:
    """The same compiled, the second time: what was compiled is kept, so that the first costs a machine nothing more."""
    job = replace(job, options=replace(job.options, compile=True))
    _measured(job, corpus)
    return _measured(job, corpus)


def _measured(job: Job, corpus: Path | None) -> Probe:
    from isoflop.training import group

    return Probe.from_json(group.probe(job, corpus, threads=1))
