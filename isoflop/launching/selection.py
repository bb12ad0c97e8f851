"""Which run a crew takes next: the first in order that is open, claimed so that no other crew takes it too."""

from __future__ import annotations

import time
from collections.abc import Sequence

from isoflop.claims import Claim, Claims
from isoflop.launching.causes import DONE, FAILED, Cause, may_go_on
from isoflop.store import RunDirectory, StudyDirectory


class Selection:
    """The runs that a crew may take.

    Parameters
    ----------
    study
        The study directory.
    claims
        As the crew makes them.
    order
        Run ids, first the one to take first.

    Attributes
    ----------
    waiting
        Whether the last `take` met a claim of a crew of which is not known whether it lives.
    """

    def __init__(self, study: StudyDirectory, claims: Claims, order: Sequence[str]) -> None:
        self._study = study
        self._claims = claims
        self._open = list(order)
        self._pause, self._last = 0.0, float("-inf")
        self.waiting = False

    def take(self) -> Claim | None:
        """Claim the next run; None where there is none to be had now.

        Where a crew has died under a run, its claim is ended for it, and the run goes on if its retries allow.
        """
        began = time.monotonic()
        self.waiting = False
        taken = None
        for run_id in list(self._open):
            place = self._study.run(run_id)
            if place.result_file.exists():
                self.forget(run_id)
            elif taken is None and is_open(place):
                taken = self._try(run_id, place)
        self._last = time.monotonic()
        # On a slow file system a look at every run takes its time: it shall not be most of what a crew does.
        self._pause = 10 * (self._last - began)
        return taken

    def forget(self, run_id: str) -> None:
        """Do not take that run any more."""
        if run_id in self._open:
            self._open.remove(run_id)

    @property
    def due(self) -> bool:
        """Whether it is time to look again after a `take` that gave none."""
        return time.monotonic() - self._last >= max(1.0, self._pause)

    def _try(self, run_id: str, place: RunDirectory) -> Claim | None:
        last = self._claims.latest(run_id)
        if last is not None and last.end is None:
            verdict = self._claims.observer.verdict(last.crew)
            self.waiting |= verdict == "silent"
            if verdict != "dead":
                return None
            bury(self._study, self._claims, last)
            if not is_open(place):
                return None
        claim = self._claims.take(run_id)
        if claim is not None and place.result_file.exists():
            # Published since we looked, by one who was thought dead.
            self._claims.end(claim, DONE)
            return None
        return claim


def is_open(place: RunDirectory) -> bool:
    """Whether a run without a result may be worked on: neither failed for good nor cancelled."""
    return place.status()["state"] != "failed" and not place.cancelled_file.exists()


def unclaimed(study: StudyDirectory, claims: Claims, order: Sequence[str]) -> bool:
    """Whether one of the runs is open and nobody's."""
    for run_id in order:
        place = study.run(run_id)
        if not place.result_file.exists() and is_open(place):
            last = claims.latest(run_id)
            if last is None or last.end is not None:
                return True
    return False


def bury(study: StudyDirectory, claims: Claims, claim: Claim) -> None:
    """End the claim of a crew that died without a word; the run goes on, or is failed where that was once too often."""
    place = study.run(claim.name)
    step = place.status().get("step", 0)
    message = f"its worker on {claim.crew.host} died without a word"
    claims.end(claim, FAILED, cause=Cause.NODE_FAILURE, message=message, step=step)
    if not may_go_on(claims.history(claim.name)):
        place.write_status("failed", cause=Cause.NODE_FAILURE, message=message, step=step)
