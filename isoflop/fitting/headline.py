"""What the law's headline is made of, whichever method leads: the points from every side, and the parts that differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from isoflop.errors import NoAnswerError
from isoflop.fitting.bands import Bands
from isoflop.fitting.bias import Bias
from isoflop.fitting.bootstrap import FEWEST_BUDGETS
from isoflop.fitting.cells import Cells
from isoflop.fitting.columns import Floats
from isoflop.fitting.cost import CostModel
from isoflop.fitting.evidence import MinimaEvidence
from isoflop.fitting.influence import Influence
from isoflop.fitting.intervals import NORMAL, percentiles
from isoflop.fitting.law import Options, PowerLaws
from isoflop.fitting.lines import MinimaLines
from isoflop.fitting.losscurve import LossCurve
from isoflop.fitting.methods import FittedSurface, MethodExponents, Methods, Parametric, surface_estimate
from isoflop.fitting.minima import Method, Minimum, Profile, Status
from isoflop.fitting.points import Points
from isoflop.fitting.powerlaw import Exponents, fit_lines
from isoflop.fitting.surface import SurfaceStatus

#: The ways to a budget's minimum, all of which are tried.
KINDS: tuple[Method, ...] = ("parabola", "akima")


@dataclass(frozen=True, eq=False)
class Seen:
    """The points from every side: profiles, their minima by each method, the surface."""

    table: pd.DataFrame
    points: Points
    profiles: tuple[Profile, ...]
    width: int
    minima: dict[Method, list[Minimum]]
    cost: CostModel
    cells: Cells
    fitted: FittedSurface | str
    options: Options

    @property
    def found(self) -> list[Minimum]:
        """The interior minima by the method that was asked for."""
        return interior(self.minima[self.options.minimum])

    @property
    def surface(self) -> Parametric | None:
        """The surface, if there is one."""
        return None if isinstance(self.fitted, str) else self.fitted.surface


@dataclass(frozen=True, eq=False)
class Headline:
    """The parts of a law that depend on what leads; their meaning is `isoflop.fitting.law.Law`'s.

    `lines` go through the minima and `evidence` is what the checks of these look at, both None where there are no
    minima; `held_back` says why the surface does not lead, empty where it does.
    """

    method: Literal["parabola", "akima", "parametric"]
    exponents: Exponents
    methods: Methods
    power_laws: PowerLaws
    loss_curve: LossCurve
    minima: tuple[Minimum, ...]
    bands: Bands
    flops_range: tuple[float, float]
    noise: float
    influence: tuple[Influence, ...]
    lines: MinimaLines | None
    evidence: MinimaEvidence | None
    held_back: str


def interior(minima: Sequence[Minimum]) -> list[Minimum]:
    """Those of the `minima` that count."""
    return [minimum for minimum in minima if minimum.status is Status.INTERIOR]


def surface_exponents(seen: Seen) -> Exponents:
    """The surface's exponents, with what an unseen lack of fit adds to their intervals."""
    if isinstance(seen.fitted, str):
        raise NoAnswerError(seen.fitted)
    surface = seen.fitted.surface
    a, b = seen.fitted.draws.surfaces.exponents(surface.reference, seen.cost)
    unseen = surface.misfit
    return Exponents(
        surface_estimate(surface.a, percentiles(a), unseen.a if unseen else 0.0),
        surface_estimate(surface.b, percentiles(b), unseen.b if unseen else 0.0),
        surface_estimate(surface.b / surface.a, percentiles(b / a), unseen.ratio if unseen else 0.0),
    )


def turn(seen: Seen, grid: Floats) -> Floats:
    """By how much an unseen lack of fit may move ln N* at ln C = `grid`, 95 %."""
    surface = seen.surface
    unseen = 0.0 if surface is None or surface.misfit is None else surface.misfit.a
    center = math.log(surface.reference) if surface is not None else 0.0
    moved: Floats = NORMAL * unseen * np.abs(grid - center)
    return moved


def side_by_side(seen: Seen, headline: Exponents, biases: Mapping[Method, Bias | None]) -> Methods:
    """Every method's exponents, and how far they are from the `headline`'s."""

    def told(a: float | None, b: float | None, budgets: int, bias: Bias | None = None) -> MethodExponents:
        return MethodExponents(
            a=a,
            b=b,
            difference_a=None if a is None else a - headline.a.value,
            difference_b=None if b is None else b - headline.b.value,
            budgets=budgets,
            bias_a=None if bias is None else bias.a,
            bias_b=None if bias is None else bias.b,
        )

    found = {}
    for kind in KINDS:
        minima = interior(seen.minima[kind])
        a = b = None
        if len(minima) >= FEWEST_BUDGETS:
            x = np.log([each.flops for each in minima])
            y = np.log([[each.params or math.nan, each.tokens or math.nan] for each in minima]).T
            a, b = fit_lines(x, y, np.ones(y.shape, dtype=bool)).slope.tolist()
        found[kind] = told(a, b, len(minima), biases.get(kind))
    surface = seen.surface
    parametric = told(None, None, 0)
    if surface is not None and surface.status not in (SurfaceStatus.NOT_IDENTIFIABLE, SurfaceStatus.UNCONVERGED):
        parametric = told(surface.a, surface.b, 0)
    return Methods(found["parabola"], found["akima"], parametric)
