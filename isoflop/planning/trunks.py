"""Trunks: runs that are equal in everything but length, and what training them as one saves.

Under a schedule with an absolute warm-up and a stable part, a run that ends earlier is bit for bit the beginning of
one that goes on, up to its decay. So such runs need one stable run as long as the longest, and a decay branch each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isoflop.planning.runs import Run


@dataclass(frozen=True)
class Trunk:
    """Runs that share their stable part.

    Parameters
    ----------
    id
        The trunk's (`Run.trunk`).
    branches
        Ids of its runs, shortest first; the last trains the stable part for all.
    branch_steps
        The steps at which each leaves the trunk for its decay.
    saved_flops
        Training FLOPs saved by training the stable part once, by the study's convention.
    """

    id: str
    branches: tuple[str, ...]
    branch_steps: tuple[int, ...]
    saved_flops: float


def trunks(runs: Iterable[Run]) -> tuple[Trunk, ...]:
    """The trunks that two or more of `runs` share, in the order of the runs."""
    sharing: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        # A decay that starts at the end of the warm-up leaves nothing stable to share. What another's trainer does with
        # a run's length is not known.
        if run.branch_step > run.warmup_steps and not run.trainer:
            sharing[run.trunk].append(run)
    return tuple(_trunk(members) for members in sharing.values() if len(members) > 1)


def own_steps(runs: Sequence[Run]) -> dict[str, int]:
    """Steps that each of `runs` takes itself, by id: all, or, of the shorter ones of a trunk, those of the decay."""
    shared = {
        run: step for trunk in trunks(runs) for run, step in zip(trunk.branches[:-1], trunk.branch_steps, strict=False)
    }
    return {run.id: run.steps - shared.get(run.id, 0) for run in runs}


def _trunk(members: list[Run]) -> Trunk:
    ordered = sorted(members, key=lambda run: run.steps)
    steps = tuple(run.branch_step for run in ordered)
    saved = sum(run.flops * run.branch_step / run.steps for run in ordered[:-1])
    return Trunk(ordered[0].trunk, tuple(run.id for run in ordered), steps, saved)
