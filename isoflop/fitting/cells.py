"""Very large tables, averaged into cells: a budget's runs in equal steps of ln N, and of epochs where data repeat.

A million points say no more of five parameters than a thousand means of a thousand do, so everything that resamples
works on cells where there are more points than `MOST_POINTS`; the law says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.clusters import Clusters, resampled_by
from isoflop.fitting.columns import Floats
from isoflop.fitting.minima import Profile, profiles
from isoflop.fitting.points import Points

#: Points that are fitted one by one.
MOST_POINTS = 20_000
#: Epochs beyond which neighbours are averaged.
MOST_EPOCHS = 16
#: Resamples × cells of the parametric bootstrap of such a table, and the fewest resamples.
_WORK, _FEWEST_DRAWS = 400_000, 100


@dataclass(frozen=True, eq=False)
class Cells:
    """What surfaces are fitted to, shape (n,) each: points, or means of points with the `weights` of their number.

    `stratum` numbers the budget of each; `clusters` are what is resampled whole, None where points are alone.
    """

    params: Floats
    tokens: Floats
    loss: Floats
    weights: Floats
    sigma: Floats | None
    unique_tokens: Floats | None
    stratum: NDArray[np.int64]
    clusters: Clusters | None
    averaged: bool

    def draws(self, wanted: int) -> int:
        """How many of the `wanted` resamples these cells are given."""
        return max(_FEWEST_DRAWS, min(wanted, _WORK // len(self.params))) if self.averaged else wanted


def cells_of(points: Points, every: Sequence[Profile]) -> Cells:
    """The points themselves, or where there are too many the sizes of `every` profile; of each, if data repeat."""
    if len(points.row) <= MOST_POINTS:
        return Cells(
            params=points.params,
            tokens=points.tokens,
            loss=points.loss,
            weights=np.ones(len(points.row)),
            sigma=points.sigma,
            unique_tokens=points.unique_tokens,
            stratum=np.unique(points.budget, return_inverse=True)[1],
            clusters=resampled_by(points.clusters),
            averaged=False,
        )
    unique_tokens = None
    if points.unique_tokens is not None:
        levels, level = _epochs(points.tokens, points.unique_tokens)
        parts = [profiles(points.only(level == each)) for each in range(len(levels))]
        every = [profile for part in parts for profile in part]
        epochs = np.repeat(levels, [sum(len(profile.runs) for profile in part) for part in parts])
        unique_tokens = np.exp(np.concatenate([each.log_tokens for each in every])) / epochs
    return Cells(
        params=np.exp(np.concatenate([each.log_params for each in every])),
        tokens=np.exp(np.concatenate([each.log_tokens for each in every])),
        loss=np.exp(np.concatenate([each.log_loss for each in every])),
        weights=np.concatenate([each.runs for each in every]),
        sigma=None,
        unique_tokens=unique_tokens,
        stratum=np.repeat(
            np.searchsorted(points.budgets, [each.budget for each in every]), [len(each.runs) for each in every]
        ),
        clusters=None,
        averaged=True,
    )


def _epochs(tokens: Floats, unique_tokens: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """How often data are seen: the levels, 1 at the least, and which of them each point has, shape (n,).

    Where there are many, equal steps of ln(D/U), each with its mean.
    """
    again = np.maximum(np.log(tokens / unique_tokens), 0.0)
    distinct, level = np.unique(np.round(again, 6), return_inverse=True)
    if len(distinct) > MOST_EPOCHS:
        steps = np.minimum(again / (again.max() / MOST_EPOCHS), MOST_EPOCHS - 1).astype(np.int64)
        level = np.unique(steps, return_inverse=True)[1]
    return np.exp(np.bincount(level, again) / np.bincount(level)), level.astype(np.int64)
