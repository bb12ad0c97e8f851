"""Which cells are picked: the best per FLOP, up to three times, each with its reason."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from isoflop.fitting.cost import six_nd
from isoflop.planning.adaptive import ladder
from isoflop.planning.choice import REPLICATES, most_telling, seeds
from isoflop.planning.information import Aim, Frame, Goal, Information
from isoflop.planning.prior import published

COST = six_nd(1e7, 1e12)
PRIOR = published("besiroglu2024")
BUDGETS = np.array([3e18, 9e18, 1.8e19, 3e19, 9e19])


ONE = (Goal("ratio", 0.01),)


def known(runs=20, goals=ONE):
    generator = np.random.default_rng(0)
    flops = generator.choice(BUDGETS[:4], runs)
    params = np.array([PRIOR.optimum(each, COST) for each in flops]) * np.exp(generator.uniform(-1, 1, runs))
    tokens = COST.tokens(params, flops)
    frame = Frame.about(PRIOR.surface, params, tokens, COST)
    aims = [Aim.of(goal, frame, 2e19) for goal in goals]
    return Information.of(frame, params, tokens, 0.003), frame, aims


def near(sizes):
    cells = ladder(BUDGETS, np.geomspace(3e7, 6e9, sizes), COST.tokens)
    centers = np.array([PRIOR.optimum(each, COST) for each in cells.budget])
    return cells.only(np.abs(np.log(cells.params / centers)) < math.log(8) / 2)


def test_the_first_pick_is_the_best_of_all_by_brute_force():
    information, frame, aims = known()
    cells = near(40)
    chosen, after = most_telling(information, frame, aims, cells, 1)
    falls = []
    for place in range(len(cells)):
        slope = frame.slopes(cells.params[place : place + 1], cells.tokens[place : place + 1])[0]
        grown = information.with_run(slope, np.log([cells.params[place], cells.tokens[place]]))
        falls.append(math.log(information.variance(aims[0]) / grown.variance(aims[0])) / cells.price[place])
    assert chosen[0].cell == int(np.argmax(falls))
    assert after.half_width(aims[0]) < information.half_width(aims[0])
    assert "tells most per FLOP: b/a ±" in str(chosen[0])


def test_a_cell_is_run_three_times_at_the_most_and_runs_so_far_count():
    information, frame, aims = known()
    cells = near(40)
    chosen, _ = most_telling(information, frame, aims, cells, 30)
    runs = np.bincount([cell.cell for cell in chosen])
    assert runs.max() == REPLICATES
    again = [cell.replicate for cell in chosen if cell.cell == int(runs.argmax())]
    assert again == [0, 1, 2]
    used = replace(cells, taken=np.where(np.arange(len(cells)) == chosen[0].cell, REPLICATES, 0))
    assert chosen[0].cell not in {cell.cell for cell in most_telling(information, frame, aims, used, 30)[0]}
    assert (
        np.bincount([cell.cell for cell in most_telling(information, frame, aims, replace(cells, most=1), 9)[0]]).max()
        == 1
    )


def test_a_trunk_that_is_trained_makes_its_cell_worth_more():
    information, frame, aims = known()
    cells = near(40)
    dear = int(np.flatnonzero(cells.budget == BUDGETS[-1])[0])
    first, _ = most_telling(information, frame, aims, cells, 1)
    assert first[0].cell != dear
    cheap = replace(cells, price=np.where(np.arange(len(cells)) == dear, 1e-3, 1.0) * cells.price)
    chosen, _ = most_telling(information, frame, aims, cheap, 1)
    assert chosen[0].cell == dear
    assert chosen[0].price == pytest.approx(1e-3 * BUDGETS[-1])


def test_a_goal_that_is_reached_wants_no_run_unless_more_is_asked():
    information, frame, aims = known(goals=(Goal("ratio", 100.0),))
    assert most_telling(information, frame, aims, near(40), 4)[0] == []
    assert len(most_telling(information, frame, aims, near(40), 4, beyond=True)[0]) == 4


def test_seeds_lie_about_the_belief_at_the_cheapest_budgets():
    cells = near(60)
    chosen = seeds(cells, {float(budget): PRIOR.optimum(budget, COST) for budget in BUDGETS[:2]}, (4, 3), 8.0)
    assert [cell.budget for cell in chosen] == [3e18] * 4 + [9e18] * 3
    sizes = [cell.params for cell in chosen[:4]]
    center = PRIOR.optimum(3e18, COST)
    assert sizes == sorted(sizes)
    assert sizes[1] < center < sizes[2]
    assert len(set(sizes)) == 4


def test_ten_thousand_cells_are_weighed_in_two_seconds():
    information, frame, aims = known(64, (Goal("ratio", 0.001), Goal("params", 0.001, 1e21)))
    cells = ladder(BUDGETS, np.geomspace(3e7, 6e9, 2_000), COST.tokens)
    began = time.process_time()
    chosen, _ = most_telling(information, frame, aims, cells, 4)
    assert len(chosen) == 4
    assert time.process_time() - began < 2
