from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isoflop.cli import app
from isoflop.errors import RunError
from isoflop.launching import probing
from isoflop.planning.probes import Probe, settings_of

FILE = """
name: probed
data: {abstract: {vocabulary: 40, unique_tokens: 1e12}}
model: {sequence_length: 16}
recipe: {base: tiny, tokens_per_step: 64, warmup_steps: 4}
grid: {budgets: [1e9], sizes: [8, 16], tolerance: 0.05, min_cells: 1}
training: {validation_tokens: 640}
"""


def figures(run):
    shape = dict(vars(run.shape))
    return Probe(
        run.shape.label, shape, settings_of(run), 4, "cpu", "x86_64", 1, "single", 2, False, False, 0.01, 2**30,
        1e9, 5e8, {},
    )  # fmt: skip


@pytest.fixture
def study(tmp_path, monkeypatch):
    path = tmp_path / "study.yaml"
    path.write_text(FILE)
    monkeypatch.chdir(tmp_path)

    def probe(study, place, runs, profile, told):
        first, *others = runs
        compiled = replace(figures(first), compiled=True, step_seconds=0.005)
        return probing.Outcome(
            {first.id: compiled},
            {first.id: figures(first)},
            {run.id: "no room" for run in others},
            {first.id: "no compiler"},
        )

    monkeypatch.setattr(probing, "probe", probe)
    return path


def test_figures_are_shown_and_what_failed_is_named(study):
    done = CliRunner().invoke(app, ["probe", str(study)])
    assert done.exit_code == 0, done.output
    for word in ("12,800", "d8-l2", "single", "yes, ×2.00", "probed: d16-l2", "no room", "no compiler", "probes.json"):
        assert word in done.output


def test_one_document_has_them_all(study):
    done = CliRunner().invoke(app, ["probe", str(study), "--sizes", "8", "--json"])
    document = json.loads(done.stdout)
    assert [probe["size"] for probe in document["probes"]] == ["d8-l2"]
    assert document["probes"][0]["tokens_per_second"] == pytest.approx(12_800)
    assert [probe["compiled"] for probe in document["slower"]] == [False]
    assert document["failed"] == {}


def test_where_none_fits_that_is_an_error(study, monkeypatch):
    monkeypatch.setattr(probing, "probe", lambda *_: probing.Outcome(failed={"a-run": "no room"}))
    done = CliRunner().invoke(app, ["probe", str(study)])
    assert isinstance(done.exception, RunError)
    assert "a model must fit to be probed, but none of 1 did" in str(done.exception)


def test_what_cannot_be_probed_leaves_no_directory(tmp_path, monkeypatch):
    digits = Path(__file__).parents[2] / "grids" / "digits.yaml"
    done = CliRunner().invoke(app, ["probe", str(digits), "--dir", str(tmp_path / "study")])
    assert "models must be ours to be probed" in str(done.exception)
    assert not (tmp_path / "study").exists()
