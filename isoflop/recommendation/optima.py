"""Optima that a budget alone does not give: with few unique tokens, with tokens to serve; and what lies beside one.

Each is a minimum over ln N of something cheap in arrays, found on a grid that is refined about its best place.

Repeated data (Muennighoff et al. 2023, arXiv 2305.16264, equation 5): L(N, D') with D' the fresh tokens that D tokens
drawn from U are worth (`isoflop.fitting.repetition`), at fixed C. Their matching form for excess parameters is left
out, so a size that takes the place of data which are not there is an upper bound.

Serving (Sardana et al. 2024, arXiv 2401.00448, equation 2): of all models with the loss of the optimum of C, the one
with the least FLOPs over its life, C(N, D) + f(N)·T for T tokens served, f = C/3D; smaller, and trained on more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.columns import Floats
from isoflop.fitting.cost import CostModel
from isoflop.fitting.repetition import effective_tokens
from isoflop.fitting.surface import Surfaces
from isoflop.flops import TRAINING_OVER_FORWARD

#: R* where the law has none of its own: Muennighoff et al.'s, fitted to text.
REPETITION = 15.4
#: Places of a grid, and how often it is refined: to 1e-14 of its width.
_PLACES, _ROUNDS = 257, 7
#: Sizes are looked for this far about an optimum, in ln N, and halvings until an end stands still.
_FAR, _HALVINGS = 40.0, 60
#: Sizes that cost at most so much of the loss are told.
TOLERANCES = (0.001, 0.01)
#: Tokens per parameter, in multiples of the optimum's, whose price is told.
OVERTRAINED = (2.0, 5.0, 20.0)


@dataclass(frozen=True)
class Within:
    """Sizes from `low` to `high` lose at most `tolerance` of the optimal loss at the same C."""

    tolerance: float
    low: float
    high: float


@dataclass(frozen=True)
class Overtrained:
    """A smaller model with `multiple` times the tokens per parameter of the optimum.

    Parameters
    ----------
    multiple
        Of D*/N*.
    params, tokens
        The model that has them at the same C.
    loss_ratio
        Its loss over the optimum's: what over-training costs at the same C.
    flops_ratio
        The training FLOPs with which that size reaches the loss of the optimum, over C; infinite (null in JSON) where
        it never does, None where the law has no surface.
    """

    multiple: float
    params: float
    tokens: float
    loss_ratio: float
    flops_ratio: float | None


@dataclass(frozen=True, eq=False)
class Repeated:
    """L(N, D) of a surface on `unique` tokens (infinite: all are fresh), of which R* = `repetition` counts."""

    surface: Surfaces
    cost: CostModel
    unique: float = math.inf
    repetition: float = REPETITION

    def worth(self, tokens: Floats) -> Floats:
        """Fresh tokens that `tokens` are worth."""
        if math.isinf(self.unique):
            return tokens
        return effective_tokens(tokens, np.full_like(tokens, self.unique), self.repetition)

    def loss(self, params: Floats, tokens: Floats) -> Floats:
        """Loss of models of `params` parameters on `tokens` tokens, (n,) each → (n,)."""
        loss: Floats = self.surface.at(params, self.worth(tokens))[0]
        return loss

    def log_loss(self, log_params: Floats, flops: float) -> Floats:
        """Give ln L along the models that cost `flops`."""
        sizes = np.exp(log_params)
        found: Floats = np.log(self.loss(sizes, self.cost.tokens(sizes, np.full_like(sizes, flops))))
        return found

    def optimum(self, flops: float, near: float) -> float:
        """N of the least loss at `flops`; `near` is where it would be without repetition."""
        center = math.log(near)
        return math.exp(least(lambda x: self.log_loss(x, flops), center - _FAR / 4, center + _FAR))

    def tokens_for(self, log_params: Floats, loss: float) -> Floats:
        """Tokens that bring models of ln N to `loss`; infinite where none do."""
        value = self.surface
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            gap = loss - value.E[0] - np.exp(np.log(value.A[0]) - value.alpha[0] * log_params)
            fresh = np.where(gap > 0, np.exp((np.log(value.B[0]) - np.log(gap)) / value.beta[0]), np.inf)
            if math.isinf(self.unique):
                return fresh
            left = 1 - (fresh / self.unique - 1) / self.repetition
            again = np.where(left > 0, -self.repetition * np.log(left), np.inf)
            tokens: Floats = np.where(fresh <= self.unique, fresh, self.unique * (1 + again))
        return tokens

    def serving(self, loss: float, served: float, near: float) -> float:
        """N of the least FLOPs over its life among models of that `loss`; `near` has the least in training."""
        center = math.log(near)

        def log_flops(x: Floats) -> Floats:
            found: Floats = np.log(self.lifetime(x, loss, served))
            return found

        return math.exp(least(log_flops, center - _FAR, center + 1.0))

    def lifetime(self, log_params: Floats, loss: float, served: float) -> Floats:
        """FLOPs of training models of ln N to `loss` and of serving `served` tokens by them."""
        per_token = np.exp(self.cost.log_per_token(log_params))
        total: Floats = per_token * (self.tokens_for(log_params, loss) + served / TRAINING_OVER_FORWARD)
        return total


def least(function: Callable[[Floats], Floats], low: float, high: float) -> float:
    """Where `function`, of an array, is least between `low` and `high`.

    Raises
    ------
    NoAnswerError
        If it is nowhere finite.
    """
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _PLACES)
        values = function(grid)
        if not np.isfinite(values).any():
            raise NoAnswerError("no model reaches that loss with the unique tokens there are: give more of them")
        best = int(np.argmin(values))
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _PLACES - 1)])
    return (low + high) / 2


def within(profile: Callable[[Floats], Floats], params: float) -> tuple[Within, ...]:
    """The sizes about the optimum `params` that lose at most each of `TOLERANCES`; `profile` is ln L of ln N."""
    center = math.log(params)
    floor = profile(np.array([center]))[0]
    limits = np.log1p(np.tile(TOLERANCES, 2)) + floor
    inside = np.full(limits.shape, center)
    outside = center + _FAR / 2 * np.repeat([-1.0, 1.0], len(TOLERANCES))
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        below = profile(middle) <= limits
        inside, outside = np.where(below, middle, inside), np.where(below, outside, middle)
    ends = np.exp(inside)
    count = len(TOLERANCES)
    return tuple(
        Within(tolerance, float(ends[place]), float(ends[place + count])) for place, tolerance in enumerate(TOLERANCES)
    )


def overtrained(
    profile: Callable[[Floats], Floats], cost: CostModel, params: float, flops: float, repeated: Repeated | None
) -> tuple[Overtrained, ...]:
    """What `OVERTRAINED` times the tokens per parameter cost; `repeated` tells the way back to the optimum's loss."""
    center = math.log(params)
    multiples = np.array(OVERTRAINED)
    wanted = np.log(multiples) + math.log(cost.tokens(params, flops) / params)
    low, high = np.full(multiples.shape, center - _FAR), np.full(multiples.shape, center)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = math.log(flops) - cost.log_per_token(middle) - middle > wanted
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    places = (low + high) / 2
    sizes = np.exp(places)
    ratios = np.exp(profile(places) - profile(np.array([center])))
    back: Floats | None = None
    if repeated is not None:
        loss = repeated.loss(np.array([params]), np.array([cost.tokens(params, flops)]))[0]
        back = np.exp(cost.log_per_token(places)) * repeated.tokens_for(places, float(loss)) / flops
    tokens = cost.tokens(sizes, np.full_like(sizes, flops))
    return tuple(
        Overtrained(
            multiple=multiple,
            params=float(sizes[place]),
            tokens=float(tokens[place]),
            loss_ratio=float(ratios[place]),
            flops_ratio=None if back is None else float(back[place]),
        )
        for place, multiple in enumerate(OVERTRAINED)
    )


def size_that_costs(cost: CostModel, flops: float, tokens: float) -> float:
    """N of which a model on `tokens` tokens costs `flops`."""
    low, high = 0.0, 80.0
    wanted = math.log(flops / tokens)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if float(cost.log_per_token(middle)) > wanted else (middle, high)
    return math.exp((low + high) / 2)
