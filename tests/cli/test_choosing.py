"""`next` and `adopt` from the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from isoflop.planning.prior import published

STUDY = {
    "name": "x",
    "data": {"abstract": {"vocabulary": 32000, "unique_tokens": 10**15}},
    "model": {"sequence_length": 2048},
    "recipe": {"base": "marin-2025", "width_step": 64, "head_size": 64, "tokens_per_step": 65536},
    "grid": {"generator": "chosen", "budgets": [3e18, 9e18, 1.8e19, 3e19], "prior": "besiroglu2024"},
}


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    return path


@pytest.fixture
def runs(tmp_path):
    generator = np.random.default_rng(0)
    flops = np.repeat(STUDY["grid"]["budgets"], 5)
    params = np.tile(np.geomspace(1 / 3, 3, 5), 4) * np.sqrt(flops / 6) / 4
    tokens = flops / 6 / params
    loss = published("besiroglu2024").surface.loss(params, tokens) * np.exp(0.002 * generator.standard_normal(20))
    path = tmp_path / "runs.csv"
    pd.DataFrame({"flops": flops, "Model Size": params, "tokens": tokens, "loss": loss}).to_csv(path, index=False)
    return path


def test_a_study_begins_by_next_and_its_cells_are_added(isoflop, study):
    code, out, err = isoflop("next", study, "--add", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["action"] == "run"
    assert len(document["cells"]) == 14
    assert "isoflop run studies/x" in err
    code, out, _ = isoflop("plan", "studies/x", "--no-forecast", "--json")
    assert code == 0
    assert json.loads(out)["totals"]["runs"] == 14
    code, out, _ = isoflop("next", "studies/x", "--cap", "1e18")
    assert code == 0
    assert "the cap is reached" in out


def test_adopted_runs_are_gone_by(isoflop, study, runs):
    columns = ("--columns", 'params="Model Size"')
    code, out, err = isoflop("adopt", study, runs, *columns)
    assert code == 0
    assert "adopted 20 points of runs.csv" in out
    assert "C = 6ND" in err
    code, out, _ = isoflop("adopt", study, runs, *columns, "--json")
    assert code == 0
    assert json.loads(out)["again"]
    code, out, _ = isoflop(
        "next", "studies/x", "--target", "params", "--flops", "1e21", "--within", "0.01", "--count", "2"
    )
    assert code == 0
    assert "ln N*(1e21): ±" in out
    assert out.count("tells most per FLOP") == 2
    code, told, _ = isoflop("next", study, "--dir", "elsewhere", "--points", runs, *columns, "--json")
    assert code == 0
    assert json.loads(told)["action"] == "run"
    assert isoflop("fit", "studies/x", "--json", "--bootstrap", "100")[0] == 0
    code, out, _ = isoflop("report", "studies/x", "--json")
    assert code == 0
    assert json.loads(out)["reason"] is None


def test_a_wrong_target_is_a_wrong_call(isoflop, study):
    code, _, err = isoflop("next", study, "--target", "size")
    assert code == 2
    assert "a goal must be one of ratio, a, params, loss, but got 'size'" in err
    code, _, err = isoflop("next", study, "--target", "params")
    assert code == 2
    assert "flops" in err


def test_a_study_trains_what_it_chooses_until_its_cap(isoflop, small_content, tmp_path):
    grid = {"generator": "chosen", "budgets": [1e8, 2e8, 4e8], "sizes": [8, 12, 16, 20, 24]}
    grid["prior"] = {"budget": 4e8, "params": 5000}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**small_content, "grid": grid}))
    code, out, err = isoflop("run", "small.yaml", "--until", "ratio±0.3", "--cap", "5e8", "--json")
    assert code == 0
    assert json.loads(out)["runs"]["done"] >= 3
    assert json.loads(out)["until"]["action"] == "cap"
    assert "cap of 5e8 FLOPs is reached" in err
    records = json.loads((tmp_path / "studies/small/choices.json").read_text())["choices"]
    assert [record["action"] for record in records] == ["run", "cap"]
    code, _, err = isoflop("run", "small.yaml", "--cap", "5e8")
    assert code == 2
    assert "--until" in err
