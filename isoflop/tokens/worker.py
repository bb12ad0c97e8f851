"""A process that works on a tokenisation job: `isoflop.tokens.job.work`, with its parent told of every clip."""

from __future__ import annotations

from pathlib import Path

from isoflop.tokens import job, processes


def main(directory: str) -> None:
    """Work on the job at `directory`; the entry of the process."""
    tell = processes.tied()
    with processes.answering():
        job.work(Path(directory), tell)
