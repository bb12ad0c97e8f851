"""`tune`, and what `plan` says of the recipe that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from isoflop import store, workflow
from isoflop.launching.synthetic import BestRate, Conditions
from isoflop.planning import prior
from isoflop.store import StudyDirectory


@pytest.fixture
def rehearsed(small_study, tmp_path):
    """A rehearsal whose best rate is half of the recipe's."""
    study = small_study(data={"abstract": {"vocabulary": 40, "unique_tokens": 1e12}})
    planned = workflow.plan(study)
    place = StudyDirectory(tmp_path / "small-rehearsal")
    truth = BestRate(0.1, -1.0, 0.0, 0.05)
    conditions = Conditions(prior.published("soda-surface"), planned.cost, 0.001, 0.0, 0, 0.0, truth)
    store.write_json(place.rehearsal_file, conditions.to_json())
    workflow.write_plan(study, place, planned)
    return place, study


@pytest.mark.slow
def test_tune_then_plan_with_what_it_wrote(isoflop, rehearsed, tmp_path):
    place, study = rehearsed
    launcher = tmp_path / "local.yaml"
    launcher.write_text("{launcher: local, workers: 1}")
    command = ("tune", place.root, "--trials", 6, "--seeds", 1, "--launcher", launcher)
    code, out, err = isoflop(*command, "--json")
    assert code == 0, err
    assert "12 of 12 runs to do" in err
    document = json.loads(out)
    assert [trial["state"] for trial in document["trials"]] == ["done"] * 18
    assert document["rules"][0]["scale"]["value"] == pytest.approx(0.5, rel=0.1)
    assert Path(document["file"]) == place.root / "tuning" / "recipe.yaml"

    code, out, _ = isoflop(*command)
    assert code == 0
    assert "small: 18 trials of 1 runs at 3 cells" in out
    assert "× the recipe's rule" in out
    assert "2e+08-d16-l2" in out

    again = yaml.safe_load(study.to_yaml()) | {"recipe": {"file": document["file"]}}
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(again))
    code, out, _ = isoflop("plan", "again.yaml", "--json")
    (finding,) = json.loads(out)["findings"]
    assert (code, finding["kind"]) == (0, "tuning")
    assert "! a recipe's rules hold where they were tuned" in isoflop("plan", "again.yaml")[1]
    assert json.loads(isoflop("plan", place.root, "--json")[1])["findings"] == []
    assert "tuning (simulated): 18 done" in isoflop("status", place.root / "tuning")[1]
    code, _, err = isoflop("tune", place.root / "tuning")
    assert (code, "holds the runs of a search" in err) == (2, True), err


def test_tune_refuses_what_it_cannot_search(isoflop, rehearsed):
    place, _ = rehearsed
    for options, rule in (
        (("--over", "rate"), "must be some of lr, batch, beta2, weight_decay"),
        (("--trials", 2), "trials must be 4 or more"),
        (("--cells", "1e9:7"), "a cell must be one of the plan's"),
    ):
        code, _, err = isoflop("tune", place.root, *options)
        assert (code, rule in err) == (2, True), err
    assert not (place.root / "tuning").exists()
