"""Runs on a SLURM cluster: arrays of crews, submitted so that nothing is lost or doubled whenever who submits dies.

::

    submissions/<id>/submission.json     the intent, written before sbatch is called: parts, runs, profile, code
                     <part>.sh           the script of each array (and of the job that fits in the end)
                     <part>.json         the job's number, written after
                     log/                what the tasks print

A task is no run but a crew that takes runs. So it does not matter to a run whether an array was submitted once, twice
or half: the claims see to it that nobody works twice. It matters to the cluster, so every job carries its study and its
submission in its comment: a job in the queue that no file knows of is noted, and no call submits workers for runs that
workers in the queue will take. A controller that forgets a job, or gives its number to another's, is not believed: the
comment counts, the number does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from isoflop.claims import crews, device_hours, ended
from isoflop.errors import RunError
from isoflop.launching import cluster
from isoflop.launching.base import longest_first
from isoflop.launching.cluster import Task
from isoflop.launching.draft import CANARY, FIT, Draft, Point, mark_of
from isoflop.launching.profiles import SlurmProfile, WorkerClass, parse_profile
from isoflop.launching.sbatch import lead
from isoflop.launching.selection import is_open
from isoflop.names import validated_name
from isoflop.planning.probes import Probes
from isoflop.planning.runs import Run
from isoflop.planning.trunks import own_steps
from isoflop.store import StudyDirectory, probes, publish_json, read_json

#: Of the time limit of a task over the longest run's hours by its probe; and the fewest minutes.
_MARGIN, _SHORTEST = 1.5, 30
#: Optimiser steps of a run that is only to show whether it works.
_CANARY_STEPS = 100


@dataclass(frozen=True)
class Submitted:
    """What a submission did.

    Parameters
    ----------
    submission
        Its id; empty where there was nothing to submit.
    runs
        Ids of the runs that it is for: open ones that no worker in the queue would have taken.
    tasks
        Workers' tasks that it put into the queue.
    jobs
        Number of each job by part.
    waiting
        Tasks of the study that were in the queue before.
    """

    submission: str
    runs: tuple[str, ...]
    tasks: int
    jobs: dict[str, str]
    waiting: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "runs": list(self.runs)}


@dataclass(frozen=True)
class Queue:
    """The study's tasks in the queue, by submission and part.

    Parameters
    ----------
    tasks
        Those that will still work, each with its submission's id and its part.
    parts
        The record of each part that has tasks.
    over
        Tasks that will not work any more, in the same way: SLURM knows of them for some minutes.
    leaving
        Parts with tasks whose crews have ended, as ``submission/part``, and that may yet be put back into the queue.
    """

    tasks: tuple[tuple[str, str, Task], ...]
    parts: dict[tuple[str, str], dict[str, Any]]
    over: tuple[tuple[str, str, Task], ...] = ()
    leaving: frozenset[str] = frozenset()

    @property
    def covered(self) -> frozenset[str]:
        """Ids of the runs that these tasks may take."""
        return frozenset(run for record in self.parts.values() for run in record["runs"])

    def in_state(self, state: str) -> set[tuple[str, str]]:
        """Tasks that are over and ended so, each as its part, ``submission/part``, and its id."""
        return {(f"{sid}/{part}", task.id) for sid, part, task in self.over if task.state == state}

    @property
    def workers(self) -> list[Task]:
        """The tasks that take runs."""
        return [task for _, part, task in self.tasks if part != FIT and not part.startswith(CANARY)]

    def of_class(self, name: str) -> int:
        """Tasks of that class of worker."""
        return sum(1 for sid, part, _ in self.tasks if self.parts.get((sid, part), {}).get("class") == name)


def look(place: StudyDirectory) -> Queue:
    """The study's tasks in the queue, with one call to SLURM; jobs that no file knows of are noted."""
    found: list[tuple[str, str, Task]] = []
    parts: dict[tuple[str, str], dict[str, Any]] = {}
    records: dict[str, dict[str, Any]] = {}
    mark = mark_of(place)
    tasks = [task for task in cluster.queue() if task.comment.startswith(mark)]
    left = _left(place) if any(task.state == "RUNNING" for task in tasks) else frozenset()
    over: list[tuple[str, str, Task]] = []
    leaving: set[str] = set()
    for task in tasks:
        sid, _, part = task.comment.removeprefix(mark).partition(":")
        if not task.live:
            over.append((sid, part, task))
            continue
        if task.state == "RUNNING" and task.id in left:
            # SLURM has not noticed yet.
            leaving.add(f"{sid}/{part}")
            continue
        folder = place.submissions / validated_name(sid)
        if sid not in records:
            records[sid] = record_of(place, sid)
        record = records[sid]
        found.append((sid, part, task))
        if part != FIT and not part.startswith(CANARY):
            parts[sid, part] = record["parts"][part]
        if not (folder / f"{part}.json").exists():
            publish_json(folder / f"{part}.json", {"job": task.id.split("_")[0], "found": True})
    return Queue(tuple(found), parts, tuple(over), frozenset(leaving))


