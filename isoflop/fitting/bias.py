"""The method's own bias: the fitted surface, pushed through the same grid without noise, and its minima found again.

A parabola over an asymmetric profile puts N* in the wrong place, and a grid that drifts off centre turns that into a
wrong exponent. On a surface whose optimum is known the error can be read off, run by run of the very grid that was
trained; taken off the minima it leaves what the method would have found without it, so far as the surface holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from isoflop.fitting.cost import CostModel
from isoflop.fitting.minima import Method, Minimum, Profile, find_minimum
from isoflop.fitting.powerlaw import fit_lines
from isoflop.fitting.surface import Surface


@dataclass(frozen=True)
class Bias:
    """What a method gets wrong on a surface whose optimum is known.

    Parameters
    ----------
    a, b
        What it adds to the exponents.
    log_params
        What it adds to ln N*, by interior budget, ascending; None where it finds no minimum without noise.
    """

    a: float
    b: float
    log_params: tuple[float | None, ...]


def predict_bias(
    surface: Surface, cost: CostModel, profiles: Sequence[Profile], window: int, method: Method
) -> Bias | None:
    """The bias of `method` on `surface` over the sizes of the `profiles`; None where fewer than two minima are left."""
    moves: list[float | None] = []
    rows = []
    for profile in profiles:
        losses = surface.at(np.exp(profile.log_params), np.exp(profile.log_tokens))
        found = find_minimum(replace(profile, log_loss=np.log(losses)), window, method)
        params, tokens, _ = surface.optimum(profile.flops, cost)
        if found.params is None or found.tokens is None:
            moves.append(None)
            continue
        moves.append(math.log(found.params / params))
        rows.append((math.log(profile.flops), moves[-1], math.log(found.tokens / tokens)))
    if len(rows) < 2:
        return None
    x, params_off, tokens_off = np.array(rows).T
    slopes = fit_lines(x, np.stack([params_off, tokens_off]), np.ones((2, len(x)), dtype=bool)).slope
    return Bias(float(slopes[0]), float(slopes[1]), tuple(moves))


def corrected(minima: Sequence[Minimum], bias: Bias | None) -> tuple[Minimum, ...]:
    """The minima with the N* that is left when the `bias` of the interior ones is taken off."""
    if bias is None:
        return tuple(minima)
    moves = iter(bias.log_params)
    found = []
    for minimum in minima:
        move = next(moves) if minimum.params is not None else None
        if move is not None and minimum.params is not None:
            minimum = replace(minimum, params_corrected=minimum.params * math.exp(-move))
        found.append(minimum)
    return tuple(found)
