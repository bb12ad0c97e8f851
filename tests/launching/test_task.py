"""What a task makes of its signals: a time limit, a preemption, a cancellation."""

from __future__ import annotations

import pytest

from isoflop.launching.causes import Cause
from isoflop.launching.task import Ending, task_id


@pytest.fixture
def ending(monkeypatch):
    """A task of ten minutes, warned 90 seconds before its end; its clock, and whether SLURM says it is preempted."""
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    now, preempted = [1000.0], [False]
    return Ending(10, 90, clock=lambda: now[0], preempted=lambda: preempted[0]), now, preempted


def test_nothing_is_heard_nothing_is_done(ending):
    assert ending[0].warning() is None


def test_a_warning_near_the_end_is_the_time_limits_and_early_ones_wait(ending):
    task, now, _ = ending
    now[0] = 1000 + 600 - 140
    task.warn()
    assert task.warning() is None
    now[0] = 1000 + 600 - 90
    assert task.warning() == (Cause.TIME_LIMIT, 90)
    now[0] = 1000 + 700
    assert task.warning() == (Cause.TIME_LIMIT, 0)


def test_a_warning_long_before_the_end_is_a_preemptions(ending):
    task, now, _ = ending
    now[0] = 1000 + 30
    task.warn()
    assert task.warning() == (Cause.PREEMPTED, 90)


def test_slurm_says_whether_it_preempts_or_somebody_cancelled(ending):
    task, _, preempted = ending
    task.terminate()
    assert task.warning() == (Cause.STOPPED, 90)
    preempted[0] = True
    assert task.warning() == (Cause.PREEMPTED, 90)


def test_slurms_own_end_is_believed_before_the_profiles(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", "5000")
    task = Ending(None, 90, clock=lambda: 4950.0)
    task.warn()
    assert task.warning() == (Cause.TIME_LIMIT, 50)


def test_a_task_is_called_as_slurm_calls_it(monkeypatch):
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    assert task_id() == ""
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert task_id() == "12"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "10")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert task_id() == "10_2"
