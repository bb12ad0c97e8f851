"""The model of a request: its budget and what else is given, and the size that follows, before it meets a ladder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isoflop.errors import InputError
from isoflop.recommendation.optima import REPETITION, Repeated, size_that_costs
from isoflop.recommendation.resources import positive
from isoflop.recommendation.source import Place, Profile, Source

#: Compute, size and tokens that are given together must agree to this.
_AGREE = 0.01


@dataclass(frozen=True)
class Serving:
    """What a model costs over its life, FLOPs; the alternative is the optimum of the training budget alone.

    `saved` is the part of the alternative's lifetime FLOPs that the recommended model saves at the same loss.
    """

    tokens_served: float
    training_flops: float
    lifetime_flops: float
    saved: float


@dataclass(frozen=True)
class Request:
    """What was asked for: the budget, the size where that is fixed, and whether tokens fixed the one or the other."""

    flops: float
    size: float | None
    by_tokens: bool


def resolve(
    source: Source,
    flops: float | None,
    params: float | None,
    tokens: float | None,
    unique_tokens: float | None,
    tokens_served: float | None,
) -> Request:
    """The budget and the fixed size that follow from what was given."""
    given = {"flops": flops, "params": params, "tokens": tokens}
    for name, value in {**given, "unique_tokens": unique_tokens, "tokens_served": tokens_served}.items():
        if value is not None:
            positive(name, value)
    if tokens_served is not None and (flops is None or params is not None or tokens is not None):
        others = ", ".join(name for name, value in given.items() if value is not None) or "neither"
        raise InputError(f"tokens_served must go with flops alone, because it picks size and tokens, but got {others}")
    if flops is None and params is None and tokens is None:
        if unique_tokens is None:
            raise InputError("one of flops, params, tokens and unique_tokens must be given, but got none")
        tokens = unique_tokens
    if params is not None and tokens is not None:
        cost = source.cost.flops(params, tokens)
        if flops is not None and abs(cost / flops - 1) > _AGREE:
            raise InputError(
                f"params and tokens must cost flops where all three are given, but {params:.3g} parameters on "
                f"{tokens:.3g} tokens cost {cost:.3g} FLOPs under the law {source.name}, and got {flops:.3g}"
            )
        return Request(flops or cost, params, by_tokens=False)
    if params is not None:
        return Request(flops or source.budget_of("params", params), params, by_tokens=False)
    if tokens is not None and flops is not None:
        return Request(flops, size_that_costs(source.cost, flops, tokens), by_tokens=True)
    if tokens is not None:
        budget = source.budget_of("tokens", tokens)
        repeats = unique_tokens is not None and unique_tokens < tokens
        return Request(budget, size_that_costs(source.cost, budget, tokens) if repeats else None, by_tokens=True)
    assert flops is not None  # noqa: S101 - the last of the cases
    return Request(flops, None, by_tokens=False)


@dataclass(frozen=True, eq=False)
class Model:
    """The model of a request.

    `size` is its N, `best` the N of the least loss, `spent` its training FLOPs, `loss_ratio` its loss over that of
    the law's optimum without repetition, `profile` ln L about it, `repeated` the surface it was found on (None: the law
    has none), `scarce` whether the unique tokens run out, at `size` or at the optimum.
    """

    size: float
    best: float
    spent: float
    loss_ratio: float
    profile: Profile
    repeated: Repeated | None
    scarce: bool
    serving: Serving | None

    def worth(self, tokens: float) -> float:
        """Fresh tokens that `tokens` are worth."""
        return tokens if self.repeated is None else float(self.repeated.worth(np.array([tokens]))[0])


def choose(
    source: Source, place: Place, asked: Request, unique_tokens: float | None, tokens_served: float | None
) -> Model:
    """The model: the law's optimum, the size that was given, or the optimum under scarce data or with serving.

    Raises
    ------
    NoAnswerError
        If the law has no surface where one is needed, or no model reaches the loss.
    """
    best = place.params.value
    size, flops = asked.size or best, asked.flops
    unique = math.inf if unique_tokens is None else unique_tokens
    scarce = max(source.cost.tokens(size, flops), place.tokens.value) > unique * (1 + 1e-9)
    if not scarce and tokens_served is None:
        profile = source.profile(flops)
        ratio = 1.0 if asked.size is None else math.exp(at(profile, size) - at(profile, best))
        own = Repeated(source.surface, source.cost) if source.surface is not None else None
        return Model(size, best, flops, ratio, profile, own, scarce, None)
    surface = source.needed_surface()
    fresh = Repeated(surface, source.cost)
    repeated = Repeated(surface, source.cost, unique, source.repetition or REPETITION)
    if scarce:
        best = repeated.optimum(flops, float(surface.optimum(np.array([flops]), source.cost).params[0, 0]))
        size = asked.size or best
    spent, serving = flops, None
    if tokens_served is not None:
        size, spent, serving = _serve(repeated, size, flops, tokens_served)
    before = math.exp(at(lambda x: fresh.log_loss(x, flops), place.params.value))
    after = math.exp(at(lambda x: repeated.log_loss(x, spent), size))
    return Model(size, best, spent, after / before, lambda x: repeated.log_loss(x, spent), repeated, scarce, serving)


def _serve(repeated: Repeated, size: float, flops: float, served: float) -> tuple[float, float, Serving]:
    """The size with the least FLOPs over its life, its training FLOPs, and what that saves."""
    loss = math.exp(at(lambda x: repeated.log_loss(x, flops), size))
    chosen = repeated.serving(loss, served, size)
    log_size = np.log([chosen])
    spent = repeated.cost.flops(chosen, float(repeated.tokens_for(log_size, loss)[0]))
    lifetime = float(repeated.lifetime(log_size, loss, served)[0])
    alternative = float(repeated.lifetime(np.log([size]), loss, served)[0])
    return chosen, spent, Serving(served, spent, lifetime, 1 - lifetime / alternative)


def at(profile: Profile, params: float) -> float:
    """`profile` at `params` parameters."""
    return float(profile(np.log([params]))[0])
