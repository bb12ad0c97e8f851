"""Forecasts scored against what came."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting import fit
from isoflop.planning.choice import Finished
from isoflop.planning.forecast import forecast
from isoflop.planning.foretold import NOTHING, Promise, score
from isoflop.planning.ledger import DataFacts
from isoflop.planning.plan import plan
from isoflop.planning.prior import chosen
from isoflop.study import Study
from isoflop.study_grid import PriorChoice

CONTENT = {
    "name": "known",
    "data": {"abstract": {"vocabulary": 1024, "unique_tokens": 1e12}},
    "model": {"sequence_length": 256},
    "recipe": {"base": "marin-2025", "width_step": 64, "head_size": 64},
    "grid": {
        "generator": "centred",
        "budgets": [3e17, 1e18, 3e18, 1e19],
        "runs_per_budget": 6,
        "width": 8,
        "prior": "besiroglu2024",
        "noise": 0.001,
    },
}


@pytest.fixture(scope="module")
def planned():
    return plan(Study.parse(CONTENT), DataFacts("facts", 1024, 10**12))


@pytest.fixture(scope="module")
def points(planned):
    """The plan's runs with losses of its prior's surface."""
    generator = np.random.default_rng(1)
    rows = [
        {
            "run": run.id,
            "budget": run.budget,
            "flops": run.flops,
            "params": float(run.shape.parameters.total),
            "tokens": float(run.tokens),
            "trunk": run.trunk,
            "loss": float(planned.prior.surface.loss(run.shape.parameters.total, run.tokens))
            * math.exp(0.001 * generator.standard_normal()),
        }
        for run in planned.runs
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def law(points):
    return fit(points)


@pytest.fixture
def finished(points):
    return Finished(*(points[name].to_numpy() for name in ("budget", "flops", "params", "tokens", "loss")))


def test_the_promise_of_points_is_the_forecast_of_their_plan_whatever_their_losses(planned, points):
    expected = forecast(planned, planned.prior, noise=0.001)
    promised = Promise.of_points(points.assign(loss=np.nan), planned.prior, noise=0.001, window=5)
    assert promised.widths == {name: getattr(expected, name).reported for name in ("a", "b", "ratio")}
    assert promised.interior == sum(budget.interior for budget in expected.budgets)
    assert Promise(**asdict(promised)) == promised
    # The surface is sharper, where it leads; and of a prior that has none, nothing is said of it.
    assert 0.3 < promised.surface["ratio"] / promised.widths["ratio"] < 0.9
    line = chosen(PriorChoice(budget=1e18, params=3e8, exponent=0.5))
    assert Promise.of_points(points, line, noise=0.001, window=5).surface == {}
    assert promised.budgets == 4
    assert 3.5 < promised.interior <= 4


def test_half_widths_are_scored_by_what_leads(planned, points, law, finished):
    promised = Promise.of_points(points, planned.prior, noise=0.001, window=5)
    assert law.method == "parametric"
    found = score(promised, [], law, finished)
    assert (found.leads, [each.name for each in found.widths]) == ("surface", ["a", "b/a"])
    ratio = found.widths[1]
    assert ratio.came == pytest.approx((law.exponents.ratio.high - law.exponents.ratio.low) / 2)
    # The prior holds here, so what came is about what was forecast.
    assert 0.5 < ratio.came / ratio.forecast < 2
    grid, minima = found.sentences()
    assert grid.startswith("Forecast of the grid by its surface: a ±")
    assert f"b/a ±{ratio.forecast:.3f}, came ±{ratio.came:.3f}" in grid
    assert minima == "Minima within their sizes: 4.0 of 4 forecast, 4 came."
    by_minima = score(promised, [], replace(law, method="parabola"), finished)
    assert by_minima.leads == "minima"
    assert [each.forecast for each in by_minima.widths] == list(promised.widths.values())


def test_runs_held_out_and_batches_are_scored(points, law, finished):
    def held(row, off):
        middle = math.log(row.loss) + off
        return {"params": row.params, "tokens": row.tokens, "low": middle - 0.01, "high": middle + 0.01}

    def goal(now, expected):
        return [{"name": "b/a", "wanted": 0.05, "now": now, "expected": expected}]

    inside, outside = held(points.iloc[-1], 0.001), held(points.iloc[-2], 0.02)
    absent = {**inside, "params": 1e12}
    choices = [
        {"action": "run", "goals": goal(None, 0.4), "held": []},
        {"action": "run", "goals": goal(0.3, 0.2), "held": [inside, outside, absent]},
        {"action": "stop", "goals": goal(0.25, 0.25), "held": []},
    ]
    found = score(None, choices, law, finished)
    assert (found.within, found.held_out) == (1, 2)
    assert [(each.forecast, each.came) for each in found.batches] == [(0.4, 0.3), (0.2, 0.25)]
    assert found.sentences() == [
        "Expected of the last batch that was chosen: b/a ±0.200, came ±0.250.",
        "Runs held out: 1 of 2 within their intervals.",
    ]
    assert found.to_json()["sentences"] == found.sentences()


def test_where_nothing_was_forecast_nothing_is_said(law, finished):
    assert score(None, [], law, finished) == NOTHING
    assert NOTHING.sentences() == []
