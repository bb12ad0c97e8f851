"""The study directory: whole files or none, states, points."""

from __future__ import annotations

import json

import pytest

from isoflop import store, table_files
from isoflop.claims import Claims, joined
from isoflop.errors import CorruptFileError, InputError
from isoflop.planning.ledger import DataFacts
from isoflop.planning.plan import plan
from isoflop.planning.runs import TRAINING_REVISION
from isoflop.store import Branch, StudyDirectory
from isoflop.study import Study

STUDY = Study.parse({"name": "x", "grid": {"budgets": [2.5e10, 1.2e11], "sizes": [8, 12, 16], "min_cells": 3}})


@pytest.fixture
def planned(tmp_path):
    """A study directory with six planned runs."""
    directory = StudyDirectory(tmp_path)
    made = plan(STUDY, DataFacts("data", 240, 3_500_000))
    for run in made.runs:
        store.write_json(directory.run(run.id).run_file, run.to_dict())
    table_files.write_table(directory.plan_file, made.table())
    return directory, made


def test_points_hold_every_run_with_its_state(planned):
    directory, made = planned
    first, second, third = (run.id for run in made.runs[:3])
    store.write_json(directory.run(first).result_file, {"run": first, "loss": 3.5, "loss_text": 2.0})
    directory.run(second).write_status("running", step=10)
    directory.run(third).write_status("failed", cause="diverged")
    table = store.points(directory.root)
    assert list(table["run"]) == [run.id for run in made.runs]
    assert list(table["state"]) == ["done", "planned", "failed", "planned", "planned", "planned"]
    with joined(directory.root) as crew:
        Claims(directory.root, crew).take(second)
        assert list(store.points(directory.root)["state"])[:3] == ["done", "running", "failed"]
    assert table["loss"].notna().sum() == 1
    assert table.loc[0, "loss_text"] == 2.0
    assert table.loc[0, "params"] == made.runs[0].shape.parameters.total
    assert table["in_grid"].all()


def test_a_result_is_published_once(planned):
    directory, made = planned
    place = directory.run(made.runs[0].id)
    assert place.publish({"run": made.runs[0].id, "loss": 3.0}) == {"run": made.runs[0].id, "loss": 3.0}
    assert place.publish({"run": made.runs[0].id, "loss": 4.0})["loss"] == 3.0
    assert place.result()["loss"] == 3.0


def test_a_trunk_tells_its_branches_and_what_stands_by_names_alone(tmp_path):
    directory = StudyDirectory(tmp_path)
    trunk = directory.trunk("d8-l2-0123456789ab")
    assert (trunk.branches(), trunk.stored(), directory.branches()) == ({}, frozenset(), {})
    store.write_json(trunk.trunk_file, {"id": trunk.root.name, "branches": {"a": 80, "b": 160}})
    assert directory.branches() == {"a": Branch(trunk.root.name, 80), "b": Branch(trunk.root.name, 160)}
    trunk.checkpoints.mkdir()
    for name in ("step-00000080-0123456789abcdef.pt", "step-00000160.json", ".step-00000240-x.pt.7", "corrupt-step-1"):
        (trunk.checkpoints / name).touch()
    assert trunk.stored() == {80, 160}
    store.write_json(trunk.trunk_file, {"branches": {"a": "80"}})
    with pytest.raises(CorruptFileError, match=r"trunk\.json must hold the steps of branches"):
        directory.branches()


def test_a_run_that_left_the_grid_stays_and_says_so(planned):
    directory, made = planned
    smaller = plan(
        Study.parse({**STUDY.model_dump(), "grid": {"budgets": [2.5e10], "sizes": [8, 12, 16], "min_cells": 3}}),
        made.data,
    )
    table_files.write_table(directory.plan_file, smaller.table())
    table = store.points(directory.root)
    assert len(table) == 6
    assert list(table["in_grid"]) == [True] * 3 + [False] * 3


def test_a_result_makes_a_run_done_whatever_its_status_says(planned):
    directory, made = planned
    run = directory.run(made.runs[0].id)
    run.write_status("running", step=3)
    store.write_json(run.result_file, {"run": made.runs[0].id, "loss": 1.0})
    assert run.status() == {"state": "done"}
    assert store.points(directory.root).loc[0, "loss"] == 1.0


