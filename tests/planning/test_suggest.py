"""Suggested grids: cheaper, and they keep what they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.cost import six_nd
from isoflop.fitting.intervals import percentiles
from isoflop.planning.forecast import forecast_cells
from isoflop.planning.prior import published
from isoflop.planning.simulation import Cells, tables
from isoflop.planning.suggest import suggest_for
from isoflop.study import Study

SIX_ND = six_nd(1e6, 1e12)
SODA = published("soda-surface")
BUDGETS = (3e18, 9e18, 1.8e19, 3e19, 9e19, 1.8e20, 3e20)


def grid(**options):
    centers = [SODA.optimum(budget, SIX_ND) for budget in BUDGETS]
    return Cells.spaced(BUDGETS, centers, SIX_ND, **{"sizes": 9, "width": 8.0, **options})


def laid(suggestion):
    centers = [SODA.optimum(budget, SIX_ND) for budget in suggestion.budgets]
    return Cells.spaced(
        suggestion.budgets,
        centers,
        SIX_ND,
        sizes=suggestion.sizes,
        width=suggestion.width,
        replicates=suggestion.seeds,
    )


@pytest.fixture(scope="module")
def cheaper():
    """What tells as much as `grid`, with the progress told checked."""
    told = []
    suggestion = suggest_for(grid(), SODA, progress=lambda done, total: told.append((done, total)))
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)
    return suggestion


def test_a_third_of_the_flops_tells_as_much_and_simulated_studies_confirm_it(cheaper, through_minima):
    assert cheaper.share <= 0.3
    assert cheaper.instead_of.window == 9
    cells = laid(cheaper)
    assert cells.flops.sum() == pytest.approx(cheaper.flops)
    found = []
    for table in tables(cells, SODA, SIX_ND, noise=0.003, studies=100, seed=5):
        minima, lines = through_minima(table, 5)
        assert all(minimum.status == "interior" for minimum in minima)
        ratio = lines.ratio
        found.append([lines.law("params").exponent.value, ratio.value, (ratio.high - ratio.low) / 2])
    a, ratio, reported = np.array(found).T
    asked = cheaper.instead_of
    for values, most in ((a, asked.a.half_width), (ratio, asked.ratio.half_width)):
        low, high = percentiles(values)
        assert (high - low) / 2 <= 1.2 * most
    assert np.median(reported) <= 1.2 * cheaper.asked["ratio"]


def test_it_says_what_the_surface_would_tell_by_the_information_that_next_goes_by(cheaper):
    ours, theirs = (
        forecast_cells(cells, SODA, SIX_ND, target=cheaper.forecast.target, fits=0, draws=20).surface["ratio"]
        for cells in (laid(cheaper), grid())
    )
    assert f"b/a ±{ours:.3g} (the plan: ±{theirs:.3g})" in str(cheaper)


def test_flops_are_spent_to_tell_the_most():
    suggestion = suggest_for(grid(), SODA, flops=4.6e20)
    assert suggestion.flops <= 4.6e20
    assert suggestion.asked == {}
    budgets = np.geomspace(3e18, 3e19, 5)
    plain = Cells.spaced(budgets, [SODA.optimum(each, SIX_ND) for each in budgets], SIX_ND, sizes=7, width=8.0)
    assert plain.flops.sum() == pytest.approx(4.53e20, rel=0.01)
    told = forecast_cells(plain, SODA, SIX_ND, window="all", target=3e21, fits=0)
    assert suggestion.forecast.ratio.half_width < told.ratio.half_width
    document = json.loads(json.dumps(suggestion.to_json(), allow_nan=False))
    assert document["overrides"] == suggestion.overrides
    assert "believed, not seen" in str(suggestion)


def test_the_overrides_make_the_grid(cheaper):
    content = {"name": "x", "grid": {"budgets": [1e18], "runs": 64, "generator": "centred", "prior": "soda-anchor"}}
    for override in cheaper.overrides:
        key, value = override.removeprefix("grid.").split("=")
        content["grid"][key] = None if value == "null" else json.loads(value) if value[0] in "[0123456789" else value
    made = Study.parse(content).grid
    assert made.budgets == cheaper.budgets
    assert made.target == cheaper.forecast.target == cheaper.instead_of.target
    assert made.runs == cheaper.runs == len(cheaper.budgets) * cheaper.sizes * cheaper.seeds
    assert (made.seeds, made.width, made.prior.published) == (cheaper.seeds, cheaper.width, "soda-surface")


def test_what_no_grid_meets_is_no_answer():
    with pytest.raises(
        NoAnswerError, match=r"no grid of 5 budgets and 5 sizes .* costs as little as 1e18: the cheapest costs 3\.24e20"
    ):
        suggest_for(grid(), SODA, flops=1e18)
    small = grid(sizes=5)
    single = Cells(*(getattr(small, name)[small.budget == 3e18] for name in vars(small)))
    with pytest.raises(NoAnswerError, match="there is none"):
        suggest_for(single, SODA, flops=1e20)
    with pytest.raises(NoAnswerError, match="must tell a law for another to tell as much, but 0 % of its simulated"):
        suggest_for(single, SODA)
    with pytest.raises(NoAnswerError, match=r"meets half-widths of ratio ±0.001: the nearest misses by a factor of"):
        suggest_for(
            Cells(*(getattr(small, name)[small.budget < 1e19] for name in vars(small))), SODA, within={"ratio": 0.001}
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"within": {"ratio": 0.1}, "flops": 1e20}, "at most one of within and flops"),
        ({"within": {"slope": 0.1}}, "of a, b, ratio, params, but got slope: 0.1"),
        ({"within": {"a": 0.0}}, "must be positive"),
        ({"noise": 0.0}, "noise must be above 0 for grids to differ"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        suggest_for(grid(), SODA, **options)