def _left(place: StudyDirectory) -> frozenset[str]:
    """Tasks whose crews have ended, the newest too: they take no run any more."""
    newest = {crew.job: crew for crew in crews(place.root) if crew.job}
    return frozenset(job for job, crew in newest.items() if ended(place.root, crew))


def submit(
    place: StudyDirectory,
    runs: Sequence[Run],
    profile: SlurmProfile,
    *,
    canary: bool = False,
    reached: Callable[[Point], None] = lambda point: None,
) -> Submitted:
    """Put workers into the queue for those of `runs` that are open and that no worker there will take.

    Call it while holding the study (`isoflop.claims.hold`): then two calls at once submit no more than one.

    Parameters
    ----------
    place
        The study directory, with its runs written.
    runs
        What there is to do.
    profile
        What to ask the cluster for.
    canary
        First let the cheapest, the largest and the longest run go some steps; the others start if that went well.
    reached
        Told each moment at which this call might die, for tests.

    Raises
    ------
    InputError
        If there is no SLURM, SLURM refuses the profile, or no class takes a run; nothing is submitted.
    RunError
        If SLURM does not answer or refuses, or the hours are spent. What was submitted before stays, and is known.
    """
    reached(Point.BEGUN)
    queue = look(place)
    remaining = [run for run in runs if not place.run(run.id).result_file.exists() and is_open(place.run(run.id))]
    if profile.max_gpu_hours is not None and device_hours(place.root) >= profile.max_gpu_hours and remaining:
        raise RunError(
            f"hours held must be less than max_gpu_hours, {profile.max_gpu_hours:g}, but got "
            f"{device_hours(place.root):.3g}"
        )
    profile = _timed(profile, remaining, probes(place))
    parts, fresh = _parts(remaining, queue, profile, canary)
    if not parts:
        return Submitted("", (), 0, {}, len(queue.workers))
    if canary:
        parts = {**_canaries(remaining, profile), **parts}
    draft = Draft(place, profile, parts)
    draft.write(reached)
    jobs = draft.send(reached)
    tasks = sum(draft.parts[part]["tasks"] for part in jobs if part != FIT and not part.startswith(CANARY))
    return Submitted(draft.id, tuple(fresh), tasks, jobs, len(queue.workers))


def cancel(place: StudyDirectory) -> int:
    """Take the study's tasks out of the queue; returns how many there were."""
    tasks = [task.id for _, _, task in look(place).tasks]
    cluster.cancel(tasks)
    return len(tasks)


def last_profile(place: StudyDirectory) -> SlurmProfile | None:
    """What the last submission asked for; None where nothing was submitted."""
    folders = sorted(place.submissions.glob("*/submission.json"))
    if not folders:
        return None
    profile = parse_profile(read_json(folders[-1])["profile"], str(folders[-1]))
    return profile if isinstance(profile, SlurmProfile) else None


