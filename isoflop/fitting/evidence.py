"""What the checks look at, and the verdicts that they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from isoflop.fitting.bias import Bias
from isoflop.fitting.bootstrap import Draws
from isoflop.fitting.cells import Cells
from isoflop.fitting.columns import Floats
from isoflop.fitting.cost import CostModel
from isoflop.fitting.forecasts import Forecaster
from isoflop.fitting.influence import Influence
from isoflop.fitting.intervals import Estimate
from isoflop.fitting.losscurve import LossCurve
from isoflop.fitting.methods import Methods, Parametric
from isoflop.fitting.minima import Method, Minimum, Profile, Status
from isoflop.fitting.points import Points
from isoflop.fitting.powerlaw import Lines


class CheckStatus(StrEnum):
    """A check's verdict."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One thing examined: its name, the verdict, and a sentence that says what was found and what to do."""

    name: str
    status: CheckStatus
    message: str


@dataclass(frozen=True, eq=False)
class MinimaEvidence:
    """What the checks of the minima look at: everything between the points and the power laws.

    `profiles`, `draws` and the lines are those of the interior budgets; `minima` are of all.
    """

    minima: Sequence[Minimum]
    profiles: Sequence[Profile]
    draws: Draws
    params: Lines
    tokens: Lines
    a: Estimate
    b: Estimate
    loss_curve: LossCurve
    cost_model: CostModel
    window: int
    method: Method
    bias: Bias | None
    influence: Sequence[Influence]

    @property
    def interior(self) -> list[Minimum]:
        """The minima that the law rests on."""
        return [minimum for minimum in self.minima if minimum.status is Status.INTERIOR]

    @property
    def log_flops(self) -> Floats:
        """Ln C of the interior budgets."""
        return np.log([minimum.flops for minimum in self.interior])


@dataclass(frozen=True, eq=False)
class Evidence:
    """What all checks look at. Sentences stand where a part could not be made.

    `minima` is None for a table without IsoFLOP profiles; `held_back` says why the surface does not lead, empty where
    it does.
    """

    points: Points
    every: Sequence[Profile]
    minima: MinimaEvidence | None
    cells: Cells
    surface: Parametric | str
    held_back: str
    methods: Methods
    cost_model: CostModel
    forecast: Forecaster | str
    flops_range: tuple[float, float]


def verdict(name: str, found: str, suspicion: str = "") -> Check:
    """Pass where there is no suspicion, else a warning that ends in it."""
    if suspicion:
        return Check(name, CheckStatus.WARN, f"{found}{suspicion}.")
    return Check(name, CheckStatus.PASS, f"{found}.")
