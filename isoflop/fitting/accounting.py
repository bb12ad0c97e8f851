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
from isoflop.fitting.conventions import params_by
from isoflop.fitting.cost import fit_cost
from isoflop.fitting.methods import Methods, SurfaceOptions
from isoflop.fitting.minima import Method
from isoflop.fitting.points import Points
from isoflop.fitting.reading import Way, read
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
        minima = _exponents(counted, Way(False, window, method, surface))
        if is_6nd:
            counted = replace(counted, flops=6 * params * points.tokens)
        parametric = _exponents(counted, Way(True, window, method, surface, repetition))
        a, b = parametric if leads else minima
        found.append(ConventionExponents(convention, False, a, b, *minima, *parametric))
    return tuple(found)


def _exponents(points: Points, way: Way) -> tuple[float | None, float | None]:
    try:
        found = read(points, way, float(points.flops.max()))
    except NoAnswerError:
        return None, None
    return found.a, found.b
