"""What an audit takes, before it is run."""

from __future__ import annotations

import json
import re

import pytest

from isoflop import auditing, store
from isoflop.adopted import adopt
from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.law import Law
from isoflop.planning.feasibility import Dropped
from isoflop.planning.runs import Run


def test_each_minimum_and_its_neighbours_are_run_at_four_variations(simulated):
    study, place, planned = simulated()
    prepared = auditing.prepare(study, place)
    assert [each.name for each in prepared.variations] == ["rate ×½", "rate ×2", "batch ×2", "another seed"]
    assert len(prepared.plan.runs) == 4 * 3 * 4
    assert prepared.minima == prepared.bases == ()
    for minimum in prepared.law.minima:
        below, middle, above = [cell for cell in prepared.cells if cell.budget == minimum.budget]
        sizes = sorted(run.shape.parameters.total for run in planned.at(minimum.budget))
        place_of = sizes.index(middle.base.shape.parameters.total)
        assert [below.params, above.params] == [sizes[place_of - 1], sizes[place_of + 1]]
        assert below.params < minimum.params < above.params
    half, double, batch, seed = prepared.runs
    for cell, *four in zip(prepared.cells, half, double, batch, seed, strict=True):
        assert all(isinstance(run, Run) and run.budget == cell.budget for run in four)
        assert [run.learning_rate / cell.base.learning_rate for run in four[:2]] == pytest.approx([0.5, 2.0])
        assert four[2].batch_size == 2 * cell.base.batch_size
        assert four[2].tokens == pytest.approx(cell.base.tokens, rel=0.01)
        assert four[3].seed == cell.base.seed + 3
    assert prepared.flops == pytest.approx(4 * sum(cell.base.flops for cell in prepared.cells), rel=0.01)
    assert not prepared.part.root.exists()
    assert "48 runs at 12 cells (12 rate ×½, 12 rate ×2, 12 batch ×2, 12 another seed), 0 of them done" in str(prepared)
    assert json.loads(json.dumps(prepared.to_json(), allow_nan=False))["runs"] == 48


def test_more_seeds_are_more_runs_of_which_none_is_planned_twice(simulated):
    study, place, _ = simulated()
    prepared = auditing.prepare(study, place, seeds=2)
    # From the second seed the cells are run as planned too, which is the first one's other seed.
    assert len(prepared.bases) == 12
    assert set(prepared.bases) == set(prepared.runs[3][:12])
    assert len(prepared.plan.runs) == 2 * 48
    assert "96 runs at 12 cells" in str(prepared)
    assert set(auditing.prepare(study, place).plan.runs) < set(prepared.plan.runs)
    with pytest.raises(InputError, match="seeds >= 1 must hold, but got 0"):
        auditing.prepare(study, place, seeds=0)


def test_a_minimum_by_an_edge_is_run_again_with_the_neighbours_it_has(simulated):
    study, place, planned = simulated()
    study, place, _ = simulated(least=1.2 * auditing.prepare(study, place).law.minima[-1].params, seed=1)
    prepared = auditing.prepare(study, place)
    assert prepared.law.minima[-1].status == "edge"
    assert [cell.budget for cell in prepared.cells].count(max(planned.budgets)) == 2
    assert prepared.minima == ("C = 9e19: no minimum (edge), run again about its lowest loss",)


def test_a_variation_that_cannot_be_run_is_named(simulated):
    study, place, _ = simulated()
    prepared = auditing.prepare(study, place, batch=2.0**18)
    assert all(isinstance(run, Dropped) for run in prepared.runs[2])
    assert "dropped: 3e18 FLOPs" in str(prepared)
    assert prepared.to_json()["variations"][2]["dropped"][0]["reason"]
    # Batches of 8, 16 … sequences: no other whole number, or none at all.
    for factor, number in ((1.0001, r"\d+"), (0.001, "0")):
        runs = auditing.prepare(study, place, batch=factor).runs[2]
        assert all(re.search(rf"must be another of one or more, but is {number}$", run.reason) for run in runs)


def test_adopted_points_are_run_as_planned_first(simulated, tmp_path):
    study, place, planned = simulated(noise=0.0005)
    table = store.points(place.root)[["budget", "flops", "params", "tokens", "loss"]]
    elsewhere = store.StudyDirectory(tmp_path / "adopted")
    adopt(elsewhere.adopted, table, "sweep.csv", study.grid.budgets)
    prepared = auditing.prepare(study, elsewhere)
    assert {run.id for run in prepared.bases} == {cell.base.id for cell in prepared.cells}
    assert {run.id for run in prepared.bases} <= {run.id for run in planned.runs}
    assert len(prepared.plan.runs) == 12 + 48
    assert ", 12 as planned)" in str(prepared)
    foreign = store.StudyDirectory(tmp_path / "foreign")
    adopt(foreign.adopted, table.assign(params=1.03 * table["params"]), "sweep.csv", study.grid.budgets)
    with pytest.raises(NoAnswerError, match="the study's recipe has no such size there"):
        auditing.prepare(study, foreign)


def test_a_study_whose_recipe_has_changed_is_not_varied_from_runs_of_another(simulated):
    study, place, _ = simulated()
    recipe = study.recipe.model_copy(update={"weight_decay": 0.2})
    with pytest.raises(NoAnswerError, match="no longer those of its runs"):
        auditing.prepare(study.model_copy(update={"recipe": recipe}), place)


def test_what_is_no_study_or_no_factor_is_refused(simulated):
    study, place, _ = simulated()
    for factor in (1.0, 0.0, -2.0, float("nan")):
        with pytest.raises(InputError, match="the factor of the batch must be"):
            auditing.prepare(study, place, batch=factor)
    store.write_json(place.variations_file, {})
    with pytest.raises(InputError, match="a study must be audited, but"):
        auditing.prepare(study, place)


def test_points_without_profiles_have_nothing_to_be_audited(simulated, monkeypatch):
    study, place, _ = simulated()
    monkeypatch.setattr(Law, "has_profiles", property(lambda law: False))
    with pytest.raises(NoAnswerError, match="the points of this are no profiles"):
        auditing.prepare(study, place)
