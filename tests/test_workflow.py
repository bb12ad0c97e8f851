"""Whole studies with real training: carrying on, being killed, failing runs, corrupt files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from isoflop import store, table_files, workflow
from isoflop.errors import CorruptFileError, InputError, MissingExtraError, RunError
from isoflop.launching.profiles import LocalProfile
from isoflop.launching.states import failures, states
from isoflop.store import StudyDirectory
from isoflop.tokens.shards import Corpus, Document, publishing, write_corpus
from isoflop.tokens.stream import Utterance

pytestmark = pytest.mark.slow

ONE_WORKER = LocalProfile(workers=1)
COMMAND = [sys.executable, "-c", "from isoflop.cli import main; main()"]
#: A shell's background jobs, and so perhaps these tests, ignore Ctrl-C; a terminal's commands do not.
HEEDING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


def results(directory: Path) -> dict[str, dict[str, float]]:
    """Every loss of every run."""
    place = StudyDirectory(directory)
    found = {run: place.run(run).result() or {} for run in place.run_ids()}
    return {run: {name: value for name, value in result.items() if "loss" in name} for run, result in found.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_content):
    """The small study, run once without a break: its file, its directory, its losses."""
    folder = tmp_path_factory.mktemp("finished")
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(small_content))
    study, place = workflow.open_study(file, directory=folder / "study")
    outcome = workflow.run(study, place.root, LocalProfile(workers=2))
    return file, outcome, results(place.root)


def test_a_study_ends_with_points_a_verdict_and_a_report(finished):
    _, outcome, losses = finished
    assert set(outcome.points["state"]) == {"done"}
    assert len(losses) == len(outcome.points) == 15
    assert outcome.points["loss"].between(0, 5).all()
    assert outcome.points[["loss_text", "loss_semantic", "loss_acoustic_1"]].notna().all().all()
    assert (outcome.law is None) == (outcome.reason is not None)
    place = StudyDirectory(outcome.directory)
    assert place.report_file.read_text().startswith("<!doctype html>")
    assert place.law_file.exists() == (outcome.law is not None)
    assert (place.figures / "profiles.png").exists()
    assert len(table_files.read_table(place.points_file)) == 15
    assert not place.worked_on


def test_run_again_trains_nothing_and_changes_nothing(finished):
    file, outcome, losses = finished
    study, place = workflow.open_study(file, directory=outcome.directory)
    before = {run: place.run(run).result_file.stat().st_mtime_ns for run in losses}
    law = place.law_file.read_text() if place.law_file.exists() else None
    heard = []
    workflow.run(study, place.root, ONE_WORKER, workflow.Watcher(event=heard.append))
    assert heard == []
    assert {run: place.run(run).result_file.stat().st_mtime_ns for run in losses} == before
    assert (place.law_file.read_text() if place.law_file.exists() else None) == law


def test_a_study_directory_is_a_study_and_keeps_its_plan(finished):
    file, outcome, _ = finished
    from_file, _ = workflow.open_study(file)
    from_directory, place = workflow.open_study(outcome.directory)
    assert from_directory == from_file
    assert place.root == outcome.directory
    planned = workflow.plan(from_directory, outcome.directory)
    assert [run.id for run in planned.runs] == list(outcome.points["run"])


def test_a_changed_grid_adds_runs_and_keeps_those_that_left(finished, tmp_path):
    file, outcome, losses = finished
    overrides = ("grid.budgets=[2e8, 3e8]", "grid.sizes=[8, 12, 16]", "grid.min_cells=3")
    study, _ = workflow.open_study(file, overrides)
    copy = tmp_path / "study"
    subprocess.run(["cp", "-r", str(outcome.directory), str(copy)], check=True)
    heard = []
    after = workflow.run(study, copy, ONE_WORKER, workflow.Watcher(event=heard.append))
    assert {event.run for event in heard} == {
        run for run, budget in zip(after.points["run"], after.points["budget"], strict=True) if budget == 3e8
    }
    assert after.points["in_grid"].sum() == 6
    assert len(after.points) == 18
    assert {run: loss for run, loss in results(copy).items() if run in losses} == losses


def test_killed_at_any_moment_and_run_again_it_ends_in_the_same_losses(finished, tmp_path):
    file, _, losses = finished
    directory = tmp_path / "study"
    call = [*COMMAND, "run", str(file), "--dir", str(directory), "--json"]
    moments = random.Random(os.getpid())
    for _ in range(2):
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        before = set(finished_runs(directory))
        deadline = time.monotonic() + 120
        while len(finished_runs(directory)) < len(before) + 2 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(moments.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = {run: StudyDirectory(directory).run(run).result_file.stat().st_mtime_ns for run in finished_runs(directory)}
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["runs"] == {"done": 15}
    assert results(directory) == losses
    assert {run: StudyDirectory(directory).run(run).result_file.stat().st_mtime_ns for run in kept} == kept


def finished_runs(directory: Path) -> list[str]:
    return [path.parent.name for path in directory.glob("runs/*/result.json")]


def test_workers_end_with_a_killed_launcher(finished, tmp_path):
    file, _, _ = finished
    place = StudyDirectory(tmp_path / "study")
    call = [*COMMAND, "run", str(file), "--dir", str(place.root)]
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not finished_runs(place.root) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert place.worked_on
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while place.worked_on:
        assert time.monotonic() < deadline, "a worker outlived its launcher"
        time.sleep(0.05)


def test_a_failed_run_is_named_and_the_others_finish(small_study, tmp_path):
    study = small_study(grid={"budgets": [2e8], "sizes": [8, 12, 16], "tolerance": 0.05, "min_cells": 3})
    place = StudyDirectory(tmp_path)
    victim = workflow.plan(study).runs[1].id
    place.run(victim).metrics_file.mkdir(parents=True)
    outcome = workflow.run(study, tmp_path, ONE_WORKER)
    assert outcome.failed == [victim]
    assert "metrics.csv" in failures(place)[victim]
    assert "Traceback" in (place.run(victim).log / "output.txt").read_text()
    assert (outcome.points["state"] == "done").sum() == 2
    assert outcome.law is None
    place.run(victim).metrics_file.rmdir()
    assert workflow.run(study, tmp_path, ONE_WORKER).failed == []


def test_a_study_whose_runs_all_diverge_says_so(small_study, tmp_path):
    study = small_study(
        grid={"budgets": [2e8], "sizes": [8, 12, 16], "tolerance": 0.05, "min_cells": 3},
        recipe={"base": "tiny", "tokens_per_step": 32, "warmup_steps": 4, "rate_times_width": 1e30},
    )
    with pytest.raises(RunError, match=r"has none: .*diverged"):
        workflow.run(study, tmp_path, ONE_WORKER)


def test_a_corrupt_shard_is_named_and_nothing_is_trained(small_study, small_corpus, tmp_path):
    corpus = tmp_path / "corpus"
    subprocess.run(["cp", "-r", str(small_corpus), str(corpus)], check=True)
    shard = corpus / "shards" / "00000.tokens"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"00000\.tokens is not what was written"):
        workflow.run(small_study(data={"corpus": str(corpus)}), tmp_path / "study", ONE_WORKER)
    assert {path.name for path in (tmp_path / "study").glob("runs/*/*")} == {"run.json"}


def test_two_at_once_are_refused(finished, tmp_path):
    file, _, _ = finished
    study, place = workflow.open_study(file, directory=tmp_path / "study")
    with workflow.hold(place.root), pytest.raises(RunError, match="one launcher at a time"):
        workflow.run(study, place.root, ONE_WORKER, patience=0.1)


def test_what_cannot_be_trained_or_opened_is_refused(small_study, finished, tmp_path):
    abstract = small_study(data={"abstract": {"vocabulary": 40, "unique_tokens": 1e6}})
    assert len(workflow.plan(abstract).runs) == 15
    with pytest.raises(InputError, match="data must be embedded or a corpus to be trained on"):
        workflow.run(abstract, tmp_path / "study")
    with pytest.raises(InputError, match="must be its own --dir"):
        workflow.open_study(finished[1].directory, directory=tmp_path)
    assert not (tmp_path / "study").exists()


def test_ctrl_c_stops_everything_and_loses_nothing(finished, tmp_path):
    file, _, losses = finished
    place = StudyDirectory(tmp_path / "study")
    call = [*COMMAND[:2], f"{HEEDING}; {COMMAND[2]}", "run", str(file), "--dir", str(place.root)]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not finished_runs(place.root):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "stopped; call it again to carry on"
    assert not place.worked_on
    assert {run.state for run in states(place)} <= {"done", "planned"}
    study, _ = workflow.open_study(file)
    workflow.run(study, place.root, LocalProfile(workers=2))
    assert results(place.root) == losses


def test_a_study_of_known_truth_is_read_to_its_recommendation(small_study, tmp_path):
    """Results from L = 1 + 8/N^0.3 + 8/D^0.3, which real training is not needed for."""
    study = small_study(
        data={"abstract": {"vocabulary": 40, "unique_tokens": 1e9}},
        grid={"budgets": [1e9, 4e9, 1.6e10], "sizes": [8, 12, 16, 24, 32, 48, 64, 96]},
    )
    place = StudyDirectory(tmp_path)
    planned = workflow.plan(study)
    store.write_text(place.study_file, study.to_yaml())
    table_files.write_table(place.plan_file, planned.table())
    for run in planned.runs:
        store.write_json(place.run(run.id).run_file, run.to_dict())
        loss = 1 + 8 / run.shape.parameters.total**0.3 + 8 / run.tokens**0.3
        store.write_json(place.run(run.id).result_file, {"run": run.id, "loss": loss})
    outcome = workflow.read(tmp_path)
    assert outcome.reason is None
    assert [minimum.status.value for minimum in outcome.law.minima] == ["interior"] * 3
    assert outcome.recommendation.flops == 1.6e11
    chosen = outcome.recommendation.shape.shape
    assert chosen.training_flops(outcome.recommendation.shape.tokens) == pytest.approx(1.6e11, rel=1e-3)
    assert "smoke test on small models" in place.report_file.read_text()
    assert (place.figures / "optimum.png").exists()

    for run in planned.runs[:16]:
        place.run(run.id).result_file.unlink()
    outcome = workflow.read(tmp_path)
    assert outcome.law is None
    assert "interior minimum" in outcome.reason
    assert not place.law_file.exists()
    assert not (place.figures / "optimum.png").exists()


def test_another_corpus_of_the_same_maker_makes_other_runs(small_study, small_corpus, tmp_path):
    other = Corpus.open(small_corpus)
    documents = [
        Document(f"document-{number}", (Utterance(np.arange(5), np.full((9, 3), number % 8)),), 1.0)
        for number in range(60)
    ]
    with publishing(tmp_path / "corpus") as folder:
        write_corpus(folder, documents, other.layout, fingerprint=other.fingerprint, frame_rate=25.0, holdout=0.2)
    sections = {"training": {"validation_tokens": 64}, "limits": {"epochs": 100}}
    study = small_study(**sections)
    changed = small_study(**sections, data={"corpus": str(tmp_path / "corpus")})
    ids = {run.id for run in workflow.plan(study).runs}
    assert not ids & {run.id for run in workflow.plan(changed).runs}


def test_without_torch_the_extra_is_named_and_nothing_is_written(small_study, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"torch is not installed: pip install 'isoflop\[train\]'"):
        workflow.run(small_study(), tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_failures_outside_the_grid_are_not_the_studys(small_study, tmp_path):
    study = small_study(grid={"budgets": [2e8], "sizes": [8, 12, 16], "tolerance": 0.05, "min_cells": 3})
    victim = workflow.plan(study).runs[0].id
    place = StudyDirectory(tmp_path)
    place.run(victim).metrics_file.mkdir(parents=True)
    assert workflow.run(study, tmp_path, ONE_WORKER).failed == [victim]
    smaller = small_study(grid={"budgets": [2e8], "sizes": [12, 16, 24], "tolerance": 0.05, "min_cells": 3})
    outcome = workflow.run(smaller, tmp_path, ONE_WORKER)
    assert outcome.failed == []
    assert failures(place) == {}
    assert len(outcome.points) == 4


def test_a_trunk_that_the_grid_left_is_forgotten_and_its_checkpoints_stay(small_study, tmp_path):
    place = StudyDirectory(tmp_path)
    old = place.trunk("old")
    old.checkpoints.mkdir(parents=True)
    (old.checkpoints / "step-00000010-0123456789abcdef.pt").touch()
    old.trunk_file.touch()  # as a power cut may leave it
    study = small_study()
    planned = workflow.plan(study)
    workflow.write_plan(study, place, planned)
    assert {branch.trunk for branch in place.branches().values()} == {trunk.id for trunk in planned.trunks}
    assert old.stored() == {10}


def test_runs_that_are_no_plan_s_are_admitted_by_themselves(small_study, tmp_path):
    """As an audit's: the study may have no cells of its own, and its runs may not fit the launcher."""
    runs = workflow.plan(small_study()).runs
    study, place = small_study(grid={"generator": "chosen", "budgets": [2e8, 4e8, 8e8]}), StudyDirectory(tmp_path / "x")
    with pytest.raises(InputError, match="must have some"):
        workflow.admit(study, place)
    workflow.admit(study, place, LocalProfile(), runs)
    with pytest.raises(InputError, match="as many sequences for each"):
        workflow.admit(study, place, LocalProfile(devices_per_run=runs[0].batch_size + 1), runs)
