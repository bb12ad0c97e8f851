"""The exponents under every convention of N that a table allows.

Counting the embedding or not has moved a published exponent by more than its interval (0.51 and 0.53 on one set of
runs, 0.71 and 0.84 on another), so a law that names one convention should show what the others would have said.
Where a table's C is 6·N·D, it is so under each N; C that was counted stays what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.cells import cells_of
from isoflop.fitting.conventions import params_by
from isoflop.fitting.cost import fit_cost
from isoflop.fitting.methods import Methods, SurfaceOptions
from isoflop.fitting.minima import Method, Status, find_minimum, profiles
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.parametric import fit_surface
from isoflop.fitting.points import Points
from isoflop.fitting.powerlaw import fit_lines
from isoflop.fitting.repetition import tokens_worth
from isoflop.flops import ParamsConvention

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ConventionExponents:
    """a and b where N counts what `convention` says: through the minima, and by the surface; None where there is none.

    `headline` tells whether that is the law's own convention; `a` and `b` are by the method that leads in the law.
    """

    convention: ParamsConvention
    headline: bool
    a: float | None
    b: float | None
    minima_a: float | None
    minima_b: float | None
    parametric_a: float | None
    parametric_b: float | None


def under_conventions(
    table: pd.DataFrame,
    points: Points,
    *,
    window: int,
    method: Method,
    surface: SurfaceOptions,
    repetition: float | None,
    leads: bool,
    methods: Methods,
) -> tuple[ConventionExponents, ...]:
    """Fit the exponents under each convention but the law's own, whose `methods` are known.

    `repetition` is the law's R*, where data repeat; `leads` tells whether the surface's exponents are the headline.
    """
    is_6nd = fit_cost(points.flops, points.params, points.tokens).form == "6nd"
    found = []
    for convention in points.conventions:
        if convention == points.params_convention:
            own, by_surface = getattr(methods, method), methods.parametric
            a, b = (by_surface.a, by_surface.b) if leads else (own.a, own.b)
            found.append(ConventionExponents(convention, True, a, b, own.a, own.b, by_surface.a, by_surface.b))
            continue
        params = params_by(table, convention)[points.row]
        if not (np.isfinite(params) & (params > 0)).all():
            continue
        counted = replace(points, params=params)
        minima = _through_minima(counted, window, method)
        if is_6nd:
            counted = replace(counted, flops=6 * params * points.tokens)
        parametric = _by_surface(counted, surface, repetition)
        a, b = parametric if leads else minima
        found.append(ConventionExponents(convention, False, a, b, *minima, *parametric))
    return tuple(found)


def _through_minima(points: Points, window: int, method: Method) -> tuple[float | None, float | None]:
    order = np.lexsort((points.row, points.params, points.budget))
    minima = [find_minimum(profile, window, method) for profile in profiles(points.only(order))]
    interior = [minimum for minimum in minima if minimum.status is Status.INTERIOR]
    if len(interior) < FEWEST:
        return None, None
    x = np.log([minimum.flops for minimum in interior])
    y = np.log([[minimum.params or 0.0, minimum.tokens or 0.0] for minimum in interior]).T
    a, b = fit_lines(x, y, np.ones(y.shape, dtype=bool)).slope.tolist()
    return a, b


def _by_surface(points: Points, options: SurfaceOptions, repetition: float | None) -> tuple[float | None, float | None]:
    cells = cells_of(points, profiles(points))
    try:
        surface = fit_surface(
            cells.params,
            tokens_worth(cells.tokens, cells.unique_tokens, repetition),
            cells.loss,
            **options.on(cells),
        )
    except NoAnswerError:
        return None, None
    if not surface.trusted:
        return None, None
    cost = fit_cost(points.flops, points.params, points.tokens)
    return surface.exponents(float(np.exp(np.log(points.flops).mean())), cost)
