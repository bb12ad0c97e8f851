"""Plans: what is in the grid, what fell out and why."""

from __future__ import annotations

import json
import random

import pytest

from isoflop.errors import InputError
from isoflop.planning.ledger import DataFacts
from isoflop.planning.plan import plan
from isoflop.planning.prior import chosen
from isoflop.study import Study

FACTS = DataFacts("data", 240, 3_500_000)
PRIOR = {"budget": 1.2e11, "params": 2.6e4, "exponent": 0.6}


def study(**grid):
    base = {"budgets": [2.5e10, 1.2e11], "sizes": [8, 12, 16, 20, 24, 28, 32, 40], "tolerance": 0.01, "min_cells": 1}
    return Study.parse({"name": "x", "grid": {**base, **grid}})


def test_planned_flops_meet_the_budget_by_the_choice_of_steps():
    planned = plan(study(), FACTS)
    assert len(planned.runs) == 16
    for run in planned.runs:
        assert abs(run.flops / run.budget - 1) < 0.01
        assert run.flops == run.shape.training_flops(run.tokens)
        assert abs(run.flops - run.budget) <= run.shape.training_flops(run.tokens_per_step) / 2


def test_a_prior_keeps_the_sizes_around_its_optimum():
    planned = plan(study(runs_per_budget=5, prior=PRIOR), FACTS)
    for budget in (2.5e10, 1.2e11):
        sizes = [run.shape.parameters.total for run in planned.runs if run.budget == budget]
        assert len(sizes) == 5
        assert sizes == sorted(sizes)
        assert min(sizes) < chosen(planned.settings.grid.prior).line.at(budget) < max(sizes)


def test_the_recipe_is_followed():
    run = plan(study(), FACTS).runs[0]
    assert run.learning_rate == pytest.approx(0.2 / run.shape.d_model)
    assert run.tokens_per_step == 256
    assert run.decay_steps == round(0.2 * run.steps)
    changed = Study.parse({**study().model_dump(), "recipe": {"base": "tiny", "rate_times_width": 0.4}})
    assert plan(changed, FACTS).runs[0].learning_rate == pytest.approx(2 * run.learning_rate)
    assert plan(changed, FACTS).runs[0].id != run.id


def test_the_same_study_gives_the_same_plan_and_other_budgets_leave_ids_alone():
    assert plan(study(), FACTS) == plan(study(), FACTS)
    more = {run.id for run in plan(study(budgets=[2.5e10, 5.5e10, 1.2e11]), FACTS).runs}
    assert {run.id for run in plan(study(), FACTS).runs} < more


def test_what_is_unknown_of_the_data_does_not_change_ids():
    unknown = DataFacts("data", 240, None)
    assert [run.id for run in plan(study(), unknown).runs] == [run.id for run in plan(study(), FACTS).runs]
    assert "not made yet" in plan(study(), unknown).notes()[0]


def test_fewer_than_five_sizes_refuse_the_plan_unless_told_otherwise():
    few = {"sizes": [16, 20, 24, 28], "budgets": [1.2e11]}
    with pytest.raises(InputError, match=r"at least 5 feasible sizes .*but 1.2e\+11 FLOPs has 4: no more were asked"):
        plan(study(**few, min_cells=5), FACTS)
    told = plan(study(**few, min_cells=4), FACTS)
    assert len(told.runs) == 4
    assert any("Fewer than 5 sizes at 1.2e+11" in note for note in told.notes())
    # Five that were asked for, one of which falls out: the reason is in the refusal.
    with pytest.raises(InputError, match=r"has 4: d8-l2: epochs must be at most 1"):
        plan(study(sizes=[8, 16, 20, 24, 28], budgets=[1.2e11], min_cells=5), DataFacts("data", 240, 1_000_000))


