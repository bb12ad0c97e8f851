"""Why an attempt at a run ended, and whether there is another: retries are capped by cause.

The record of attempts is the run's claims (`isoflop.claims`): each ends with an outcome, its cause and the step that
the run had come to. ``isoflop retry`` ends one with the outcome `PARDON`, and what was before does not count any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from isoflop.claims import Claim

#: The outcomes of a claim on a run.
DONE, FAILED, GIVEN_BACK, PARDON = "done", "failed", "given back", "pardon"


class Cause(StrEnum):
    """Why an attempt ended before the run was done."""

    OUT_OF_MEMORY = "out of memory"
    DIVERGED = "diverged"
    TIME_LIMIT = "time limit"
    PREEMPTED = "preempted"
    NODE_FAILURE = "node failure"
    BAD_INPUT = "bad input"
    ERROR = "error"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    DISK_FULL = "disk full"
    HOURS = "hours spent"

    @property
    def retries(self) -> int | None:
        """How often a run is tried again; None: always, since it was not the run's fault."""
        return _RETRIES[self]

    @property
    def advice(self) -> str:
        """What to do where the retries are used up."""
        return _ADVICE[self]


_RETRIES: dict[Cause, int | None] = {
    Cause.OUT_OF_MEMORY: 2,
    # The same rate would do the same again; a lower one is another run, and another point.
    Cause.DIVERGED: 0,
    # These count only where the run came no further: an allocation too short for anything.
    Cause.TIME_LIMIT: 2,
    Cause.PREEMPTED: 20,
    Cause.NODE_FAILURE: 3,
    Cause.BAD_INPUT: 0,
    Cause.ERROR: 1,
    Cause.STOPPED: None,
    Cause.CANCELLED: None,
    Cause.DISK_FULL: None,
    Cause.HOURS: None,
}
_COUNTED_WITHOUT_PROGRESS = frozenset({Cause.TIME_LIMIT, Cause.PREEMPTED, Cause.NODE_FAILURE})

_ADVICE = {
    Cause.OUT_OF_MEMORY: "give its class more memory (launcher profile), then isoflop retry",
    Cause.DIVERGED: "lower the recipe's rate: that makes a new run",
    Cause.TIME_LIMIT: "give its class more time (launcher profile), then isoflop retry",
    Cause.PREEMPTED: "use a partition that is not preempted, then isoflop retry",
    Cause.NODE_FAILURE: "see whether it kills its nodes (isoflop logs), then isoflop retry",
    Cause.BAD_INPUT: "mend what the message names, then isoflop retry",
    Cause.ERROR: "read isoflop logs, then isoflop retry",
    Cause.STOPPED: "isoflop run or submit carries on",
    Cause.CANCELLED: "isoflop retry takes it up again",
    Cause.DISK_FULL: "make room, then isoflop run or submit",
    Cause.HOURS: "raise max_gpu_hours (launcher profile), then isoflop submit",
}


def may_go_on(history: Sequence[Claim]) -> bool:
    """Whether a run with these claims, all ended, may be tried again."""
    return all(cause.retries is None or spent(history, cause) <= cause.retries for cause in Cause)


def spent(history: Sequence[Claim], cause: Cause) -> int:
    """How often `cause` has ended attempts at a run since its last pardon, as its retries are counted."""
    ends = [claim.end for claim in history if claim.end is not None]
    pardons = [number for number, end in enumerate(ends) if end["outcome"] == PARDON]
    count = furthest = 0
    for end in ends[pardons[-1] + 1 :] if pardons else ends:
        step = int(end.get("step") or 0)
        if end.get("cause") == cause and not (cause in _COUNTED_WITHOUT_PROGRESS and step > furthest):
            count += 1
        furthest = max(furthest, step)
    return count
