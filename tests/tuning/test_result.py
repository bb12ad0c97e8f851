"""A tuned recipe, written and used."""

from __future__ import annotations

import json
import math

import pytest
import yaml

from isoflop import workflow
from isoflop.store import StudyDirectory
from isoflop.study import Study
from isoflop.tuning import result
from isoflop.tuning.cells import chosen
from isoflop.tuning.search import Search
from isoflop.tuning.space import parsed
from isoflop.tuning.storage import Trial


@pytest.fixture
def cells(small_study):
    return chosen(workflow.plan(small_study()), ["2e8:12", "4e8:16"])


SEARCH = Search(parsed("lr"), trials=8, seeds=1)


def trials_of(cell, best):
    factors = [SEARCH.dimensions[0].at((place + 0.5) / 8) for place in range(8)]
    return [
        Trial(
            cell.name,
            number,
            cell.snapped({"lr": factor}),
            "done",
            (3 * math.exp(0.05 * math.log(factor / best) ** 2),),
        )
        for number, factor in enumerate(factors)
    ]


def test_a_study_file_uses_the_recipe_and_the_study_directory_keeps_it(cells, small_content, tmp_path):
    made = result.concluded("small", SEARCH, cells, {cell.name: trials_of(cell, 2.0) for cell in cells})
    place = StudyDirectory(tmp_path / "tuning")
    result.write(place, made)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**small_content, "recipe": {"file": "tuning/recipe.yaml"}}))
    study = Study.load(path)
    assert study.recipe == made.recipe
    assert study.recipe.name == "small-tuned"
    before, after = workflow.plan(Study.parse(small_content)), workflow.plan(study)
    ratios = [now.learning_rate / run.learning_rate for run, now in zip(before.runs, after.runs, strict=True)]
    assert ratios == pytest.approx([2.0] * 15, rel=1e-3)
    (tmp_path / "copy.yaml").write_text(study.to_yaml())
    assert Study.load(tmp_path / "copy.yaml") == study
    assert Study.load(path, ["recipe.weight_decay=0.3"]).recipe.weight_decay == 0.3
    assert json.loads((place.root / "tuning.json").read_text())["rules"][0]["name"] == "rate"


def test_it_says_where_it_comes_from(cells):
    made = result.concluded("small", SEARCH, cells, {cell.name: trials_of(cell, 2.0) for cell in cells})
    tuned = made.recipe.tuned
    assert (tuned.widths, tuned.trials, tuned.seeds) == ((12, 16), 16, 1)
    assert tuned.data == cells[0].planner.data.fingerprint
    assert tuned.rates[1] / tuned.rates[0] > 8
    assert "rate: 2 [2, 2] × the recipe's rule (2 cells)" in str(made)


def test_without_an_optimum_there_is_no_recipe_and_an_older_one_goes(cells, tmp_path):
    place = StudyDirectory(tmp_path)
    result.write(place, result.concluded("small", SEARCH, cells, {cell.name: trials_of(cell, 2.0) for cell in cells}))
    assert result.recipe_file(place).exists()
    made = result.concluded("small", SEARCH, cells, {cell.name: trials_of(cell, 400.0) for cell in cells})
    assert made.recipe is None
    assert "no rules: a cell must have an optimum" in str(made)
    assert "best lr 6.17" in str(made)
    result.write(place, made)
    assert not result.recipe_file(place).exists()