def test_replicates_are_runs_of_their_own_seeds_and_ids():
    planned = plan(study(seeds=3), FACTS)
    assert len(planned.runs) == 48
    assert {run.seed for run in planned.runs} == {0, 1, 2}
    assert len({run.id for run in planned.runs}) == 48
    assert len({run.trunk for run in planned.runs}) == 24


def test_runs_in_total_are_shared_out_with_the_rest_at_the_cheapest_budgets():
    planned = plan(study(runs=13, prior=PRIOR), FACTS)
    assert planned.to_json()["totals"]["runs_by_budget"] == [7, 6]
    with pytest.raises(InputError, match=r"grid.runs must be a multiple of grid.seeds, but got 13 and 2"):
        plan(study(runs=13, seeds=2, prior=PRIOR), FACTS)
    assert plan(study(runs=12, seeds=2, prior=PRIOR), FACTS).to_json()["totals"]["runs_by_budget"] == [6, 6]


def test_the_notes_say_what_is_shared_what_it_costs_and_how_things_are_counted():
    sharing = plan(study(prior=PRIOR), FACTS)
    notes = " ".join(sharing.notes())
    assert "It fixes rate and batch over D" in notes
    document, table = sharing.to_json(), sharing.table()
    trained = document["totals"]["trained_flops"]
    assert trained == pytest.approx(table["trained_flops"].sum())
    assert document["totals"]["flops"] - trained == pytest.approx(document["trunks"]["saved_flops"])
    assert f"{trained:.3g} FLOPs instead of {sharing.flops:.3g}, {sharing.saved_flops / sharing.flops:.0%}" in notes
    assert "6ND is" in notes
    assert "N non-embedding: a =" in notes
    alone = Study.parse({**study().model_dump(), "recipe": {"base": "tiny", "warmup_fraction": 0.1}})
    assert "No two runs share a trunk" in " ".join(plan(alone, FACTS).notes())
    machine = {"accelerator": "h100", "price": 2.0, "gpus": 4}
    costed = plan(Study.parse({**study().model_dump(), "hardware": machine}), FACTS)
    assert costed.estimate.cost == pytest.approx(2 * costed.estimate.gpu_hours)
    assert "MFU of 35% (assumed)" in " ".join(costed.notes())


def test_dropped_cells_say_why():
    few = DataFacts("data", 240, 400_000)
    planned = plan(study(), few)
    assert [cell.d_model for cell in planned.dropped] == [8, 8, 12, 16, 20, 24, 28]
    assert all("epochs must be at most 1, but got" in cell.reason for cell in planned.dropped)
    assert len(planned.runs) + len(planned.dropped) == 16
    coarse = plan(study(budgets=[1.2e11], sizes=[8, 1024], tolerance=0.2), FACTS)
    assert [cell.d_model for cell in coarse.dropped] == [1024]
    assert "steps must exceed warm-up and decay together, but got" in coarse.dropped[0].reason


def test_a_budget_without_a_cell_refuses_the_plan():
    with pytest.raises(
        InputError, match=r"at least 1 feasible sizes \(grid.min_cells\), but 1e\+06 FLOPs has 0.*a step must"
    ):
        plan(study(budgets=[1e6, 2.5e10]), FACTS)


def test_a_size_whose_heads_do_not_divide_is_dropped_with_the_reason():
    planned = plan(study(sizes=[8, 16, 34]), FACTS)
    assert [(cell.budget, cell.size) for cell in planned.dropped] == [(2.5e10, "d34"), (1.2e11, "d34")]
    assert "d_model must be a multiple of 4 (2 heads of even size), but got 34" in planned.dropped[0].reason
    with pytest.raises(InputError, match=r"has 0: d33: d_model must be a multiple of 4.*d34: "):
        plan(study(sizes=[33, 34]), FACTS)


def test_an_unknown_recipe_is_refused_with_the_nearest():
    wrong = Study.parse({**study().model_dump(), "recipe": "tinny"})
    with pytest.raises(InputError, match="'tinny'; did you mean 'tiny'"):
        plan(wrong, FACTS)


