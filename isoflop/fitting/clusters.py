"""Which points share their noise, and so are resampled together.

Runs of one seed see the same data in the same order, branches of a trunk are one model up to where they part, rows of
one run are one model throughout. These nest: a run has one trunk, a trunk one seed. By the convention of
cluster-robust inference errors are clustered at the coarsest level at which they are shared, short of having too few
clusters: a bootstrap over a handful is far too narrow. What counts is how many there are in effect, (Σn)²/Σn² of
their sizes n: one seed for all points is one cluster however many others a single point has.

Sources: Cameron & Miller 2015, J. Human Resources 50(2), sections IV.A and VI; Carter, Schnepel & Steigerwald 2017,
Rev. Econ. Stat. 99(4), on the effective number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.columns import texts

if TYPE_CHECKING:
    import pandas as pd

#: What points may share, the coarsest first.
Column = Literal["seed", "trunk", "run"]
COLUMNS: tuple[Column, ...] = ("seed", "trunk", "run")
#: With fewer clusters in effect than this, resampling them whole says too little.
FEWEST_CLUSTERS = 8


@dataclass(frozen=True)
class Clustering:
    """The column by whose values points were resampled together, and how many values they have."""

    column: Column
    number: int


@dataclass(frozen=True, eq=False)
class Clusters:
    """Points that share a value of `column`: a number for each point's, shape (n,), counted from 0."""

    column: Column
    label: NDArray[np.int64]

    @property
    def number(self) -> int:
        """How many clusters there are."""
        return len(np.unique(self.label))

    @property
    def effective(self) -> float:
        """How many clusters of equal size would say as much: (Σn)²/Σn²."""
        sizes = np.unique(self.label, return_counts=True)[1].astype(np.float64)
        return float(sizes.sum() ** 2 / (sizes**2).sum())

    @property
    def enough(self) -> bool:
        """Whether they are enough to be resampled whole."""
        return self.effective >= FEWEST_CLUSTERS

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Clusters:
        """Those of some of the points."""
        return replace(self, label=self.label[chosen])


def clusters_of(table: pd.DataFrame, row: NDArray[np.int64]) -> tuple[Clusters, ...]:
    """Every column by which some of the used rows, shape (n,), share their noise, the coarsest first."""
    import pandas as pd  # late: it takes longer to import than all else that reading a law needs

    found = []
    for column in COLUMNS:
        told = texts(table, column)
        if told is None:
            continue
        labels = pd.Series(told[row])
        # A row without a label shares its noise with none.
        named = labels.where(labels.notna(), [f"\0{place}" for place in row])
        clusters = Clusters(column, pd.factorize(named)[0].astype(np.int64))
        if clusters.number < len(row):
            found.append(clusters)
    return tuple(found)


def resampled_by(candidates: Sequence[Clusters]) -> Clusters | None:
    """The coarsest of the `candidates` that has clusters enough; None where points are to be resampled alone."""
    return next((each for each in candidates if each.enough), None)
