"""`fit` and `report` on a table of known truth."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

BUDGETS = np.geomspace(1e18, 1e20, 5)


@pytest.fixture
def table(tmp_path):
    """L = 2 + 400/N^0.35 + 400/D^0.35 under 6ND: a = b = 1/2, minima exactly at N = D = sqrt(C/6)."""
    rows = []
    for budget in BUDGETS:
        for factor in np.geomspace(1 / 3, 3, 7):
            params = np.sqrt(budget / 6) * factor
            tokens = budget / 6 / params
            loss = 2 + 400 / params**0.35 + 400 / tokens**0.35
            rows.append({"FLOP": budget, "Model Size": params, "tokens": tokens, "nll": loss, "budget": budget})
    path = tmp_path / "points.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


COLUMNS = 'flops=FLOP,params="Model Size",loss=nll'


def test_fit_then_recommend(isoflop, table, tmp_path):
    code, out, err = isoflop("fit", table, "--columns", COLUMNS, "--json", "--out", tmp_path / "law.json")
    assert code == 0
    law = json.loads(out)
    assert law["exponents"]["a"]["value"] == pytest.approx(0.5, abs=1e-6)
    assert law["exponents"]["b"]["value"] == pytest.approx(0.5, abs=1e-6)
    assert law["exponents"]["ratio"]["low"] <= 1 <= law["exponents"]["ratio"]["high"]
    assert [minimum["status"] for minimum in law["minima"]] == ["interior"] * 5
    assert law["points"] == {"used": 35, "excluded": []}
    assert "provenance" in law
    assert "law.json" in err

    code, out, _ = isoflop("recommend", "--law", tmp_path / "law.json", "--flops", "1e21", "--json")
    assert code == 0
    recommended = json.loads(out)
    assert recommended["params"]["value"] == pytest.approx(np.sqrt(1e21 / 6), rel=1e-3)
    assert 6 * recommended["params"]["value"] * recommended["tokens"]["value"] == pytest.approx(1e21, rel=1e-3)
    assert recommended["loss"]["low"] < recommended["loss"]["value"] < recommended["loss"]["high"]
    code, out, _ = isoflop("recommend", "--law", tmp_path / "law.json", "--flops", "1e21")
    assert code == 0
    assert "extrapolation" in out


def test_the_text_of_a_fit_names_the_exponents(isoflop, table):
    code, out, _ = isoflop("fit", table, "--columns", COLUMNS)
    assert code == 0
    assert "N* ∝ C^a" in out


def test_wrong_calls_exit_2(isoflop, table, tmp_path):
    assert isoflop("fit", tmp_path / "none.csv")[0] == 2
    code, _, err = isoflop("fit", table)
    assert code == 2
    assert "flops" in err
    assert isoflop("recommend", "--law", tmp_path / "none.json", "--flops", "1e21")[0] == 2
    isoflop("fit", table, "--columns", COLUMNS, "--out", tmp_path / "law.json")
    code, _, err = isoflop("recommend", "--law", tmp_path / "law.json", "--flops", "0")
    assert code == 2
    assert "must be" in err
    code, _, err = isoflop("recommend", "--law", tmp_path / "law.json", "--flops", "lots")
    assert code == 2


def test_points_of_several_arms_have_no_law_together(isoflop, table, tmp_path):
    rows = pd.read_csv(table)
    arms = tmp_path / "arms.csv"
    pd.concat([rows.assign(axis_share=0), rows.assign(axis_share=1, nll=rows["nll"] + 0.4)]).to_csv(arms, index=False)
    code, _, err = isoflop("fit", arms, "--columns", COLUMNS)
    assert code == 2
    assert "several values of axis_share (--where axis_share=VALUE, or --group axis_share)" in err
    assert isoflop("fit", arms, "--columns", COLUMNS, "--group", "axis_share", "--bootstrap", "100")[0] == 0
    assert isoflop("fit", table, "--columns", COLUMNS, "--out", tmp_path / "law.json", "--bootstrap", "100")[0] == 0
    code, _, err = isoflop("check", tmp_path / "law.json", arms, "--columns", COLUMNS)
    assert code == 2
    assert "a law must be of one arm" in err


def test_groups_that_would_share_a_folder_of_figures_are_refused(isoflop, table, tmp_path):
    points = pd.read_csv(table)
    pd.concat([points.assign(exp="a/b"), points.assign(exp="a:b")]).to_csv(table, index=False)
    call = ("fit", table, "--columns", COLUMNS, "--group", "exp", "--bootstrap", "100")
    code, _, err = isoflop(*call, "--figures", tmp_path / "figures")
    assert code == 2
    assert "must differ as names of folders, but got a/b, a:b" in err
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("option", "place", "message"),
    [
        ("--out", "folder", "--out must name a file, but {} is a directory"),
        ("--out", "points.csv/law.json", "--out must lie in a directory, but {} is a file"),
        ("--figures", "points.csv", "--figures must name a directory, but {} is a file"),
        ("--figures", "points.csv/figures/new", "--figures must lie in a directory, but {} is a file"),
    ],
)
def test_results_that_cannot_be_written_are_refused_before_the_fit(isoflop, table, tmp_path, option, place, message):
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    good = ("--out", tmp_path / "law.json") if option == "--figures" else ("--figures", tmp_path / "figures")
    code, out, err = isoflop("fit", table, "--columns", COLUMNS, *good, option, tmp_path / place)
    named = tmp_path / place.split("/")[0]
    assert (code, out, err) == (2, "", f"error: {message.format(named)}\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_table_without_minima_exits_1_and_names_each_budget(isoflop, tmp_path):
    rows = [(c, n, c / 6 / n, 5 - 0.1 * np.log(n)) for c in (1e18, 1e19, 1e20) for n in np.geomspace(1e7, 1e9, 6)]
    pd.DataFrame(rows, columns=["flops", "params", "tokens", "loss"]).to_csv(tmp_path / "edge.csv", index=False)
    code, out, err = isoflop("fit", tmp_path / "edge.csv")
    assert code == 1
    assert out == ""
    for budget in ("1e18", "1e19", "1e20"):
        assert f"C = {budget}" in err


def test_report_of_what_is_no_study_exits_2(isoflop, tmp_path):
    code, _, err = isoflop("report", tmp_path)
    assert code == 2
    assert "study.yaml" in err


def test_reports_are_refused_before_anything_is_read(isoflop, tmp_path):
    code, out, err = isoflop("report", tmp_path, "--format", "html,pdf")
    assert (code, out, err) == (2, "", "error: --format must be one of html, md, png, but got 'pdf'\n")
    (tmp_path / "file").touch()
    code, _, err = isoflop("report", tmp_path, "--out", tmp_path / "file")
    assert (code, err) == (2, f"error: --out must name a directory, but {tmp_path / 'file'} is a file\n")
    code, _, err = isoflop("report", tmp_path, "--watch", "--json")
    assert (code, err) == (2, "error: --watch must be given without --json, but got both\n")
