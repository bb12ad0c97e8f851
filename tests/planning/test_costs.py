"""The cost of a ladder: exact laws recovered, real ladders to their own scatter."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.flops import Listed
from isoflop.planning.costs import ladder_cost
from isoflop.planning.recipes import named
from isoflop.study import Model
from isoflop.study_recipe import RecipeChoice


@pytest.mark.parametrize(
    ("base", "vocabulary", "worst"),
    [("marin-2025", 144_644, 0.02), ("chinchilla", 32_000, 0.035), ("tiny", 247, 0.015)],
)
def test_published_ladders_are_met_to_their_own_scatter(base, vocabulary, worst):
    shapes = named(RecipeChoice(base=base)).every_shape(vocabulary, Model(sequence_length=2048))
    cost = ladder_cost(shapes)
    off = [cost.flops(shape.parameters.total, 1.0) / shape.flops_per_token() - 1 for shape in shapes]
    assert max(map(abs, off)) < worst
    assert np.sqrt(np.mean(np.square(off))) < worst / 3


def test_one_size_and_two_are_enough():
    one = ladder_cost([Listed("a", 10**6, 7e6, 10, 1)])
    assert one.flops(1e6, 2.0) == pytest.approx(1.4e7)
    assert one.flops(1e7, 2.0) == pytest.approx(1.4e8)
    two = ladder_cost([Listed("a", 10**6, 7e6, 10, 1), Listed("b", 10**7, 6e7, 10, 1)])
    assert [two.flops(1e6, 1.0), two.flops(1e7, 1.0)] == pytest.approx([7e6, 6e7])


def test_the_convention_is_the_grid_s():
    shapes = named(RecipeChoice(base="marin-2025")).every_shape(144_644, Model(sequence_length=4096))[:20]
    size = shapes[5].parameters.total
    assert ladder_cost(shapes, "6nd").flops(size, 1.0) == pytest.approx(6 * size)
    assert ladder_cost(shapes, attention="causal").flops(size, 1.0) < ladder_cost(shapes).flops(size, 1.0)
