"""Recipes: the rules, what a study changes in them, and what they cannot build."""

from __future__ import annotations

import math

import pytest

from isoflop.errors import InputError
from isoflop.flops import Listed, Shape
from isoflop.planning import recipes
from isoflop.planning.recipe import Walk
from isoflop.study import Model
from isoflop.study_recipe import RecipeChoice

SODA = Model(sequence_length=4096, tied_head=False)


def named(base, **changes):
    return recipes.named(RecipeChoice(base=base, **changes))


def test_the_walk_is_fine_below_a_budget_and_coarse_above():
    walk = Walk(start=128, stop=2048, step=128, coarse_step=256, coarse_above=2.7e19)
    assert list(walk.widths(2.7e19))[:3] == [128, 256, 384]
    assert list(walk.widths(3e19))[-2:] == [1664, 1920]


def test_batches_are_constant_powers_of_two_or_smooth():
    assert named("tiny").batch_size(128, 1e11, 1e6) == 2
    marin = named("marin-2025")
    assert [marin.batch_size(4096, 0, tokens) for tokens in (1e6, 4096 * 2**16, 4097 * 2**16)] == [1, 1, 2]
    smooth = named("marin-2025", tokens_per_step=36_864, batch_budget=3e18, batch_exponent=0.58)
    assert [smooth.batch_size(4096, budget, 0) for budget in (3e18, 9e18, 3e20)] == [9, 17, 130]
    with pytest.raises(InputError, match="must be a multiple of sequence_length, but got 256 and 100"):
        named("tiny").batch_size(100, 1e11, 1e6)


def test_rates_go_by_width_and_batch_or_are_given():
    shape = named("marin-2025").shape(768, 144_644, SODA)
    assert named("marin-2025").peak_rate(shape, 32, 1e9) == pytest.approx(0.33 * math.sqrt(32) / 768)
    assert named("marin-2025", learning_rate=1e-3).peak_rate(shape, 32, 1e9) == 1e-3


def test_under_mup_the_rate_is_that_of_the_base_width_and_models_widen_by_heads():
    recipe = named("marin-2025", mup_width=256)
    rates = [recipe.peak_rate(recipe.shape(width, 144_644, SODA), 32, 1e9) for width in (256, 768)]
    assert rates == [named("marin-2025").peak_rate(recipe.shape(256, 144_644, SODA), 32, 1e9)] * 2
    with pytest.raises(InputError, match=r"head_size must be given where mup_width is .*, but got heads 2"):
        named("tiny", mup_width=32)
    assert named("tiny", mup_width=32, head_size=16).shape(64, 247, Model()).n_heads == 4


def test_beta2_forgets_after_the_same_tokens():
    marin = named("marin-2025")
    assert marin.second_moment(128) == 0.98
    assert marin.second_moment(32) == pytest.approx(0.98**0.25)
    assert named("marin-2025", beta2_batch=0).second_moment(32) == 0.98


def test_warmup_and_decay_are_absolute_fractional_or_the_whole_run():
    assert (named("tiny").warmup(10), named("tiny").decay_steps(1000)) == (32, 200)
    marin = named("marin-2025")
    assert (marin.warmup(5000), marin.decay_steps(5000)) == (500, 1000)
    assert named("marin-2025", warmup_steps=70).warmup(5000) == 70
    chinchilla = named("chinchilla")
    assert (chinchilla.warmup(5000), chinchilla.decay_steps(5000), chinchilla.decay_steps(100)) == (1500, 3500, 0)


def test_heads_are_halved_until_wide_enough_or_follow_their_size():
    assert [named("tiny").shape(width, 247, Model()).n_heads for width in (8, 28, 32)] == [1, 1, 2]
    shape = named("marin-2025", head_size=64).shape(320, 144_644, SODA)
    assert (shape.n_heads, shape.head_size) == (5, 64)
    assert named("marin-2025", heads=4).shape(512, 144_644, SODA).head_size == 128


def test_a_ladder_of_the_study_s_own():
    rows = [
        {"n_layers": 2, "d_model": 64, "n_heads": 4, "n_kv_heads": 2, "head_size": 32, "d_mlp": 200},
        {"name": "big", "params": 10**7, "flops_per_token": 6.5e7, "d_model": 256, "non_embedding": 9 * 10**6},
        {"name": "images", "params": 2 * 10**7, "flops_per_sample": 1e11, "learning_rate": 1e-4},
    ]
    recipe = named("tiny", ladder=rows, mlp="plain")
    shape, big, images = recipe.every_shape(100, Model(sequence_length=32))
    assert shape == Shape(2, 64, 4, 2, 32, 200, 100, 32, tied_head=True, mlp="plain")
    assert big == Listed("big", 10**7, 6.5e7, 100, 32, 9 * 10**6, 256)
    assert images.sequence_length == 1
    assert recipe.peak_rate(images, 2, 1e9) == 1e-4
    assert recipe.peak_rate(big, 2, 1e9) == pytest.approx(0.2 / 256)
    no_rate = named("tiny", ladder=[{"name": "x", "params": 5, "flops_per_token": 30}])
    with pytest.raises(InputError, match="without d_model must have a learning_rate, but 'x' has none"):
        no_rate.peak_rate(no_rate.every_shape(10, Model())[0], 1, 1e9)


def test_a_row_that_cannot_be_built_is_named():
    rows = [{"n_layers": 1, "d_model": 64, "n_heads": 4}, {"name": "b", "n_layers": 1, "d_model": 64, "n_heads": 3}]
    with pytest.raises(InputError, match=r"recipe\.ladder\.1 \(b\): heads must divide d_model, but got 3 and 64"):
        named("tiny", ladder=rows).every_shape(10, Model())


def test_what_cannot_be_built_is_refused():
    with pytest.raises(InputError, match=r"multiple of 4 \(2 heads of even size\), but got 34"):
        named("tiny").shape(34, 247, Model())
    with pytest.raises(InputError, match="the depth rule gives none at d_model 32"):
        named("marin-2025").shape(32, 247, SODA)
    uneven = named("tiny", ladder=[{"n_layers": 1, "d_model": 65, "n_heads": 2}])
    with pytest.raises(InputError, match="heads must divide d_model, but got 2 and 65"):
        uneven.every_shape(100, Model())
    with pytest.raises(InputError, match="'marin'; did you mean 'marin-2025'"):
        named("marin")


def test_every_width_of_the_ladder_can_be_built():
    widths = [shape.d_model for shape in named("marin-2025", width_step=32, head_size=32).every_shape(1000, SODA)]
    assert widths[0] == 64
    assert widths[-1] == 8192


def test_tuned_rates_go_by_width_and_tokens_besides():
    tuned = {"rate_width": 64, "rate_width_exponent": -0.25, "rate_tokens": 1e9, "rate_tokens_exponent": -0.1}
    recipe, plain = named("tiny", **tuned), named("tiny")
    shape = recipe.shape(128, 256, Model())
    expected = plain.peak_rate(shape, 2, 1e9) * 2**-0.25
    assert recipe.peak_rate(shape, 2, 1e9) == pytest.approx(expected)
    assert recipe.peak_rate(shape, 2, 1e10) == pytest.approx(expected * 10**-0.1)
    one = named("tiny", learning_rate=1e-3, **tuned)
    assert one.peak_rate(shape, 2, 1e9) == pytest.approx(1e-3 * 2**-0.25)
