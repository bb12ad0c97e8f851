"""Which run a crew takes next: the first in order that is open, claimed so that no other crew takes it too.

A run that shares its stable part, and whose branch has no checkpoint yet, is taken together with its trunk: it trains
the trunk on, for all, and while it does the others that wait for it are passed over. So nothing is trained twice, and
several workers are busy with several trunks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from isoflop.claims import Claim, Claims, Crew, replaced
from isoflop.files import read_json
from isoflop.launching.causes import DONE, FAILED, GIVEN_BACK, PARDON, Cause, may_go_on
from isoflop.names import validated_name
from isoflop.store import Branch, RunDirectory, StudyDirectory


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
        Whether the last `take` met a claim of a crew of which is not known whether it lives, or a run that waits for
        a trunk. One that another crew trains is left to that with the runs that it may take: a GPU that waits is
        a GPU lost.
    """

    def __init__(self, study: StudyDirectory, claims: Claims, order: Sequence[str]) -> None:
        self._study = study
        self._claims = claims
        self._open = list(order)
        self._branches = study.branches()
        #: By run: the claim of the trunk that it trains on.
        self._trunks: dict[str, Claim] = {}
        #: Claims of trunks whose runs could not be claimed after them, because the disk was full.
        self._stranded: list[Claim] = []
        self._pause, self._last = 0.0, float("-inf")
        self.waiting = False

    def take(self) -> Claim | None:
        """Claim the next run; None where there is none to be had now.

        Where a crew has died under a run, its claim is ended for it, and the run goes on if its retries allow.
        """
        began = time.monotonic()
        self.waiting = False
        self._end_stranded()
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

    def release(self, run_id: str, outcome: str, **details: Any) -> None:
        """Let others have the trunk that the run trained on, if it did; `details` say why that ended."""
        trunk = self._trunks.get(run_id)
        if trunk is not None:
            self._claims.end(trunk, outcome, **details)
            del self._trunks[run_id]

    def _end_stranded(self) -> None:
        while self._stranded:
            self._claims.end(self._stranded[-1], GIVEN_BACK)
            self._stranded.pop()

    def lost_trunk(self, run_id: str) -> bool:
        """Whether the trunk that the run trains on was taken over by another crew."""
        trunk = self._trunks.get(run_id)
        return trunk is not None and replaced(self._study.root, trunk.name, trunk.token)

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
        elif last is not None and _given_up(self._study, self._claims, last):
            # Whose attempt was the last has ended its claim, and not yet written what follows from that.
            return None
        branch = self._branches.get(run_id)
        if branch is not None and branch.step not in self._study.trunk(branch.trunk).stored():
            if self._diverges(branch, last):
                message = "its trunk diverged before it branches off, in another run; it would be the same"
                place.write_status("failed", cause=Cause.DIVERGED, message=message)
                return None
            trunk = self._take_trunk(branch.trunk, run_id)
            if trunk is None:
                return None
            self._trunks[run_id] = trunk
        try:
            claim = self._claims.take(run_id)
        except OSError:
            if run_id in self._trunks:
                self._stranded.append(self._trunks.pop(run_id))
            raise
        if claim is not None and place.result_file.exists():
            # Published since we looked, by one who was thought dead.
            self._claims.end(claim, DONE)
            claim = None
        if claim is None and run_id in self._trunks:
            self._stranded.append(self._trunks.pop(run_id))
            self._end_stranded()
        return claim

    def _diverges(self, branch: Branch, last: Claim | None) -> bool:
        """Whether the trunk is known to diverge before the branch; who pardons the run has it tried all the same."""
        trunk = self._claims.latest(branch.trunk)
        pardoned = last is not None and last.end is not None and last.end["outcome"] == PARDON
        return trunk is not None and (trunk.end or {}).get("cause") == Cause.DIVERGED and not pardoned

    def _take_trunk(self, trunk_id: str, run_id: str) -> Claim | None:
        last = self._claims.latest(trunk_id)
        if last is not None and last.end is None:
            verdict = self._claims.observer.verdict(last.crew)
            if verdict != "dead":
                ours = any(last == trunk for trunk in self._trunks.values())
                self.waiting |= ours or verdict == "silent" or not self._may_take(last.crew, run_id)
                return None
            self._claims.end(last, FAILED, cause=Cause.NODE_FAILURE)
        return self._claims.take(trunk_id)

    def _may_take(self, crew: Crew, run_id: str) -> bool:
        """Whether the run is among those that a SLURM task's crew was submitted for; of others it is not known."""
        submission, _, part = crew.part.partition("/")
        if not part:
            return False
        record = read_json(self._study.submissions / validated_name(submission) / "submission.json")
        return run_id in record["parts"][part]["runs"]


def is_open(place: RunDirectory) -> bool:
    """Whether a run without a result may be worked on: neither failed for good nor cancelled."""
    return place.status()["state"] != "failed" and not place.cancelled_file.exists()


def unclaimed(study: StudyDirectory, claims: Claims, order: Sequence[str]) -> bool:
    """Whether one of the runs is open and nobody's; what waits for a trunk is with those who train that."""
    branches = study.branches()
    for run_id in order:
        place, branch = study.run(run_id), branches.get(run_id)
        if place.result_file.exists() or not is_open(place) or _held(claims, run_id):
            continue
        waits = branch is not None and branch.step not in study.trunk(branch.trunk).stored()
        if branch is None or not (waits and _held(claims, branch.trunk)):
            return True
    return False


def _held(claims: Claims, name: str) -> bool:
    last = claims.latest(name)
    return last is not None and last.end is None


def bury(study: StudyDirectory, claims: Claims, claim: Claim) -> None:
    """End the claim of a crew that died without a word; the run goes on, or is failed where that was once too often."""
    step = study.run(claim.name).status().get("step", 0)
    message = f"its worker on {claim.crew.host} died without a word"
    claims.end(claim, FAILED, cause=Cause.NODE_FAILURE, message=message, step=step)
    _given_up(study, claims, claim)


def _given_up(study: StudyDirectory, claims: Claims, claim: Claim) -> bool:
    """Whether the retries of the run are used up, `claim` on it being the last; then its status says so."""
    history = claims.history(claim.name)
    if may_go_on(history):
        return False
    end = next(each.end for each in history if each.token == claim.token) or {}
    details = {name: end[name] for name in ("cause", "message", "step") if name in end}
    study.run(claim.name).write_status("failed", **details)
    return True