def _parts(
    remaining: Sequence[Run], queue: Queue, profile: SlurmProfile, canary: bool
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The arrays to submit, and the ids of the runs that they are for."""
    asked: list[tuple[WorkerClass, tuple[str, ...], int]] = []
    fresh: list[str] = []
    for entry, runs in _by_class(remaining, profile):
        order = longest_first(runs)
        uncovered = [run for run in order if run not in queue.covered]
        wanted = min(profile.max_parallel, ceil(len(order) / entry.runs_at_once))
        count = ceil(len(uncovered) / entry.runs_at_once) if uncovered else wanted - queue.of_class(entry.name)
        count = min(count, wanted)
        if count < 1:
            continue
        fresh += uncovered or order
        asked.append((entry, order, count))
    parts: dict[str, dict[str, Any]] = {}
    if not asked:
        return parts, fresh
    may = cluster.limits(profile.options.account, profile.options.qos)
    limit = profile.array_limit or may.array
    room = profile.max_parallel - len(queue.workers)
    # The fit, and a canary of each class, are jobs too.
    beside = 1 + len(asked) * canary
    shares = _shares([count for *_, count in asked], room if may.jobs is None else min(room, may.jobs - beside))
    for (entry, ordered, _), count in zip(asked, shares, strict=True):
        for number, start in enumerate(range(0, count, limit)):
            tasks = min(limit, count - start)
            parts[f"{entry.name}-{number}"] = _part(entry, ordered, tasks, steps=None)
    return parts, fresh


def _timed(profile: SlurmProfile, runs: Sequence[Run], known: Probes) -> SlurmProfile:
    """The profile with a time limit where it says none and the runs of a class were probed: the longest's, and half."""
    steps, classes = own_steps(runs), []
    taken = {entry.name: mine for entry, mine in _by_class(runs, profile)}
    for entry in profile.classes:
        mine, kind = taken.get(entry.name, []), "gpu" if entry.options.gpus else "cpu"
        found = known.measured(mine, devices=entry.devices_per_run, kind=kind)
        if entry.options.time is None and mine and len(found) == len(mine):
            longest = max(found[run.id].hours * steps[run.id] for run in mine) / entry.devices_per_run
            limit = {"time": str(max(_SHORTEST, ceil(60 * _MARGIN * longest)))}
            entry = entry.model_copy(update={"options": entry.options.model_copy(update=limit)})
        classes.append(entry)
    return profile.model_copy(update={"classes": tuple(classes)})


def _shares(wanted: list[int], room: int) -> list[int]:
    """So many tasks of each class that there are `room` in all, if that is one of each: where one has none, runs wait.

    Those who want most give way.
    """
    shares = list(wanted)
    while sum(shares) > room and max(shares) > 1:
        shares[shares.index(max(shares))] -= 1
    return shares


def _by_class(runs: Sequence[Run], profile: SlurmProfile) -> list[tuple[WorkerClass, list[Run]]]:
    found: dict[str, list[Run]] = {entry.name: [] for entry in profile.classes}
    for run in runs:
        found[profile.class_of(run.shape.parameters.total).name].append(run)
    return [(entry, found[entry.name]) for entry in profile.classes if found[entry.name]]


def _canaries(remaining: Sequence[Run], profile: SlurmProfile) -> dict[str, dict[str, Any]]:
    """The cheapest, the largest and the longest run, by class."""
    chosen = {
        min(remaining, key=lambda run: run.flops).id,
        max(remaining, key=lambda run: run.shape.parameters.total).id,
        max(remaining, key=lambda run: run.steps).id,
    }
    classes = _by_class([run for run in remaining if run.id in chosen], profile)
    return {
        f"{CANARY}-{entry.name}": _part(entry, longest_first(runs), 1, steps=_CANARY_STEPS) for entry, runs in classes
    }


def _part(entry: WorkerClass, order: Sequence[str], tasks: int, steps: int | None) -> dict[str, Any]:
    return {
        "class": entry.name,
        "tasks": tasks,
        "runs": list(order),
        "workers": entry.workers_per_node,
        "devices_per_run": entry.devices_per_run,
        "gpus": entry.options.gpus,
        "minutes": entry.options.minutes,
        "lead": lead(entry.options),
        "steps": steps,
    }


def record_of(place: StudyDirectory, sid: str) -> dict[str, Any]:
    """What a submission meant to do, as it was written before SLURM was called."""
    return read_json(place.submissions / sid / "submission.json")
