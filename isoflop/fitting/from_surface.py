"""The headline of a table without IsoFLOP profiles, sizes crossed with numbers of tokens: its surface alone."""

from __future__ import annotations

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.bands import Bands, band_grid, surface_bands
from isoflop.fitting.columns import Floats
from isoflop.fitting.cost import CostModel
from isoflop.fitting.headline import Headline, Seen, side_by_side, surface_exponents, turn
from isoflop.fitting.intervals import Estimate, percentiles
from isoflop.fitting.law import PowerLaws
from isoflop.fitting.losscurve import LossCurve
from isoflop.fitting.methods import surface_estimate
from isoflop.fitting.powerlaw import PowerLaw
from isoflop.fitting.surface import Surfaces


def from_surface(seen: Seen) -> Headline:
    """Make the headline of points without profiles.

    Its power laws are the surface's at the middle of the points' C, and stand where lines through minima would.

    Raises
    ------
    NoAnswerError
        If there is no surface.
    """
    if isinstance(seen.fitted, str):
        raise NoAnswerError(seen.fitted)
    surface, draws = seen.fitted.surface, seen.fitted.draws
    options, cost = seen.options, seen.cost
    lowest, highest = float(seen.points.flops.min()), float(seen.points.flops.max())
    exponents = surface_exponents(seen)
    params, tokens, loss = surface.optimum(surface.reference, cost)
    # Along the optimum both terms fall as one power of C: that of A/N*^α.
    slope = surface.alpha * exponents.a.value
    loss_exponent = -slope * (loss - surface.E) / loss

    def line(exponent: Estimate, scale: float) -> PowerLaw:
        return PowerLaw(exponent, surface.reference, scale, 0.0, ())

    drawn_loss = _loss_slopes(draws.surfaces, surface.reference, cost)
    ends = percentiles(drawn_loss)
    grid = band_grid(lowest, highest)
    band_params, band_tokens, band_loss = surface_bands(
        grid, surface, draws.surfaces, cost, surface.noise, options.seed, turn(seen, grid)
    )
    return Headline(
        method="parametric",
        exponents=exponents,
        methods=side_by_side(seen, exponents, {}),
        power_laws=PowerLaws(
            line(exponents.a, params), line(exponents.b, tokens), line(surface_estimate(loss_exponent, ends, 0.0), loss)
        ),
        loss_curve=LossCurve(surface.E, loss - surface.E, slope, surface.reference, surface.noise),
        minima=tuple(seen.minima[options.minimum]),
        bands=Bands(tuple(np.exp(grid).tolist()), band_params, band_tokens, band_loss),
        flops_range=(lowest, highest),
        noise=surface.noise,
        influence=(),
        lines=None,
        evidence=None,
        held_back="",
    )


def _loss_slopes(surfaces: Surfaces, reference: float, cost: CostModel) -> Floats:
    """The slope dln L*/dln C of each surface at `reference`."""
    loss = surfaces.optimum(np.array([reference]), cost).loss[:, 0]
    a, _ = surfaces.exponents(reference, cost)
    slopes: Floats = -surfaces.alpha * a * (loss - surfaces.E) / loss
    return slopes
