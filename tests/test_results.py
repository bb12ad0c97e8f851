"""What is read of a study directory, finished or not: law, report, formats, the page while runs go on."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from isoflop import results, store, workflow
from isoflop.errors import CorruptFileError, InputError, RunError
from isoflop.launching.states import cancel
from isoflop.store import StudyDirectory
from isoflop.study import Study

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
    real = results._interpret
    monkeypatch.setattr(results, "_interpret", lambda *given: fits.append(1) or real(*given))

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
