"""An audit before it is run: which runs it takes, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from isoflop import store
from isoflop.arms import refuse_axes
from isoflop.auditing.cells import Cell, cells_of
from isoflop.errors import InputError, NoAnswerError
from isoflop.facts import data_facts
from isoflop.fitting import fit
from isoflop.fitting.law import Law
from isoflop.fitting.points import Points, judge
from isoflop.fitting.shifts import Kind
from isoflop.fitting.words import power
from isoflop.planning.choice import REPLICATES
from isoflop.planning.feasibility import Dropped, Planner
from isoflop.planning.plan import Plan
from isoflop.planning.recipes import named
from isoflop.planning.runs import Run
from isoflop.planning.variations import varied
from isoflop.store import StudyDirectory
from isoflop.study import Study

if TYPE_CHECKING:
    import pandas as pd

#: By which factor the rate is varied, either way.
_RATE = 2.0


@dataclass(frozen=True)
class Variation:
    """One choice made otherwise: its name, what it changes (`isoflop.planning.variations`), the seeds added."""

    name: str
    kind: Kind
    values: Mapping[str, float]
    seed: int = 0

    @property
    def factor(self) -> float:
        """Of the rate or of the batch."""
        return next(iter(self.values.values()), 1.0)


@dataclass(frozen=True)
class Prepared:
    """An audit before it is run.

    Parameters
    ----------
    study, place
        The study, and its directory.
    points, judged, law
        Its points, those that a fit uses, and their law.
    cells
        What is run again, once from each seed.
    runs
        By variation and cell: the run, or why there is none; and `bases` that the study has not run itself.
    minima
        A sentence for each minimum that is not audited as the others are.
    """

    study: Study
    place: StudyDirectory
    points: pd.DataFrame
    judged: Points
    law: Law
    cells: tuple[Cell, ...]
    variations: tuple[Variation, ...]
    runs: tuple[tuple[Run | Dropped, ...], ...]
    bases: tuple[Run, ...]
    minima: tuple[str, ...]
    planner: Planner

    @property
    def part(self) -> StudyDirectory:
        """Where the runs are done."""
        return StudyDirectory(self.place.root / "audit")

    @cached_property
    def plan(self) -> Plan:
        """All runs of the audit."""
        varied_runs = [run for row in self.runs for run in row if isinstance(run, Run)]
        every = tuple(dict.fromkeys([*self.bases, *varied_runs]))
        return Plan(self.study.name, self.planner.data, every, (), self.study, None)

    @property
    def flops(self) -> float:
        """Training FLOPs, what runs of a trunk share counted once."""
        planned = self.plan
        return planned.flops - planned.saved_flops

    @property
    def seconds(self) -> float | None:
        """Of one worker, if each token takes as long as in the run that is varied; None where that is not known."""
        took = {
            (cell.budget, cell.params): result.get("seconds")
            for cell in self.cells
            if (result := self.place.run(cell.base.id).result()) is not None
        }
        own = self.plan.own_steps
        total = 0.0
        for row in self.runs:
            for cell, run in zip(self.cells, row, strict=True):
                if isinstance(run, Run):
                    seconds = took.get((cell.budget, cell.params))
                    if seconds is None:
                        return None
                    total += seconds * own[run.id] / run.steps
        return total

    @property
    def done(self) -> int:
        """How many of the runs are done."""
        return sum(self.part.run(run.id).result() is not None for run in self.plan.runs)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "study": self.study.name,
            "directory": str(self.part.root),
            "cells": [asdict(cell) | {"base": cell.base.id} for cell in self.cells],
            "variations": [
                {
                    "name": each.name,
                    "runs": [run.id for run in row if isinstance(run, Run)],
                    "dropped": [asdict(run) for run in row if isinstance(run, Dropped)],
                }
                for each, row in zip(self.variations, self.runs, strict=True)
            ],
            "bases": [run.id for run in self.bases],
            "runs": len(self.plan.runs),
            "done": self.done,
            "flops": self.flops,
            "seconds": self.seconds,
            "minima": list(self.minima),
        }

    def __str__(self) -> str:
        planned, seconds = self.plan, self.seconds
        by_name = ", ".join(
            f"{sum(isinstance(run, Run) for run in row)} {each.name}"
            for each, row in zip(self.variations, self.runs, strict=True)
        )
        cells = len({(cell.budget, cell.params) for cell in self.cells})
        # From the second seed on a cell as planned is the other seed of the one before.
        alone = set(self.bases) - {run for row in self.runs for run in row}
        taken = float(self.judged.flops.sum())
        hours = "" if seconds is None else f", about {seconds / 3600:.2g} device-hours"
        lines = [
            f"an audit of {self.study.name}: {len(planned.runs)} runs at {cells} cells ({by_name}"
            + (f", {len(alone)} as planned" if alone else "")
            + f"), {self.done} of them done",
            f"{power(self.flops)} training FLOPs{hours}; the points cost {power(taken)}, each from its start",
            *self.minima,
        ]
        dropped = [run for row in self.runs for run in row if isinstance(run, Dropped)]
        lines += [f"dropped: {power(each.budget)} FLOPs, {each.size}: {each.reason}" for each in dropped]
        return "\n".join(lines)


def variations(batch: float, seed: int) -> tuple[Variation, ...]:
    """What is chosen otherwise: rates, the batch times `batch`, and the seed that lies `seed` above the study's."""
    return (
        Variation("rate ×½", "rate", {"lr": 1 / _RATE}),
        Variation("rate ×2", "rate", {"lr": _RATE}),
        Variation(f"batch ×{batch:g}", "batch", {"batch": batch}),
        Variation("another seed", "seed", {}, seed),
    )


