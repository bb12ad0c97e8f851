"""The concrete model, its run and its machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isoflop.errors import InputError
from isoflop.planning.hardware import GIB, memory
from isoflop.recommendation import recommend
from isoflop.recommendation.ladder import Ladder
from isoflop.recommendation.resources import Machine

SODA = Ladder.named("marin-2025", 144_644, 4096, tied_head=False)


@pytest.mark.parametrize("flops", [3e18, 9e19, 3e20, 1e22])
def test_the_run_costs_the_budget_by_the_counted_flops(flops):
    found = recommend("soda-surface", flops=flops)
    choice, run = found.shape, found.shape.run
    assert choice.shape.training_flops(run.tokens) == pytest.approx(flops, rel=1e-3)
    assert run.flops == run.counted_flops == pytest.approx(flops, rel=1e-3)
    assert run.tokens == run.steps * run.batch_size * choice.shape.sequence_length
    assert choice.tokens == pytest.approx(run.tokens, rel=1e-3)
    assert 1 <= choice.loss_ratio < 1.001
    assert choice.shape in SODA.shapes


def test_under_6nd_the_run_costs_the_budget_by_the_law_and_says_what_is_counted():
    found = recommend("hoffmann2022", flops=1e21)
    run = found.shape.run
    assert 6 * found.shape.params * run.tokens == pytest.approx(1e21, rel=1e-3)
    assert run.counted_flops == pytest.approx(found.shape.shape.training_flops(run.tokens))
    assert any("The law's C is 6nd; counted" in warning for warning in found.warnings)


def test_a_machine_is_as_large_as_the_model_needs_and_as_long_as_the_flops_take():
    found = recommend("soda-surface", flops=1e22, machine=Machine("h100", mfu=0.4, price=2.0))
    use, shape = found.shape.machine, found.shape.shape
    assert use.gpu_hours == pytest.approx(found.shape.run.counted_flops / (989e12 * 0.4) / 3600)
    assert use.days == pytest.approx(use.gpu_hours / use.gpus / 24)
    assert use.cost == pytest.approx(2 * use.gpu_hours)
    assert use.memory_gib == pytest.approx(memory(shape, 1, "bf16", use.gpus).total / GIB)
    assert use.memory_gib <= use.available_gib
    assert memory(shape, 1, "bf16", use.gpus // 2).total / GIB > use.available_gib
    assert recommend("soda-surface", flops=1e22, machine=Machine("h100", gpus=64)).shape.machine.gpus == 64
    assert "on 64 h100:" in str(recommend("soda-surface", flops=1e22, machine=Machine("h100", gpus=64)))


def test_a_ladder_that_ends_early_binds_and_says_so():
    found = recommend("hoffmann2022", flops=5.76e23)
    assert "off_ladder" in found.statuses
    assert found.binds == "ladder"
    assert any("times smaller than 32.2B parameters" in warning for warning in found.warnings)


def test_a_budget_that_no_shape_can_spend_says_why():
    found = recommend("soda-surface", flops=1e15, ladder=SODA)
    assert found.shape is None
    assert "off_ladder" in found.statuses
    assert any(
        "none of its shapes for 1e15 FLOPs" in warning and "(min_batch)" in warning for warning in found.warnings
    )


def test_a_shape_that_the_recipe_cannot_train_is_named_and_the_next_taken():
    # A small model at a large budget takes more steps than the recipe allows.
    narrow = replace(SODA, recipe=replace(SODA.recipe, max_steps=40_000))
    free, bound = (recommend("soda-surface", flops=3e20, ladder=each) for each in (SODA, narrow))
    assert free.shape.run.steps > 40_000 >= bound.shape.run.steps
    assert bound.shape.refused[0].startswith(free.shape.shape.label)
    assert any("The recipe cannot train nearer shapes: d2176-l21: steps must be at most" in w for w in bound.warnings)


def test_ladders_are_named_rightly():
    with pytest.raises(InputError, match="recipe must be a known one, but got 'marin'"):
        Ladder.named("marin", 256, 128)
    with pytest.raises(InputError, match="vocabulary"):
        Ladder.named("tiny", 0, 128)
