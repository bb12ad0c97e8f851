"""From points to a law: which rows count, where each budget's loss is least, what the surface says, how sure it is.

::

    columns, conventions   numbers in a table; by which conventions it tells N
    labels, points         which rows of a table a fit uses, why not the others, and to which budget each belongs
    clusters               which points share their noise and are resampled together
    cells                  very large tables, averaged
    cost                   C(N, D) as the points counted it

    parabola, akima        the arithmetic of local parabolas and of splines, vectorised over resamples
    minima                 the optimum of each budget, or why it has none
    token_types, by_type   the same for the loss of each token type, against the total's
    powerlaw, losscurve    N*, D*, L* ∝ C^·, with t intervals; the loss along the optimum, with a floor
    bootstrap, bands       how far the minima move under other noise; the intervals of N*, D*, L* against C
    sharing                how much of the noise the branches of a trunk have in common
    bias, influence        what the method gets wrong on a known surface; what one run is worth

    surface                L = E + A/N^α + B/D^β as a value, and its optimum under any cost
    parametric, repetition its global fit; with repeated data
    parametric_*, surface_*               its search, resamples by the thousand, profile of E; the arithmetic
    adequacy, misfit       whether its residuals are noise; what a lack of fit that nobody sees could do
    forecasts, rollforward the loss of runs that nobody has trained yet; how right such forecasts were

    paired, ablation       differences of runs that share a seed; arms side by side (`ablation_text`: in words)

    methods, accounting    the ways to the exponents side by side; under every convention of N
    headline, from_minima, from_surface   what leads: the minima or the surface, and the parts that go with it
    assembly               all of it in order
    evidence, checks, checks_minima       what could be wrong, each in a sentence
    law, text, groups      the result: one value with JSON and text; one a group
    scoring                a law against runs that came later
    reading, effects, shifts, sensitivity how far a law moves where a study is designed otherwise
    intervals, words       a value with its interval; numbers as people say them

>>> import pandas as pd                                                             # doctest: +SKIP
>>> print(fit(pd.read_csv("points.csv")))
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, get_args

from isoflop.errors import InputError, NoAnswerError
from isoflop.flops import ParamsConvention

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.law import Law
    from isoflop.fitting.minima import Method

__all__ = ["fit"]

#: Resamples; the ends of a 95 % interval are then good to about 4 % of its half-width.
BOOTSTRAP = 1000
_FEWEST_DRAWS = 100


def fit(
    points: pd.DataFrame,
    *,
    minimum: Method = "parabola",
    window: int | Literal["all"] = 5,
    huber_delta: float | Literal["auto"] | None = "auto",
    pins: Mapping[str, float] | None = None,
    ties: Collection[str] = (),
    bootstrap: int = BOOTSTRAP,
    seed: int = 0,
    params_convention: ParamsConvention = "total",
) -> Law:
    """Fit the law of a points table; the order of its rows does not matter.

    Parameters
    ----------
    points
        A row per run: `flops`, `params`, `tokens`, `loss`, and optionally `budget`, `state`, `in_grid`, `run`, `seed`,
        `trunk`, `loss_sigma`, `step`, `warmup_tokens`, … (see `isoflop.fitting.points`). Rows that a fit cannot use
        are labelled in ``law.points.excluded``.
    minimum
        How a budget's minimum is found: the vertex of a local ``parabola``, or of an ``akima`` spline.
    window
        Sizes per local parabola, those nearest its vertex, at least 3; ``"all"`` for whole profiles, whose asymmetry
        then biases the minima.
    huber_delta
        δ of the surface's fit, of the sum of Huber's function of the log residuals: ``"auto"`` is 1.345 times their
        robust sd, None least squares.
    pins, ties
        Parameters of the surface to hold, ``{"E": 1.69}``, and to tie, ``["alpha=beta"]``.
    bootstrap
        Resamples behind the bootstrap intervals, at least 100.
    seed
        Of the resampling.
    params_convention
        What N counts (`isoflop.flops.ParamsConvention`): picked from the table where it tells several, else what its
        `params` is declared to be. It is stored with the law.

    Raises
    ------
    InputError
        If a column is missing or holds text, the table is empty or mixes simulated points with real ones, or an option
        is out of range.
    NoAnswerError
        If fewer than three budgets have an interior minimum, naming each budget and why (unless the table has no
        profiles at all and its surface is sound); or if nothing is left over from which to tell an interval (three
        budgets of three sizes), or the noise swamps the profiles.
    """
    # Here, since who wants one module of this room, as the workers of a rehearsal do, shall not load tables and all.
    from isoflop.fitting.assembly import assemble
    from isoflop.fitting.law import Options
    from isoflop.fitting.minima import Method
    from isoflop.fitting.parabola import FEWEST
    from isoflop.fitting.points import judge

    if minimum not in get_args(Method):
        raise InputError(f"minimum must be one of {', '.join(get_args(Method))}, but got {minimum!r}")
    if window != "all" and window < FEWEST:
        raise InputError(f"window must be at least {FEWEST} sizes or 'all', but got {window!r}")
    if huber_delta is not None and huber_delta != "auto" and not (math.isfinite(huber_delta) and huber_delta > 0):
        raise InputError(f"huber_delta must be 'auto', None or positive, but got {huber_delta!r}")
    if bootstrap < _FEWEST_DRAWS:
        raise InputError(f"bootstrap must be at least {_FEWEST_DRAWS} resamples, but got {bootstrap}")
    if seed < 0:
        raise InputError(f"seed >= 0 must hold, but got {seed}")
    if params_convention not in get_args(ParamsConvention):
        raise InputError(
            f"params_convention must be one of {', '.join(get_args(ParamsConvention))}, but got {params_convention!r}"
        )
    judged = judge(points, params_convention)
    if not len(judged.row):
        reasons = sorted({each.reason for each in judged.excluded})
        raise NoAnswerError(f"no point can be used: all {len(points)} are excluded ({'; '.join(reasons[:3])})")
    options = Options(
        window=None if window == "all" else window,
        bootstrap=bootstrap,
        seed=seed,
        minimum=minimum,
        huber_delta=huber_delta,
        pins=tuple(sorted((pins or {}).items())),
        ties=tuple(sorted(ties)),
    )
    return assemble(points, judged, options)
