"""What points say of the optimum, by one way and without intervals: for points that are varied again and again.

The ways are those of a law (`isoflop.fitting.methods`): the power laws through the minima, or the surface. So the
points of a law, read in the way that leads there, say what its headline says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.bootstrap import FEWEST_BUDGETS
from isoflop.fitting.cells import cells_of
from isoflop.fitting.cost import fit_cost
from isoflop.fitting.methods import SurfaceOptions
from isoflop.fitting.minima import Method, Status, find_minimum, profiles
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.parametric import fit_surface
from isoflop.fitting.points import Points
from isoflop.fitting.powerlaw import Lines, fit_lines
from isoflop.fitting.repetition import tokens_worth
from isoflop.fitting.surface import Surface


@dataclass(frozen=True)
class Way:
    """How points are read.

    Parameters
    ----------
    by_surface
        Whether the surface is asked, not the minima.
    window, method
        Of the minima: None for parabolas over all sizes.
    surface, repetition
        What is asked of the surface, and R* where data repeat.
    """

    by_surface: bool
    window: int | None
    method: Method
    surface: SurfaceOptions
    repetition: float | None = None


@dataclass(frozen=True)
class Reading:
    """N* ∝ C^`a`, D* ∝ C^`b`, and N* = `params` where it was asked for."""

    a: float
    b: float
    params: float

    @property
    def ratio(self) -> float:
        """b/a."""
        return self.b / self.a


def read(points: Points, way: Way, target: float) -> Reading:
    """Read the exponents of `points`, and N* at `target` training FLOPs.

    Raises
    ------
    NoAnswerError
        If fewer than three budgets have an interior minimum; or, by the surface, if that is not sound.
    """
    if way.by_surface:
        surface = surface_of(points, way)
        cost = fit_cost(points.flops, points.params, points.tokens)
        a, b = surface.exponents(math.exp(float(np.log(points.flops).mean())), cost)
        return Reading(a, b, surface.optimum(target, cost)[0])
    lines = lines_of(points, way)
    a, b = lines.slope.tolist()
    return Reading(a, b, math.exp(float(lines.at(np.log([target]))[0, 0])))


def lines_of(points: Points, way: Way) -> Lines:
    """The lines of ln N* and of ln D* against ln C; `NoAnswerError` under three interior minima."""
    order = np.lexsort((points.row, points.params, points.budget))
    every = profiles(points.only(order))
    window = max(max(len(each.runs) for each in every) if way.window is None else way.window, FEWEST)
    minima = [find_minimum(profile, window, way.method) for profile in every]
    interior = [minimum for minimum in minima if minimum.status is Status.INTERIOR]
    if len(interior) < FEWEST_BUDGETS:
        raise NoAnswerError(f"{len(interior)} of {len(minima)} budgets have a minimum within their sizes")
    x = np.log([minimum.flops for minimum in interior])
    y = np.log([[minimum.params or 0.0, minimum.tokens or 0.0] for minimum in interior]).T
    return fit_lines(x, y, np.ones(y.shape, dtype=bool))


def surface_of(points: Points, way: Way) -> Surface:
    """The surface; `NoAnswerError` where it is not sound."""
    cells = cells_of(points, profiles(points))
    tokens = tokens_worth(cells.tokens, cells.unique_tokens, way.repetition)
    surface = fit_surface(cells.params, tokens, cells.loss, **way.surface.on(cells))
    if not surface.trusted:
        raise NoAnswerError(f"the surface is not sound: {surface.reason}")
    return surface
