"""`init` and `plan`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting import fit

GRIDS = Path(__file__).parents[2] / "grids"
DEMO = GRIDS / "demo.yaml"


@pytest.fixture
def law_file(tmp_path):
    """A law whose N* is sqrt(C/6), fitted to points at 1e10 to 1e12 FLOPs."""
    rows = []
    for budget in np.geomspace(1e10, 1e12, 5):
        params = np.sqrt(budget / 6) * np.geomspace(1 / 3, 3, 7)
        tokens = budget / 6 / params
        loss = 2 + 400 / params**0.35 + 400 / tokens**0.35
        rows.append(pd.DataFrame({"flops": budget, "params": params, "tokens": tokens, "loss": loss}))
    path = tmp_path / "law.json"
    path.write_text(json.dumps(fit(pd.concat(rows), bootstrap=100).to_json()))
    return path


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_init_then_plan(isoflop, tmp_path):
    code, _, err = isoflop("init", tmp_path / "mine")
    assert code == 0
    assert "next: isoflop plan" in err
    code, out, _ = isoflop("plan", tmp_path / "mine" / "study.yaml")
    assert code == 0
    assert "mine: 30 runs" in out
    code, out, _ = isoflop("init", tmp_path / "other", "--json")
    assert json.loads(out)["study"].endswith("study.yaml")


def test_init_overwrites_nothing(isoflop, tmp_path):
    isoflop("init", tmp_path / "mine")
    before = (tmp_path / "mine" / "study.yaml").read_text()
    code, _, err = isoflop("init", tmp_path / "mine")
    assert code == 2
    assert "must not overwrite" in err
    assert (tmp_path / "mine" / "study.yaml").read_text() == before


def test_plan_prints_one_document_and_writes_nothing(isoflop, tmp_path):
    code, out, err = isoflop("plan", DEMO, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["totals"]["runs"] == len(document["runs"]) == 30
    (forecast,) = document["forecast"]
    assert {run["budget"] for run in document["runs"]} == {item["budget"] for item in forecast["budgets"]}
    for run in document["runs"]:
        assert abs(run["flops"] / run["budget"] - 1) < 0.01
    assert files_in(tmp_path) == []


def test_plan_without_forecast_and_with_overrides(isoflop):
    code, out, _ = isoflop("plan", DEMO, "--json", "--no-forecast", "--set", "grid.budgets=[2.5e10, 5.5e10]")
    document = json.loads(out)
    assert code == 0
    assert "forecast" not in document
    assert document["totals"]["runs"] == 12


def test_plan_loads_no_torch_and_its_ids_are_those_of_another_process():
    script = (
        "import sys; from isoflop.cli import main; sys.argv = ['isoflop', 'plan', sys.argv[1], '--json']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", script, str(DEMO)], capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert first.stderr.strip() == "False"
    assert first.stdout == second.stdout
    assert json.loads(first.stdout)["totals"]["runs"] == 30


WRONG = {
    "unknown key": ("trainin: {seed: 1}", "did you mean 'training'?"),
    "missing corpus": ("data: {corpus: nowhere}", "a corpus must be a folder that holds index.json, but"),
    "negative budget": ("grid: {budgets: [-2.5e10], sizes: [8, 12]}", "must be positive, but got -2.5e+10"),
    "sizes not increasing": ("grid: {budgets: [2.5e10], sizes: [12, 8]}", "must be increasing, but got 8 after 12"),
    "budget too small for a step": (
        "grid: {budgets: [1e3], sizes: [8, 12]}",
        "a step must cost no more than the budget",
    ),
    "duplicate budgets": ("grid: {budgets: [2.5e10, 2.5e10], sizes: [8]}", "must be distinct, but got 2.5e+10 twice"),
    "non-finite number": ("grid: {budgets: [.inf], sizes: [8]}", "must be finite, but got inf"),
    "escaping path": ("name: ../../escape", "a name must be letters"),
    "unreadable YAML": ("{{", "must be YAML"),
    "a key twice": ("grid: {budgets: [2.5e10], budgets: [5e10]}", "found the key 'budgets' twice"),
}


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_study_exits_2_with_one_message_and_writes_nothing(isoflop, tmp_path, verb, case):
    line, message = WRONG[case]
    content = {"name": "name: x", "grid": "grid: {budgets: [2.5e10], sizes: [8, 12]}"}
    content[line.split(":")[0]] = line
    path = tmp_path / "wrong.yaml"
    path.write_text("\n".join(content.values()) + "\n")
    code, out, err = isoflop(verb, path)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert files_in(tmp_path) == ["wrong.yaml"]


#: Sections of a sound study of SODA's, and what each case puts in their place.
SOUND = {
    "model": "{sequence_length: 4096, tied_head: false}",
    "data": "{abstract: {vocabulary: 144644, unique_tokens: 1e12}}",
    "recipe": "marin-2025",
    "grid": "{budgets: [3e18, 9e18], prior: soda-anchor}",
}
MALFORMED = {
    "unknown recipe": ({"recipe": "marin-2026"}, "a known one, but got 'marin-2026'; did you mean 'marin-2025'?"),
    "unknown constant": ({"recipe": "{base: tiny, waemup_steps: 3}"}, "did you mean 'warmup_steps'?"),
    "two kinds of warm-up": (
        {"recipe": "{base: tiny, warmup_steps: 3, warmup_fraction: 0.1}"},
        "at most one of warmup_steps and warmup_fraction must be given, but got 3 and 0.1",
    ),
    "rate not positive": ({"recipe": "{base: tiny, rate_times_width: 0}"}, "must be > 0, but got 0"),
    "batch of half sequences": (
        {"recipe": "{base: marin-2025, tokens_per_step: 5000}"},
        "tokens_per_step must be a multiple of sequence_length, but got 5000 and 4096",
    ),
    "ladder without cost": ({"recipe": "{ladder: [{name: a, params: 5}]}"}, "flops_per_sample, but got 0"),
    "ladder without rate": (
        {"recipe": "{ladder: [{name: a, params: 5000000, flops_per_token: 3e7}], tokens_per_step: 4096}"},
        "must have a learning_rate, but 'a' has none",
    ),
    "ladder and sizes": (
        {
            "recipe": "{ladder: [{name: a, params: 5000000, flops_per_token: 3e7}], learning_rate: 1}",
            "grid": "{budgets: [3e18], sizes: [8]}",
        },
        "sizes must each be one of the recipe's, a, but got 8",
    ),
    "no sizes": ({"recipe": "tiny"}, "grid.sizes must be given, because recipe 'tiny' has no walk of its own"),
    "odd heads": ({"grid": "{budgets: [3e18], sizes: [100, 322]}"}, "must be a multiple of 4 (2 heads of even size)"),
    "unknown prior": ({"grid": "{budgets: [3e18], prior: soda}"}, "must be a published law, but got 'soda'"),
    "missing law": ({"grid": "{budgets: [3e18], prior: {law: no.json}}"}, "must be the law.json of a study, but"),
    "two priors": ({"grid": "{budgets: [3e18], prior: {law: a, published: b}}"}, "budget with params, but got 2"),
    "half a prior": ({"grid": "{budgets: [3e18], prior: {params: 1e9}}"}, "must be given together, but got ['params']"),
    "centred without prior": (
        {"grid": "{generator: centred, budgets: [3e18], runs: 9}"},
        "grid.prior must be given where runs is, but got none",
    ),
    "unknown generator": (
        {"grid": "{generator: random, budgets: [3e18]}"},
        "grid.generator must be 'rule', 'centred' or 'chosen', but got 'random'",
    ),
    "width under one": ({"grid": "{budgets: [3e18], width: 1}"}, "grid.width must be > 1.0, but got 1"),
    "runs and seeds": (
        {"grid": "{budgets: [3e18, 9e18], prior: llama3, runs: 15, seeds: 2}"},
        "grid.runs must be a multiple of grid.seeds, but got 15 and 2",
    ),
    "too few runs": ({"grid": "{budgets: [3e18], prior: llama3, runs: 2}"}, "grid.runs must be >= 3, but got 2"),
    "too few cells": (
        {"grid": "{budgets: [3e18], sizes: [512, 640, 768]}"},
        "at least 5 feasible sizes (grid.min_cells)",
    ),
    "cells off the budgets": (
        {"grid": "{budgets: [3e18], cells: [{budget: 1e18, sizes: [128]}]}"},
        "cells must be at one of the budgets, but got 1e+18",
    ),
    "cells out of order": (
        {"grid": "{budgets: [3e18], cells: [{budget: 3e18, sizes: [256, 128]}]}"},
        "grid.cells.0.sizes: must be increasing, but got 128 after 256",
    ),
    "unknown convention": ({"grid": "{budgets: [3e18], convention: 7nd}"}, "grid.convention must be 'counted'"),
    "unknown accelerator": (
        {"extra": "hardware: {accelerator: v100}"},
        "hardware.accelerator must be one of a100-80, h100, h200, b200, l40s, rtx-4090, cpu, but got 'v100'",
    ),
    "hours without hardware": ({"extra": "limits: {hours: 5}"}, "hardware must be given where limits.hours is"),
    "shares over one": (
        {
            "data": "{abstract: {vocabulary: 9, sources: {a: {unique_tokens: 5, share: 1}, "
            "b: {unique_tokens: 5, share: 1}}}}"
        },
        "the shares of the sources must sum to 1, but got 2",
    ),
    "tokens exhausted": (
        {"data": "{abstract: {vocabulary: 144644, unique_tokens: 1e8}}"},
        "epochs must be at most 1, but got",
    ),
    "hardware of fewer than a run's": (
        {"extra": "hardware: {accelerator: h100, gpus: 2, gpus_per_run: 8}"},
        "gpus >= gpus_per_run must hold, but got 2 and 8",
    ),
    "curvature of a law": (
        {"grid": "{budgets: [3e18], prior: {published: llama3, curvature: 0.1}}"},
        "curvature must be given with budget and params, but got 0.1 with a law",
    ),
    "noise as large as the loss": ({"grid": "{budgets: [3e18], noise: 1}"}, "grid.noise must be < 1.0, but got 1"),
    "a window of text": ({"extra": "fit: {window: some}"}, "must be a whole number from 3 on, or all, but got 'some'"),
    "a prior out of this world": (
        {"grid": "{budgets: [3e18], runs_per_budget: 9, prior: {budget: 1, params: 1e9, exponent: 1}}"},
        "a prior's params must be from 1 to 1e+24 at 3e+18 FLOPs, but its line puts them at 10^27.5",
    ),
    "a folder for a law": ({"grid": "{budgets: [3e18], prior: {law: .}}"}, "must be the law.json of a study, but"),
    "a million seeds": ({"grid": "{budgets: [3e18], seeds: 1000000}"}, "at most 100,000 cells, but got more"),
    "a ladder's row": (
        {"recipe": "{ladder: [{n_layers: 1, d_model: 64, n_heads: 4, n_kv_heads: 3}]}"},
        "recipe.ladder.0: n_heads must be a multiple of n_kv_heads, but got 4 and 3",
    ),
    "unknown forecast": (
        {"grid": "{budgets: [3e18], forecast_under: [chinchila]}"},
        "must be a published law, but got",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_grid_or_recipe_exits_2_with_the_rule_and_the_value(isoflop, tmp_path, case):
    changes, message = MALFORMED[case]
    sections = {**SOUND, **{name: text for name, text in changes.items() if name != "extra"}}
    lines = ["name: x", *(f"{name}: {text}" for name, text in sections.items()), changes.get("extra", "")]
    path = tmp_path / "wrong.yaml"
    path.write_text("\n".join(lines) + "\n")
    code, out, err = isoflop("plan", path, "--json")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_sound_study_is_sound(isoflop, tmp_path):
    path = tmp_path / "sound.yaml"
    path.write_text("\n".join(["name: x", *(f"{name}: {text}" for name, text in SOUND.items())]) + "\n")
    assert isoflop("plan", path, "--no-forecast")[0] == 0


def test_a_grid_that_cannot_tell_is_refused_with_its_cure_and_shown_where_asked(isoflop):
    off = ("--set", "grid.prior={budget: 3e18, params: 9e8, exponent: 0.367}", "--set", "grid.width=6")
    under = ("--set", "grid.forecast_under=[soda-anchor]")
    code, out, err = isoflop("plan", GRIDS / "soda-64.yaml", "--json", *off, *under)
    assert (code, out) == (2, "")
    assert "an interior minimum must be likely (p >= 0.8) at every budget" in err
    assert "would make every minimum interior" in err
    assert isoflop("plan", GRIDS / "soda-64.yaml", "--json", "--no-forecast", *off)[0] == 0


def test_of_many_dropped_cells_the_first_are_shown(isoflop, tmp_path):
    path = tmp_path / "wide.yaml"
    path.write_text(f"name: x\ngrid: {{budgets: [2.5e10], sizes: {list(range(8, 808, 2))}, min_cells: 1}}\n")
    code, out, _ = isoflop("plan", path)
    assert code == 0
    assert out.count("dropped: ") == 300
    found = re.search(r"the first 300 of (\d+) dropped cells; --json has them all", out)
    assert int(found[1]) == len(json.loads(isoflop("plan", path, "--json")[1])["dropped"])


def test_a_study_without_a_prior_says_that_nothing_is_forecast(isoflop):
    alone = ("--set", "grid.prior=null", "--set", "grid.runs_per_budget=null")
    assert "No forecast of what this grid will tell" in isoflop("plan", DEMO, *alone)[1]
    assert "No forecast" not in isoflop("plan", DEMO, *alone, "--no-forecast")[1]


def test_a_published_grid_is_flagged_and_never_refused(isoflop):
    code, out, _ = isoflop("plan", GRIDS / "soda-authors.yaml", "--json")
    assert code == 0
    document = json.loads(out)
    findings = [finding for forecast in document["forecast"] for finding in forecast["findings"]]
    assert findings
    assert {finding["severity"] for finding in findings} == {"flag"}


def test_a_ratio_asked_of_a_grid_of_one_s_own_is_refused(isoflop):
    code, out, err = isoflop("plan", DEMO, "--set", "grid.ratio_within=0.01")
    assert (code, out) == (2, "")
    assert "b/a must be told to ±0.01, but this grid would tell it to ±0." in err


def test_the_target_is_the_one_that_the_study_asks_about(isoflop):
    forecast = json.loads(isoflop("plan", DEMO, "--json", "--set", "grid.target=1e13")[1])["forecast"][0]
    assert forecast["target"] == 1e13


def test_a_law_of_an_earlier_study_centres_the_next(isoflop, tmp_path, law_file):
    (tmp_path / "next").mkdir()
    law = json.loads(law_file.read_text())
    path = tmp_path / "next" / "study.yaml"
    budgets = [5 * law["minima"][-1]["flops"], 20 * law["minima"][-1]["flops"]]
    path.write_text(
        f"name: next\ndata: {{abstract: {{vocabulary: 240, unique_tokens: 1e15}}}}\n"
        f"grid: {{generator: centred, budgets: {budgets}, runs_per_budget: 5, prior: {{law: {law_file}}}}}\n"
    )
    code, out, err = isoflop("plan", path, "--json", "--no-forecast")
    assert code == 0, err
    document = json.loads(out)
    params = law["power_laws"]["params"]
    for budget in budgets:
        expected = params["scale"] * (budget / params["reference"]) ** params["exponent"]["value"]
        sizes = [run["params"]["total"] for run in document["runs"] if run["budget"] == budget]
        assert min(sizes) < expected < max(sizes)
    law_file.write_text("{}")
    code, _, err = isoflop("plan", path)
    assert code == 1
    assert str(law_file) in err


def test_a_suggestion_names_the_settings_that_make_it(isoflop):
    code, out, _ = isoflop("plan", GRIDS / "soda-64.yaml", "--suggest", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["share"] <= 0.3
    overrides = [word for each in document["overrides"] for word in ("--set", each)]
    code, out, err = isoflop("plan", GRIDS / "soda-64.yaml", "--json", "--no-forecast", *overrides)
    assert code == 0, err
    assert json.loads(out)["totals"]["runs"] == document["runs"]
    assert json.loads(out)["totals"]["flops"] == pytest.approx(document["flops"], rel=0.01)


def test_hours_want_a_suggestion_and_a_suggestion_a_prior_and_hardware(isoflop):
    grid = GRIDS / "soda-64.yaml"
    assert "--gpu-hours must be given with --suggest, but got 5 alone" in isoflop("plan", grid, "--gpu-hours", 5)[2]
    code, _, err = isoflop("plan", grid, "--suggest", "--gpu-hours", 5)
    assert (code, "hardware must be given where hours are, but got 5 hours alone" in err) == (2, True)
    alone = ("--set", "grid.prior=null", "--set", "grid.runs_per_budget=null")
    code, _, err = isoflop("plan", DEMO, "--suggest", *alone)
    assert (code, "grid.prior must be given for a suggestion" in err) == (2, True)


def test_an_unwritable_study_directory_exits_2(isoflop, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = isoflop("run", DEMO, "--dir", tmp_path / "file" / "study")
    assert code == 2
    assert "must be writable, but got" in err
    assert files_in(tmp_path) == ["file"]


def test_a_missing_study_and_a_wrong_flag_exit_2(isoflop, tmp_path):
    assert isoflop("plan", tmp_path / "nothing.yaml")[0] == 2
    assert isoflop("plan", tmp_path)[0] == 2
    assert isoflop("plan", DEMO, "--forecats")[0] == 2
    assert isoflop("plan", DEMO, "--set", "name")[0] == 2
