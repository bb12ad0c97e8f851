"""A submission in the making: intent first, then SLURM, then what SLURM said.

Whoever makes it may die between any two of its moments (`Point`), and the next call finds out from the study directory
and the queue what there is.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from isoflop.errors import InputError, RunError
from isoflop.launching import cluster, snapshot
from isoflop.launching.profiles import SlurmProfile
from isoflop.launching.sbatch import render
from isoflop.store import StudyDirectory, read_json, write_json, write_text

#: The part that fits and reports when the workers are done, and how those begin that only try a few steps.
FIT, CANARY = "fit", "canary"
#: What waits for a canary is taken out of the queue where that failed.
_OR_NEVER = "--kill-on-invalid-dep=yes"


class Point(StrEnum):
    """The moments of a submission between which whoever submits may die."""

    BEGUN = "begun"
    CODE_KEPT = "code kept"
    INTENT_WRITTEN = "intent written"
    PART_SUBMITTED = "part submitted"
    PART_RECORDED = "part recorded"
    FIT_SUBMITTED = "fit submitted"
    FIT_RECORDED = "fit recorded"


@dataclass
class Draft:
    """A submission in the making.

    Parameters
    ----------
    place
        The study directory.
    profile
        What to ask the cluster for.
    parts
        The arrays, each as its tasks will read it; those of canaries first.
    id
        The submission's.
    """

    place: StudyDirectory
    profile: SlurmProfile
    parts: dict[str, dict[str, Any]]
    id: str = field(default_factory=lambda: f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}")

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.place.submissions / self.id

    @property
    def fits(self) -> bool:
        """Whether the runs make a study that is fitted in the end; a search's trials and an audit's runs do not."""
        return not self.place.is_part

    def write(self, reached: Callable[[Point], None]) -> None:
        """Write the intent."""
        code = snapshot.take(self.place.code)
        reached(Point.CODE_KEPT)
        record = {
            "id": self.id,
            "time": time.time(),
            "study_file": hashlib.sha256(self.place.study_file.read_bytes()).hexdigest()[:16],
            "code": code.name,
            "lease": self.profile.lease,
            "max_gpu_hours": self.profile.max_gpu_hours,
            "max_requeues": self.profile.max_requeues,
            "profile": self.profile.model_dump(mode="json", exclude_none=True),
            "parts": {**self.parts, **({FIT: {"runs": [], "tasks": 1}} if self.fits else {})},
        }
        (self.folder / "log").mkdir(parents=True)
        write_json(self.folder / "submission.json", record)
        for part in [*self.parts, *([FIT] if self.fits else [])]:
            write_text(self.folder / f"{part}.sh", self._script(part, code))
        reached(Point.INTENT_WRITTEN)

    def send(self, reached: Callable[[Point], None]) -> dict[str, str]:
        """Submit every part, the canaries first, the fit last; returns the jobs' numbers.

        Where SLURM refuses one, those before it are taken back, and nothing is left of the submission.
        """
        jobs: dict[str, str] = {}
        canaries: list[str] = []
        try:
            for part in self.parts:
                canary = part.startswith(CANARY)
                first = [] if canary or not canaries else [f"--dependency=afterok:{':'.join(canaries)}", _OR_NEVER]
                jobs[part] = self._send(part, first)
                canaries += [jobs[part]] if canary else []
                reached(Point.PART_SUBMITTED)
                write_json(self.folder / f"{part}.json", {"job": jobs[part], "tasks": self.parts[part]["tasks"]})
                reached(Point.PART_RECORDED)
            if not self.fits:
                return jobs
            jobs[FIT] = self._send(FIT, [f"--dependency=afterany:{':'.join(jobs.values())}"])
        except InputError:
            cluster.cancel(list(jobs.values()))
            shutil.rmtree(self.folder)
            raise
        reached(Point.FIT_SUBMITTED)
        write_json(self.folder / f"{FIT}.json", {"job": jobs[FIT]})
        reached(Point.FIT_RECORDED)
        return jobs

    def _send(self, part: str, options: list[str]) -> str:
        """Submit one part; of an array that is one too many for the user, half: the crews that there are do it all."""
        while True:
            text = (self.folder / f"{part}.sh").read_text(encoding="utf-8")
            try:
                return cluster.submit(text, *options)
            except RunError as error:
                tasks = self.parts.get(part, {}).get("tasks", 1)
                if tasks > 1 and any(words in str(error) for words in cluster.TOO_MANY):
                    self.parts[part]["tasks"] = tasks // 2
                    code = self.place.code / read_json(self.folder / "submission.json")["code"]
                    write_text(self.folder / f"{part}.sh", self._script(part, code))
                elif (job := self._arrived(part)) is not None:
                    # The answer was lost, the job was not.
                    return job
                else:
                    raise

    def _arrived(self, part: str) -> str | None:
        with suppress(RunError):
            for task in cluster.queue():
                if task.comment == self._comment(part):
                    return task.id.split("_")[0]
        return None

    def _comment(self, part: str) -> str:
        return f"{mark_of(self.place)}{self.id}:{part}"

    def _script(self, part: str, code: Path, tasks: int | None = None) -> str:
        study = str(self.place.root.resolve())
        write = partial(
            render,
            self.profile,
            name=f"isoflop-{self.place.root.resolve().name}",
            comment=self._comment(part),
            code=code.resolve(),
            log=self.folder.resolve() / "log",
        )
        if part == FIT:
            return write(
                self.profile.fit, tasks=None, module="isoflop", arguments=["report", study, "--format", "html,png"]
            )
        entry = self.parts[part]
        return write(
            next(found.options for found in self.profile.classes if found.name == entry["class"]),
            tasks=tasks or entry["tasks"],
            at_once=self.profile.max_parallel,
            module="isoflop.launching.task",
            arguments=[study, self.id, part],
        )


def mark_of(place: StudyDirectory) -> str:
    """How the comment of every job of this study begins: with the digest of where its directory is."""
    return f"isoflop:{hashlib.sha256(str(place.root.resolve()).encode()).hexdigest()[:16]}:"
