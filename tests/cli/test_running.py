"""`run` and `status` on a real small study."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def study_file(small_study, tmp_path):
    study = small_study(grid={"budgets": [2e8, 4e8], "sizes": [8, 12, 16], "tolerance": 0.05, "min_cells": 3})
    path = tmp_path / "small.yaml"
    path.write_text(study.to_yaml())
    return path


def test_run_then_status(isoflop, study_file, tmp_path):
    code, out, err = isoflop("run", study_file, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["runs"] == {"done": 6}
    assert document["law"] is None
    assert document["reason"].startswith("a law needs")
    assert "6/6" in err
    assert (tmp_path / document["report"]).exists()

    code, out, _ = isoflop("status", "studies/small", "--json")
    status = json.loads(out)
    assert status["states"] == {"done": 6}
    assert {row["state"] for row in status["runs"]} == {"done"}
    assert all(row["step"] == row["steps"] for row in status["runs"])
    code, out, _ = isoflop("status", study_file)
    assert code == 0
    assert "small: 6 done" in out


def test_a_failed_run_is_named_and_the_verb_still_exits_0(isoflop, study_file, tmp_path):
    code, out, _ = isoflop("plan", study_file, "--json")
    victim = json.loads(out)["runs"][0]["id"]
    (tmp_path / "studies" / "small" / "runs" / victim / "metrics.csv").mkdir(parents=True)
    code, out, err = isoflop("run", study_file)
    assert code == 0
    assert f"failed: {victim}: " in err
    assert "no law: " in out
    code, out, _ = isoflop("status", study_file, "--json")
    assert json.loads(out)["states"] == {"failed": 1, "done": 5}
    assert "metrics.csv" in next(row["message"] for row in json.loads(out)["runs"] if row["run"] == victim)


def test_status_of_what_is_no_study_exits_2(isoflop, study_file):
    code, _, err = isoflop("status", study_file)
    assert code == 2
    assert "must hold plan.csv" in err


def test_a_wrong_profile_exits_2_before_anything_is_written(isoflop, study_file, tmp_path):
    (tmp_path / "profile.yaml").write_text("workers: none")
    code, _, err = isoflop("run", study_file, "--launcher", tmp_path / "profile.yaml")
    assert code == 2
    assert "profile.yaml" in err
    assert not (tmp_path / "studies").exists()
