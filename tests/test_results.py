"""What is read of a study directory, finished or not: law, report, formats, the page while runs go on."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from isoflop import results, store, workflow
from isoflop.adopted import adopt
from isoflop.errors import CorruptFileError, InputError, RunError
from isoflop.launching.states import cancel
from isoflop.planning.foretold import Promise
from isoflop.store import StudyDirectory
from isoflop.study import Study
from isoflop.study_grid import PriorChoice

CONTENT = {
    "name": "known",
    "data": {"abstract": {"vocabulary": 1024, "unique_tokens": 1e12}},
    "model": {"sequence_length": 256},
    "recipe": {"base": "marin-2025", "width_step": 64, "head_size": 64},
    "grid": {
        "generator": "centred",
        "budgets": [3e17, 1e18, 3e18, 1e19],
        "runs_per_budget": 6,
        "width": 8,
        "prior": "besiroglu2024",
    },
    "hardware": {"accelerator": "h100", "gpus_per_run": 2, "price": 2.5},
}


def make(folder, done=None, content=None):
    """A study whose first `done` runs (None: all) have the losses of Chinchilla's surface."""
    planned = workflow.plan(Study.parse(content or CONTENT))
    place = StudyDirectory(folder)
    workflow.write_plan(planned.settings, place, planned)
    generator = np.random.default_rng(0)
    for run in planned.runs[:done]:
        loss = 1.82 + 482 / run.shape.parameters.total**0.348 + 2085 / run.tokens**0.366
        place.run(run.id).publish(
            {
                "run": run.id,
                "loss": float(loss * np.exp(0.001 * generator.standard_normal())),
                "tokens": run.tokens,
                "seconds": 7200.0,
                "device": "H100",
                "versions": {"torch": "9.9"},
            }
        )
    return place, planned


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp("whole") / "study")


@pytest.fixture
def copy(whole, tmp_path):
    """The finished study, to be changed."""
    return StudyDirectory(shutil.copytree(whole[0].root, tmp_path / "copy"))


def test_a_finished_study_is_read_into_a_law_a_report_and_its_figures(copy):
    outcome = results.read(copy.root)
    assert outcome.law is not None
    assert store.read_law(copy.law_file) == outcome.law
    assert [path.name for path in outcome.written] == [
        *("report.html", "profiles.png", "optimum.png", "residuals.png", "hold_out.png", "influence.png"),
    ]
    page = copy.report_file.read_text()
    choice = outcome.recommendation.shape
    assert f"batches of {choice.run.batch_size:,} sequences, {choice.run.steps:,} steps" in page
    assert "× h100: " in page
    # Two hours on two GPUs at 2.5 an hour.
    assert page.count('data-value="10">10.00<') == len(outcome.points)
    assert "torch 9.9" in page
    assert "generator: centred" in page
    assert "How far it is" not in page


def test_formats_are_written_as_asked_and_elsewhere_if_asked(copy, tmp_path):
    before = sorted(copy.root.rglob("*"))
    out = tmp_path / "elsewhere"
    outcome = results.read(copy.root, ["md"], out)
    assert sorted(copy.root.rglob("*")) == before
    assert sorted(path.name for path in out.iterdir()) == ["figures", "report.md"]
    pictures = re.findall(r"!\[.*\]\((.*)\)", (out / "report.md").read_text())
    assert pictures
    assert all((out / each).is_file() for each in pictures)
    assert outcome.written[-1] == out / "report.md"
    assert [path.parent for path in results.read(copy.root, ["png"], out).written] == [out / "figures"] * 5


def test_a_study_under_way_says_how_far_it_is_and_what_failed(tmp_path):
    place, planned = make(tmp_path, done=4)
    failed, cancelled = (run.id for run in planned.runs[4:6])
    place.run(failed).write_status("failed", cause="out of memory", message="8 <GiB>", step=3)
    cancel(place, [cancelled])
    outcome = results.read(place.root)
    assert outcome.law is None
    page = place.report_file.read_text()
    assert "No law yet" in page
    assert f"4 done, 1 failed, 1 cancelled, {len(planned.runs) - 6} planned" in page
    assert "out of memory: 8 &lt;GiB&gt;" in page
    assert "Minima so far" in page
    assert 'http-equiv="refresh"' not in page
    assert not place.law_file.exists()


