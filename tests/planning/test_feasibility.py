"""Every way in which a cell can fall out, each with its rule and its value; and how a budget is met."""

from __future__ import annotations

import pytest

from isoflop.errors import InputError
from isoflop.flops import Shape
from isoflop.planning.feasibility import Dropped, Planner
from isoflop.planning.ledger import DataFacts, SourceFacts
from isoflop.planning.recipes import named
from isoflop.planning.runs import Run
from isoflop.study import Study

SODA_MODEL = {"sequence_length": 4096, "tied_head": False}


def planner(recipe="marin-2025", data=None, **sections):
    content = {"name": "x", "model": SODA_MODEL, "recipe": recipe, "grid": {"budgets": [3e18]}, **sections}
    study = Study.parse(content)
    return Planner(study, named(study.recipe), data or DataFacts("soda", 144_644, None))


def made(of, budget, width):
    shape = of.recipe.shape(width, of.data.vocabulary, of.study.model)
    return of.run(budget, shape, 0)


@pytest.mark.parametrize(
    ("sections", "budget", "width", "reason"),
    [
        ({}, 3e18, 1152, "a step must have 8 sequences or more, but the rule gives 4 (min_batch)"),
        ({}, 9e18, 128, "steps must be at most 399,999, but the budget takes 2,164,556 (max_steps)"),
        (
            {"recipe": {"base": "marin-2025", "max_rate": 1e-4}},
            9e18,
            1152,
            "a step must have 8 sequences or more, but the rule gives 4, halved until the rate is at most 0.0001",
        ),
        (
            {"recipe": {"base": "marin-2025", "tokens_per_step": 131_072, "max_rate": 0.001}},
            9e18,
            768,
            "the peak rate must be at most 0.001, but the rule gives 0.00243 (max_rate)",
        ),
        (
            {"recipe": {"base": "marin-2025", "warmup_steps": 40_000}},
            9e18,
            768,
            "steps must exceed warm-up and decay together, but got 48244 steps, 40000 of warm-up and 9649 of decay",
        ),
        ({"recipe": {"base": "tiny", "tokens_per_step": 4096}}, 1e11, 768, "a step must cost no more than the budget"),
        (
            {"recipe": {"base": "tiny", "tokens_per_step": 4096, "warmup_steps": 0, "decay_fraction": 0}},
            6.5e13,
            768,
            "planned FLOPs must be within 1 % of the budget, but the nearest whole number of steps, 19, is 2.4 % over",
        ),
        (
            {"hardware": {"accelerator": "rtx-4090"}},
            3e20,
            2304,
            "memory must be at most 20.6 GiB of a rtx-4090, but got",
        ),
        (
            {"hardware": {"accelerator": "h100", "gpus_per_run": 64}},
            9e18,
            768,
            "a step must have as many sequences for each of a run's 64 accelerators, but has 32 in all",
        ),
        (
            {"hardware": {"accelerator": "h100"}, "limits": {"hours": 24}},
            3e20,
            1408,
            "a run must take 24 hours or less, but this takes 3.55e+03 (limits.hours)",
        ),
        (
            {"data": DataFacts("soda", 144_644, 10**9)},
            9e18,
            768,
            "epochs must be at most 1, but got 6.32 (limits.epochs)",
        ),
    ],
)
def test_a_cell_falls_out_with_its_rule_and_its_value(sections, budget, width, reason):
    cell = made(planner(**sections), budget, width)
    assert isinstance(cell, Dropped)
    assert reason in cell.reason
    assert (cell.budget, cell.d_model) == (budget, width)


def test_shards_make_room():
    alone, together = {"accelerator": "h100"}, {"accelerator": "h100", "gpus_per_run": 8, "sharded": True}
    assert isinstance(made(planner(hardware=alone), 3e20, 3072), Dropped)
    assert isinstance(made(planner(hardware=together), 3e20, 3072), Run)


def test_more_epochs_than_the_limit_are_kept_where_asked():
    sources = (SourceFacts("a", 10**9, 0.5), SourceFacts("b", 10**8, 0.5))
    data = DataFacts("soda", 144_644, 11 * 10**8, sources)
    dropped = made(planner(data=data), 9e18, 768)
    assert "but got 31.6 " in dropped.reason
    assert isinstance(made(planner(data=data, limits={"beyond_epochs": "flag"}), 9e18, 768), Run)


def test_a_run_follows_its_recipe():
    run = made(planner(), 9e18, 768)
    assert (run.batch_size, run.steps, run.warmup_steps, run.decay_steps) == (32, 48_244, 4824, 9649)
    assert (run.optimizer, run.beta1, run.epsilon, run.weight_decay, run.clip) == ("cautious", 0.95, 1e-15, 0.1, 1.0)
    assert run.beta2 == pytest.approx(0.98**0.25)
    assert run.learning_rate == pytest.approx(0.33 * 32**0.5 / 768)


def test_a_cosine_is_as_long_as_the_run():
    of = planner("chinchilla", model={"sequence_length": 2048})
    run = of.run(6e18, of.recipe.every_shape(32_000, of.study.model)[5], 0)
    assert run.decay_steps == run.steps - 1500
    assert (run.decay, run.final_rate) == ("cosine", 0.1)
    assert run.schedule.factor(1500) == pytest.approx(1.0, abs=1e-6)
    assert run.schedule.factor(run.steps - 1) == pytest.approx(0.1, abs=1e-6)


def test_a_budget_is_met_by_another_batch_where_steps_alone_cannot():
    recipe = {"base": "tiny", "tokens_per_step": 40_960, "warmup_steps": 0, "decay_fraction": 0}
    shape = Shape(2, 64, 2, 2, 32, 256, 100, 4096, tied_head=True)
    budget = 3.4 * 10 * 4096 * shape.flops_per_token()
    by_steps = planner(recipe).run(budget, shape, 0)
    assert "nearest whole number of steps, 3" in by_steps.reason
    grid = {"budgets": [budget], "meet": "batch"}
    by_batch = planner(recipe, grid=grid).run(budget, shape, 0)
    assert abs(by_batch.flops / budget - 1) <= 0.01
    assert (by_batch.batch_size, by_batch.steps) == (17, 2)


def test_budgets_follow_their_convention():
    for convention in ("counted", "levanter", "6nd", "6nd_non_embedding"):
        run = made(planner("marin-2025", grid={"budgets": [9e18], "convention": convention}), 9e18, 768)
        assert run.flops == pytest.approx(run.shape.training_flops(run.tokens, convention))
        assert run.flops == pytest.approx(9e18, rel=0.01)
    causal = made(planner("marin-2025", grid={"budgets": [9e18], "attention": "causal"}), 9e18, 768)
    assert causal.tokens > made(planner(), 9e18, 768).tokens


def test_hours_want_hardware():
    with pytest.raises(InputError, match=r"hardware must be given where limits\.hours is, but got hours 5 alone"):
        made(planner(limits={"hours": 5}), 9e18, 768)
