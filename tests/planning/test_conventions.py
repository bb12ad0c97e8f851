"""How far apart the conventions are on SODA's grid, against the shared facts and against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.planning.ledger import DataFacts
from isoflop.planning.plan import plan
from isoflop.study import Study

BUDGETS = [3e18, 9e18, 1.8e19, 3e19, 9e19, 1.8e20, 3e20]


def planned(prior="soda-surface", **grid):
    cells = [
        {"budget": 9e19, "sizes": [2048]},
        {"budget": 1.8e20, "sizes": [2048, 2304]},
        {"budget": 3e20, "sizes": [2048, 2304, 2816, 3072]},
    ]
    content = {
        "name": "x",
        "model": {"sequence_length": 4096, "tied_head": False},
        "recipe": "marin-2025",
        "grid": {"budgets": BUDGETS, "cells": cells, **({"prior": prior} if prior else {}), **grid},
    }
    return plan(Study.parse(content), DataFacts("soda", 144_644, None))


def test_6nd_over_counted_on_soda_s_cells():
    """6·N·D/C runs from 1.66 to 0.945 over all cells."""
    found = planned().conventions
    assert (found.over_counted["6nd"].low, found.over_counted["6nd"].high) == pytest.approx((0.945, 1.66), abs=0.005)
    assert (found.over_counted["levanter"].low, found.over_counted["levanter"].high) == (1, 1)
    assert found.over_counted["causal"].high < 1
    assert found.params_over_total["total"].low == 1


def test_exponents_read_under_other_conventions():
    """As counted a .400 and b .552; under 6ND a = β/(α + β) = .391, b = .609."""
    own, six, body = planned().conventions.readings
    assert (own.a, own.b) == pytest.approx((0.400, 0.552), abs=0.005)
    assert (six.flops, six.a, six.b) == ("6nd", pytest.approx(0.391, abs=0.001), pytest.approx(0.609, abs=0.001))
    # N without the embeddings: a far steeper, the ratio near one (shared facts: 0.55-0.67, 0.9-1.05 for the paper's).
    assert body.params == "non_embedding"
    assert 0.55 < body.a < 0.70
    assert body.b == own.b


def test_the_anchor_s_non_embedding_exponent_is_that_of_the_shared_facts():
    own, _, body = planned("soda-anchor").conventions.readings
    assert own.a == pytest.approx(0.367, abs=0.002)
    assert 0.55 < body.a < 0.67
    assert 0.9 < body.b / body.a < 1.05


def test_under_6nd_a_line_with_a_surface_is_read_where_its_own_loss_is_least():
    """The reading under 6ND, by brute force over the same L(N, D)."""
    found = planned("soda-anchor")
    prior, cost = found.prior, found.cost
    sizes = np.geomspace(5e7, 2e10, 1500)
    optima = []
    for budget in (BUDGETS[0], BUDGETS[-1]):
        tokens = budget / (6 * sizes)
        spent = cost.flops(sizes, tokens)
        losses = [prior.loss(np.array([size]), flops, cost)[0] for size, flops in zip(sizes, spent, strict=True)]
        optima.append(sizes[int(np.argmin(losses))])
    slope = np.log(optima[1] / optima[0]) / np.log(BUDGETS[-1] / BUDGETS[0])
    assert found.conventions.readings[1].a == pytest.approx(slope, abs=0.01)


def test_without_a_prior_only_the_distances_are_told():
    found = planned(None).conventions
    assert found.readings == ()
    assert len(found.sentences()) == 2
    six = planned(convention="6nd").conventions
    assert [reading.flops for reading in six.readings] == ["6nd", "6nd"]
    assert "FLOPs are 6nd" in six.sentences()[0]


def test_of_a_line_and_of_a_table_nothing_is_told_that_they_do_not_say():
    line = planned({"budget": 3e18, "params": 2.7e8, "exponent": 0.4}).conventions
    assert [reading.flops for reading in line.readings] == ["counted", "counted"]
    assert "What 6ND would do to a and b a line does not say" in line.sentences()[-1]
    assert planned("soda-anchor").conventions.untold == ""
    rows = [{"name": f"s{n}", "params": n * 10**8, "flops_per_token": 7e8 * n, "learning_rate": 1} for n in range(1, 6)]
    content = {"name": "x", "recipe": {"ladder": rows}, "grid": {"budgets": [1e17], "prior": "llama3"}}
    table = plan(Study.parse(content), DataFacts("soda", 144_644, None)).conventions
    assert table.listed
    said = " ".join(table.sentences())
    assert "6ND is 0.857 of the table's with N total" in said
    assert "levanter" not in said
