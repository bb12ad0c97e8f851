"""`status`, `logs`, `cancel` and `retry` on a study that nobody works on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from isoflop import store, table_files, workflow
from isoflop.store import StudyDirectory
from isoflop.study import Study


@pytest.fixture
def place(tmp_path):
    """Six planned runs: one done, one failed."""
    study = Study.parse({"name": "x", "grid": {"budgets": [2.5e10, 1.2e11], "sizes": [8, 12, 16], "min_cells": 3}})
    made = workflow.plan(study)
    place = StudyDirectory(tmp_path / "x")
    store.write_text(place.study_file, study.to_yaml())
    for run in made.runs:
        store.write_json(place.run(run.id).run_file, run.to_dict())
    table_files.write_table(place.plan_file, made.table())
    first, second = (run.id for run in made.runs[:2])
    place.run(first).publish({"run": first, "loss": 3.5})
    place.run(second).write_status("failed", cause="diverged", message="at step 3 of [/data/x]", step=3)
    place.run(second).log.mkdir()
    (place.run(second).log / "output.txt").write_text("Traceback: it was so\n")
    return place


def test_status_shows_budgets_what_was_spent_and_why_runs_failed(isoflop, place):
    code, out, _ = isoflop("status", place.root)
    assert code == 0
    assert "x: 1 done, 4 planned, 1 failed" in out
    assert "1/3" in out
    # As it was written: a terminal's markup has brackets too.
    assert "diverged: at step 3 of [/data/x] [lower the recipe's rate" in " ".join(out.split())
    document = json.loads(isoflop("status", place.root, "--json")[1])
    assert document["states"] == {"done": 1, "failed": 1, "planned": 4}
    assert document["flops"]["spent"] < document["flops"]["planned"]
    assert document["queue"] == {"pending": 0, "running": 0, "reasons": [], "silent": None}
    assert {run["cause"] for run in document["runs"]} == {None, "diverged"}
    assert isoflop("status", place.root, "--json", "--watch")[0] == 2


def test_logs_of_a_run_by_the_beginning_of_its_name(isoflop, place):
    failed = next(run for run in place.run_ids() if place.run(run).status()["state"] == "failed")
    assert isoflop("logs", place.root, failed[:-3]) == (0, "Traceback: it was so\n", "")
    assert isoflop("logs", place.root, failed, "-f")[1] == "Traceback: it was so\n"
    code, _, err = isoflop("logs", place.root, "d")
    assert code == 2
    assert "RUN must be the id of one run" in err
    assert isoflop("logs", place.root, "../x")[0] == 2


def test_cancel_then_retry(isoflop, place):
    assert json.loads(isoflop("cancel", place.root, "--json")[1])["tasks"] == 0
    assert json.loads(isoflop("status", place.root, "--json")[1])["states"] == {"done": 1, "failed": 1, "cancelled": 4}
    code, out, _ = isoflop("retry", place.root)
    assert (code, out.split()[0]) == (0, "5")
    assert json.loads(isoflop("status", place.root, "--json")[1])["states"] == {"done": 1, "planned": 5}
    assert json.loads(isoflop("retry", place.root, "--json")[1])["runs"] == []


def test_a_launcher_that_is_no_clusters_is_refused(isoflop, place, tmp_path):
    profile = tmp_path / "local.yaml"
    profile.write_text("launcher: local")
    code, _, err = isoflop("submit", place.root, "--launcher", profile)
    assert code == 2
    assert "must be a profile with launcher: slurm, but got 'local'" in err


def test_status_asks_no_queue_where_nothing_was_submitted_and_loads_no_tables(place):
    script = (
        "import contextlib, sys\n"
        "from isoflop.cli import main\n"
        "sys.argv[1:] = ['status', sys.argv[1]]\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print([m for m in ('pandas', 'numpy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, place.root],
        env={**os.environ, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
