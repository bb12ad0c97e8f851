"""Retries are capped by cause, and what was no fault of the run's is not counted."""

from __future__ import annotations

import pytest

from isoflop.claims import Claim, Crew
from isoflop.launching.causes import Cause, may_go_on

CREW = Crew("c", "host", "", "", 1, 1, 60.0)


def history(*ends):
    """Claims that ended so: (outcome, cause, step)."""
    return [
        Claim("run", number, CREW, {"outcome": outcome, "cause": cause, "step": step})
        for number, (outcome, cause, step) in enumerate(ends, 1)
    ]


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause.retries is not None])
def test_a_cause_may_befall_a_run_as_often_as_it_has_retries(cause):
    assert may_go_on(history(*[("failed", cause, 0)] * cause.retries))
    assert not may_go_on(history(*[("failed", cause, 0)] * (cause.retries + 1)))


@pytest.mark.parametrize("cause", [Cause.TIME_LIMIT, Cause.PREEMPTED, Cause.NODE_FAILURE])
def test_what_came_further_does_not_count(cause):
    steps = [("given back", cause, step) for step in range(10, 1000, 10)]
    assert may_go_on(history(*steps))
    assert not may_go_on(history(*steps, *[("given back", cause, 990)] * (cause.retries + 1)))


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause.retries is None])
def test_what_was_not_the_runs_fault_never_counts(cause):
    assert may_go_on(history(*[("given back", cause, 0)] * 1000))


def test_a_pardon_begins_anew():
    bad = [("failed", Cause.DIVERGED, 5)]
    assert not may_go_on(history(*bad))
    assert may_go_on(history(*bad, ("pardon", None, 0)))
    assert not may_go_on(history(*bad, ("pardon", None, 0), *bad))


def test_every_cause_says_what_to_do():
    assert all(cause.advice for cause in Cause)
