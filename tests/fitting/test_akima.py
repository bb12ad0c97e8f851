from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import Akima1DInterpolator

from isoflop.fitting.akima import evaluate, find_spline_vertices, level_crossings, spline
from isoflop.fitting.minima import Status, find_minimum, profiles
from isoflop.fitting.points import judge
from isoflop.fitting.powerlaw import fit_lines


def noisy(count, rows=40, seed=0):
    generator = np.random.default_rng(seed)
    x = np.sort(generator.uniform(0, 5, count))
    return x, 0.05 * (x - 2.5) ** 2 + 0.05 * generator.standard_normal((rows, count))


@pytest.mark.parametrize("count", [3, 4, 5, 8, 14])
def test_splines_are_scipys(count):
    x, y = noisy(count)
    theirs = Akima1DInterpolator(x, y.T)
    for power, coefficients in enumerate(spline(x, y)):
        np.testing.assert_allclose(coefficients, theirs.c[3 - power].T, atol=1e-10)
    at = np.linspace(x[0], x[-1], 57)
    np.testing.assert_allclose(evaluate(x, y[3], at), theirs(at)[:, 3], atol=1e-10)


@pytest.mark.parametrize("count", [3, 5, 9])
def test_the_lowest_place_is_the_splines(count):
    x, y = noisy(count, seed=1)
    fine = np.linspace(x[0], x[-1], 20_001)
    heights = Akima1DInterpolator(x, y.T)(fine).T
    found = find_spline_vertices(x, y)
    np.testing.assert_allclose(found.height, heights.min(axis=1), atol=1e-6)
    lowest = heights.argmin(axis=1)
    np.testing.assert_array_equal(found.inside, (lowest > 0) & (lowest < len(fine) - 1))
    np.testing.assert_allclose(found.position, fine[lowest], atol=5e-4)


def test_straight_and_constant_profiles_have_no_valley():
    x = np.arange(5.0)
    found = find_spline_vertices(x, np.stack([x, -x, np.ones(5)]))
    assert not found.inside[:2].any()
    assert np.isfinite(found.position).all()


def test_the_sizes_within_a_share_of_the_loss_are_where_the_spline_crosses_it():
    x = np.arange(9.0)
    y = 0.03 * (x - 4.3) ** 2
    place = float(find_spline_vertices(x, y[None]).position[0])
    low, high = level_crossings(x, y, place, 0.03)
    assert low < place < high
    np.testing.assert_allclose(evaluate(x, y, np.array([low, high])), 0.03, atol=1e-12)
    assert level_crossings(x, y, place, 1e3) == (None, None)


def test_all_of_porians_published_exponents(shared):
    published = pd.read_csv(shared / "porian" / "published_fits.csv").set_index("exp")
    table = pd.read_csv(shared / "porian" / "isoflops.csv")
    assert len(published) == 15
    for name, points in table.groupby("exp"):
        minima = [find_minimum(profile, 5, "akima") for profile in profiles(judge(points))]
        found = [minimum for minimum in minima if minimum.status is Status.INTERIOR]
        y = np.log([[minimum.params, minimum.tokens] for minimum in found]).T
        lines = fit_lines(np.log([minimum.flops for minimum in found]), y, np.ones(y.shape, dtype=bool))
        assert lines.slope == pytest.approx(published.loc[name, ["a_basic", "b_basic"]].to_numpy(float), abs=0.005)


def test_sizes_of_equal_tokens_have_no_spline():
    """As where runs of one budget label are of two conventions of N."""
    params = np.geomspace(1e7, 1e9, 7)
    tokens = 1e18 / 6 / params
    tokens[3] = tokens[2]
    losses = 2 + 400 / params**0.35 + 400 / tokens**0.35
    table = pd.DataFrame({"flops": 1e18, "params": params, "tokens": tokens, "loss": losses})
    (profile,) = profiles(judge(table))
    refused = find_minimum(profile, 5, "akima")
    assert refused.status is Status.TOO_FEW
    assert "sizes of equal D" in refused.reason
    assert find_minimum(profile, 5).status is Status.INTERIOR
