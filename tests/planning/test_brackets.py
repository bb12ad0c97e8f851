"""The ladder of brackets: it finds minima of any shape, and goes up only from those that it has."""

from __future__ import annotations

import math

import numpy as np

from isoflop.planning.adaptive import ladder
from isoflop.planning.brackets import next_rung, repairs
from isoflop.planning.choice import Finished

BUDGETS = np.array([1e18, 3e18, 1e19, 3e19])
CELLS = ladder(BUDGETS, np.geomspace(1e7, 1e11, 60), lambda params, flops: flops / 6 / params)


def optimum(budget):
    return 3e8 * (budget / 1e18) ** 0.7


def valley(budget, params):
    """A valley that no surface has: steeper below the optimum than above it."""
    off = math.log(params / optimum(budget))
    return 3.0 - 0.1 * math.log(budget / 1e18) + (0.05 if off < 0 else 0.02) * off**2


def finished(rows):
    budget, params = np.array(rows, dtype=float).reshape(-1, 2).T
    loss = np.array([valley(*row) for row in rows])
    return Finished(budget, budget, params, budget / 6 / params, loss)


def climbed(belief):
    rows, trail = [], []
    for _ in range(100):
        chosen, why = next_rung(finished(rows), CELLS, belief)
        if not chosen:
            return rows, trail
        trail.append((chosen[0].budget, why))
        rows += [(cell.budget, cell.params) for cell in chosen]
    raise AssertionError("the ladder never ends")


def test_every_budget_gets_five_sizes_about_its_minimum_though_the_belief_be_off_tenfold():
    rows, trail = climbed(lambda budget: 10 * optimum(budget) / (budget / 1e18) ** 0.3)
    for budget in BUDGETS:
        sizes = sorted(params for at, params in rows if at == budget)
        assert len(sizes) >= 5
        losses = [valley(budget, size) for size in sizes]
        assert 0 < int(np.argmin(losses)) < len(sizes) - 1
        assert min(abs(math.log(size / optimum(budget))) for size in sizes) < math.log(1.5)
    assert [budget for budget, _ in trail] == sorted(budget for budget, _ in trail)


def test_what_was_learned_below_centres_the_next_bracket():
    rows, _ = climbed(lambda budget: 10 * optimum(budget))
    assert sum(at == BUDGETS[-1] for at, _ in rows) < sum(at == BUDGETS[0] for at, _ in rows)


def test_edges_are_repaired_until_three_minima_stand():
    at_edge = [(1e18, optimum(1e18) * each) for each in (2.0, 4.0, 8.0)]
    chosen = repairs(finished(at_edge), CELLS)
    assert len(chosen) == 1
    assert chosen[0].params < 2.0 * optimum(1e18)
    assert "lowest at the smallest size" in chosen[0].reason
    inside = [(budget, optimum(budget) * each) for budget in BUDGETS[1:] for each in (0.4, 1.0, 2.5)]
    assert repairs(finished([*at_edge, *inside]), CELLS) == []
