from __future__ import annotations

import json

import numpy as np
import pytest

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting import fit
from isoflop.fitting.repetition import effective_tokens
from isoflop.fitting.scoring import check

BUDGETS = np.geomspace(1e18, 1e20, 5)


@pytest.fixture
def law(study):
    return fit(study(budgets=BUDGETS, noise=0.002, sizes=9), bootstrap=100)


def test_runs_of_the_same_surface_are_held_and_told_by_compute_and_size(law, study):
    later = study(budgets=np.array([3e20, 1e21]), noise=0.002, sizes=5, seed=9)
    later["run"] = [f"late-{place}" for place in range(len(later))]
    card = check(law, later)
    assert card.total.runs == 10
    assert card.known == 0
    assert card.total.coverage >= 0.9
    assert card.total.error < 0.02
    assert [part.runs for part in card.by_flops] == [5, 5]
    assert sum(part.runs for part in card.by_params) == 10
    first = card.runs[0]
    told = law.predict(first.params, first.tokens)
    assert (first.value, first.low, first.high) == (told.value, told.low, told.high)
    assert first.run == "late-0"
    assert first.error == pytest.approx(np.log(told.value / first.loss))
    assert json.loads(json.dumps(card.to_json(), allow_nan=False))["total"]["runs"] == 10
    assert "10 runs scored (0 excluded)" in str(card)


def test_runs_of_another_recipe_are_not_held_and_it_is_said(law, study):
    card = check(law, study(budgets=np.array([3e20]), sizes=5).assign(loss=lambda table: table["loss"] * 1.2))
    assert card.total.coverage == 0
    assert card.total.bias == pytest.approx(-np.log(1.2), abs=0.01)
    assert "! too few" in str(card)


def test_repeated_data_are_scored_for_what_they_are_worth(study):
    points = study(noise=0.001, sizes=9)
    epochs = np.tile([1.0, 4.0, 16.0], 15)
    points["unique_tokens"] = points["tokens"] / epochs
    worth = effective_tokens(points["tokens"].to_numpy(), points["unique_tokens"].to_numpy(), 10.0)
    points["loss"] += 3210.7 / worth**0.36 - 3210.7 / points["tokens"] ** 0.36
    points["params_non_embedding"] = points["params"] / 2
    law = fit(points, bootstrap=100)
    assert law.parametric.repetition == pytest.approx(10, rel=0.2)
    total, half = law.conventions
    assert half.parametric_a == pytest.approx(total.parametric_a, rel=1e-4)
    card = check(law, points)
    assert card.total.error < 0.01
    # Taken for fresh, the repeated tokens promise too much.
    assert check(law, points.drop(columns="unique_tokens")).total.bias < -0.01
    with pytest.raises(InputError, match="unique_tokens must be positive"):
        law.predict(1e9, 1e10, unique_tokens=0.0)


def test_every_row_is_scored_or_excluded(law, study):
    later = study(budgets=np.array([1e19, 3e20]), sizes=5)
    later.loc[2, "loss"] = np.nan
    card = check(law, later)
    assert card.known == 4
    assert [each.row for each in card.excluded] == [2]
    with pytest.raises(NoAnswerError, match="no run can be scored: all 10 are excluded"):
        check(law, later.assign(loss=np.nan))
    with pytest.raises(InputError, match="0 < level < 1"):
        check(law, later, level=1.5)
