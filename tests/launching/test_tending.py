"""Which runs of a study that was submitted nobody will take, and by whose decision."""

from __future__ import annotations

import shutil

import pytest

from isoflop.claims import Claims, joined
from isoflop.launching.causes import DONE, FAILED, GIVEN_BACK, PARDON, Cause
from isoflop.launching.cluster import Task
from isoflop.launching.slurm import Queue
from isoflop.launching.tending import lost
from isoflop.store import write_json

NOTHING = Queue((), {})


@pytest.fixture
def submitted(pretended):
    """A study of four runs that were all submitted as one part, which SLURM knows."""
    study = pretended(4)
    folder = study.place.submissions / "s"
    write_json(folder / "submission.json", {"parts": {"worker-0": {"runs": [run.id for run in study.plan.runs]}}})
    write_json(folder / "worker-0.json", {"job": "7"})
    return study


def over(**states):
    """A queue without tasks of ours that will work, but with tasks of the submission that are over, by state."""
    return Queue(
        (), {}, tuple(("s", "worker-0", Task(f"7_{job[1:]}", state, "None", "")) for job, state in states.items())
    )


def attempt(study, run, outcome, cause, job="7_0", part="worker-0"):
    """Have a crew of the submission take a run, and end so."""
    with joined(study.place.root, job=job, part=f"s/{part}") as crew:
        claims = Claims(study.place.root, crew)
        claims.end(claims.take(run.id), outcome, cause=cause)


@pytest.mark.parametrize("cause", [Cause.PREEMPTED, Cause.TIME_LIMIT, Cause.NODE_FAILURE])
def test_what_the_cluster_ended_is_lost_with_all_that_waited_for_it(submitted, cause):
    first, second, third, fourth = submitted.plan.runs
    attempt(submitted, first, GIVEN_BACK, cause)
    attempt(submitted, second, FAILED, Cause.OUT_OF_MEMORY)
    # What a canary has tried waits too.
    attempt(submitted, third, GIVEN_BACK, Cause.STOPPED, part="canary-worker")
    runs = [run.id for run in submitted.plan.runs]
    assert lost(submitted.place, NOTHING, runs) == [first.id, second.id, third.id, fourth.id]
    covering = Queue((), {("s", "worker-0"): {"runs": [first.id]}})
    assert lost(submitted.place, covering, runs) == []
    # A task that has just ended may be put back into the queue.
    leaving = Queue((), {}, leaving=frozenset({"s/worker-0"}))
    assert lost(submitted.place, leaving, runs) == [first.id]


def test_what_waited_for_tasks_of_which_a_person_stopped_one_is_left_to_that_person(submitted):
    first, second, *_ = submitted.plan.runs
    runs = [run.id for run in submitted.plan.runs]
    attempt(submitted, first, GIVEN_BACK, Cause.TIME_LIMIT)
    assert lost(submitted.place, NOTHING, runs) == runs
    assert lost(submitted.place, over(t1="CANCELLED"), runs) == [first.id]
    attempt(submitted, second, GIVEN_BACK, Cause.STOPPED, job="7_1")
    assert lost(submitted.place, NOTHING, runs) == [first.id]
    assert lost(submitted.place, over(t1="PREEMPTED"), runs) == runs


def test_tasks_that_were_preempted_before_they_took_a_run_leave_all_of_theirs(submitted):
    runs = [run.id for run in submitted.plan.runs]
    assert lost(submitted.place, over(t0="PREEMPTED", t1="PREEMPTED"), runs) == runs
    assert lost(submitted.place, over(t0="COMPLETED"), runs) == []
    assert lost(submitted.place, over(t0="PREEMPTED", t1="CANCELLED"), runs) == []


