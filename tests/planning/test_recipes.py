"""The named recipes against what their authors published."""

from __future__ import annotations

import pytest

from isoflop.errors import InputError
from isoflop.planning.recipes import RECIPES, named, published_ladder
from isoflop.study import Model
from isoflop.study_recipe import RecipeChoice


def test_chinchilla_s_sizes_are_those_of_its_table():
    """Their count holds d·h·hd more a block, for relative positions; with it every row is within 1.2 %."""
    shapes = RECIPES["chinchilla"].every_shape(32_000, Model(sequence_length=2048))
    rows = published_ladder("chinchilla")
    assert len(rows) == 50
    for row, shape in zip(rows, shapes, strict=True):
        positions = shape.n_layers * shape.d_model * shape.n_heads * shape.head_size
        assert (shape.parameters.total + positions) / 1e6 == pytest.approx(float(row.name[:-1]), rel=0.012)


def test_soda_s_suite_is_a_ladder_by_name():
    """Named by what is not the head, to 4 %; the largest costs 1.57e22 FLOPs for its 500 B tokens."""
    recipe = named(RecipeChoice(base="marin-2025", published_ladder="soda-suite"))
    shapes = recipe.every_shape(144_644, Model(sequence_length=4096, tied_head=False))
    params = [shape.parameters.total - shape.parameters.head for shape in shapes]
    assert params == [pytest.approx(named, rel=0.04) for named in (135e6, 600e6, 1.7e9, 4e9)]
    assert [shape.d_model for shape in shapes] == [512, 1024, 2048, 2560]
    assert shapes[-1].training_flops(500e9) == pytest.approx(1.57e22, rel=0.005)
    assert shapes[-1].training_flops(500e9, "levanter") == pytest.approx(1.3e22, rel=0.02)
    with pytest.raises(InputError, match="one of chinchilla, soda-suite, but got 'soda'"):
        published_ladder("soda")


@pytest.mark.parametrize(("width", "layers"), [(128, 2), (256, 3), (768, 8), (2048, 20), (3072, 30)])
def test_marin_s_depths(width, layers):
    shape = RECIPES["marin-2025"].shape(width, 144_644, Model(sequence_length=4096, tied_head=False))
    assert (shape.n_layers, shape.n_heads, shape.d_mlp) == (layers, width // 128, 4 * width)


def test_names_are_the_keys():
    assert all(recipe.name == name for name, recipe in RECIPES.items())
