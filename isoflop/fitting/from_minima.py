"""The headline of an IsoFLOP study: its minima, the power laws through them, and whether the surface leads instead."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.bands import Band, Bands, band_grid, loss_band, surface_bands
from isoflop.fitting.bias import Bias, corrected, predict_bias
from isoflop.fitting.bootstrap import with_intervals
from isoflop.fitting.columns import Floats, texts
from isoflop.fitting.evidence import MinimaEvidence
from isoflop.fitting.headline import KINDS, Headline, Seen, side_by_side, surface_exponents, turn
from isoflop.fitting.influence import leave_one_out
from isoflop.fitting.law import PowerLaws
from isoflop.fitting.lines import MinimaLines, lines_through
from isoflop.fitting.losscurve import fit_loss_curve
from isoflop.fitting.methods import why_not_leading
from isoflop.fitting.minima import Method, Profile, Status
from isoflop.fitting.powerlaw import Exponents
from isoflop.fitting.sharing import models_of


def from_minima(seen: Seen) -> Headline:
    """Make the headline of points with profiles.

    Raises
    ------
    NoAnswerError
        If too few budgets have an interior minimum, or nothing tells an interval.
    """
    options, every, surface = seen.options, seen.minima[seen.options.minimum], seen.surface
    lines = _lines(seen)
    laws = PowerLaws(lines.law("params"), lines.law("tokens"), lines.law("loss"), lines.draws.shared)
    by_minima = Exponents(laws.params.exponent, laws.tokens.exponent, lines.ratio)
    curve = fit_loss_curve(lines.x, lines.log_loss)
    held_back = "there is none" if surface is None else why_not_leading(surface, by_minima.a, by_minima.b)
    leads = not held_back
    exponents = surface_exponents(seen) if leads else by_minima
    biases = _biases(seen)
    flops_range = lines.minima[0].flops, lines.minima[-1].flops
    grid = band_grid(*flops_range)
    params, tokens = _bands(seen, grid, lines, leads=leads)
    names = texts(seen.table, "run")
    influence = leave_one_out(
        seen.points,
        None if names is None else names.tolist(),
        lines.profiles,
        lines.minima,
        seen.width,
        options.minimum,
    )
    return Headline(
        method="parametric" if leads else options.minimum,
        exponents=exponents,
        methods=side_by_side(seen, exponents, biases),
        power_laws=laws,
        loss_curve=curve,
        minima=corrected(with_intervals(every, lines.draws), biases[options.minimum]),
        bands=Bands(
            flops=tuple(np.exp(grid).tolist()),
            params=params,
            tokens=tokens,
            loss=loss_band(grid, lines.x, lines.log_loss, curve, lines.draws, options.seed),
        ),
        flops_range=flops_range,
        noise=lines.draws.noise.sd,
        influence=influence,
        lines=lines,
        evidence=MinimaEvidence(
            minima=every,
            profiles=lines.profiles,
            draws=lines.draws,
            params=lines.observed["params"],
            tokens=lines.observed["tokens"],
            a=by_minima.a,
            b=by_minima.b,
            loss_curve=curve,
            cost_model=seen.cost,
            window=seen.width,
            method=options.minimum,
            bias=biases[options.minimum],
            influence=influence,
        ),
        held_back=held_back,
    )


def _lines(seen: Seen) -> MinimaLines:
    options, surface = seen.options, seen.surface
    try:
        return lines_through(
            seen.profiles,
            seen.minima[options.minimum],
            width=seen.width,
            bootstrap=options.bootstrap,
            seed=options.seed,
            method=options.minimum,
            models=models_of(seen.points, seen.profiles),
        )
    except NoAnswerError as error:
        if surface is None or surface.trusted:
            raise
        raise NoAnswerError(f"{error}\nno surface either: {surface.reason}") from None


def _biases(seen: Seen) -> Mapping[Method, Bias | None]:
    """Each method's own bias on the surface, where that is sound."""
    surface = seen.surface
    if surface is None or not surface.trusted:
        return dict.fromkeys(KINDS)
    return {kind: predict_bias(surface, seen.cost, _of_interior(seen, kind), seen.width, kind) for kind in KINDS}


def _of_interior(seen: Seen, kind: Method) -> list[Profile]:
    pairs = zip(seen.profiles, seen.minima[kind], strict=True)
    return [profile for profile, minimum in pairs if minimum.status is Status.INTERIOR]


def _bands(seen: Seen, grid: Floats, lines: MinimaLines, *, leads: bool) -> tuple[Band, Band]:
    """Bands of N* and D*: the surface's where it leads, else the lines'."""
    if leads and not isinstance(seen.fitted, str):
        params, tokens, _ = surface_bands(
            grid,
            seen.fitted.surface,
            seen.fitted.draws.surfaces,
            seen.cost,
            lines.draws.noise.sd,
            seen.options.seed,
            turn(seen, grid),
        )
        return params, tokens
    return lines.band("params", grid), lines.band("tokens", grid)
