from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from isoflop.errors import InputError
from isoflop.fitting.cost import fit_cost
from isoflop.fitting.parametric import fit_surface, search
from isoflop.fitting.parametric_bootstrap import bootstrap_surface, fit_surfaces
from isoflop.fitting.surface import Surfaces

SURFACE = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)
TRUTH = Surfaces(*(np.array([value]) for value in SURFACE))
TRUE_A = SURFACE[4] / (SURFACE[3] + SURFACE[4])


def study(noise=0.003, seed=0, budgets=7, sizes=9):
    generator = np.random.default_rng(seed)
    flops = np.repeat(np.geomspace(6e18, 3e21, budgets), sizes)
    best = TRUTH.optimum(np.unique(flops), fit_cost(np.array([6e18]), np.array([1e9]), np.array([1e9]))).params[0]
    params = np.repeat(best, sizes) * np.tile(np.geomspace(0.35, 2.8, sizes), budgets)
    tokens = flops / 6 / params
    loss = TRUTH.at(params, tokens)[0] * np.exp(noise * generator.standard_normal(len(params)))
    return params, tokens, loss, np.unique(flops, return_inverse=True)[1]


def six_nd(params, tokens):
    return fit_cost(6 * params * tokens, params, tokens)


@pytest.mark.parametrize("delta", ["auto", 1e-3, None])
def test_integer_weights_are_the_points_that_often(delta):
    params, tokens, loss, _ = study()
    found = search(params, tokens, loss, delta=delta)
    counts = np.random.default_rng(1).multinomial(63, np.ones(63) / 63, 6).astype(float)
    surfaces, descent = fit_surfaces(found, counts)
    assert descent.certified.all()
    for row in range(6):
        rows = np.repeat(np.arange(63), counts[row].astype(int))
        alone = fit_surface(params[rows], tokens[rows], loss[rows], delta=None if delta is None else found.delta)
        assert alone.values == pytest.approx(
            [getattr(surfaces, name)[row] for name in ("E", "A", "B", "alpha", "beta")], rel=1e-5
        )


@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_no_resample_is_fitted_worse_than_scipy_does(noise):
    params, tokens, loss, _ = study(noise)
    found = search(params, tokens, loss, delta=1e-3)
    counts = np.random.default_rng(2).multinomial(63, np.ones(63) / 63, 25).astype(float)
    _, descent = fit_surfaces(found, counts)
    x, z, y = np.log(params), np.log(tokens), np.log(loss)
    natural = found.problem.to_natural(found.minima.theta[0])
    start = [math.log(natural[1]), math.log(natural[2]), math.log(max(natural[0], 1e-3)), natural[3], natural[4]]

    def objective(theta, weights):
        a, b, e, alpha, beta = theta
        terms = np.exp(np.stack([a - alpha * x, b - beta * z, np.full_like(x, e)]))
        residual = y - np.log(terms.sum(axis=0))
        pull = np.clip(residual, -1e-3, 1e-3)
        force, shares = weights * pull, terms / terms.sum(axis=0)
        gradient = [-(force @ shares[0]), -(force @ shares[1]), -(force @ shares[2])]
        gradient += [(force * x) @ shares[0], (force * z) @ shares[1]]
        return float(force @ (residual - pull / 2)), np.array(gradient)

    with np.errstate(all="ignore"):
        theirs = [minimize(objective, start, (row,), jac=True, method="BFGS").fun for row in counts]
    assert (descent.value <= np.array(theirs) * (1 + 1e-9)).all()


@pytest.mark.parametrize("scheme", ["pairs", "stratified", "clustered"])
def test_equal_input_gives_equal_draws_whatever_the_order_of_the_points(scheme):
    params, tokens, loss, budget = study()
    order = np.random.default_rng(4).permutation(63)
    one = bootstrap_surface(search(params, tokens, loss), 50, 7, scheme=scheme, labels=budget)
    other = bootstrap_surface(
        search(params[order], tokens[order], loss[order]), 50, 7, scheme=scheme, labels=budget[order]
    )
    assert (one.surfaces.alpha == other.surfaces.alpha).all()
    different = bootstrap_surface(search(params, tokens, loss), 50, 8, scheme=scheme, labels=budget)
    assert not (one.surfaces.alpha == different.surfaces.alpha).all()


def test_points_that_share_their_noise_need_clusters():
    """Three branches of a trunk with one noise are one run's worth: pairs are too sure by √3."""
    params, tokens, loss, _ = study()
    error = np.repeat(loss / TRUTH.at(params, tokens)[0], 3)
    params, tokens = np.repeat(params, 3) * np.tile([1.0, 1.01, 0.99], 63), np.repeat(tokens, 3)
    found, cost = search(params, tokens, TRUTH.at(params, tokens)[0] * error), six_nd(params, tokens)
    pairs = bootstrap_surface(found, 500, 0).intervals(1e20, cost)
    trunks = [f"trunk {each}" for each in np.repeat(np.arange(63), 3)]
    clusters = bootstrap_surface(found, 500, 0, scheme="clustered", labels=trunks).intervals(1e20, cost)
    for name in ("E", "a", "alpha"):
        wide, narrow = (high - low for low, high in (getattr(clusters, name), getattr(pairs, name)))
        assert wide / narrow == pytest.approx(3**0.5, rel=0.2)
    assert clusters.scheme == "clustered"


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    inside, failed = [], []
    for seed in range(60):
        params, tokens, loss, _ = study(seed=seed)
        drawn = bootstrap_surface(search(params, tokens, loss), 200, seed)
        found = drawn.intervals(1e20, six_nd(params, tokens))
        inside.append([found.a[0] <= TRUE_A <= found.a[1], found.E[0] <= SURFACE[0] <= found.E[1]])
        failed.append(found.failed)
    assert (np.mean(inside, axis=0) >= 0.86).all()
    # An interval that always covers says too little.
    assert np.mean(failed) < 0.01


def test_a_floor_that_is_not_held_ends_at_zero_in_a_share_of_the_draws():
    generator = np.random.default_rng(3)
    flops = np.repeat(np.geomspace(2.5e10, 6e11, 5), 6)
    params = np.exp(generator.uniform(-1, 1, 30)) * 2e4 * (flops / 1e11) ** 0.6
    tokens = flops / 6 / params
    loss = (0.5 + 200 / params**0.45 + 300 / tokens**0.4) * np.exp(0.03 * generator.standard_normal(30))
    drawn = bootstrap_surface(search(params, tokens, loss), 300, 0)
    found = drawn.intervals(1e11, six_nd(params, tokens))
    assert found.bounded > 0.05
    assert found.E[0] == 0
    assert found.failed < 0.05


def test_wrong_schemes_are_refused():
    params, tokens, loss, budget = study()
    found = search(params, tokens, loss)
    with pytest.raises(
        InputError, match="the scheme 'stratified' needs a label for each of the 63 points, but got none"
    ):
        bootstrap_surface(found, 10, 0, scheme="stratified")
    with pytest.raises(InputError, match="but got 5"):
        bootstrap_surface(found, 10, 0, scheme="clustered", labels=budget[:5])
    with pytest.raises(InputError, match="clusters must be at least two"):
        bootstrap_surface(found, 10, 0, scheme="clustered", labels=["one"] * 63)
    with pytest.raises(InputError, match="draws >= 1"):
        bootstrap_surface(found, 0, 0)
    with pytest.raises(InputError, match=r"shape \(r, 63\)"):
        fit_surfaces(found, np.ones((2, 5)))
