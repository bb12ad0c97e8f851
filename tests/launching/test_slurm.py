"""Sweeps on a real SLURM cluster: submission. Nothing is lost, nothing doubled, whoever dies when."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from isoflop import workflow
from isoflop.claims import Claims, hold
from isoflop.errors import InputError
from isoflop.launching import slurm
from isoflop.launching.draft import Point
from isoflop.launching.profiles import LocalProfile, load_profile
from isoflop.store import StudyDirectory, read_json, write_json

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ROOT = Path(__file__).parents[2]

#: `isoflop submit` that kills itself at a moment, the so-and-so-manieth time that it comes to it.
DYING = """
import os, signal, sys
from pathlib import Path
from isoflop import workflow
from isoflop.launching import slurm
from isoflop.launching.profiles import load_profile
from isoflop.claims import hold
from isoflop.store import StudyDirectory

place, profile, point, number = StudyDirectory(Path(sys.argv[1])), load_profile(Path(sys.argv[2])), *sys.argv[3:]
reached = []
def die(now):
    reached.append(now)
    if reached.count(point) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
with hold(place.root):
    slurm.submit(place, [place.load_run(run) for run in place.run_ids()], profile, reached=die)
"""


def test_a_rehearsal_of_sodas_study_with_faults_recovers_its_surface(cluster, profile, tmp_path):
    path = profile(classes=[{"workers": 1}], max_parallel=8, options={"time": "10", "mem": "300MB"})
    call = ["--surface", "soda", "--noise", 0.003, "--fail", 0.1, "--launcher", path, "--dir", tmp_path / "r", "--json"]
    found = json.loads(cluster.isoflop("rehearse", ROOT / "grids" / "soda-64.yaml", *call))
    runs = found["runs"]
    assert (runs["planned"], runs["done"] + runs["failed"]) == (64, 64)
    assert all("diverged" in cause for cause in found["failures"].values())
    assert runs["retried"] > 0
    assert found["recovered"], found["exponents"]
    # A study that is to be trained is not submitted where workers only pretend.
    refused = cluster.isoflop(
        "submit", ROOT / "grids" / "soda-64.yaml", "--dir", tmp_path / "r", "--launcher", path, code=2
    )
    assert "must not be run in the directory of a rehearsal" in refused


def test_a_text_share_ablation_on_real_speech_prints_its_table(cluster, profile, prompts, tmp_path):
    """Two hundred prompts in five languages, the transcripts of the others as text alone; three shares, two seeds."""
    with prompts.manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    spoken, written = rows[::5], [row for number, row in enumerate(rows) if number % 5]
    for name, chosen in (("speech", spoken), ("text", written)):
        lines = [json.dumps(row if name == "speech" else {"id": row["id"], "text": row["text"]}) for row in chosen]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    codec = [f"--codec-set={name}" for name in ("semantic_entries=16", "acoustic_entries=16", "acoustic_codebooks=2")]
    sources = [f"speech={tmp_path}/speech.jsonl", f"text={tmp_path}/text.jsonl", "--root", prompts.root]
    cluster.isoflop("tokenize", *sources, "--out", tmp_path / "corpus", "--holdout=0.2", "--workers=2", *codec)
    content = {
        "name": "text-share",
        "data": {"corpus": "corpus"},
        "model": {"sequence_length": 64},
        "recipe": {"base": "tiny", "tokens_per_step": 256, "warmup_steps": 10},
        "grid": {"budgets": [2e9], "sizes": [16], "seeds": 2, "tolerance": 0.05},
        "training": {"validation_tokens": 6400},
        "limits": {"epochs": 10},
        "axes": {"text_share": {"key": "data.text_share", "values": [0, 0.25, 1]}},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    path = profile(
        classes=[{"workers": 1}], max_parallel=3, options={"time": "10", "mem": "1500MB", "cpus_per_task": 1}
    )
    out = cluster.isoflop("run", tmp_path / "study.yaml", "--dir", tmp_path / "runs", "--launcher", path)
    assert "ablation over text_share: 3 arms, held against text_share=0" in out
    table = out.split("audio loss, bits per second of sound, at 2e9 FLOPs, d16\n")[1].split("\n\n")[0].splitlines()
    assert table[0].split() == ["text_share", "mean", "less", "the", "baseline", "p", "seeds", "verdict"]
    cells = [line.split() for line in table[1:]]
    assert [each[0] for each in cells] == ["0", "0.25", "1"]
    # Who trains on text alone knows nothing of sound.
    assert float(cells[2][1]) > 1.2 * float(cells[0][1])
    rows = json.loads((tmp_path / "runs" / "ablation.json").read_text())["rows"]
    assert {len(row["losses"]) for row in rows} == {2}


def test_64_runs_without_accounting_and_with_arrays_of_ten_are_each_done_once(cluster, pretended, profile):
    study = pretended(64, seconds=0.2)
    path = profile(classes=[{"workers": 1}], max_parallel=32, options={"time": "10", "mem": "300MB"})
    submitted = cluster.submit(study.place, path)
    assert submitted["tasks"] == 32
    assert len(submitted["runs"]) == 64
    assert list(submitted["jobs"]) == ["worker-0", "worker-1", "worker-2", "worker-3", "fit"]
    study.wait(90, done=64)
    study.check_done_once()
    # The dependent job fits and reports by itself.
    cluster.wait(60)
    assert study.place.report_file.exists()
    again = cluster.submit(study.place, path)
    assert (again["submission"], again["tasks"], again["waiting"]) == ("", 0, 0)
    study.check_done_once()


@pytest.mark.parametrize(
    ("point", "number"), [*((point, 1) for point in Point), (Point.PART_SUBMITTED, 2), (Point.PART_RECORDED, 2)]
)
def test_a_client_killed_at_any_moment_loses_and_doubles_nothing(cluster, pretended, profile, point, number):
    study = pretended(8)
    # Twelve tasks in two arrays.
    path = profile(classes=[{"workers": 1}], max_parallel=12, options={"time": "10", "mem": "300MB"}, array_limit=4)
    call = [sys.executable, "-c", DYING, study.place.root, path, point, str(number)]
    died = subprocess.run(call, env=cluster.shell, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    again = cluster.submit(study.place, path)
    begun = point in {Point.BEGUN, Point.CODE_KEPT, Point.INTENT_WRITTEN}
    assert bool(again["submission"]) == (begun or again["tasks"] > 0)
    assert cluster.submit(study.place, path)["tasks"] == 0
    study.wait(60, done=8)
    study.check_done_once()
    # What was in the queue and in no file is in one now.
    for folder in study.place.submissions.iterdir():
        for part in read_json(folder / "submission.json")["parts"]:
            assert not (folder / "log").exists() or (folder / f"{part}.sh").exists()


def test_two_who_submit_at_once_submit_once(cluster, pretended, profile):
    study, path = pretended(16, seconds=1), profile()
    call = [sys.executable, "-P", "-m", "isoflop", "submit", study.place.root, "--launcher", path, "--json"]
    shells = [subprocess.Popen(call, env=cluster.shell, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(shell.communicate()[0]) for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0]
    assert sorted(document["tasks"] for document in said) == [0, 4]
    study.wait(60, done=16)
    study.check_done_once()


def test_a_forgotten_job_is_found_by_its_comment(cluster, pretended, profile, monkeypatch):
    study, path = pretended(4, seconds=2), profile()
    submitted = cluster.submit(study.place, path)
    record = study.place.submissions / submitted["submission"] / "worker-0.json"
    record.unlink()
    queue = slurm.look(study.place)
    assert len(queue.workers) == 2
    assert read_json(record) == {"job": submitted["jobs"]["worker-0"], "found": True}
    assert queue.covered == set(submitted["runs"])
    # A copy of the study elsewhere has no part in them.
    shutil.copytree(study.place.root, study.place.root.parent / "copy")
    assert slurm.look(StudyDirectory(study.place.root.parent / "copy")).tasks == ()


def test_the_code_that_was_submitted_runs_whatever_is_edited_meanwhile(cluster, pretended, profile, tmp_path):
    study, path = pretended(4), profile()
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "isoflop", checkout / "isoflop", ignore=shutil.ignore_patterns("__pycache__"))
    cluster.slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        subprocess.run(
            [sys.executable, "-P", "-m", "isoflop", "submit", study.place.root, "--launcher", path],
            env={**cluster.shell, "PYTHONPATH": str(checkout)},
            check=True,
            capture_output=True,
        )
        (checkout / "isoflop" / "launching" / "worker.py").write_text("raise SystemExit('edited')")
        assert study.states == {"planned": 4}
    finally:
        cluster.slurm("scontrol", "update", "PartitionName=main", "State=UP")
    study.wait(60, done=4)
    (origin,) = study.place.code.glob("*.json")
    assert read_json(origin)["version"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "gpuu"}, "SLURM must accept the profile's options, but: sbatch: .*invalid partition"),
        ({"constraint": "nonesuch"}, "SLURM must accept the profile's options, but: sbatch: .*feature"),
    ],
)
def test_a_profile_that_slurm_refuses_submits_nothing(cluster, pretended, profile, options, message):
    study = pretended(4)
    path = profile(options={"time": "10", **options})
    with pytest.raises(InputError, match=message), hold(study.place.root):
        slurm.submit(study.place, study.plan.runs, load_profile(path))
    assert list(study.place.submissions.iterdir()) == []
    assert cluster.tasks() == []


def test_without_slurm_one_message_says_so(pretended, profile, monkeypatch):
    study = pretended(4)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="SLURM's commands must be on the PATH, but squeue is not found"):
        slurm.submit(study.place, study.plan.runs, load_profile(profile()))
    assert not study.place.submissions.exists()


def test_ten_bad_runs_of_64_are_ten_that_are_submitted_again(cluster, pretended, profile):
    study, path = pretended(64, seconds=0.05), profile()
    cluster.submit(study.place, path)
    study.wait(90, done=64)
    cluster.clear()
    bad = [run.id for run in study.plan.runs[:10]]
    for run in bad:
        study.place.run(run).result_file.unlink()
        study.place.run(run).write_status("failed", cause="error", message="it was bad")
    assert cluster.submit(study.place, path)["tasks"] == 0
    again = json.loads(cluster.isoflop("retry", study.place.root, "--json"))
    assert set(again["runs"]) == set(bad)
    study.wait(60, done=64)
    assert {run for run, ends in study.outcomes().items() if ends != ["done"]} == set(bad)


def test_a_canary_that_fails_stops_the_sweep(cluster, pretended, profile):
    good = pretended(8, seconds=0.5)
    longest = max(good.plan.runs, key=lambda run: run.steps).id
    seed = next(
        seed
        for seed in range(1000)
        if (fault := pretended(8, 0.5, 0.2, seed).conditions.fault(longest, 1))
        and fault[0] == "divergence"
        and fault[1] < 0.25  # at its first mark, which a canary reaches
    )
    study = pretended(8, seconds=0.5, fail=0.2, seed=seed)
    cluster.isoflop("submit", study.place.root, "--launcher", profile(), "--canary")
    cluster.wait(60)
    assert study.states["failed"] >= 1
    assert study.states["done"] <= 3
    assert study.place.run(longest).status()["cause"] == "diverged"


def test_a_canary_that_sings_lets_the_sweep_go_on_from_where_it_was(cluster, pretended, profile):
    study = pretended(8, seconds=2)
    said = json.loads(cluster.isoflop("submit", study.place.root, "--launcher", profile(), "--canary", "--json"))
    assert list(said["jobs"]) == ["canary-worker", "worker-0", "fit"]
    study.wait(90, done=8)
    tried = {run for run, ends in study.outcomes().items() if ends == ["given back", "done"]}
    assert 2 <= len(tried) <= 3


def test_a_real_study_on_four_nodes_has_the_local_launchers_losses_to_the_bit(
    cluster, profile, small_content, tmp_path
):
    file = tmp_path / "small.yaml"
    # Four trunks of two runs each.
    grid = {"budgets": [4e8, 8e8], "sizes": [8, 12, 16, 24], "tolerance": 0.05, "min_cells": 4}
    file.write_text(yaml.safe_dump({**small_content, "grid": grid}))
    study, _ = workflow.open_study(file)
    workflow.run(study, tmp_path / "here", LocalProfile(workers=2))
    path = profile(classes=[{"workers": 1}], options={"time": "10", "cpus_per_task": 8})
    done = json.loads(cluster.isoflop("run", file, "--dir", tmp_path / "there", "--launcher", path, "--json"))
    assert done["runs"] == {"done": 8}
    here, there = StudyDirectory(tmp_path / "here"), StudyDirectory(tmp_path / "there")
    assert here.run_ids() == there.run_ids()
    for run in here.run_ids():
        ours, theirs = here.run(run).result(), there.run(run).result()
        assert {name: value for name, value in ours.items() if "loss" in name} == {
            name: value for name, value in theirs.items() if "loss" in name
        }
        assert here.run(run).metrics_file.read_bytes() == there.run(run).metrics_file.read_bytes()
        assert ours["shared_steps"] == theirs["shared_steps"]
    # A worker on each of the four nodes, and a trunk for each.
    branches = there.branches()
    assert len(branches) == 8
    jobs = {claim.crew.job for branch in branches.values() for claim in Claims(there.root).history(branch.trunk)}
    assert len(jobs) == 4


def test_a_study_that_chooses_its_cells_chooses_on_a_cluster_what_it_chooses_here(
    cluster, profile, small_content, tmp_path
):
    file = tmp_path / "small.yaml"
    grid = {"generator": "chosen", "budgets": [1e8, 2e8, 4e8], "sizes": [8, 12, 16, 20, 24], "min_cells": 1}
    grid["prior"] = {"budget": 4e8, "params": 5000}
    file.write_text(yaml.safe_dump({**small_content, "grid": grid}))
    path = profile(classes=[{"workers": 1}], options={"time": "10", "cpus_per_task": 8})
    call = ["run", file, "--until", "ratio±0.001", "--cap", 2.4e9, "--json", "--dir"]
    cluster.isoflop(*call, tmp_path / "here")
    said = json.loads(cluster.isoflop(*call, tmp_path / "there", "--launcher", path))
    here, there = StudyDirectory(tmp_path / "here"), StudyDirectory(tmp_path / "there")
    assert said["until"]["action"] == "cap"
    assert said["runs"] == {"done": len(here.run_ids())}
    assert here.run_ids() == there.run_ids()
    assert read_json(here.choices_file) == read_json(there.choices_file)
    # More than the first cells, which are chosen without a point.
    assert len(read_json(there.choices_file)["choices"]) > 2


@pytest.mark.parametrize("marker", ["search_file", "variations_file"])
def test_runs_of_a_search_or_an_audit_are_run_and_not_fitted(cluster, pretended, profile, marker):
    trials = pretended(4)
    write_json(getattr(trials.place, marker), {})
    with hold(trials.place.root):
        submitted = slurm.submit(trials.place, trials.plan.runs, load_profile(profile()))
    assert set(submitted.jobs) == {"worker-0"}
    trials.wait(60, done=4)
    cluster.wait(30)
    assert not trials.place.report_file.exists()
