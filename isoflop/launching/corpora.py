"""Corpora made on a SLURM cluster: an array of tasks that share the shards of a tokenisation job.

::

    <corpus>.tasks/<id>/worker.sh, log/     the script, and what the tasks print
    <corpus>.tasks/code/<digest>/           the package that they import

They lie beside the corpus, whose index has every file in it.

The job on disk is the truth here as a study directory is: a shard is made by whoever holds its lock, so tasks may come,
go and be doubled. They carry the corpus in their comment; a call submits no more of them than there is room for beside
those in the queue.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from isoflop.files import write_text
from isoflop.launching import cluster, snapshot
from isoflop.launching.profiles import SlurmProfile, WorkerClass
from isoflop.launching.sbatch import render
from isoflop.tokens.job import Job
from isoflop.tokens.shards import Corpus


@dataclass(frozen=True)
class Tasks:
    """What a submission did: the job's number (empty: none), its tasks, those that were in the queue before."""

    job: str
    tasks: int
    waiting: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def submit(directory: Path, profile: SlurmProfile) -> Tasks:
    """Put tasks into the queue for the shards of the corpus at `directory` that are not made.

    They are of the profile's first class: a process for each of its GPUs, or, where it has none, for each of its cores.

    Raises
    ------
    InputError
        If no job has begun at `directory`, there is no SLURM, or SLURM refuses the profile; nothing is submitted.
    RunError
        If SLURM does not answer.
    """
    if Corpus.stands(directory):
        return Tasks("", 0, 0)
    missing = len(Job.open(directory).missing())
    comment = f"isoflop-corpus:{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]}"
    waiting = sum(1 for task in cluster.queue() if task.live and task.comment == comment)
    entry = profile.classes[0]
    workers = _processes(entry)
    # Of a job whose shards are all made, somebody has still to write the index.
    wanted = max(1, ceil(missing / (workers * entry.options.nodes)))
    may = cluster.limits(entry.options.account, entry.options.qos)
    tasks = min(wanted, profile.max_parallel, profile.array_limit or may.array) - waiting
    if tasks < 1:
        return Tasks("", 0, waiting)
    if may.jobs is not None:
        tasks = min(tasks, max(1, may.jobs))
    submission = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    beside = directory.resolve().with_name(f"{directory.resolve().name}.tasks")
    folder = beside / submission
    (folder / "log").mkdir(parents=True)
    script = render(
        profile,
        entry.options,
        name=f"isoflop-{directory.resolve().name}",
        comment=comment,
        tasks=tasks,
        at_once=profile.max_parallel,
        module="isoflop.tokens.task",
        arguments=[str(directory.resolve()), str(workers)],
        code=snapshot.take(beside / "code"),
        log=folder / "log",
    )
    write_text(folder / "worker.sh", script)
    return Tasks(cluster.submit(script), tasks, waiting)


def _processes(entry: WorkerClass) -> int:
    return entry.workers or entry.options.gpus or entry.options.cpus_per_task or 1
