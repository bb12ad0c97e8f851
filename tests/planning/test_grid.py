"""Which cells a grid asks for: the authors' walk, hand-picked cells, sizes about an optimum."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from isoflop.errors import InputError
from isoflop.planning.feasibility import Planner
from isoflop.planning.grid import feasible, shares
from isoflop.planning.ledger import DataFacts
from isoflop.planning.plan import plan
from isoflop.planning.recipes import named
from isoflop.study import Study

SODA = DataFacts("soda", 144_644, None)
BUDGETS = [3e18, 9e18, 1.8e19, 3e19, 9e19, 1.8e20, 3e20]


def study(grid, recipe="marin-2025", **sections):
    return Study.parse(
        {
            "name": "x",
            "model": {"sequence_length": 4096, "tied_head": False},
            "recipe": recipe,
            "grid": grid,
            **sections,
        }
    )


def sizes(planned, budget):
    return [run.shape.parameters.total for run in planned.at(budget)]


def test_the_authors_walk_by_an_independent_enumeration():
    """The rule of the shared facts, written out again: 59 cells."""
    expected = []
    for budget in BUDGETS:
        forward = budget / 3
        for d in range(128, 2049, 128 if forward <= 9e18 else 256):
            layers, heads = round(d / (64 + 4 * math.log2(d) - 7)), max(1, d // 128)
            f = layers * (24 * d * d + 8 * d * d + 4 * 4096 * d + 3 * 4096 * heads) + 2 * d * 144_644
            batch = 2 ** math.ceil(math.log2(forward / (f * 2**16 * 4096)))
            while 0.33 * math.sqrt(batch) / d > 0.01:
                batch /= 2
            steps = round(forward / (f * batch * 4096)) if batch >= 8 else 0
            if batch >= 8 and abs(f * batch * 4096 * steps / forward - 1) <= 0.01 and steps < 400_000:
                expected.append((budget, d, batch, steps))
    planned = plan(study({"budgets": BUDGETS}), SODA)
    assert [(run.budget, run.shape.d_model, run.batch_size, run.steps) for run in planned.runs] == expected
    assert len(expected) == 59
    assert len(planned.runs) + len(planned.dropped) == 3 * 16 + 4 * 8


def test_cells_picked_by_hand_join_their_budget_in_order_of_size():
    grid = {"budgets": [9e19], "cells": [{"budget": 9e19, "sizes": [896, 1024, 2048]}]}
    widths = [run.shape.d_model for run in plan(study(grid), SODA).runs]
    assert widths == [384, 640, 896, 1024, 1152, 1408, 1664, 1920, 2048]


@pytest.mark.parametrize("prior", ["soda-anchor", "soda-surface", {"budget": 3e18, "params": 3e8, "exponent": 0.4}])
def test_centred_sizes_are_even_about_the_optimum_and_distinct(prior):
    grid = {"generator": "centred", "budgets": BUDGETS, "runs": 64, "width": 8, "prior": prior}
    fine = {"base": "marin-2025", "width_step": 64, "head_size": 64, "tokens_per_step": 36_864}
    fine |= {"batch_budget": 3e18, "batch_exponent": 0.58}
    planned = plan(study(grid, fine), SODA)
    assert planned.to_json()["totals"]["runs_by_budget"] == [10, 9, 9, 9, 9, 9, 9]
    for budget in BUDGETS:
        found = sizes(planned, budget)
        assert found == sorted(set(found))
        centre = planned.prior.optimum(budget, planned.cost)
        assert math.sqrt(found[0] * found[-1]) == pytest.approx(centre, rel=0.2)
        assert found[-1] / found[0] == pytest.approx(8, rel=0.25)
        gaps = [math.log(after / before) for before, after in pairwise(found)]
        assert max(gaps) < 2 * math.log(8) / 8


def test_a_size_that_cannot_be_run_is_told_and_the_next_takes_its_place():
    grid = {"generator": "centred", "budgets": [3e18], "runs_per_budget": 6, "width": 8, "prior": "soda-anchor"}
    free = plan(study(grid), SODA)
    assert free.dropped
    assert len(free.runs) == 6
    assert all("a step must have 8 sequences or more" in cell.reason for cell in free.dropped)
    assert not {run.shape.label for run in free.runs} & {cell.size for cell in free.dropped}


def test_too_few_sizes_that_can_be_run_refuse_the_plan():
    grid = {"generator": "centred", "budgets": [3e18], "runs_per_budget": 6, "width": 2, "prior": "soda-anchor"}
    limited = {"base": "marin-2025", "max_steps": 10_000}
    with pytest.raises(InputError, match=r"at least 5 feasible sizes.*has 0: .*steps must be at most 10,000"):
        plan(study(grid, limited), SODA)


def test_an_explicit_ladder_is_walked_whole_or_snapped_to():
    rows = [{"name": f"s{k}", "params": 10**6 * 2**k, "flops_per_token": 7e6 * 2**k} for k in range(10)]
    recipe = {"base": "tiny", "ladder": rows, "learning_rate": 1e-3, "tokens_per_step": 4096}
    whole = plan(study({"budgets": [1e17], "tolerance": 0.05}, recipe), SODA)
    assert [run.shape.label for run in whole.runs] == [f"s{k}" for k in range(10)]
    assert all(run.id.startswith(run.shape.name) for run in whole.runs)
    line = {"budget": 1e17, "params": 1.6e7, "exponent": 0.5}
    near = {"generator": "centred", "budgets": [1e17], "runs_per_budget": 5, "width": 16, "prior": line}
    assert [run.shape.label for run in plan(study(near, recipe), SODA).runs] == ["s2", "s3", "s4", "s5", "s6"]
    document = whole.to_json()
    assert document["runs"][0]["size"] == "s0"
    assert len(whole.table()) == 10


def test_sizes_of_a_list_are_picked_by_name_or_width():
    rows = [{"name": f"s{k}", "params": 10**6 * 2**k, "flops_per_token": 7e6 * 2**k} for k in range(10)]
    table = {"base": "tiny", "ladder": rows, "learning_rate": 1e-3, "tokens_per_step": 4096}
    grid = {"budgets": [1e17, 2e17], "tolerance": 0.05, "min_cells": 1}
    cells = [{"budget": 2e17, "sizes": ["s7", "s5"], "seeds": 2}, {"budget": 2e17, "sizes": ["s7"]}]
    by_name = plan(study({**grid, "sizes": ["s3", "s4"], "cells": cells}, table), SODA)
    assert [[run.shape.label for run in by_name.at(budget)] for budget in grid["budgets"]] == [
        ["s3", "s4"],
        ["s3", "s4", "s5", "s5", "s7", "s7"],
    ]
    shapes = [{"name": "flat", "n_layers": 2, "d_model": 64, "n_heads": 1}]
    shapes += [{"n_layers": layers, "d_model": 128, "n_heads": 2} for layers in (2, 4)]
    listed = {"base": "tiny", "ladder": shapes, "tokens_per_step": 8192}

    def labels(*sizes):
        few = {"budgets": [1e15], "sizes": sizes, "tolerance": 0.05, "min_cells": 1}
        return [run.shape.label for run in plan(study(few, listed), SODA).runs]

    assert labels("flat") == labels(64) == labels("d64-l2") == ["d64-l2"]
    assert labels("flat", "d128-l4") == ["d64-l2", "d128-l4"]
    rule = r"sizes must each be one of the recipe's, flat, d128-l2, d128-l4, but got "
    for wrong, number in ((8, 0), ("flut", 0), (128, 2)):
        with pytest.raises(InputError, match=f"{rule}{wrong!r}, which is {number} of them"):
            labels(wrong)
    with pytest.raises(InputError, match=r"must be distinct, but got 's3' twice"):
        study({**grid, "sizes": ["s3", "s3"]}, table)
    with pytest.raises(InputError, match="must be widths where the recipe has a rule for them, but got 'small'"):
        plan(study({**grid, "sizes": ["small"]}, "tiny"), SODA)


def test_runs_are_shared_out():
    of = {"budgets": [1e10, 2e10, 3e10], "sizes": [8], "prior": "llama3"}
    assert shares(study({**of, "runs": 32}).grid) == [11, 11, 10]
    assert shares(study({**of, "runs": 32, "seeds": 2}).grid) == [6, 5, 5]
    assert shares(study({"budgets": [1e10], "sizes": [8]}).grid) is None


def test_a_recipe_without_a_walk_wants_sizes():
    with pytest.raises(InputError, match=r"grid\.sizes must be given, because recipe 'tiny' has no walk"):
        plan(study({"budgets": [1e11]}, "tiny"), SODA)


CHOSEN = {
    "generator": "chosen",
    "budgets": [2.5e10, 1.2e11],
    "sizes": [8, 12, 16, 24],
    "cells": [{"budget": 2.5e10, "sizes": [8, 16]}, {"budget": 1.2e11, "sizes": [24], "seeds": 3}],
}


def chosen(**changes):
    return Study.parse({"name": "x", "grid": {**CHOSEN, **changes}, "training": {"seed": 5}})


def test_a_chosen_grid_has_its_cells_alone_each_as_often_as_it_says():
    planned = plan(chosen(), DataFacts("data", 240, 3_500_000))
    assert [(run.budget, run.shape.d_model, run.seed) for run in planned.runs] == [
        (2.5e10, 8, 5),
        (2.5e10, 16, 5),
        (1.2e11, 24, 5),
        (1.2e11, 24, 6),
        (1.2e11, 24, 7),
    ]
    assert not planned.dropped


def test_a_chosen_grid_without_cells_says_how_to_get_some():
    with pytest.raises(InputError, match="isoflop next STUDY --add"):
        plan(chosen(cells=[]), DataFacts("data", 240, 3_500_000))


def test_what_is_feasible_does_not_depend_on_what_is_chosen():
    def cells(study):
        planner = Planner(study, named(study.recipe), DataFacts("data", 240, 3_500_000))
        return [(run.budget, run.shape.d_model) for run in feasible(planner)]

    every = [(budget, width) for budget in CHOSEN["budgets"] for width in CHOSEN["sizes"]]
    assert cells(chosen()) == cells(chosen(cells=[])) == every
    assert cells(chosen(generator="rule", cells=[])) == every