def test_what_cannot_be_read_is_named(copy, tmp_path):
    with pytest.raises(InputError, match=r"must hold plan\.parquet"):
        results.read(tmp_path)
    place, planned = make(tmp_path / "new", done=0)
    with pytest.raises(RunError, match="must have a finished run to be read"):
        results.read(place.root)
    result = copy.run(copy.run_ids()[0]).result_file
    result.write_text(result.read_text()[:40])
    with pytest.raises(CorruptFileError, match=re.escape(str(result))):
        results.read(copy.root)
    result.unlink()
    copy.plan_file.write_bytes(copy.plan_file.read_bytes()[:100])
    with pytest.raises(CorruptFileError, match=re.escape(str(copy.plan_file))):
        results.read(copy.root)
    assert len(planned.runs) == len(copy.run_ids())


def test_watching_rewrites_the_page_until_all_is_done_and_fits_only_what_is_new(tmp_path, monkeypatch):
    place, planned = make(tmp_path, done=0)
    donor, _ = make(tmp_path / "donor")
    fits, seen = [], []
    real = results.interpret
    monkeypatch.setattr(results, "interpret", lambda *given: fits.append(1) or real(*given))

    def tell(outcome):
        page = place.report_file.read_text()
        seen.append(('http-equiv="refresh" content="0.01"' in page, outcome.law is not None))
        # Nothing, nothing, half, half, all.
        upto = {2: len(planned.runs) // 2, 4: len(planned.runs)}.get(len(seen), 0)
        for run in planned.runs[:upto]:
            place.run(run.id).publish(donor.run(run.id).result())

    outcome = results.watch(place.root, ["html"], seconds=0.01, tell=tell)
    assert [live for live, _ in seen] == [True, True, True, True, False]
    assert seen[-1] == (False, True)
    assert len(fits) == 3
    assert outcome.law is not None
    assert store.read_law(place.law_file) == outcome.law


def test_who_is_stopped_while_watching_leaves_a_page_that_does_not_reload(tmp_path):
    place, _ = make(tmp_path, done=3)

    def stop(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.watch(place.root, ["html"], tell=stop)
    assert 'http-equiv="refresh"' not in place.report_file.read_text()


def test_what_was_forecast_is_scored_and_forecast_once_for_the_same_runs(copy, monkeypatch):
    outcome = results.read(copy.root)
    record = store.read_json(copy.forecast_file)
    assert record["came"] == outcome.foretold.to_json()
    (grid, minima) = outcome.foretold.sentences()
    assert "b/a ±" in grid
    assert "4 came" in minima
    assert grid in copy.report_file.read_text()
    monkeypatch.setattr(Promise, "of_points", lambda *_, **__: pytest.fail("forecast again"))
    assert results.read(copy.root).foretold == outcome.foretold
    # Of another grid it is another forecast.
    table = pd.read_parquet(copy.plan_file)
    table.iloc[1:].to_parquet(copy.plan_file)
    with pytest.raises(pytest.fail.Exception, match="forecast again"):
        results.read(copy.root)


def test_without_a_prior_nothing_was_forecast(tmp_path):
    grid = {**CONTENT["grid"], "generator": "rule", "prior": None, "sizes": [448, 512, 640, 768, 896, 1024, 1280, 1536]}
    grid = {name: value for name, value in grid.items() if name not in {"width", "prior", "runs_per_budget"}}
    place, _ = make(tmp_path / "study", content={**CONTENT, "grid": {**grid, "min_cells": 3}})
    outcome = results.read(place.root, ["html"])
    assert outcome.foretold.sentences() == []
    assert not place.forecast_file.exists()


def test_a_prior_whose_law_is_gone_is_named(copy, tmp_path):
    results.read(copy.root, ["html"])
    prior = tmp_path / "law.json"
    shutil.copy(copy.law_file, prior)
    study = Study.load(copy.study_file)
    grid = study.grid.model_copy(update={"prior": PriorChoice(law=prior)})
    store.write_text(copy.study_file, study.model_copy(update={"grid": grid}).to_yaml())
    assert results.read(copy.root, ["html"]).foretold.widths
    prior.write_text(prior.read_text()[:40])
    (said,) = results.read(copy.root, ["html"]).foretold.sentences()
    assert f"No forecast of the grid is scored: {prior}" in said
    prior.unlink()
    (said,) = results.read(copy.root, ["html"]).foretold.sentences()
    assert "must be the law.json of a study, but" in said


def test_with_adopted_points_no_forecast_of_the_grid_is_scored(copy):
    points = store.points(copy.root)[["budget", "flops", "params", "tokens", "loss"]]
    adopt(
        copy.adopted,
        points.assign(params=1.2 * points["params"], tokens=points["tokens"] / 1.2),
        "sweep.csv",
        list(CONTENT["grid"]["budgets"]),
    )
    (said,) = results.read(copy.root, ["html"]).foretold.sentences()
    assert (
        said == "No forecast of the grid is scored: the law is of adopted points too, which no plan of this study has."
    )
    assert not copy.forecast_file.exists()
