"""Points from elsewhere become a study's own: once, labelled, with where they come from."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from isoflop import store
from isoflop.adopted import adopt, read
from isoflop.choosing import adopt_points
from isoflop.errors import CorruptFileError, InputError, NoAnswerError
from isoflop.fitting import fit
from isoflop.store import StudyDirectory
from isoflop.study import Study

BUDGETS = (3e18, 1e19, 3e19, 1e20)
STUDY = Study.parse(
    {
        "name": "x",
        "data": {"abstract": {"vocabulary": 32000, "unique_tokens": 10**15}},
        "model": {"sequence_length": 2048},
        "recipe": {"base": "marin-2025", "tokens_per_step": 65536},
        "grid": {"generator": "chosen", "budgets": BUDGETS, "prior": "besiroglu2024", "convention": "6nd"},
    }
)


@pytest.fixture
def table():
    rows = []
    for budget in BUDGETS:
        for factor in (0.3, 0.6, 1.0, 1.7, 3.0):
            params = (budget / 6) ** 0.5 * factor / 3
            tokens = budget / 6 / params
            rows.append((budget * 1.003, params, tokens * 1.003, 1.8 + 482 / params**0.35 + 2085 / tokens**0.37))
    return pd.DataFrame(rows, columns=["flops", "params", "tokens", "loss"])


def test_adopted_points_are_finished_cells_with_their_origin(table, tmp_path):
    place = StudyDirectory(tmp_path / "x")
    table.loc[3, "loss"] = float("nan")
    adoption = adopt_points(STUDY, place, table, "runs.csv")
    assert (adoption.rows, adoption.flops_convention, adoption.again) == (19, "6nd", False)
    assert [row for row, _ in adoption.left_out] == [3]
    points = store.points(place.root)
    assert len(points) == 19
    assert set(points["state"]) == {"done"}
    assert points["in_grid"].all()
    assert set(points["adopted"]) == {adoption.digest}
    assert set(points["budget"]) == set(BUDGETS)
    assert not (place.root / "runs").exists()
    record = json.loads((place.adopted / f"{adoption.digest}.json").read_text())
    assert record["source"] == "runs.csv"
    assert record["params_convention"] == "total"
    fitted, alone = fit(points, bootstrap=100), fit(table, bootstrap=100)
    assert fitted.exponents.a.value == pytest.approx(alone.exponents.a.value, abs=1e-6)


def test_the_same_table_again_changes_nothing_and_rows_are_taken_once(table, tmp_path):
    place = StudyDirectory(tmp_path / "x")
    first = adopt_points(STUDY, place, table, "runs.csv")
    again = adopt_points(STUDY, place, table.sample(frac=1, random_state=0), "copy.csv")
    assert again.again
    assert again.digest == first.digest
    more = pd.concat([table, table.head(1).assign(loss=2.5)], ignore_index=True)
    third = adopt_points(STUDY, place, more, "more.csv")
    assert third.rows == 1
    assert len(third.left_out) == 20
    assert len(read(place.adopted)) == 21


def test_own_runs_and_adopted_ones_stand_side_by_side(small_study, table, tmp_path):
    from isoflop import workflow

    study, place = small_study(), StudyDirectory(tmp_path / "small")
    workflow.create(place)
    workflow.write_plan(study, place, workflow.plan(study, place.root))
    own = store.points(place.root)
    assert "adopted" not in own
    adopt_points(study, place, table, "runs.csv")
    both = store.points(place.root)
    assert list(both["run"])[: len(own)] == list(own["run"])
    assert list(both["adopted"])[: len(own)] == [""] * len(own)
    assert (both["state"] == "done").sum() == 20
    assert fit(both, bootstrap=100).points.used == 20


def test_what_cannot_be_adopted_is_refused(table, tmp_path):
    place = StudyDirectory(tmp_path / "x")
    with pytest.raises(NoAnswerError, match=r"no row of runs\.csv"):
        adopt(place.adopted, table.assign(loss=-1.0), "runs.csv", BUDGETS)
    with pytest.raises(InputError, match="real runs"):
        adopt_points(STUDY, place, table.assign(simulated=True), "runs.csv")
    store.write_json(place.rehearsal_file, {})
    with pytest.raises(InputError, match="rehearsal"):
        adopt_points(STUDY, place, table, "runs.csv")


def test_a_damaged_table_is_named(table, tmp_path):
    place = StudyDirectory(tmp_path / "x")
    digest = adopt_points(STUDY, place, table, "runs.csv").digest
    (place.adopted / f"{digest}.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorruptFileError, match=digest):
        store.points(place.root)
