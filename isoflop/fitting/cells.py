"""Very large tables, averaged into cells: a budget's runs in equal steps of ln N.

A million points say no more of five parameters than a thousand means of a thousand do, so everything that resamples
works on cells where there are more points than `MOST_POINTS`; the law says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isoflop.fitting.columns import Floats
from isoflop.fitting.minima import Profile
from isoflop.fitting.points import Points

#: Points that are fitted one by one.
MOST_POINTS = 20_000
#: Resamples × cells of the parametric bootstrap of such a table, and the fewest resamples.
_WORK, _FEWEST_DRAWS = 400_000, 100


@dataclass(frozen=True, eq=False)
class Cells:
    """What surfaces are fitted to, shape (n,) each: points, or means of points with the `weights` of their number.

    `stratum` numbers the budget of each, `row` is its place in the table (of the points that are not averaged).
    """

    params: Floats
    tokens: Floats
    loss: Floats
    weights: Floats
    sigma: Floats | None
    unique_tokens: Floats | None
    stratum: np.ndarray[tuple[int], np.dtype[np.int64]]
    cluster: np.ndarray[tuple[int], np.dtype[np.int64]] | None
    averaged: bool

    def draws(self, wanted: int) -> int:
        """How many of the `wanted` resamples these cells are given."""
        return max(_FEWEST_DRAWS, min(wanted, _WORK // len(self.params))) if self.averaged else wanted


def cells_of(points: Points, profiles: tuple[Profile, ...]) -> Cells:
    """The points themselves, or the sizes of their profiles where there are too many."""
    if len(points.row) <= MOST_POINTS:
        return Cells(
            params=points.params,
            tokens=points.tokens,
            loss=points.loss,
            weights=np.ones(len(points.row)),
            sigma=points.sigma,
            unique_tokens=points.unique_tokens,
            stratum=np.unique(points.budget, return_inverse=True)[1],
            cluster=points.cluster,
            averaged=False,
        )
    return Cells(
        params=np.exp(np.concatenate([each.log_params for each in profiles])),
        tokens=np.exp(np.concatenate([each.log_tokens for each in profiles])),
        loss=np.exp(np.concatenate([each.log_loss for each in profiles])),
        weights=np.concatenate([each.runs for each in profiles]),
        sigma=None,
        unique_tokens=None,
        stratum=np.repeat(np.arange(len(profiles)), [len(each.runs) for each in profiles]),
        cluster=None,
        averaged=True,
    )
