"""Probing: in processes of its own, for real; and what is tried where memory runs out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from isoflop import store, workflow
from isoflop.errors import CorruptFileError, InputError, RunError
from isoflop.launching import probing
from isoflop.launching.profiles import LocalProfile, parse_profile
from isoflop.launching.slurm import _timed
from isoflop.launching.trainers import options_of
from isoflop.planning.probes import NONE, Probe, settings_of
from isoflop.store import StudyDirectory
from isoflop.study import Study
from isoflop.study_trainer import TrainerChoice
from isoflop.training import group

STUDY = {
    "name": "probed",
    "data": {"abstract": {"vocabulary": 40, "unique_tokens": 1e12}},
    "model": {"sequence_length": 16},
    "recipe": {"base": "tiny", "tokens_per_step": 64, "warmup_steps": 4},
    "grid": {"budgets": [1e9], "sizes": [8, 16], "tolerance": 0.05, "min_cells": 1},
    "training": {"validation_tokens": 640},
    "hardware": {"accelerator": "cpu", "gpus_per_run": 2},
}


@pytest.fixture
def place(tmp_path: Path) -> StudyDirectory:
    directory = StudyDirectory(tmp_path / "study")
    directory.root.mkdir()
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_models_are_measured_and_the_plan_takes_their_figures(place, devices):
    study = Study.parse(
        {
            **STUDY,
            "hardware": {"accelerator": "cpu", "gpus_per_run": devices},
            "training": {"validation_tokens": 640, "compile": False},
        }
    )
    runs = workflow.plan(study).runs
    told = []
    profile = LocalProfile(devices_per_run=devices)
    outcome = probing.probe(
        study, place, probing.models(study, runs, profile), profile, lambda done, total: told.append((done, total))
    )
    probes = list(outcome.probes.values())
    assert (outcome.failed, outcome.uncompiled) == ({}, {})
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert [probe.size for probe in probes] == [run.shape.label for run in runs]
    assert {probe.strategy for probe in probes} == {"single" if devices == 1 else "ddp"}
    assert outcome.slower == {}
    assert store.probes(place).records == tuple(probes)
    planned = workflow.plan(study, place.root)
    assert planned.estimate.measured_runs == len(planned.runs) == 2
    assert planned.estimate.memory_measured
    hours = [probe.hours(run, run.steps) for probe, run in zip(probes, runs, strict=True)]
    assert planned.estimate.gpu_hours == pytest.approx(sum(hours))
    assert "as measured (isoflop probe)" in " ".join(planned.notes())


@pytest.mark.slow
def test_where_it_is_left_open_a_model_is_tried_compiled_too(place):
    study = Study.parse({**STUDY, "hardware": {"accelerator": "cpu"}})
    runs = workflow.plan(study).runs[:1]
    outcome = probing.probe(study, place, probing.models(study, runs, LocalProfile()), LocalProfile())
    assert (outcome.failed, outcome.uncompiled) == ({}, {})
    (faster,), (slower,) = outcome.probes.values(), outcome.slower.values()
    assert {faster.compiled, slower.compiled} == {True, False}
    assert faster.seconds(runs[0].steps) <= slower.seconds(runs[0].steps)
    assert store.probes(place).records == (slower, faster)


def test_where_memory_runs_out_weights_are_shared_out_then_steps_are_split(place, monkeypatch):
    tried = []

    def short_of_memory(job, corpus, threads):
        assert corpus is None
        tried.append((job.options.sharded, job.options.passes(job.run, job.micro_batches)))
        raise MemoryError("no room")

    monkeypatch.setattr(group, "probe", short_of_memory)
    study = Study.parse({**STUDY, "training": {"validation_tokens": 640, "micro_batch": 2}})
    runs = workflow.plan(study).runs[:1]
    profile = LocalProfile(devices_per_run=2)
    outcome = probing.probe(study, place, probing.models(study, runs, profile), profile)
    assert tried == [(None, 1), (True, 1), (True, 2)]
    assert outcome == probing.Outcome(failed={runs[0].id: "no room"})
    assert not place.probes_file.exists()


def timed(job, seconds, **how):
    """What probing `job` might give."""
    run = job.run
    figures = Probe(
        run.shape.label, dict(vars(run.shape)), settings_of(run), run.batch_size, "cpu", "x86_64", 1, "single",
        run.batch_size, False, bool(job.options.compile), seconds, 1, 1.0, 1.0, {}, **how,
    )  # fmt: skip
    return asdict(figures)


@pytest.mark.parametrize(("start", "compiled"), [(0.1, True), (1e6, False)])
def test_a_model_is_compiled_where_that_pays(place, monkeypatch, start, compiled):
    """Twice as fast, after so many seconds."""
    monkeypatch.setattr(
        group,
        "probe",
        lambda job, corpus, threads: timed(job, 0.5, start_seconds=start) if job.options.compile else timed(job, 1.0),
    )
    study = Study.parse({**STUDY, "hardware": {"accelerator": "cpu"}})
    run = workflow.plan(study).runs[0]
    outcome = probing.probe(study, place, probing.models(study, [run], LocalProfile()), LocalProfile())
    assert (outcome.probes[run.id].compiled, outcome.probes[run.id].chosen) == (compiled, True)
    assert (outcome.slower[run.id].compiled, outcome.slower[run.id].chosen) == (not compiled, False)
    known = store.probes(place)
    assert known.of(run, devices=1, compiled=None) == outcome.probes[run.id]
    assert options_of(study).as_probed(outcome.probes[run.id]).compile is compiled
    # What the study says is not overruled.
    for said in (True, False):
        asked = Study.parse({**STUDY, "training": {"validation_tokens": 640, "compile": said}})
        assert options_of(asked).as_probed(outcome.probes[run.id]).compile is said
        assert known.of(run, devices=1, compiled=said).compiled is said


@pytest.mark.parametrize("error", [RunError("no C++ compiler"), PermissionError(13, "no C++ compiler")])
def test_where_nothing_compiles_that_is_said_and_the_rest_stands(place, monkeypatch, error):
    def without_compiler(job, corpus, threads):
        if job.options.compile:
            raise error
        return timed(job, 1.0)

    monkeypatch.setattr(group, "probe", without_compiler)
    study = Study.parse({**STUDY, "hardware": {"accelerator": "cpu"}})
    run = workflow.plan(study).runs[0]
    outcome = probing.probe(study, place, probing.models(study, [run], LocalProfile()), LocalProfile())
    assert outcome.uncompiled == {run.id: str(error)}
    assert store.probes(place).records == (outcome.probes[run.id],)


def test_devices_that_do_not_divide_a_step_are_refused():
    runs = workflow.plan(Study.parse(STUDY)).runs
    with pytest.raises(InputError, match="each of a run's 3 devices"):
        probing.models(Study.parse(STUDY), runs, LocalProfile(devices_per_run=3))


def test_a_trainer_of_the_studys_own_is_not_ours_to_probe():
    study = Study.parse(STUDY)
    own = study.model_copy(update={"trainer": TrainerChoice(python="mine:train")})
    with pytest.raises(InputError, match="a trainer of its own"):
        probing.models(own, workflow.plan(study).runs, LocalProfile())


def test_a_file_of_something_else_is_named(place):
    place.probes_file.write_text(json.dumps({"probes": [{"size": 1}]}))
    with pytest.raises(CorruptFileError, match=r"probes\.json"):
        workflow.plan(Study.parse(STUDY), place.root)


def test_options_are_the_studys():
    study = Study.parse({**STUDY, "training": {"validation_tokens": 640, "logger": "tensorboard", "recompute": True}})
    options = options_of(study, 2)
    assert (options.micro_batch, options.devices, options.sharded, options.recompute) == (1, 2, None, True)
    assert options.loggers == ("tensorboard",)
    assert options_of(None).devices == 1


def test_a_task_without_a_time_limit_gets_that_of_its_longest_run():
    """Two hours a run on two devices, and half as much again; a limit that is said stays."""
    runs = workflow.plan(Study.parse(STUDY)).runs
    probes = NONE
    for run in runs:
        figures = ("ddp", 1, False, False, 2 * 3600 / run.steps, 1, 1.0, 1.0, {})
        shape = dict(vars(run.shape))
        probes = probes.added(Probe("x", shape, settings_of(run), run.batch_size, "gpu", "H100", 2, *figures))
    content = {"launcher": "slurm", "options": {"gpus_per_node": 2}, "classes": [{"devices_per_run": 2}]}
    profile = parse_profile(content, "profile")
    assert _timed(profile, runs, probes).classes[0].options.minutes == 180
    assert _timed(profile, runs, NONE) == profile
    said = parse_profile({**content, "options": {"gpus_per_node": 2, "time": "10"}}, "profile")
    assert _timed(said, runs, probes) == said
