"""What speaks against a grid, and whether its cure is one."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from isoflop.fitting.cost import six_nd
from isoflop.planning.findings import forecasts, refusals_of
from isoflop.planning.forecast import forecast_cells
from isoflop.planning.ledger import DataFacts
from isoflop.planning.plan import plan
from isoflop.planning.prior import published
from isoflop.planning.simulation import Cells
from isoflop.study import Study

SIX_ND = six_nd(1e6, 1e12)
SODA = published("soda-surface")
BUDGETS = tuple(np.geomspace(3e18, 3e20, 7))
GOOD = {"sizes": 7, "width": 8.0}


def grid(off=1.0, **options):
    centers = [off * SODA.optimum(budget, SIX_ND) for budget in BUDGETS]
    return Cells.spaced(BUDGETS, centers, SIX_ND, **{**GOOD, **options})


def findings(cells, window=5, fits=0, **options):
    made = forecast_cells(cells, SODA, SIX_ND, window=window, fits=fits, draws=1000)
    return refusals_of(cells, SODA, made, **options)


def test_nothing_speaks_against_a_good_grid():
    assert findings(grid()) == ()


@pytest.mark.parametrize("off", [3.0, 1 / 3])
def test_a_grid_centered_three_times_off_is_refused_and_moved_back(off):
    found = findings(grid(off=off))
    assert [(each.severity, each.kind) for each in found] == [("refuse", "interior")]
    assert found[0].budgets == pytest.approx(BUDGETS)
    assert "p >= 0.8" in found[0].reason
    assert re.match(f"sizes {'÷3' if off > 1 else '×3'}, centered on N\\* of soda-surface", found[0].cure)


def test_a_wide_grid_is_flagged_and_narrowed():
    (found,) = findings(grid(width=16.0))
    assert (found.severity, found.kind) == ("flag", "width")
    assert "×16" in found.reason
    assert "grid.width=8" in found.cure


def test_three_sizes_are_flagged_and_added_to():
    (found,) = findings(grid(sizes=3))
    assert (found.severity, found.kind) == ("flag", "sizes")
    assert found.cure.startswith("5 sizes a budget (grid.runs_per_budget=5)")


def test_a_ratio_vaguer_than_asked_is_refused_and_the_cheapest_cure_is_another_window():
    cells = grid(sizes=9)
    assert findings(cells, ratio=2.0) == ()
    (found,) = findings(cells, fits=10, ratio=0.3)
    assert (found.severity, found.kind) == ("refuse", "precision")
    assert "b/a must be told to ±0.3" in found.reason
    assert found.cure.startswith("parabolas of 9 sizes (window=9) instead of 5")
    (found,) = findings(cells, window=9, fits=10, ratio=0.15)
    assert "seeds a size (grid.seeds=" in found.cure


def test_what_no_change_cures_is_said():
    (found,) = findings(grid(), fits=5, ratio=0.001)
    assert "would cure it: spread the budgets" in found.cure


def test_a_published_grid_is_never_refused():
    found = findings(grid(off=3.0, sizes=4, width=12.0), published=True)
    assert {each.kind for each in found} >= {"interior", "sizes", "width"}
    assert {each.severity for each in found} == {"flag"}


def test_too_few_budgets_for_a_law_are_flagged_with_a_cure_of_their_own():
    cells = grid()
    two = Cells(*(getattr(cells, name)[cells.budget < 1e19] for name in vars(cells)))
    (found,) = findings(two)
    assert (found.severity, found.kind, len(found.budgets)) == ("flag", "budgets", 2)
    assert "a law needs 3 budgets with an interior minimum, but the grid has 2" in found.reason
    kinds = [each.kind for each in findings(two, ratio=1.0)]
    assert kinds == ["precision", "budgets"]


def test_without_noise_a_finding_has_its_cure_all_the_same():
    made = forecast_cells(grid(width=16.0), SODA, SIX_ND, noise=0.0, fits=2, draws=10)
    (found,) = refusals_of(grid(width=16.0), SODA, made)
    assert (found.kind, "grid.width=8" in found.cure) == ("width", True)


@pytest.mark.parametrize(
    ("settings", "severity"),
    [
        ({"sizes": [8, 12, 16, 20, 24, 28]}, "refuse"),
        ({"generator": "chosen", "cells": [{"budget": 1.2e11, "sizes": [8, 12, 16]}]}, "flag"),
    ],
)
def test_a_grid_of_one_s_own_is_refused_and_one_that_grows_cell_by_cell_is_not(settings, severity):
    prior = {"budget": 1.2e11, "params": 3e5, "exponent": 0.6}
    grid = {"budgets": [1.2e11], "prior": prior, **settings}
    planned = plan(Study.parse({"name": "x", "grid": grid}), DataFacts("data", 240, 50_000_000))
    ((_, found),) = forecasts(planned)
    assert {each.kind: each.severity for each in found}["interior"] == severity


def test_findings_are_plain_values():
    found = findings(grid(off=3.0))[0]
    assert json.loads(json.dumps(found.to_json()))["kind"] == "interior"
    assert str(found) == f"{found.reason}; {found.cure}"
