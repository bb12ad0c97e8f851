"""The plan of a study with axes: the runs of all its arms as one sweep.

It is a `Plan` like any other to whoever writes, launches or watches runs. What it has besides: which arm a run is of,
and what each arm is validated on; both go into its table, from where they reach the points.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from isoflop.arms import Arm, baselines
from isoflop.errors import InputError
from isoflop.fitting.ablation import CELL, HELD_OUT, PREFIX, Factor
from isoflop.planning.ledger import Entry
from isoflop.planning.plan import Plan
from isoflop.planning.prior import Prior
from isoflop.planning.probes import Probes
from isoflop.planning.runs import Run, canonical_json
from isoflop.study import Study


@dataclass(frozen=True)
class ArmPlan:
    """An arm and the plan of its study."""

    arm: Arm
    plan: Plan


@dataclass(frozen=True)
class AblationPlan(Plan):
    """What a study with axes will train: `parts` has the plan of each arm; `data` is that of the first."""

    parts: tuple[ArmPlan, ...] = ()

    @cached_property
    def part_of(self) -> dict[str, ArmPlan]:
        """The arm of each run, by its id."""
        return {run.id: part for part in self.parts for run in part.plan.runs}

    @cached_property
    def by_width(self) -> bool:
        """Whether widths tell all sizes apart: then arms are compared at equal width, even if depths differ."""
        runs = [(part.arm.name, run) for part in self.parts for run in part.plan.runs]
        places = [(arm, run.budget, run.seed, run.shape.d_model) for arm, run in runs]
        return len(set(places)) == len(places) and all(run.shape.d_model for _, run in runs)

    def epochs(self, run: Run) -> float | None:
        """Passes of `run` over the source that it reads most often in its arm; None while not known."""
        return self.part_of[run.id].plan.epochs(run)

    @cached_property
    def ledger(self) -> list[Entry]:
        """What the longest runs of any arm read of each source at most; empty while the data are not known."""
        entries: dict[str, Entry] = {}
        for part in self.parts:
            for entry in part.plan.ledger:
                most = entries.get(entry.source)
                entries[entry.source] = entry if most is None or entry.epochs > most.epochs else most
        return list(entries.values())

    def notes(self) -> list[str]:
        """What a reader should know that the numbers do not say."""
        return [*self._arm_notes(), *self._data_notes(), *self._trunk_notes(), *self._hardware_notes()]

    def to_json(self) -> dict[str, Any]:
        """As `Plan.to_json`, and ``arms``: levels, data, runs by id."""
        told = [
            {"levels": part.arm.levels, "data": part.plan.data.to_json(), "runs": [run.id for run in part.plan.runs]}
            for part in self.parts
        ]
        return {**super().to_json(), "arms": told}

    def _arm_notes(self) -> list[str]:
        seeds = sorted({run.seed for run in self.runs})
        told = f"{len(self.parts)} arms ({self.settings.arms.replace('_', ' ')}) by {len(seeds)} "
        notes = [f"{told}{'seed' if len(seeds) == 1 else 'seeds'}: arms are compared at the same budget and size."]
        if len(seeds) == 1:
            notes.append("One seed tells no noise: differences between arms will have no intervals (grid.seeds).")
        elif len(seeds) == 2:
            notes.append("Of two seeds an interval is 12.7 standard errors to a side, of three 4.3 (grid.seeds).")
        if len({part.arm.study.data.corpus for part in self.parts}) > 1:
            notes.append(
                "Arms read different corpora: losses per token are compared within a corpus alone, and bits per second "
                "of sound throughout."
            )
        return notes

    def _record(self, run: Run) -> dict[str, Any]:
        part = self.part_of[run.id]
        levels = {f"{PREFIX}{name}": label for name, label in part.arm.levels.items()}
        cell = f"d{run.shape.d_model}" if self.by_width else run.shape.label
        return {**super()._record(run), **levels, CELL: cell, HELD_OUT: _held_out(part, run)}


def joined(study: Study, prior: Prior | None, probes: Probes, parts: list[ArmPlan]) -> AblationPlan:
    """The plans of all arms of `study` as one.

    Raises
    ------
    InputError
        If two arms would do the same work: an axis without effect.
    """
    before: dict[str, Arm] = {}
    for part in parts:
        for run in part.plan.runs:
            if run.id in before:
                raise InputError(
                    f"arms must differ in what is trained, but {before[run.id].name} and {part.arm.name} do not: an "
                    f"axis is without effect there, and both would be the run {run.id}"
                )
            before[run.id] = part.arm
    return AblationPlan(
        study=study.name,
        data=parts[0].plan.data,
        runs=tuple(run for part in parts for run in part.plan.runs),
        dropped=tuple(
            replace(cell, reason=f"{part.arm.name}: {cell.reason}") for part in parts for cell in part.plan.dropped
        ),
        settings=study,
        prior=prior,
        probes=probes,
        parts=tuple(parts),
    )


def factors(study: Study) -> tuple[Factor, ...]:
    """The axes of `study` as a comparison takes them."""
    base = baselines(study)
    return tuple(Factor(name, tuple(axis.values), base[name], axis.numbers) for name, axis in study.axes.items())


def _held_out(part: ArmPlan, run: Run) -> str:
    """What the losses of `run` are taken over, as a digest: equal for the same tokens.

    The length of sequences is no part of it: windows of another length hold the same tokens but for their last few.
    """
    mixture = () if part.arm.study.data.held_out == "corpus" else run.mixture
    text = canonical_json([run.data, mixture, run.validation_tokens])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