def test_json_and_table_hold_every_cell():
    planned = plan(study(), DataFacts("data", 240, 400_000))
    document = json.loads(json.dumps(planned.to_json()))
    assert document["totals"]["runs"] == len(document["runs"]) == len(planned.runs)
    assert document["totals"]["flops"] == pytest.approx(sum(run["flops"] for run in document["runs"]))
    assert {
        "id",
        "budget",
        "flops",
        "params",
        "tokens",
        "size",
        "d_model",
        "n_layers",
        "n_heads",
        "batch_size",
        "steps",
    } <= set(document["runs"][0])
    assert set(document["runs"][0]["params"]) == {"total", "non_embedding", "body_and_head"}
    table = planned.table()
    assert len(table) == 16
    assert (table["dropped"] == "").sum() == len(planned.runs)


def test_repeated_data_is_said():
    loose = Study.parse({**study().model_dump(), "limits": {"epochs": 4}})
    assert "repeat data" in plan(loose, DataFacts("data", 240, 400_000)).notes()[0]


def test_random_studies_never_lose_a_cell():
    generator = random.Random(0)
    for _ in range(30):
        sizes = sorted(generator.sample(range(8, 72, 4), 6))
        asked = study(sizes=sizes, budgets=[3e10, 3e11])
        planned = plan(asked, DataFacts("data", generator.randint(32, 256), generator.randint(10**6, 10**8)))
        assert len(planned.runs) + len(planned.dropped) == 12


def test_validation_tokens_that_cannot_be_had_are_refused():
    few = DataFacts("data", 240, 3_500_000, held_out_tokens=10_000)
    with pytest.raises(InputError, match="less than the corpus's held-out tokens, 10000, but got 65536"):
        plan(study(), few)
    odd = Study.parse({**study().model_dump(), "training": {"validation_tokens": 1000}})
    with pytest.raises(InputError, match=r"must be a multiple of model\.sequence_length, but got 1000 and 128"):
        plan(odd, FACTS)


def test_an_extreme_prior_is_refused_not_overflowed():
    extreme = study(runs_per_budget=3, prior={"budget": 1e-300, "params": 1e300, "exponent": 1})
    with pytest.raises(InputError, match=r"a prior's params must be from 1 to 1e\+24 at .* puts them at 10\^61\d"):
        plan(extreme, FACTS)


def test_fewer_sizes_than_asked_for_are_told_of():
    asked = plan(study(runs=40, prior=PRIOR), FACTS)
    assert "Fewer sizes than asked for at 2.5e+10 (8 of 20), 1.2e+11 (8 of 20) FLOPs" in asked.notes()[0]
    assert not plan(study(runs=16, prior=PRIOR), FACTS).notes()[0].startswith("Fewer")


def test_a_slip_of_the_pen_plans_no_million_runs():
    with pytest.raises(InputError, match="a grid must have at most 100,000 cells, but got more"):
        plan(study(seeds=10**7), FACTS)


def test_small_costs_and_epochs_are_told_in_digits_that_say_something():
    machine = {"accelerator": "cpu", "price": 10.0, "gpus_per_run": 2}
    costed = plan(Study.parse({**study().model_dump(), "hardware": machine}), DataFacts("data", 240, 10**10))
    notes = " ".join(costed.notes())
    assert f"at a cost of {costed.estimate.cost:.2f};" in notes
    assert "done on 2 of them" in notes
    assert "sees 0.000" in notes


def test_what_a_trainer_of_one_s_own_brings_takes_no_shards():
    content = {**study(sizes=[8, 12]).model_dump(), "data": {"external": {"name": "images", "samples": 10**9}}}
    own = plan(Study.parse({**content, "trainer": "x:train"}), DataFacts("external-images", 240, 10**9))
    assert own.disk.shards is None
    assert "token shards" not in " ".join(own.notes())
