"""The local launcher's workers: dying under a run, not starting."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from isoflop import store, workflow
from isoflop.claims import Claims, hold, joined
from isoflop.errors import RunError
from isoflop.launching.base import Event, longest_first
from isoflop.launching.causes import Cause
from isoflop.launching.local import Local
from isoflop.launching.states import survey
from isoflop.store import StudyDirectory
from isoflop.training.data import open_source
from isoflop.training.run import run as train

pytestmark = pytest.mark.slow


@pytest.fixture
def planned(small_study, tmp_path):
    """Three runs, ready to be launched."""
    study = small_study(grid={"budgets": [8e8], "sizes": [8, 12, 16], "tolerance": 0.05, "min_cells": 3})
    place = StudyDirectory(tmp_path)
    runs = workflow.plan(study).runs
    store.write_text(place.study_file, study.to_yaml())
    for run in runs:
        store.write_json(place.run(run.id).run_file, run.to_dict())
    return place, runs


def launch(place, runs, on_event, workers=1):
    with hold(place.root) as crew:
        Local(workers, crew).launch(place, runs, on_event)


def children() -> list[int]:
    return [
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
        if b"isoflop.launching.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_the_longest_run_comes_first_and_no_worker_is_left(planned):
    place, runs = planned
    heard: list[Event] = []
    launch(place, runs, heard.append)
    started = [event.run for event in heard if event.kind == "started"]
    assert started == list(longest_first(runs))
    assert [event.run for event in heard if event.kind == "finished"] == started
    assert children() == []


def test_a_run_whose_worker_is_killed_is_resumed_by_another(planned):
    place, runs = planned
    victims: list[str] = []

    def kill_once(event: Event) -> None:
        if event.kind == "started" and not victims:
            victims.append(event.run)
            os.kill(children()[0], signal.SIGKILL)

    launch(place, runs, kill_once)
    assert victims
    assert all(place.run(run.id).result() for run in runs)


def test_after_a_lack_of_memory_the_run_goes_on_with_half_the_micro_batch(small_study, tmp_path):
    """And ends bit for bit as one that took its steps in two passes from the start."""
    # So few steps that none has a checkpoint before its end.
    study = small_study(
        grid={"budgets": [8e8], "sizes": [16, 24], "tolerance": 0.05, "min_cells": 2},
        recipe={"base": "tiny", "tokens_per_step": 128, "warmup_steps": 4},
    )
    place = StudyDirectory(tmp_path)
    runs = workflow.plan(study).runs
    store.write_text(place.study_file, study.to_yaml())
    for run in runs:
        store.write_json(place.run(run.id).run_file, run.to_dict())
    victims: list[str] = []

    def kill_once(event: Event) -> None:
        if event.kind == "started" and not victims:
            victims.append(event.run)
            # As the kernel does where memory is short.
            os.kill(children()[0], signal.SIGKILL)

    launch(place, runs, kill_once)
    results = {run.id: place.run(run.id).result() for run in runs}
    assert {run: result["passes"] for run, result in results.items()} == {
        run.id: 2 if run.id in victims else 1 for run in runs
    }
    (again,) = (run for run in runs if run.id in victims)
    expected = train(again, tmp_path / "other", source=open_source(Path(study.data.corpus)), micro_batches=2)
    assert results[again.id]["resumed"] == 0
    assert results[again.id]["loss"] == expected["loss"]


def test_a_run_that_kills_its_workers_is_failed_and_the_others_finish(planned):
    place, runs = planned
    target = longest_first(runs)[0]
    heard: list[Event] = []

    def kill(event: Event) -> None:
        heard.append(event)
        if event.kind == "started" and event.run == target:
            os.kill(children()[0], signal.SIGKILL)

    launch(place, runs, kill)
    assert [event.details["cause"] for event in heard if event.kind == "failed"] == ["out of memory"]
    assert [event.kind for event in heard if event.run == target].count("retried") == Cause.OUT_OF_MEMORY.retries
    status = place.run(target).status()
    assert status["state"] == "failed"
    assert "killed by signal 9" in status["message"]
    assert [claim.end["cause"] for claim in Claims(place.root).history(target)] == ["out of memory"] * 3
    assert sum(place.run(run.id).result() is not None for run in runs) == 2


@pytest.fixture
def sharing(small_study, tmp_path):
    """Nine runs in three trunks, ready to be launched: each size at three budgets."""
    study = small_study(grid={"budgets": [5e8, 1e9, 2e9], "sizes": [8, 12, 16], "tolerance": 0.05, "min_cells": 3})
    place = StudyDirectory(tmp_path)
    plan = workflow.plan(study)
    workflow.write_plan(study, place, plan)
    assert [len(trunk.branches) for trunk in plan.trunks] == [3, 3, 3]
    return place, plan


def test_two_workers_train_every_trunk_once_though_one_is_killed(sharing):
    place, plan = sharing
    heard: list[Event] = []

    def kill_once(event: Event) -> None:
        if event.kind == "progress" and not any(each.kind == "progress" for each in heard):
            os.kill(children()[0], signal.SIGKILL)
        heard.append(event)

    launch(place, plan.runs, kill_once, workers=2)
    shared = {run.id: place.run(run.id).result()["shared_steps"] for run in plan.runs}
    expected = {run.id: run.steps - plan.own_steps[run.id] for run in plan.runs}
    assert shared == expected
    assert sum(step > 0 for step in shared.values()) == 6
    started = [event.run for event in heard if event.kind == "started"]
    # Two trunks at once, by the longest run of each.
    assert set(started[:2]) <= {trunk.branches[-1] for trunk in plan.trunks}
    for trunk in plan.trunks:
        assert place.trunk(trunk.id).stored() == set(trunk.branch_steps)
        assert all(claim.end is not None for claim in Claims(place.root).history(trunk.id))
    assert survey(place).spent_flops == pytest.approx(plan.flops - plan.saved_flops)


def test_a_worker_whose_trunk_was_taken_over_stops_and_its_run_goes_on_later(sharing):
    place, plan = sharing
    trunk = plan.trunks[-1]
    runs = [run for run in plan.runs if run.id in trunk.branches]
    heard: list[str] = []
    with ExitStack() as stack:

        def take_over(event: Event) -> None:
            heard.append(event.kind)
            if event.kind == "started" and "taken" not in heard:
                other = stack.enter_context(joined(place.root))
                claims = Claims(place.root, other)
                claims.end(claims.latest(trunk.id), "lost")
                assert claims.take(trunk.id)
                os.kill(children()[0], signal.SIGSTOP)
                heard.append("taken")
            elif event.kind == "stopped":
                stack.close()

        launch(place, runs, take_over)
    assert "stopped" in heard
    assert all(place.run(run.id).result() for run in runs)


def test_workers_that_cannot_start_say_why(planned):
    place, runs = planned
    place.study_file.unlink()
    with pytest.raises(RunError, match=r"a worker must start, but .*index\.json"):
        launch(place, runs, lambda event: None)
    assert children() == []


def test_nothing_to_do_starts_nothing(planned):
    place, _ = planned
    launch(place, [], lambda event: pytest.fail("nothing was to be done"))


def test_a_worker_that_dies_between_two_runs_costs_nothing(planned):
    place, runs = planned
    deaths: list[int] = []

    def kill_once(event: Event) -> None:
        if event.kind == "finished" and not deaths:
            deaths.extend(children())
            os.kill(deaths[0], signal.SIGKILL)
            while Path(f"/proc/{deaths[0]}/cmdline").read_bytes():
                time.sleep(0.01)

    launch(place, runs, kill_once)
    assert deaths
    assert all(place.run(run.id).result() for run in runs)


def test_a_module_in_the_working_directory_does_not_shadow_the_library(planned, tmp_path, monkeypatch):
    place, runs = planned
    (tmp_path / "queue.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    launch(place, runs[:1], lambda event: None)
    assert place.run(runs[0].id).result()