def test_corrupt_files_of_a_study_are_named(planned):
    directory, made = planned
    run = directory.run(made.runs[0].id)
    for wrong in ({"loss": 1.0}, {"run": made.runs[1].id, "loss": 1.0}, {"run": made.runs[0].id, "loss": "low"}):
        store.write_json(run.result_file, wrong)
        with pytest.raises(CorruptFileError, match=r"result\.json must hold the run .* and a finite loss.*delete it"):
            store.points(directory.root)
    run.result_file.write_text(f'{{"run": "{made.runs[0].id}", "loss": NaN}}')
    with pytest.raises(CorruptFileError, match=r"but holds .* and nan"):
        store.points(directory.root)
    run.result_file.unlink()
    store.write_json(run.run_file, {**json.loads(run.run_file.read_text()), "seed": 9})
    with pytest.raises(CorruptFileError, match=r"run\.json is not a run"):
        store.points(directory.root)
    store.write_json(run.run_file, made.runs[1].to_dict())
    with pytest.raises(CorruptFileError, match="must hold the run"):
        store.points(directory.root)
    directory.plan_file.write_bytes(b"PAR1 no more")
    with pytest.raises(CorruptFileError, match=r"plan\.parquet must be a Parquet table"):
        store.points(directory.root)


def test_no_study_and_no_name(tmp_path):
    with pytest.raises(InputError, match=r"must hold plan\.parquet"):
        store.points(tmp_path)
    with pytest.raises(InputError, match=r"but got '\.\./x'"):
        StudyDirectory(tmp_path).run("../x")
    with pytest.raises(InputError, match=r"a state must be one of .* but got 'lost'"):
        StudyDirectory(tmp_path).run("x").write_status("lost")  # type: ignore[arg-type]


def test_what_is_no_run_or_no_status_does_not_stop_the_rest(planned):
    directory, made = planned
    (directory.root / "runs" / ".ipynb_checkpoints").mkdir()
    (directory.root / "runs" / "d8-half-made").mkdir()
    directory.run(made.runs[0].id).status_file.write_text("{")
    table = store.points(directory.root)
    assert len(table) == 6
    assert "must hold a JSON object" in directory.run(made.runs[0].id).status()["cause"]


def test_runs_of_another_revision_of_the_training_code_stay_readable_outside_the_grid(planned, monkeypatch):
    directory, made = planned
    before = {run.id for run in made.runs}
    monkeypatch.setattr("isoflop.planning.runs.TRAINING_REVISION", TRAINING_REVISION + 1)
    later = plan(STUDY, made.data)
    assert not {run.id for run in later.runs} & before
    for run in later.runs:
        store.write_json(directory.run(run.id).run_file, run.to_dict())
    table_files.write_table(directory.plan_file, later.table())
    table = store.points(directory.root)
    assert list(table["in_grid"]) == [True] * 6 + [False] * 6


def test_any_damage_to_a_table_is_named(planned):
    directory, _ = planned
    whole = directory.plan_file.read_bytes()
    for place in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        directory.plan_file.write_bytes(damaged)
        assert any(part in verdict(directory) for part in ("read", "plan.parquet", "run.json", "a name must be"))


def verdict(directory):
    try:
        store.points(directory.root)
    except (CorruptFileError, InputError) as error:
        return str(error)
    return "read"


def test_points_of_a_rehearsal_are_labelled_and_so_are_its_results_elsewhere(planned):
    directory, made = planned
    assert "simulated" not in store.points(directory.root)
    store.write_json(directory.rehearsal_file, {})
    assert directory.rehearsed
    assert store.points(directory.root)["simulated"].all()
    directory.rehearsal_file.unlink()
    first = made.runs[0].id
    store.write_json(directory.run(first).result_file, {"run": first, "loss": 3.5, "simulated": True})
    assert list(store.points(directory.root)["simulated"] == True) == [True] + [False] * 5  # noqa: E712


def test_a_law_is_read_back_and_what_is_none_is_named(tmp_path):
    path = tmp_path / "law.json"
    store.write_json(path, {"schema": 2})
    with pytest.raises(CorruptFileError, match=r"law\.json: a law's .* must be valid"):
        store.read_law(path)