def test_a_submission_that_is_gone_left_nothing(submitted):
    first, *others = submitted.plan.runs
    attempt(submitted, first, GIVEN_BACK, Cause.PREEMPTED)
    shutil.copytree(submitted.place.submissions / "s", submitted.place.submissions / "t")
    shutil.rmtree(submitted.place.submissions / "s")
    assert lost(submitted.place, NOTHING, [first.id, others[0].id]) == [first.id]
    attempt(submitted, first, GIVEN_BACK, Cause.PREEMPTED, part="no-such")
    assert lost(submitted.place, NOTHING, [first.id, others[0].id]) == [first.id]


@pytest.mark.parametrize("cause", [Cause.STOPPED, Cause.CANCELLED, Cause.HOURS, Cause.DISK_FULL])
def test_what_was_stopped_for_a_reason_that_holds_is_left_alone(submitted, cause):
    attempt(submitted, submitted.plan.runs[0], GIVEN_BACK, cause)
    assert lost(submitted.place, NOTHING, [run.id for run in submitted.plan.runs]) == []


@pytest.mark.parametrize(("outcome", "cause"), [(GIVEN_BACK, Cause.STOPPED), (FAILED, Cause.OUT_OF_MEMORY)])
def test_slurms_word_that_it_preempted_a_task_counts_before_what_the_task_thought(submitted, outcome, cause):
    first, second, *_ = submitted.plan.runs
    attempt(submitted, first, outcome, cause, job="7_0")
    attempt(submitted, second, GIVEN_BACK, Cause.STOPPED, job="7_1")
    assert lost(submitted.place, over(t0="PREEMPTED"), [first.id, second.id]) == [first.id]
    # The comment counts: a number alone may be another's by now.
    elsewhere = Queue((), {}, (("s", "worker-1", Task("7_0", "PREEMPTED", "None", "")),))
    assert lost(submitted.place, elsewhere, [first.id, second.id]) == []


def test_a_run_that_was_pardoned_waits_like_one_that_was_never_taken(submitted):
    first, second, *_ = submitted.plan.runs
    attempt(submitted, first, FAILED, Cause.ERROR)
    attempt(submitted, first, PARDON, None)
    assert lost(submitted.place, NOTHING, [first.id, second.id]) == []
    attempt(submitted, second, GIVEN_BACK, Cause.PREEMPTED)
    assert lost(submitted.place, NOTHING, [first.id, second.id]) == [first.id, second.id]


def test_a_trunk_that_is_done_strikes_nobody(submitted):
    first, *_ = submitted.plan.runs
    write_json(submitted.place.trunk("t").trunk_file, {"branches": {first.id: 4}})
    with joined(submitted.place.root, job="7_0", part="s/worker-0") as crew:
        claims = Claims(submitted.place.root, crew)
        claims.end(claims.take("t"), DONE)
    attempt(submitted, first, GIVEN_BACK, Cause.STOPPED, job="7_1")
    assert lost(submitted.place, over(t0="PREEMPTED"), [first.id]) == []


def test_what_slurm_was_never_told_of_is_lost(submitted):
    first, *_ = submitted.plan.runs
    (submitted.place.submissions / "s" / "worker-0.json").unlink()
    attempt(submitted, first, GIVEN_BACK, Cause.STOPPED)
    assert lost(submitted.place, NOTHING, [first.id]) == [first.id]


def test_runs_that_were_left_to_whoever_trained_their_trunk_are_lost_with_it(pretended):
    study = pretended(4)
    short, long, other, _ = (run.id for run in study.plan.runs)
    write_json(study.place.trunk("t").trunk_file, {"branches": {short: 4, long: 8}})
    write_json(study.place.submissions / "s" / "submission.json", {"parts": {"fit": {"runs": []}}})
    assert lost(study.place, NOTHING, [short, long, other]) == []
    with joined(study.place.root) as crew:
        claims = Claims(study.place.root, crew)
        assert claims.take("t")
        assert claims.take(long)
        assert lost(study.place, NOTHING, [short, long, other]) == []
    # The crew is dead; nobody ever held the other run of the trunk.
    assert lost(study.place, NOTHING, [short, long, other]) == [short, long]
