"""Every study file in `grids/` plans, to the run, as the golden tables say.

After a deliberate change: `python tests/test_grids.py` rewrites them; the commit says why.
"""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from isoflop import workflow
from isoflop.facts import prior_of
from isoflop.fitting.minima import Status, find_minimum, profiles
from isoflop.fitting.points import judge
from isoflop.launching.profiles import LocalProfile
from isoflop.planning import plan as planning
from isoflop.planning.findings import forecasts
from isoflop.planning.ledger import DataFacts
from isoflop.planning.plan import Plan
from isoflop.study import Study
from isoflop.tokens.job import Options
from isoflop.tokens.sources import read
from isoflop.tokens.tokenization import tokenize

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "plans"
GRIDS = sorted(path.stem for path in (ROOT / "grids").glob("*.yaml"))
COLUMNS = ("budget", "size", "params", "tokens", "batch", "steps", "rate", "flops", "id")


def planned(name: str) -> Plan:
    """The plan of a grid; the embedded corpus has a fingerprint of its own, or ids would follow its voices."""
    study = Study.load(ROOT / "grids" / f"{name}.yaml")
    if study.data.embedded:
        return planning.plan(study, DataFacts("embedded", 247, 3_500_000), prior_of(study))
    return workflow.plan(study)


def rows(plan: Plan) -> list[tuple[str, ...]]:
    return [
        (
            f"{run.budget:.6g}",
            run.shape.label,
            f"{run.shape.parameters.total}",
            f"{run.tokens}",
            f"{run.batch_size}",
            f"{run.steps}",
            f"{run.learning_rate:.9g}",
            f"{run.flops:.9g}",
            run.id,
        )
        for run in plan.runs
    ]


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_plans_as_its_golden_table(name):
    with (GOLDEN / f"{name}.csv").open() as file:
        header, *golden = (tuple(row) for row in csv.reader(file))
    assert header == COLUMNS
    assert rows(planned(name)) == golden


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_meets_its_budgets_and_speaks_json(name):
    plan = planned(name)
    for run in plan.runs:
        assert abs(run.flops / run.budget - 1) <= 0.01
    document = plan.to_json()
    assert sum(document["totals"]["runs_by_budget"]) == len(plan.runs)
    assert min(document["totals"]["runs_by_budget"]) >= 5


def test_the_authors_grid_is_the_authors():
    """66 cells, 7/12/14/7/8/8/10 by budget, 77.2M to 5.42B, the steps that they ran; no cell shares a trunk."""
    plan = planned("soda-authors")
    totals = plan.to_json()["totals"]
    assert totals["runs"] == 66
    assert totals["runs_by_budget"] == [7, 12, 14, 7, 8, 8, 10]
    sizes = [run.shape.parameters.total for run in plan.runs]
    assert (min(sizes) / 1e6, max(sizes) / 1e9) == (pytest.approx(77.2, abs=0.05), pytest.approx(5.42, abs=0.005))
    steps = {(run.budget, run.shape.d_model): (run.batch_size, run.steps) for run in plan.runs}
    assert steps[9e18, 768] == (32, 48_244)
    assert [steps[3e18, width][1] for width in (768, 512, 896)] == [64_326, 61_262, 48_961]
    assert plan.trunks == ()
    assert "No two runs share a trunk" in " ".join(plan.notes())


def test_with_absolute_warmup_nineteen_of_the_authors_runs_would_share_trunks():
    """They would save 12.6 % of the FLOPs, as others found too."""
    study = Study.load(ROOT / "grids" / "soda-authors.yaml", ["recipe.warmup_steps=3000"])
    plan = workflow.plan(study)
    members = sum(len(trunk.branches) for trunk in plan.trunks)
    assert members == 19
    assert sum(trunk.saved_flops for trunk in plan.trunks) / plan.flops == pytest.approx(0.126, abs=0.0005)


def test_soda_64_is_centred_with_a_smooth_batch():
    plan = planned("soda-64")
    totals = plan.to_json()["totals"]
    assert totals["runs"] == 64
    assert len(totals["runs_by_budget"]) == 7
    assert min(totals["runs_by_budget"]) >= 8
    batches = {run.budget: run.batch_size for run in plan.runs}
    assert [batches[budget] for budget in plan.budgets] == [9, 17, 25, 34, 65, 97, 130]
    assert all(run.batch_size == batches[run.budget] for run in plan.runs)


def test_the_demo_saves_a_fifth_of_its_flops_and_more_by_trunks():
    plan = planned("demo")
    assert sum(len(trunk.branches) for trunk in plan.trunks) == 28
    assert plan.saved_flops / plan.flops > 0.3


@pytest.mark.parametrize("name", ["soda-64", "chinchilla", "speech"])
def test_a_centred_grid_is_forecast_interior_and_not_refused(name):
    plan = planned(name)
    outlook = forecasts(plan)
    least = 0.95 if name == "soda-64" else 0.8
    assert {forecast.prior for forecast, _ in outlook} >= set(plan.settings.grid.forecast_under)
    for forecast, findings in outlook:
        assert min(budget.interior for budget in forecast.budgets) >= least
        assert not [finding for finding in findings if finding.severity == "refuse"]


@pytest.mark.slow
def test_the_speech_grid_scaled_to_a_core_finds_its_minima_on_real_prompts(prompts, tmp_path):
    """Ten small models, 44 minutes of prompts in five languages; a third budget, 5e10, gives a = 0.52 [0.30, 0.68]."""
    clips, lost = read(prompts.manifest, root=prompts.root)
    some = [dataclasses.replace(clip, source=clip.language) for clip in clips]
    codec = {"semantic_entries": 64, "acoustic_entries": 64, "acoustic_codebooks": 2}
    options = Options(codec_options=codec, calibration_seconds=120.0, holdout=0.15)
    assert tokenize(some, lost, tmp_path / "corpus", options, workers=2).corpus is not None
    overrides = [
        f"data={{corpus: {tmp_path / 'corpus'}}}",
        *("model.sequence_length=128", "recipe=tiny", "hardware=null", "limits.epochs=2"),
        *("grid.generator=rule", "grid.budgets=[1.2e10, 2.4e10]", "grid.sizes=[8, 12, 16, 20, 24]"),
        *("grid.runs_per_budget=5", "grid.prior={budget: 2.4e10, params: 1.2e4, exponent: 0.58}"),
        *("grid.forecast_under=[]", "training.precision=32", "training.validation_tokens=16384"),
    ]
    study = Study.load(ROOT / "grids" / "speech.yaml", overrides)
    outcome = workflow.run(study, tmp_path / "study", LocalProfile(workers=2))
    assert outcome.failed == []
    assert outcome.points["loss_from_ru"].notna().all()
    found = [find_minimum(profile, 5) for profile in profiles(judge(outcome.points))]
    assert [minimum.status for minimum in found] == [Status.INTERIOR] * 2, [minimum.reason for minimum in found]
    assert [minimum.params for minimum in found] == pytest.approx([8e3, 1.2e4], rel=0.4)


def test_every_grid_is_told_of_in_the_readme():
    text = (ROOT / "grids" / "README.md").read_text()
    assert all(f"`{name}.yaml`" in text for name in GRIDS)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for grid in GRIDS:
        with (GOLDEN / f"{grid}.csv").open("w", newline="") as output:
            csv.writer(output, lineterminator="\n").writerows([COLUMNS, *rows(planned(grid))])
