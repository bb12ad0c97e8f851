"""Simulated studies: the fit's own arithmetic, many at once."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.errors import InputError
from isoflop.fitting.cost import six_nd
from isoflop.planning.ledger import DataFacts
from isoflop.planning.plan import plan
from isoflop.planning.prior import Line, Prior, published
from isoflop.planning.simulation import Cells, log_losses, reported, simulate, tables
from isoflop.study import Study

SIX_ND = six_nd(1e6, 1e12)
SODA, CHINCHILLA = published("soda-surface"), published("besiroglu2024")
BUDGETS = tuple(np.geomspace(1e19, 1e21, 5))


def grid(prior=SODA, off=1.0, **options):
    centers = [off * prior.optimum(budget, SIX_ND) for budget in BUDGETS]
    return Cells.spaced(BUDGETS, centers, SIX_ND, **{"sizes": 7, "width": 8.0, **options})


def demo_plan():
    content = {"name": "x", "grid": {"budgets": [2.5e10, 5e10, 1.2e11], "sizes": [8, 12, 16, 20, 24, 28, 32, 40]}}
    return plan(Study.parse(content), DataFacts("data", 240, 50_000_000))


def test_cells_of_a_plan_hold_its_runs_and_share_trunks():
    planned = demo_plan()
    cells = Cells.of(planned)
    assert sorted(cells.flops.tolist()) == sorted(run.flops for run in planned.runs)
    assert list(cells.budget) == sorted(cells.budget)
    for budget in (2.5e10, 5e10, 1.2e11):
        assert np.all(np.diff(cells.params[cells.budget == budget]) > 0)
    assert len(np.unique(cells.trunk)) == len({run.trunk for run in planned.runs}) == 8
    for trunk in np.unique(cells.trunk):
        assert len(np.unique(cells.params[cells.trunk == trunk])) == 1


def test_a_grid_is_laid_out_as_asked():
    cells = grid(sizes=5, width=16.0, replicates=3)
    assert len(cells.params) == 5 * 5 * 3
    first = cells.params[cells.budget == BUDGETS[0]]
    assert first[-1] / first[0] == pytest.approx(16)
    assert np.sqrt(first[0] * first[-1]) == pytest.approx(SODA.optimum(BUDGETS[0], SIX_ND))
    assert SIX_ND.flops(cells.params, cells.tokens) == pytest.approx(cells.flops)
    assert len(np.unique(cells.trunk)) == 75


def test_a_run_is_worth_its_own_size_and_tokens():
    cells = Cells.of(demo_plan())
    expected = np.log(SODA.surface.loss(cells.params, cells.tokens))
    assert log_losses(cells, SODA, cells.cost) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("window", [5, 7])
def test_a_simulated_study_is_what_the_fit_makes_of_its_table(window, through_minima):
    options = {"noise": 0.003, "seed": 4}
    cells = grid(replicates=2)
    studies = simulate(cells, SODA, SIX_ND, window=window, draws=4, **options)
    for row, table in enumerate(tables(cells, SODA, SIX_ND, studies=4, **options)):
        minima, lines = through_minima(table, window)
        inside = [minimum.params is not None for minimum in minima]
        assert studies.draws.inside[row].tolist() == inside
        found = np.exp(studies.draws.log_params[row, inside])
        assert found == pytest.approx([minimum.params for minimum in minima if minimum.params], rel=1e-9)
        assert studies.log_params.slope[row] == pytest.approx(lines.law("params").exponent.value, rel=1e-9)
        assert studies.log_tokens.slope[row] == pytest.approx(lines.law("tokens").exponent.value, rel=1e-9)


def test_noise_shared_by_a_trunk_moves_its_runs_together():
    cells = grid(sizes=5)
    together = Cells(cells.budget, cells.flops, cells.params, cells.tokens, np.tile(np.arange(5), len(BUDGETS)))
    options = {"noise": 0.003, "window": 5, "draws": 500}
    apart, shared = (simulate(each, CHINCHILLA, SIX_ND, **options) for each in (cells, together))
    correlation = [np.corrcoef(each.draws.log_params[:, :2].T)[0, 1] for each in (apart, shared)]
    assert abs(correlation[0]) < 0.15
    assert correlation[1] > 0.9


def test_the_half_widths_to_expect_heed_what_the_branches_of_a_trunk_share(monkeypatch):
    """The sizes of grids/demo.yaml, with trunks, against the same noise in tables that do not name them."""
    ladder = np.array([4096, 7680, 12288, 17920, 24576, 40896, 61360, 85920, 147328, 225120], dtype=float)
    trunk = (np.arange(5)[:, None] + np.arange(6)).ravel()
    flops, params = np.repeat([2.4e10, 5e10, 1.05e11, 2.2e11, 4.6e11], 6), ladder[trunk]
    cells, cost = Cells(flops, flops, params, flops / 6 / params, trunk), six_nd(1e3, 1e6)
    prior = Prior("line", "", line=Line("params", 1.05e11, 2.8e4, 0.58))
    unnamed = [table.drop(columns="trunk") for table in tables(cells, prior, cost, noise=0.003, studies=40)]
    options = {"noise": 0.003, "window": 5, "target": 4.6e12, "studies": 40}
    heeded = reported(cells, prior, cost, **options)
    monkeypatch.setattr("isoflop.planning.simulation.tables", lambda *_, **__: iter(unnamed))
    unheeded = reported(cells, prior, cost, **options)
    assert all(wide > 1.05 * narrow for wide, narrow in zip(heeded, unheeded, strict=True)), (heeded, unheeded)


def test_budgets_with_too_few_sizes_have_no_minimum():
    studies = simulate(grid(sizes=2), SODA, SIX_ND, noise=0.001, window=5, draws=10)
    assert not studies.draws.inside.any()
    assert np.isnan(studies.log_params.slope).all()


def test_what_the_fit_reports_is_infinite_without_a_law_and_unknown_without_fits():
    options = {"noise": 0.003, "window": 5, "target": 1e22}
    assert np.isinf(reported(grid(off=30.0), SODA, SIX_ND, studies=3, **options)).all()
    assert np.isnan(reported(grid(), SODA, SIX_ND, studies=0, **options)).all()


def test_a_plan_without_runs_has_no_cells():
    class Empty:
        runs = ()

    with pytest.raises(InputError, match="a plan with runs, but got none"):
        Cells.of(Empty())
