"""Looking after a study that was submitted: what the queue says of it, and workers for what was lost.

A cluster that cancels what it preempts, or whose node died for good, leaves runs that nobody will take. Whoever looks
next, ``isoflop status`` or one that watches, puts workers for them into the queue again. What a person cancelled is
left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isoflop.claims import Claim, Claims, hold
from isoflop.errors import InputError, RunError
from isoflop.launching import slurm
from isoflop.launching.base import Event
from isoflop.launching.causes import DONE, FAILED, PARDON, Cause
from isoflop.launching.draft import CANARY, FIT
from isoflop.launching.profiles import SlurmProfile
from isoflop.launching.slurm import Queue, Submitted
from isoflop.launching.states import RunState, states
from isoflop.names import validated_name
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory

#: Seconds between two looks at the study directory, and the queue.
_POLL = 2.0
#: Times that lost runs are submitted again while none of them comes any further.
_FRUITLESS = 3
#: States in which nothing more will happen to a run by itself.
_CLOSED = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True)
class Glance:
    """What the queue says of a study.

    Parameters
    ----------
    pending, running
        Tasks of its workers.
    reasons
        Why tasks wait, in SLURM's words.
    covered
        Ids of the runs that they may take.
    silent
        Why the queue could not be asked; None where it was, or nothing was ever submitted.
    """

    pending: int = 0
    running: int = 0
    reasons: tuple[str, ...] = ()
    covered: frozenset[str] = frozenset()
    silent: str | None = None


def glance(place: StudyDirectory) -> tuple[Glance, Queue | None]:
    """Ask SLURM once, where anything was ever submitted; the disk tells the rest whether it answers or not."""
    if not place.submissions.is_dir():
        return Glance(), None
    try:
        queue = slurm.look(place)
    except (InputError, RunError) as error:
        return Glance(silent=str(error)), None
    pending = [task for task in queue.workers if task.state != "RUNNING"]
    reasons = tuple(sorted({task.reason for task in pending if task.reason not in {"None", "Priority", "Resources"}}))
    return Glance(len(pending), len(queue.workers) - len(pending), reasons, queue.covered), queue


def replace_lost(place: StudyDirectory, runs: Sequence[RunState], queue: Queue | None) -> Submitted | None:
    """Submit workers for the runs that were lost by no person's decision; None where there are none."""
    if queue is None:
        return None
    open_runs = [run.run for run in runs if run.in_grid and run.state in {"planned", "queued"}]
    missing = lost(place, queue, open_runs)
    profile = slurm.last_profile(place) if missing else None
    if profile is None:
        return None
    with hold(place.root, patience=60.0):
        return slurm.submit(place, [place.load_run(run) for run in missing], profile)


def lost(place: StudyDirectory, queue: Queue, open_runs: Sequence[str]) -> list[str]:
    """Open runs that were submitted and that no worker will take, by no decision of a person.

    Their last attempt was preempted, ran into its time limit or died with its node; or they waited, for a first or
    another attempt, on tasks that the cluster ended, and of which nobody stopped any; or whoever submitted them died
    before SLURM was called.
    """
    sids = sorted(path.parent.name for path in place.submissions.glob("*/submission.json"))
    if not sids:
        return []
    claims, branches = Claims(place.root), place.branches()
    left = [run for run in open_runs if run not in queue.covered]
    last = {run: claims.latest(run) for run in left}
    # Who passed a run over because its trunk was in other hands has left it to those.
    trunks = {run: claims.latest(branches[run].trunk) for run in left if run in branches}
    preempted = queue.in_state("PREEMPTED")
    struck = {
        run: [
            claim for claim in (last[run], trunks.get(run)) if claim is not None and _struck(claim, claims, preempted)
        ]
        for run in left
    }
    ended = {part for part, _ in preempted}
    ended |= {claim.crew.part for found in struck.values() for claim in found}
    stopped = {part for part, _ in queue.in_state("CANCELLED")} | {
        claim.crew.part for run, claim in last.items() if claim is not None and not struck[run] and _stopped(claim)
    }
    parts = ended - stopped - queue.leaving
    unmanned = {run for part in parts for run in _runs_of(place, part)}
    unsent = _unsent(place, sids[-1])
    return [run for run in left if struck[run] or run in unsent or (run in unmanned and _waits(last[run]))]


