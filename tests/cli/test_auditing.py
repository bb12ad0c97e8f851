"""`audit`: what it takes, what it finds, and where its directory is no study."""

from __future__ import annotations

import json

import pytest

from isoflop import rehearsal, workflow
from isoflop.launching.profiles import LocalProfile
from isoflop.study import Study


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """A finished rehearsal of rates that change nothing."""
    study = Study.parse(
        {
            "name": "known",
            "data": {"abstract": {"vocabulary": 1024, "unique_tokens": 1e12}},
            "model": {"sequence_length": 256},
            "recipe": {"base": "marin-2025", "width_step": 64, "head_size": 64},
            "grid": {
                "generator": "centred",
                "budgets": [3e17, 1e18, 3e18],
                "runs_per_budget": 6,
                "width": 8,
                "prior": "besiroglu2024",
                "noise": 0.001,
            },
        }
    )
    planned, place = workflow.plan(study), tmp_path_factory.mktemp("known") / "known-rehearsal"
    pretended = rehearsal.conditions(planned, rehearsal.surface(None, study), seconds=0.0)
    rehearsal.rehearse(planned, place, pretended, profile=LocalProfile(workers=1))
    return place


@pytest.mark.slow
def test_an_audit_is_planned_run_reported_and_carried_on(isoflop, rehearsed, tmp_path):
    code, out, _ = isoflop("audit", rehearsed, "--plan")
    assert code == 0
    assert "an audit of known: 36 runs at 9 cells (9 rate ×½, 9 rate ×2, 9 batch ×2, 9 another seed), 0 of them" in out
    assert not (rehearsed / "audit").exists()
    assert json.loads(isoflop("audit", rehearsed, "--plan", "--batch", 0.5, "--json")[1])["variations"][2]["name"] == (
        "batch ×0.5"
    )

    launcher = tmp_path / "local.yaml"
    launcher.write_text("{launcher: local, workers: 1}")
    code, out, err = isoflop("audit", rehearsed, "--launcher", launcher, "--flops", 1e19, "--json")
    assert code == 0, err
    assert "36 of 36 runs to do" in err
    document = json.loads(out)
    assert (document["target"], document["simulated"], document["cells"]) == (1e19, True, 9)
    assert document["a"]["design"][0] <= document["a"]["statistical"][0]
    assert [shift["name"] for shift in document["shifts"]][:2] == ["rate ×½", "rate ×2"]
    assert document["file"] == str(rehearsed / "audit.json")
    assert "How far the design moves it" in (rehearsed / "report.html").read_text()

    code, out, err = isoflop("audit", rehearsed)
    assert (code, "to do" in err) == (0, False)
    assert out.startswith("SIMULATED: audit of the design: 9 cells")
    assert "N*(3e19) = " in out
    assert "audit (simulated): 36 done" in isoflop("status", rehearsed / "audit")[1]
    assert "Forecast of the grid by its " in isoflop("status", rehearsed)[1]
    assert json.loads(isoflop("status", rehearsed, "--json")[1])["foretold"]["budgets"] == 3
    for verb in ("run", "audit"):
        code, _, err = isoflop(verb, rehearsed / "audit")
        assert code == 2, err
        assert "holds the runs of a search or of an audit" in err or "rehearsal" in err


@pytest.mark.slow
def test_what_cannot_be_is_refused(isoflop, rehearsed, tmp_path):
    code, _, err = isoflop("audit", rehearsed, "--batch", 1)
    assert (code, "the factor of the batch must be positive and not 1, but got 1" in err) == (2, True), err
    code, _, err = isoflop("audit", rehearsed, "--flops", -1)
    assert (code, "--flops must be training FLOPs above 0" in err) == (2, True), err
    code, _, err = isoflop("audit", "grids/demo.yaml", "--dir", tmp_path / "nothing")
    assert code == 2, err
