"""From judged points to a law, step by step: minima, surface, forecaster, the headline, what could be wrong.

Two kinds of table become a law. One with IsoFLOP profiles has minima, and the surface beside them (`from_minima`). One
without has the surface alone (`from_surface`), and the law says so.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

import isoflop
from isoflop.errors import NoAnswerError
from isoflop.fitting.accounting import under_conventions
from isoflop.fitting.by_type import laws_by_type
from isoflop.fitting.cells import cells_of
from isoflop.fitting.checks import Evidence, examine
from isoflop.fitting.cost import fit_cost
from isoflop.fitting.forecasts import Forecaster, Runs, fit_forecaster
from isoflop.fitting.from_minima import from_minima
from isoflop.fitting.from_surface import from_surface
from isoflop.fitting.headline import KINDS, Headline, Seen
from isoflop.fitting.law import SCHEMA, Law, Options, PointsUsed, Provenance
from isoflop.fitting.methods import SurfaceOptions, fit_parametric
from isoflop.fitting.minima import find_minimum, profiles
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.points import Points, simulated
from isoflop.fitting.repetition import tokens_worth
from isoflop.fitting.rollforward import check_hold_out, roll_forward


def assemble(table: pd.DataFrame, points: Points, options: Options) -> Law:
    """Make the law of judged `points` of `table`; the errors are `isoflop.fitting.fit`'s."""
    every = profiles(points)
    width = max(max(len(profile.runs) for profile in every) if options.window is None else options.window, FEWEST)
    cost = fit_cost(points.flops, points.params, points.tokens)
    cells = cells_of(points, every)
    reference = math.exp(float(np.log(points.flops).mean()))
    asked = SurfaceOptions(options.huber_delta, options.pins, options.ties)
    seen = Seen(
        table=table,
        points=points,
        profiles=every,
        width=width,
        minima={kind: [find_minimum(profile, width, kind) for profile in every] for kind in KINDS},
        cost=cost,
        cells=cells,
        fitted=fit_parametric(cells, cost, reference, asked, options.bootstrap, options.seed),
        options=options,
    )
    return _law(seen, from_minima(seen) if _has_profiles(seen) else from_surface(seen))


def _has_profiles(seen: Seen) -> bool:
    """Whether the table is an IsoFLOP study: most of its points lie at a budget of three sizes or more."""
    held = sum(int(each.runs.sum()) for each in seen.profiles if len(each.runs) >= FEWEST)
    return 2 * held >= len(seen.points.row) or seen.surface is None or not seen.surface.trusted


def _law(seen: Seen, headline: Headline) -> Law:
    """The headline with all that stands beside it, and the checks of it all."""
    points, options = seen.points, seen.options
    repetition = None if seen.surface is None else seen.surface.repetition
    tokens = tokens_worth(points.tokens, points.unique_tokens, repetition)
    runs = Runs.sorted(points.flops, points.params, tokens, points.loss)
    forecast = _forecaster(runs, options)
    minima = seen.minima[options.minimum]
    rolled = roll_forward(runs, minima, seed=options.seed)
    checks = examine(
        Evidence(
            points=points,
            every=seen.profiles,
            minima=headline.evidence,
            cells=seen.cells,
            surface=seen.fitted if isinstance(seen.fitted, str) else seen.fitted.surface,
            held_back=headline.held_back,
            methods=headline.methods,
            cost_model=seen.cost,
            forecast=forecast,
            flops_range=headline.flops_range,
        )
    )
    return Law(
        schema=SCHEMA,
        method=headline.method,
        exponents=headline.exponents,
        methods=headline.methods,
        power_laws=headline.power_laws,
        loss_curve=headline.loss_curve,
        minima=headline.minima,
        bands=headline.bands,
        cost_model=seen.cost,
        flops_range=headline.flops_range,
        noise=headline.noise,
        parametric=seen.surface,
        forecast=None if isinstance(forecast, str) else forecast,
        conventions=under_conventions(
            seen.table,
            points,
            window=seen.width,
            method=options.minimum,
            surface=SurfaceOptions(options.huber_delta, options.pins, options.ties),
            repetition=repetition,
            leads=headline.method == "parametric",
            methods=headline.methods,
        ),
        influence=headline.influence,
        hold_out=rolled,
        checks=(*checks, check_hold_out(rolled)),
        points=PointsUsed(len(points.row), points.excluded),
        provenance=Provenance(
            isoflop=isoflop.__version__,
            points_digest=points.digest,
            params_convention=points.params_convention,
            flops_convention="6nd" if seen.cost.form == "6nd" else "counted",
            options=options,
            simulated=simulated(seen.table),
        ),
        types=laws_by_type(
            seen.table,
            points,
            headline.lines,
            width=seen.width,
            method=options.minimum,
            bootstrap=options.bootstrap,
            seed=options.seed,
        ),
    )


def _forecaster(runs: Runs, options: Options) -> Forecaster | str:
    try:
        return fit_forecaster(runs, seed=options.seed)
    except NoAnswerError as error:
        return str(error)
