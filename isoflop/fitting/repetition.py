"""What repeated data are worth: tokens seen again count less and less.

U unique tokens seen for D/U epochs are worth D' = U + U·R*·(1 − exp(−(D/U − 1)/R*)) fresh ones: almost D while the
repetitions are few beside R*, and never more than U·(1 + R*). The surface is fitted in D' and R* with it, by profile:
for each R* the surface has its best fit, and R* is where that is best of all.

Source: Muennighoff et al. 2023 (arXiv 2305.16264), equation 5; their R*_D is 15.4. Their matching form for excess
parameters is left out: it needs the optimal size of each data set, which is what a study is to find.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.intervals import High, Low
from isoflop.fitting.parametric import objective_noise, report
from isoflop.fitting.parametric_search import Delta, Search, SearchOptions, search
from isoflop.fitting.points import Floats
from isoflop.fitting.surface import Surface
from isoflop.fitting.surface_newton import descend
from isoflop.fitting.surface_objective import constrain, penalise, pose

#: R* lies between these, is looked for on this many values, and settled to this (of ln R*).
_LEAST, _MOST, _TRIED, _CLOSE = 0.05, 2000.0, 25, 1e-8
#: δ and R* depend on each other: rounds until R* moves by less (of ln R*).
_ROUNDS, _SETTLED = 6, 1e-4
#: Half the 95 % point of χ² with one degree of freedom, and halvings to find where the profile crosses it.
_RISE, _HALVINGS = 3.841458820694124 / 2, 20


@dataclass(frozen=True)
class Repetition:
    """R* with its 95 % interval by profile, and the surface (in effective tokens) that goes with it.

    An infinite high end: repeated tokens may be worth as much as new ones, for all that the points say; a low end of
    0: they may be worth nothing.
    """

    value: float
    low: Low
    high: High
    surface: Surface
    found: Search


def effective_tokens(tokens: Floats, unique_tokens: Floats, repetition: float) -> Floats:
    """Fresh tokens that are worth `tokens` drawn from `unique_tokens`; where none is seen twice, `tokens`.

    Raises
    ------
    InputError
        Unless R*, `repetition`, is positive.
    """
    if not repetition > 0:
        raise InputError(f"repetition must be positive, but got {repetition}")
    unique = np.minimum(tokens, unique_tokens)
    again = np.maximum(tokens / unique - 1, 0.0)
    worth: Floats = unique * (1 - repetition * np.expm1(-again / repetition))
    return worth


def tokens_worth(tokens: Floats, unique_tokens: Floats | None, repetition: float | None) -> Floats:
    """The tokens that a surface was fitted in: effective ones where it has an R* and points tell `unique_tokens`."""
    if repetition is None or unique_tokens is None:
        return tokens
    return effective_tokens(tokens, unique_tokens, repetition)


def fit_repetition(
    params: Floats,
    tokens: Floats,
    unique_tokens: Floats,
    loss: Floats,
    **options: Unpack[SearchOptions],
) -> Repetition:
    """Fit surface and R* together.

    Parameters
    ----------
    params, tokens, unique_tokens, loss : shape (n,)
        N, D (all tokens seen), U and loss.
    options
        As those of the search for a surface.

    Raises
    ------
    InputError
        If an array or an option is wrong.
    NoAnswerError
        If no run sees a token twice, or there are too few points.
    """
    tokens, unique_tokens = np.asarray(tokens, dtype=np.float64), np.asarray(unique_tokens, dtype=np.float64)
    if tokens.shape != unique_tokens.shape or not (np.isfinite(unique_tokens) & (unique_tokens > 0)).all():
        raise InputError("unique_tokens must be positive and finite, one for each of the tokens")
    if not (tokens > unique_tokens).any():
        raise NoAnswerError("no run sees a token twice, so the points say nothing about repetition: fit without it")
    sigma, priors = options.get("sigma"), options.get("priors") or {}

    def searched(at: float, with_delta: Delta) -> Search:
        worth = effective_tokens(tokens, unique_tokens, math.exp(at))
        return search(params, worth, loss, **(options | {"delta": with_delta}))

    def refitted(found: Search) -> Callable[[float], float]:
        natural = found.problem.to_natural(found.minima.theta[:1])
        loss_of = np.asarray(loss, dtype=np.float64)[found.order]
        sigma_of = None if sigma is None else np.asarray(sigma, dtype=np.float64)[found.order]
        params_of = np.asarray(params, dtype=np.float64)[found.order]

        def objective(at: float) -> float:
            worth = effective_tokens(tokens[found.order], unique_tokens[found.order], math.exp(at))
            problem = pose(params_of, worth, loss_of, sigma_of, found.problem.log)
            freedom = constrain(problem, dict(found.pins), found.ties)
            penalty = penalise(problem, priors, found.noise)
            ended = descend(problem, freedom, problem.from_natural(natural), found.weights, found.delta, penalty)
            return float(ended.value[0])

        return objective

    low, high = math.log(_LEAST), math.log(_MOST)
    at = math.log(15.4)
    found = searched(at, options.get("delta", "auto"))
    profile = refitted(found)
    values = np.linspace(low, high, _TRIED)
    at = float(values[int(np.argmin([profile(float(value)) for value in values]))])
    step = (high - low) / (_TRIED - 1)
    for _ in range(_ROUNDS):
        found = searched(at, options.get("delta", "auto"))
        before, at = at, _minimum(refitted(found), max(low, at - step), min(high, at + step))
        if abs(at - before) < _SETTLED:
            break
    found = searched(at, found.delta * found.problem.residual_unit if math.isfinite(found.delta) else None)
    profile = refitted(found)
    limit = float(found.minima.value[0]) + _RISE * objective_noise(found)
    ends = [_crossing(profile, limit, at, end) for end in (low, high)]
    return Repetition(
        value=math.exp(at),
        low=0.0 if ends[0] is None else math.exp(ends[0]),
        high=math.inf if ends[1] is None else math.exp(ends[1]),
        surface=replace(report(found), repetition=math.exp(at)),
        found=found,
    )


def _minimum(profile: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import minimize_scalar  # late: scipy.optimize doubles this package's import time

    return float(minimize_scalar(profile, bounds=(low, high), method="bounded", options={"xatol": _CLOSE}).x)


def _crossing(profile: Callable[[float], float], limit: float, inside: float, end: float) -> float | None:
    """Where the profile passes `limit` between `inside` and `end`; None if not even there."""
    if profile(end) <= limit:
        return None
    outside = end
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if profile(middle) <= limit:
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2
