"""Laws of known truth, made of nothing but their five numbers."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.fitting.cost import CostModel, six_nd
from isoflop.fitting.surface import Surfaces
from isoflop.recommendation.source import Source


@pytest.fixture
def make_source():
    def make(values: tuple[float, ...], cost: CostModel | None = None, **options: object) -> Source:
        return Source(
            name="made",
            origin="a test",
            cost=cost or six_nd(1e6, 1e12),
            params_convention="total",
            flops_convention="6nd" if cost is None else "counted",
            budgets=(1e18, 1e21),
            surface=Surfaces(*(np.array([value]) for value in values)),
            **options,
        )

    return make


@pytest.fixture
def random_laws():
    """E, A, B, α, β about the published ones."""

    def draw(count: int, seed: int = 0) -> list[tuple[float, ...]]:
        generator = np.random.default_rng(seed)
        return [
            (
                generator.uniform(0.5, 3.5),
                float(np.exp(generator.uniform(np.log(10), np.log(3e5)))),
                float(np.exp(generator.uniform(np.log(10), np.log(3e5)))),
                generator.uniform(0.2, 0.8),
                generator.uniform(0.2, 0.8),
            )
            for _ in range(count)
        ]

    return draw
