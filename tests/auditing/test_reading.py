"""Whole audits: of simulated studies whose rates are off, of one that trains, killed and carried on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from isoflop import auditing, store, workflow
from isoflop.claims import Claims
from isoflop.errors import CorruptFileError
from isoflop.launching import synthetic
from isoflop.launching.parts import open_part, take_over
from isoflop.launching.profiles import LocalProfile
from isoflop.launching.states import cancel
from isoflop.launching.synthetic import Conditions

ROOT = Path(__file__).parents[2]


def done(prepared):
    """The audit with its runs done here and now."""
    part = prepared.part
    store.write_json(part.variations_file, prepared.to_json())
    open_part(prepared.place, part, prepared.study)
    for run in prepared.plan.runs:
        take_over(prepared.place, part, run)
        synthetic.run(run, part.root)
    return auditing.read(prepared)


def truth(place, planned):
    conditions = Conditions.load(place.rehearsal_file)
    return conditions.prior.exponents(np.array(planned.budgets), conditions.cost)


#: The width's true exponent, the noise of a run, its seed. With a wrong exponent the statistical interval misses.
OFF = [(-0.5, 0.0, 0), (-1.5, 0.0, 0), (0.0, 0.0, 0), (-0.3, 0.001, 1), (-1.7, 0.001, 2), (-0.2, 0.001, 3)]


@pytest.mark.parametrize(("exponent", "noise", "seed"), OFF)
def test_the_interval_covers_what_wrong_rates_cause(simulated, exponent, noise, seed):
    study, place, planned = simulated(exponent, noise, seed)
    found = done(auditing.prepare(study, place))
    known = truth(place, planned)
    for name in ("a", "b", "ratio"):
        quantity, value = found.of(name), getattr(known, name)
        assert not quantity.statistical[0] <= value <= quantity.statistical[1]
        assert quantity.design[0] <= value <= quantity.design[1]
    best = next(shift for shift in found.shifts if shift.kind == "best rate")
    # Most of what the wrong rates cause, and more beyond the noise than any batch.
    assert 0.4 < best.a.value / (known.a - found.a.value) < 2
    assert abs(best.a.beyond) > abs(next(shift for shift in found.shifts if shift.kind == "batch").a.beyond)
    assert found.rates.by_params * np.sign(exponent + 1) > 0
    assert found.simulated


def test_where_the_rates_are_right_nothing_is_moved_by_them(simulated):
    study, place, planned = simulated()
    found = done(auditing.prepare(study, place))
    best = next(shift for shift in found.shifts if shift.kind == "best rate")
    assert best.a.value == pytest.approx(0, abs=1e-9)
    assert found.a.design == pytest.approx(found.a.statistical, abs=1e-4)
    assert found.rates.curvature == pytest.approx(0.02)
    names = [shift.name for shift in found.shifts]
    assert names[:5] == ["rate ×½", "rate ×2", "best rate", "batch ×2", "another seed"]
    assert names[5:] == [
        "N non embedding",
        "N body and head",
        "C counted, causal attention",
        "C 6ND",
        "C 6ND and N non embedding",
        "C 6ND and N body and head",
    ]
    assert truth(place, planned).a == pytest.approx(found.a.value, abs=0.01)


def test_more_seeds_hide_less(simulated):
    study, place, _ = simulated(noise=0.001)
    one, four = (done(auditing.prepare(study, place, seeds=seeds)) for seeds in (1, 4))
    assert (one.cells, four.cells) == (12, 12)
    assert four.a.hidden < 0.75 * one.a.hidden
    assert four.rates.curvature_high - four.rates.curvature_low < one.rates.curvature_high - one.rates.curvature_low


def test_runs_that_are_lacking_are_named_and_the_rest_is_read(simulated):
    study, place, _ = simulated(noise=0.001)
    prepared = auditing.prepare(study, place)
    whole = done(prepared)
    lost = prepared.runs[2][0]
    prepared.part.run(lost.id).result_file.unlink()
    prepared.part.run(lost.id).write_status("failed", cause="diverged", message="at step 9")
    workflow.write_plan(study, prepared.part, prepared.plan)
    found = auditing.read(prepared)
    batch = next(shift for shift in found.shifts if shift.kind == "batch")
    assert batch.cells == 11
    assert "C = 3e18" in batch.note
    assert "diverged: at step 9" in batch.note
    assert batch.a.value != next(shift for shift in whole.shifts if shift.kind == "batch").a.value
    assert found.shifts[0] == whole.shifts[0]


def start(place, *arguments):
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "isoflop", "audit", str(place.root), "--json", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_killed_and_carried_on_no_run_is_done_twice(simulated):
    study, place, _ = simulated(noise=0.001)
    # Slow enough to be killed in the midst of it.
    record = store.read_json(place.rehearsal_file)
    slow = {**record, "seconds_per_flop": 10 / auditing.prepare(study, place).flops}
    store.write_json(place.rehearsal_file, slow)
    part = auditing.prepare(study, place).part
    process = start(place)
    deadline = time.monotonic() + 120
    while process.poll() is None and len(list(part.root.glob("runs/*/result.json"))) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not place.audit_file.exists()
    said, told = start(place).communicate()
    document = json.loads(said)
    assert document["cells"] == 12, told
    assert len(part.run_ids()) == 48
    for run in part.run_ids():
        *before, last = [
            "open" if claim.end is None else claim.end["outcome"] for claim in Claims(part.root).history(run)
        ]
        assert last in {"done", "open"}
        assert "done" not in before
    # The study's own points hold none of them.
    assert len(store.points(place.root)) == 28


@pytest.mark.slow
def test_an_audit_of_a_study_that_trains(small_study, tmp_path):
    study = small_study(grid={"budgets": [2e8, 3e8, 4e8], "sizes": [8, 12, 16, 24], "tolerance": 0.05, "min_cells": 4})
    place, planned = store.StudyDirectory(tmp_path / "small"), workflow.plan(study)
    workflow.write_plan(study, place, planned)
    for run in planned.runs:
        # So short runs have no minima of their own: these are a valley's, and what the audit trains is real.
        away = np.log(run.shape.parameters.total / 7e3 / (run.budget / 3e8) ** 0.4)
        place.run(run.id).publish({"run": run.id, "loss": 2 + 0.1 * away**2, "seconds": 1.0})
    profile, prepared = LocalProfile(workers=1), auditing.prepare(study, place)
    cancel(prepared.part, [prepared.runs[1][0].id])
    found = auditing.audit(prepared, profile, target=1e10)
    assert store.read_audit(place) == found
    assert found.target == 1e10
    assert found.noise > 0
    assert {shift.kind for shift in found.shifts} == {"rate", "best rate", "batch", "seed", "convention"}
    rate = found.shifts[1]
    assert rate.cells == found.cells == len(prepared.cells) == 9
    assert rate.loss != 0
    # What was cancelled was asked for again, and runs of one size at one rate had a trunk in common.
    assert auditing.prepare(study, place).done == len(prepared.plan.runs) == 36
    assert list(prepared.part.root.glob("trunks/*/checkpoints/*"))
    assert found.sentences()[0] in place.report_file.read_text()
    store.write_json(place.audit_file, {"a": 1})
    with pytest.raises(CorruptFileError, match=r"audit\.json"):
        store.read_audit(place)