def prepare(study: Study, place: StudyDirectory, batch: float = 2.0, seeds: int = 1) -> Prepared:
    """Lay out the audit of the study at `place`, which has points; writes nothing.

    Parameters
    ----------
    study, place
        What is audited, and where it lives.
    batch
        Factor of the batch, which becomes whole sequences; the steps change so that D stays.
    seeds
        From how many seeds every variation is run, the study's own first: the noise falls as their root.

    Raises
    ------
    InputError
        If the study has axes, the directory is no study's own, it has no finished points, or the batch or the number
        of seeds cannot be.
    NoAnswerError
        If the points have no law, or the law no minima.
    """
    refuse_axes(study, "an audit")
    if place.is_part:
        raise InputError(f"a study must be audited, but {place.root} holds the runs of a search or of an audit")
    if not (math.isfinite(batch) and batch > 0 and batch != 1):
        raise InputError(f"the factor of the batch must be positive and not 1, but got {batch:g}")
    if seeds < 1:
        raise InputError(f"seeds >= 1 must hold, but got {seeds}")
    points = store.points(place.root)
    judged, law = judge(points), fit(points, window=study.fit.window)
    planner = Planner(study, named(study.recipe), data_facts(study, place))
    if not law.has_profiles:
        raise NoAnswerError(
            "a law needs minima to be audited, but the points of this are no profiles: add sizes a budget"
        )
    cells, minima = cells_of(place, points, judged, law, planner)
    if not cells:
        raise NoAnswerError(f"a law needs minima to be audited, but this has none that can be run: {'; '.join(minima)}")
    step = max(study.grid.seeds, REPLICATES)
    chosen = variations(batch, step)
    cells = tuple(
        replace(cell, base=replace(cell.base, seed=cell.base.seed + each * step))
        for each in range(seeds)
        for cell in cells
    )
    runs = tuple(tuple(_varied(planner, cell.base, each) for cell in cells) for each in chosen)
    bases = tuple(cell.base for cell in cells if place.run(cell.base.id).result() is None)
    return Prepared(study, place, points, judged, law, cells, chosen, runs, bases, minima, planner)


def _varied(planner: Planner, base: Run, variation: Variation) -> Run | Dropped:
    """The run of a cell with one choice made otherwise, or why there is none."""
    batch = round(variation.factor * base.batch_size) if variation.kind == "batch" else 0
    if variation.kind == "batch" and batch in (0, base.batch_size):
        asked = f"{base.batch_size} sequences ×{variation.factor:g}"
        reason = f"a batch of {asked} must be another of one or more, but is {batch}"
        return Dropped(base.budget, base.shape.label, base.shape.d_model, reason)
    return varied(planner, base, variation.values, base.seed + variation.seed)
