"""Whole laws of simulated studies hold the truth about as often as they say: a small benchmarks/coverage.py."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.fitting import fit

SURFACES = {"chinchilla": (1.8172, 482.01, 2085.43, 0.3478, 0.3658), "soda": (3.169, 215_886.0, 4_750.0, 0.684, 0.439)}


@pytest.mark.slow
@pytest.mark.parametrize("misfit", [0.0, 0.0015])
@pytest.mark.parametrize("name", SURFACES)
def test_95_percent_intervals_of_a_hold_the_truth(study, name, misfit):
    """25 studies a cell, seven budgets × 9 sizes, noise 0.003; at least 22, which 92 % would give in nine of ten."""
    surface = SURFACES[name]
    truth = surface[4] / (surface[3] + surface[4])
    generator = np.random.default_rng(0)
    table = study(surface, np.geomspace(3e18, 3e20, 7), sizes=9)
    x, z = np.log(table["params"].to_numpy()), np.log(table["tokens"].to_numpy())
    apart = np.subtract.outer(x, x) ** 2 + np.subtract.outer(z, z) ** 2
    smooth = np.linalg.cholesky(np.exp(-apart / (2 * 1.5**2)) + 1e-9 * np.eye(len(x)))
    held = 0
    for seed in range(25):
        off = 0.003 * generator.standard_normal(len(x)) + misfit * smooth @ generator.standard_normal(len(x))
        a = fit(table.assign(loss=table["loss"] * np.exp(off)), bootstrap=100, seed=seed).exponents.a
        held += a.low <= truth <= a.high
    assert held >= 22
