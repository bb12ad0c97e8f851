"""Differences between runs that share a seed, and several of them at once.

Runs of one seed begin with the same weights, so what the seed does to both leaves their difference. With few seeds the
t distribution is wide, as it should be: 12.7 standard errors to a side for two, 4.3 for three, 2.8 for five.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from isoflop.fitting.intervals import LEVEL, High, Low, t_quantile

#: Of an adjusted p below this a difference is certain.
CERTAIN = round(1 - LEVEL, 12)

Verdict = Literal["worse", "better", "not told apart", "one seed"]


@dataclass(frozen=True)
class Difference:
    """The mean difference of paired losses.

    Parameters
    ----------
    value
        Its mean over seeds, in the loss's unit; positive is worse.
    low, high
        The 95 % interval of this difference alone (Student's t); infinite with one seed.
    p
        Two-sided, of no difference; 1 with one seed.
    adjusted
        The same among all comparisons of its family (Holm 1979): what the verdict goes by.
    seeds
        How many pairs.
    """

    value: float
    low: Low
    high: High
    p: float
    adjusted: float
    seeds: int

    @property
    def verdict(self) -> Verdict:
        """Whether it is certain, and which way."""
        if self.seeds < 2:
            return "one seed"
        if self.adjusted >= CERTAIN:
            return "not told apart"
        return "worse" if self.value > 0 else "better"


def difference(losses: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Of `losses` less those of `baseline`, by seed; None where they share no seed."""
    pairs = np.array([losses[seed] - baseline[seed] for seed in losses if seed in baseline])
    if not len(pairs):
        return None
    value = float(pairs.mean())
    if len(pairs) == 1:
        return Difference(value, -math.inf, math.inf, 1.0, 1.0, 1)
    error = float(pairs.std(ddof=1)) / math.sqrt(len(pairs))
    half = t_quantile(len(pairs) - 1) * error
    p = _two_sided(value / error, len(pairs) - 1) if error > 0 else float(value == 0)
    return Difference(value, value - half, value + half, p, p, len(pairs))


def adjusted(family: Sequence[Difference]) -> list[Difference]:
    """`family` with each p adjusted for all of it, by Holm's step-down method; one seed tells nothing and counts not.

    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scand. J. Statist. 6, 65-70.
    """
    tested = sorted((number for number, each in enumerate(family) if each.seeds > 1), key=lambda i: family[i].p)
    found, highest = list(family), 0.0
    for rank, number in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * family[number].p))
        found[number] = replace(family[number], adjusted=highest)
    return found


def _two_sided(t: float, freedom: int) -> float:
    from scipy.special import stdtr  # late, as in intervals

    return 2 * float(stdtr(freedom, -abs(t)))