def _struck(claim: Claim, claims: Claims, preempted: set[tuple[str, str]]) -> bool:
    """Whether an attempt was ended by the cluster; `preempted` are the tasks of which SLURM says it."""
    if claim.end is None:
        return claims.observer.verdict(claim.crew) == "dead"
    if claim.end["outcome"] in {DONE, PARDON}:
        return False
    # Who is killed while it asks why, or whose workers are killed first, has put it down to something else.
    taken = claim.end.get("cause") in {Cause.PREEMPTED, Cause.TIME_LIMIT, Cause.NODE_FAILURE}
    return taken or (claim.crew.part, claim.crew.job) in preempted


def _stopped(claim: Claim) -> bool:
    """Whether an attempt was ended with its crew, for a reason that holds for the crew's other runs too."""
    return claim.end is not None and claim.end.get("cause") in {Cause.STOPPED, Cause.HOURS, Cause.DISK_FULL}


def _waits(claim: Claim | None) -> bool:
    """Whether a run with this last claim is left to the next worker, and was not laid down."""
    if claim is None or claim.end is None:
        return claim is None
    # A canary lays down what it has tried.
    canary = claim.crew.part.partition("/")[2].startswith(CANARY)
    return claim.end["outcome"] in {FAILED, PARDON} or (canary and claim.end.get("cause") == Cause.STOPPED)


def _unsent(place: StudyDirectory, sid: str) -> set[str]:
    """Runs of the parts of a submission that SLURM was never told of."""
    parts = slurm.record_of(place, sid)["parts"]
    unsent = [part for part in parts if part != FIT and not (place.submissions / sid / f"{part}.json").exists()]
    return {run for part in unsent for run in parts[part]["runs"]}


def _runs_of(place: StudyDirectory, crews_part: str) -> list[str]:
    """Runs that a crew of this part of a submission might take; none where the submission is gone, or had no such."""
    sid, _, part = crews_part.partition("/")
    if part in {"", FIT} or not (place.submissions / validated_name(sid) / "submission.json").exists():
        return []
    return list(slurm.record_of(place, sid)["parts"].get(part, {}).get("runs", ()))


@dataclass(frozen=True)
class Slurm:
    """The launcher of a SLURM cluster.

    Parameters
    ----------
    profile
        What to ask the cluster for.
    """

    profile: SlurmProfile

    def launch(self, directory: StudyDirectory, runs: Sequence[Run], on_event: Callable[[Event], None]) -> None:
        """See `isoflop.launching.base.Launcher.launch`; killed, it leaves the jobs to go on."""
        if not runs:
            return
        with hold(directory.root, patience=60.0):
            slurm.submit(directory, runs, self.profile)
        watched, told = {run.id for run in runs}, _Teller(on_event)
        fruitless, furthest = 0, -1
        while True:
            seen, queue = glance(directory)
            found = [run for run in states(directory, seen.covered) if run.run in watched]
            for run in found:
                told.tell(run)
            if all(run.state in _CLOSED for run in found):
                return
            if queue is not None and not queue.tasks and not any(run.state == "running" for run in found):
                progress = sum(run.step for run in found)
                fruitless = 0 if progress > furthest else fruitless + 1
                furthest = max(furthest, progress)
                if fruitless >= _FRUITLESS or replace_lost(directory, found, queue) is None:
                    return
            time.sleep(_POLL)


class _Teller:
    """Makes events of what changed between two looks."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self._seen: dict[str, tuple[str, int]] = {}

    def tell(self, run: RunState) -> None:
        before = self._seen.get(run.run)
        now = (run.state, run.step)
        if now == before:
            return
        self._seen[run.run] = now
        if run.state == "done":
            self._on_event(Event("finished", run.run, {"loss": run.loss, "corrupt": []}))
        elif run.state == "failed":
            self._on_event(Event("failed", run.run, {"cause": run.cause, "message": run.message}))
        elif run.state == "running" and run.train_loss is not None:
            self._on_event(Event("progress", run.run, {"step": run.step, "loss": run.train_loss}))
