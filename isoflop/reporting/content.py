"""What a report is made of: one value, so that HTML, Markdown and figures tell the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from isoflop.fitting.points import Points, judge, simulated

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.ablation import Ablation
    from isoflop.fitting.law import Law
    from isoflop.fitting.sensitivity import Sensitivity
    from isoflop.recommendation import Recommendation


@dataclass(frozen=True)
class Work:
    """What one run has done so far.

    Parameters
    ----------
    state
        Where it stands, as those who launch runs see it: queued and cancelled, too.
    step, steps
        Optimiser steps, done and planned.
    flops
        Training FLOPs of the steps that are done.
    seconds
        Of work on it, once it is done; of a branch with its trunk's part. None: not known.
    device
        What it ran on; empty where that is not known.
    cost
        seconds × accelerators × price; None where one of them is not known.
    reason
        Why it failed, or why its last attempt ended; empty where nothing did.
    """

    state: str
    step: int
    steps: int
    flops: float
    seconds: float | None = None
    device: str = ""
    cost: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Parameters
    ----------
    spent_flops, planned_flops
        Training FLOPs of the grid, what runs of a trunk share counted once.
    device_hours
        Held by workers so far.
    seconds_left
        Until the grid is done, if those who work go on as they did; None: not known.
    cost
        Of the hours so far; None without a price.
    advice
        What to do about failed runs, by run.
    refresh
        Seconds after which the page is written anew; None where nobody writes it.
    written
        When it was, seconds since 1970, where it is written anew.
    """

    spent_flops: float
    planned_flops: float
    device_hours: float
    seconds_left: float | None = None
    cost: float | None = None
    advice: Mapping[str, str] = field(default_factory=dict)
    refresh: float | None = None
    written: float = 0.0


@dataclass(frozen=True)
class Content:
    """What a report tells of.

    Parameters
    ----------
    study_name
        The study.
    points
        The points table that `law` was fitted to, with every run, finished or not.
    law, reason
        The law; or None, and the sentence that says why there is none yet.
    recommendation
        What to train next, by that law.
    notes
        Sentences that the reader must see before any number.
    work
        What each run has done, by its id; empty where the points are all there is.
    progress
        How far the study is; None where the points are all there is.
    study_text
        The study file.
    made_with
        Versions, devices, data: names and values.
    window
        Sizes of the parabolas that show minima where there is no law yet.
    ablation
        Of a study with axes, in place of a law: its arms side by side.
    foretold
        What was forecast of the study, and what came, a sentence each.
    audit
        How far the law moves with the design; None where that was not audited.
    """

    study_name: str
    points: pd.DataFrame
    law: Law | None = None
    recommendation: Recommendation | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
    work: Mapping[str, Work] = field(default_factory=dict)
    progress: Progress | None = None
    study_text: str = ""
    made_with: tuple[tuple[str, str], ...] = ()
    window: int | Literal["all"] = 5
    ablation: Ablation | None = None
    foretold: tuple[str, ...] = ()
    audit: Sensitivity | None = None

    @cached_property
    def judged(self) -> Points:
        """The points that a fit uses, and those it does not; `InputError` if the table is none."""
        if self.law is None:
            return judge(self.points)
        return judge(self.points, self.law.provenance.params_convention)

    @cached_property
    def simulated(self) -> bool:
        """Whether the points are a rehearsal's; `InputError` if only some are."""
        return simulated(self.points)

    @property
    def title(self) -> str:
        """The study's name, labelled where no model was trained."""
        return f"{self.study_name} (simulated)" if self.simulated else self.study_name

    @property
    def in_grid(self) -> pd.DataFrame:
        """The runs of the grid."""
        return self.points[self.points["in_grid"]] if "in_grid" in self.points else self.points

    @property
    def states(self) -> dict[str, int]:
        """How many runs of the grid are in each state; rows of a table that knows no states are points."""
        table = self.in_grid
        if "state" not in table:
            return {"points": len(table)}
        runs = table["run"] if "run" in table else [""] * len(table)
        return dict(Counter(self.state(str(run), str(state)) for run, state in zip(runs, table["state"], strict=True)))

    def state(self, run: str, told: str) -> str:
        """Where `run` stands; `told` is what the points say of it."""
        return self.work[run].state if run in self.work else told
