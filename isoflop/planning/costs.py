"""What a ladder's models cost: C(N, D) along the shapes that a study may train.

It is the cost model of a fitted law (`isoflop.fitting.cost`), here over every shape of a ladder.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from isoflop.fitting.cost import CostModel, fit_cost
from isoflop.flops import AnyShape, Attention, FlopsConvention


def ladder_cost(
    shapes: Iterable[AnyShape], convention: FlopsConvention = "counted", attention: Attention = "full"
) -> CostModel:
    """The cost of `shapes` by the named convention."""
    distinct = sorted(set(shapes), key=lambda shape: shape.parameters.total)
    return fit_cost(
        np.array([shape.flops_per_token(convention, attention) for shape in distinct]),
        np.array([shape.parameters.total for shape in distinct], dtype=float),
        np.ones(len(distinct)),
    )
