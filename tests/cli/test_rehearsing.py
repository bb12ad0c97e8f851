"""`rehearse`, and how a rehearsal shows elsewhere."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def study_file(small_study, tmp_path):
    study = small_study(
        data={"abstract": {"vocabulary": 40, "unique_tokens": 1e9}},
        grid={
            "budgets": [1e9, 4e9, 1.6e10],
            "sizes": [8, 12, 16, 24, 32, 48, 64, 96],
            "prior": {"budget": 4e9, "params": 1e4, "exponent": 0.5},
            "noise": 0.0002,
        },
    )
    path = tmp_path / "small.yaml"
    path.write_text(study.to_yaml())
    return path


def test_rehearse_then_status_then_run(isoflop, study_file):
    code, out, err = isoflop("rehearse", study_file, "--seconds", "0", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["surface"] == "the study's own prior"
    assert document["directory"] == "studies/small-rehearsal"
    assert document["runs"] == {"planned": 24, "done": 24, "failed": 0, "retried": 0}
    assert "24 of 24 runs to do" in err

    code, out, _ = isoflop("status", document["directory"], "--json")
    assert json.loads(out)["simulated"] is True
    assert "small-rehearsal (simulated): 24 done" in isoflop("status", document["directory"])[1]
    code, _, err = isoflop("run", document["directory"])
    assert code == 2
    assert "must not be run in the directory of a rehearsal" in err

    code, out, err = isoflop("rehearse", document["directory"], "--seconds", "0")
    assert code == 0
    assert "24 of 24 runs accounted for: 24 done, 0 failed" in out
    assert "0 of 24 runs to do" in err


def test_wrong_calls_exit_2_and_write_nothing(isoflop, study_file, tmp_path):
    for options in (["--fail", "1.5"], ["--noise", "-1"], ["--surface", "sodi"], ["--launcher", "none.yaml"]):
        code, _, err = isoflop("rehearse", study_file, *options)
        assert (code, "error: " in err) == (2, True), options
    assert not (tmp_path / "studies").exists()
