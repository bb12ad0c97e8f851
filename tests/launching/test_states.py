"""The states of runs, from files alone; what was spent and is left."""

from __future__ import annotations

import math

import pytest

from isoflop.claims import Claims, joined
from isoflop.errors import CorruptFileError, InputError
from isoflop.launching.states import cancel, failures, pardon, states, survey
from isoflop.store import StudyDirectory, write_json


def by_run(study, **arguments):
    return {run.run: run for run in states(study.place, **arguments)}


def test_every_state_is_told_from_what_is_on_disk(pretended):
    study = pretended(8)
    ids = [run.id for run in study.plan.runs]
    study.place.run(ids[0]).publish({"run": ids[0], "loss": 3.5})
    study.place.run(ids[1]).write_status("failed", cause="diverged", message="at step 3", step=3)
    cancel(study.place, [ids[2]])
    study.place.run(ids[3]).write_status("running", step=7, loss=4.0)
    with joined(study.place.root) as crew:
        Claims(study.place.root, crew).take(ids[3])
        study.place.run(ids[4]).write_status("running", step=9)
        found = by_run(study, covered={ids[5]})
        assert [found[run].state for run in ids] == [
            "done",
            "failed",
            "cancelled",
            "running",
            "planned",
            "queued",
            "planned",
            "planned",
        ]
    assert by_run(study)[ids[3]].state == "planned"
    done, failed = found[ids[0]], found[ids[1]]
    assert (done.loss, done.step) == (3.5, study.plan.runs[0].steps)
    assert failed.reason == "diverged: at step 3"
    assert math.isnan(failed.loss)
    assert failures(study.place) == {ids[1]: "diverged: at step 3"}
    assert (found[ids[3]].step, found[ids[3]].train_loss) == (7, 4.0)
    for state, run in zip(found.values(), study.plan.runs, strict=True):
        assert (state.budget, state.flops, state.steps, state.tokens) == (run.budget, run.flops, run.steps, run.tokens)
        assert state.params == run.shape.parameters.total


def test_a_survey_adds_up(pretended):
    study = pretended(4)
    first, second = study.plan.runs[:2]
    study.place.run(first.id).publish({"run": first.id, "loss": 3.5})
    study.place.run(second.id).write_status("planned", step=second.steps // 2)
    found = survey(study.place)
    assert found.planned_flops == pytest.approx(study.plan.flops)
    assert found.spent_flops == pytest.approx(first.flops + second.flops * (second.steps // 2) / second.steps)
    assert found.seconds_left is None
    with joined(study.place.root, devices=2) as crew:
        (study.place.root / "crews" / f"{crew.id}.beat").write_text("100.0\n")
        found = survey(study.place)
        left = found.planned_flops - found.spent_flops
        assert found.devices == 2
        assert found.seconds_left == pytest.approx(left * (200 / found.spent_flops) / 2)


def test_what_runs_of_a_trunk_share_counts_once(pretended):
    study = pretended(8)
    short, long = next(
        (one, two)
        for one in study.plan.runs
        for two in study.plan.runs
        if one.shape == two.shape and one.steps < two.steps
    )
    assert short.trunk == long.trunk
    before = survey(study.place)
    write_json(
        study.place.trunk(long.trunk).trunk_file,
        {"branches": {short.id: short.branch_step, long.id: long.branch_step}},
    )
    planned = survey(study.place)
    shared = short.flops * short.branch_step / short.steps
    assert planned.planned_flops == pytest.approx(before.planned_flops - shared)
    study.place.run(long.id).write_status("planned", step=long.branch_step)
    study.place.run(short.id).write_status("planned", step=short.branch_step)
    assert survey(study.place).spent_flops == pytest.approx(long.flops * long.branch_step / long.steps)
    study.place.run(short.id).publish({"run": short.id, "loss": 3.5})
    found = survey(study.place)
    assert found.spent_flops == pytest.approx(
        long.flops * long.branch_step / long.steps + short.flops * (short.steps - short.branch_step) / short.steps
    )
    states = {run.run: run for run in found.runs}
    assert (states[short.id].trunk, states[short.id].branch) == (short.trunk, short.branch_step)


def test_a_pardon_opens_what_failed_or_was_cancelled_and_nothing_else(pretended):
    study = pretended(4)
    ids = [run.id for run in study.plan.runs]
    study.place.run(ids[0]).write_status("failed", cause="error")
    cancel(study.place, [ids[1]])
    with joined(study.place.root) as crew:
        assert pardon(study.place, Claims(study.place.root, crew), ids) == ids[:2]
        assert pardon(study.place, Claims(study.place.root, crew), ids) == []
    assert study.states == {"planned": 4}


def test_what_is_no_study_and_a_broken_plan_are_named(pretended, tmp_path):
    with pytest.raises(InputError, match=r"must hold plan\.csv"):
        states(StudyDirectory(tmp_path / "nothing"))
    study = pretended(4)
    study.place.plan_file.with_suffix(".csv").write_text("id,dropped\nx,\n")
    with pytest.raises(CorruptFileError, match=r"plan\.csv must be the table of a plan"):
        states(study.place)
