from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.parametric import Prior, fit_surface, search
from isoflop.fitting.surface import SurfaceStatus

CHINCHILLA = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)
SODA_LIKE = (1.7, 60.0, 300.0, 0.28, 0.22)
CS336 = Path(__file__).parents[2].parent / "shared" / "data" / "cs336_isoflops.json"
NAMES = ("E", "A", "B", "alpha", "beta")


def sample(surface=CHINCHILLA, count=240, noise=0.004, seed=0):
    generator = np.random.default_rng(seed)
    params = np.exp(generator.uniform(np.log(44e6), np.log(16e9), count))
    tokens = np.exp(generator.uniform(np.log(6e18), np.log(3e21), count)) / 6 / params
    E, A, B, alpha, beta = surface
    loss = (E + A / params**alpha + B / tokens**beta) * np.exp(noise * generator.standard_t(3, count))
    return params, tokens, loss


def reference_objective(theta, params, tokens, loss, delta):
    """The Chinchilla paper's objective and gradient by (ln A, ln B, ln E, α, β), written independently."""
    a, b, e, alpha, beta = theta
    x, z = np.log(params), np.log(tokens)
    terms = np.exp(np.stack([a - alpha * x, b - beta * z, np.full_like(x, e)]))
    residual = np.log(loss) - np.log(terms.sum(axis=0))
    pull = np.clip(residual, -delta, delta)
    shares = terms / terms.sum(axis=0)
    gradient = [-(pull @ shares[0]), -(pull @ shares[1]), -(pull @ shares[2])]
    gradient += [(pull * x) @ shares[0], (pull * z) @ shares[1]]
    return float((pull * (residual - pull / 2)).sum()), np.array(gradient)


@pytest.mark.skipif(not CS336.is_file(), reason=f"published points are not here: {CS336.name} in ../shared/data")
def test_cs336s_law_is_recovered_to_a_millionth():
    rows = json.loads(CS336.read_text(encoding="utf-8"))
    params, flops, loss = (
        np.array([row[name] for row in rows], dtype=float) for name in ("parameters", "compute_budget", "final_loss")
    )
    surface = fit_surface(params, flops / 6 / params, loss)
    assert surface.values == pytest.approx((2.69, 1606.4, 3210.7, 0.34, 0.36), rel=1e-6)
    assert surface.beta / (surface.alpha + surface.beta) == pytest.approx(0.36 / 0.7, abs=1e-6)
    assert surface.status is SurfaceStatus.CONVERGED
    assert surface.agreeing == surface.starts


@pytest.mark.parametrize("surface", [CHINCHILLA, SODA_LIKE, (0.0, 12.0, 4000.0, 0.08, 0.4)])
@pytest.mark.parametrize("delta", ["auto", None, 1e-3])
def test_a_noise_free_surface_is_recovered(surface, delta):
    found = fit_surface(*sample(surface, noise=0.0), delta=delta)
    assert found.values == pytest.approx(surface, rel=1e-6, abs=1e-6)
    assert found.objective < 1e-15


@pytest.mark.parametrize("surface", [CHINCHILLA, SODA_LIKE])
@pytest.mark.parametrize("noise", [0.003, 0.02])
@pytest.mark.parametrize("delta", [1e-3, 0.01])
def test_no_descent_of_scipys_ends_lower(surface, noise, delta):
    columns = sample(surface, noise=noise, seed=3)
    found = fit_surface(*columns, delta=delta)
    generator = np.random.default_rng(0)
    starts = [[math.log(found.A), math.log(found.B), math.log(found.E), found.alpha, found.beta]]
    starts += [
        [generator.uniform(0, 20), generator.uniform(0, 20), generator.uniform(-1, 1), *generator.uniform(0.05, 1, 2)]
        for _ in range(8)
    ]
    with np.errstate(all="ignore"):
        ends = [
            minimize(reference_objective, start, (*columns, delta), jac=True, method="BFGS").fun for start in starts
        ]
    own, gradient = reference_objective(np.array(starts[0]), *columns, delta)
    assert found.objective == pytest.approx(own, rel=1e-9)
    assert np.abs(gradient).max() < 1e-9
    assert found.objective <= min(ends) * (1 + 1e-10)


def test_the_units_of_params_tokens_and_loss_scale_the_answer_and_nothing_else():
    params, tokens, loss = sample()
    found = fit_surface(params, tokens, loss)
    scaled = fit_surface(params * 1e3, tokens / 7, loss * 2.5)
    assert pytest.approx(2.5 * found.E, rel=1e-7) == scaled.E
    assert pytest.approx(2.5 * found.A * 1e3**found.alpha, rel=1e-6) == scaled.A
    assert pytest.approx(2.5 * found.B / 7**found.beta, rel=1e-6) == scaled.B
    for name in ("alpha", "beta", "objective", "delta", "noise", "condition"):
        assert getattr(scaled, name) == pytest.approx(getattr(found, name), rel=1e-6)
    linear, doubled = (fit_surface(params, tokens, factor * loss, residual="linear") for factor in (1, 2))
    assert pytest.approx(2 * linear.E, rel=1e-6) == doubled.E
    assert doubled.delta == pytest.approx(2 * linear.delta, rel=1e-6)
    assert doubled.objective == pytest.approx(4 * linear.objective, rel=1e-6)


def test_the_order_of_the_points_changes_nothing():
    columns = sample()
    order = np.random.default_rng(5).permutation(240)
    assert fit_surface(*(column[order] for column in columns)) == fit_surface(*columns)


def test_a_point_twice_is_a_point_of_weight_two():
    columns = sample(count=60)
    twice = fit_surface(*(np.concatenate([column, column[:20]]) for column in columns), delta=0.005)
    weights = np.where(np.arange(60) < 20, 2.0, 1.0)
    assert fit_surface(*columns, weights=weights, delta=0.005).values == pytest.approx(twice.values, rel=1e-7)
    everything_twice = fit_surface(*(np.tile(column, 2) for column in columns))
    assert everything_twice.values == pytest.approx(fit_surface(*columns).values, rel=1e-7)
    without = fit_surface(*(column[20:] for column in columns), delta=0.005)
    none = fit_surface(*columns, weights=np.where(np.arange(60) < 20, 0.0, 1.0), delta=0.005)
    assert none.values == pytest.approx(without.values, rel=1e-7)


def test_delta_auto_is_1345_robust_sds_of_its_own_residuals():
    columns = sample(noise=0.01)
    found = fit_surface(*columns)
    residual = np.log(columns[2] / found.at(columns[0], columns[1]))
    assert found.noise == pytest.approx(1.4826 * np.median(np.abs(residual)), rel=2e-2)
    assert found.delta == pytest.approx(1.345 * found.noise, rel=2e-3)
    assert fit_surface(*columns, delta=found.delta).values == pytest.approx(found.values, rel=1e-6)


def test_outliers_do_not_choose_the_basin():
    params, tokens, loss = sample(noise=0.002)
    spoiled = loss.copy()
    spoiled[::12] *= 1.8
    found = fit_surface(params, tokens, spoiled)
    assert found.values[3:] == pytest.approx(CHINCHILLA[3:], abs=0.02)
    squares = fit_surface(params, tokens, spoiled, delta=None)
    assert abs(squares.E / CHINCHILLA[0] - 1) > 5 * abs(found.E / CHINCHILLA[0] - 1)


def test_pins_and_ties_are_kept_and_cost_what_they_must():
    columns = sample()
    free = fit_surface(*columns, delta=0.005)
    for pins in (
        {"E": 1.7},
        {"A": 400.0},
        {"alpha": 0.34, "beta": 0.37},
        {"E": 0.0},
        {"E": 1.8, "A": 480.0, "B": 2000.0},
    ):
        held = fit_surface(*columns, delta=0.005, pins=pins)
        assert all(getattr(held, name) == pytest.approx(value, rel=1e-12) for name, value in pins.items())
        assert held.objective > free.objective
        assert held.pins == tuple(sorted(pins.items()))
    tied = fit_surface(*columns, delta=0.005, ties=["alpha=beta"])
    assert tied.alpha == tied.beta
    assert tied.objective > free.objective
    assert (
        pytest.approx(fit_surface(*columns, delta=0.005, ties=["A=B"]).B, rel=1e-9)
        == fit_surface(*columns, delta=0.005, ties=["A=B"]).A
    )
    # A pin at the answer changes nothing.
    assert fit_surface(*columns, delta=0.005, pins={"A": free.A}).values == pytest.approx(free.values, rel=1e-6)


def test_sigma_weighs_points_by_their_noise_and_only_relatively():
    errors = []
    for seed in range(8):
        params, tokens, loss = sample(noise=0.0, seed=seed)
        generator = np.random.default_rng(seed)
        sigma = np.where(generator.random(240) < 0.5, 0.002, 0.04)
        loss = loss * np.exp(sigma * generator.standard_normal(240))
        aware, blind = fit_surface(params, tokens, loss, sigma=sigma), fit_surface(params, tokens, loss, delta=None)
        errors.append([aware.E - CHINCHILLA[0], blind.E - CHINCHILLA[0]])
    aware_sd, blind_sd = np.sqrt(np.mean(np.square(errors), axis=0))
    assert aware_sd < 0.6 * blind_sd
    assert fit_surface(params, tokens, loss, sigma=10 * sigma).values == pytest.approx(aware.values, rel=1e-7)
    constant = fit_surface(params, tokens, loss, sigma=np.full(240, 0.3))
    assert constant == fit_surface(params, tokens, loss)


def test_losses_that_are_not_positive_are_fitted_as_they_are():
    params, tokens, loss = sample()
    shifted = fit_surface(params, tokens, loss - 3)
    assert (loss - 3).min() < 0
    assert shifted.residual == "linear"
    linear = fit_surface(params, tokens, loss, residual="linear")
    assert pytest.approx(linear.E - 3, rel=1e-6) == shifted.E
    assert shifted.values[1:] == pytest.approx(linear.values[1:], rel=1e-6)
    with pytest.raises(InputError, match="a log residual needs positive losses"):
        fit_surface(params, tokens, loss - 3, residual="log")


def test_a_prior_pulls_where_the_points_are_silent_and_not_where_they_speak():
    generator = np.random.default_rng(3)
    flops = np.repeat(np.geomspace(2.5e10, 6e11, 5), 6)
    params = np.exp(generator.uniform(-1, 1, 30)) * 2e4 * (flops / 1e11) ** 0.6
    tokens = flops / 6 / params
    loss = (0.5 + 200 / params**0.45 + 300 / tokens**0.4) * np.exp(0.01 * generator.standard_normal(30))
    prior = {"E": Prior(math.log(0.9), 0.05)}
    vague, pulled = fit_surface(params, tokens, loss), fit_surface(params, tokens, loss, priors=prior)
    assert abs(math.log(pulled.E / 0.9)) < 0.15 < abs(math.log(vague.E / 0.9))
    sure = {"alpha": Prior(math.log(0.2), 1.0), "beta": Prior(math.log(0.2), 1.0)}
    columns = sample()
    assert fit_surface(*columns, priors=sure).values == pytest.approx(fit_surface(*columns).values, rel=0.02)
    firm = fit_surface(*columns, priors={"alpha": Prior(math.log(0.25), 1e-5)})
    assert firm.alpha == pytest.approx(0.25, rel=1e-3)
    with pytest.raises(InputError, match="a prior must be on E, alpha or beta"):
        fit_surface(*columns, priors={"A": Prior(1.0, 1.0)})


@pytest.mark.parametrize("noise", [0.0, 0.004])
@pytest.mark.parametrize("ratio", [20.0, 0.5])
def test_a_fixed_number_of_tokens_per_parameter_is_not_identifiable(noise, ratio):
    params, _, _ = sample(count=60)
    E, A, B, alpha, beta = CHINCHILLA
    tokens = ratio * params
    loss = (E + A / params**alpha + B / tokens**beta) * np.exp(noise * np.random.default_rng(0).standard_normal(60))
    found = fit_surface(params, tokens, loss)
    assert found.status is SurfaceStatus.NOT_IDENTIFIABLE
    assert "tokens per parameter" in found.reason
    assert np.isfinite(found.values).all()
    assert not found.trusted


def test_one_budget_is_not_identifiable_and_asks_for_another():
    params = np.geomspace(1e8, 1e10, 20)
    E, A, B, alpha, beta = CHINCHILLA
    found = fit_surface(params, 1e20 / 6 / params, E + A / params**alpha + B / (1e20 / 6 / params) ** beta)
    assert found.status is SurfaceStatus.NOT_IDENTIFIABLE
    assert "one budget" in found.reason
    assert found.reason.endswith("add budgets")


def test_two_sizes_do_not_hold_an_exponent():
    params, tokens = np.repeat([1e8, 1e9], 15), np.tile(np.geomspace(1e9, 1e11, 15), 2)
    E, A, B, alpha, beta = CHINCHILLA
    found = fit_surface(params, tokens, E + A / params**alpha + B / tokens**beta)
    assert found.status is SurfaceStatus.NOT_IDENTIFIABLE
    assert np.isfinite(found.values).all()


def test_a_floor_that_the_points_do_not_want_is_at_its_bound_and_says_what_to_do():
    params, tokens, _ = sample(count=60)
    found = fit_surface(params, tokens, 30 / params**0.12 + 200 / tokens**0.3 - 0.3)
    assert found.status is SurfaceStatus.AT_BOUND
    assert found.E == 0
    assert found.reason.startswith("E ended at")


def test_what_cannot_be_fitted_is_refused():
    params, tokens, loss = sample(count=12)
    with pytest.raises(NoAnswerError, match="needs at least 6 points, but got 5"):
        fit_surface(params[:5], tokens[:5], loss[:5])
    assert fit_surface(params[:5], tokens[:5], loss[:5], ties=["alpha=beta"]).points == 5
    with pytest.raises(NoAnswerError, match="all 12 losses are equal, 3"):
        fit_surface(params, tokens, np.full(12, 3.0))
    with pytest.raises(InputError, match="params must be positive"):
        fit_surface(-params, tokens, loss)
    with pytest.raises(InputError, match="loss must be finite, but got nan at 0"):
        fit_surface(params, tokens, loss * np.nan)
    with pytest.raises(InputError, match=r"must have the shape \(n,\) of params"):
        fit_surface(params, tokens[:5], loss)
    with pytest.raises(InputError, match="delta must be 'auto', None"):
        fit_surface(params, tokens, loss, delta=-1.0)
    for pins in ({"beta": 1e9}, {"alpha": 1e-9}):
        with pytest.raises(InputError, match=r"must lie between 0.001 and 10, but got 1e"):
            fit_surface(params, tokens, loss, pins=pins)
    with pytest.raises(InputError, match="the pinned E must lie below the losses"):
        fit_surface(params, tokens, loss, pins={"E": float(loss.max())})
    with pytest.raises(InputError, match="at least one parameter must be free"):
        fit_surface(params, tokens, loss, pins=dict(zip(NAMES, CHINCHILLA, strict=True)))


def test_many_points_are_searched_on_some_and_fitted_on_all():
    columns = sample(count=30_000)
    found = search(*columns)
    assert len(found.problem.x) == 30_000
    surface = fit_surface(*columns)
    assert surface.values == pytest.approx(CHINCHILLA, rel=0.02)
    start = np.array([math.log(surface.A), math.log(surface.B), math.log(surface.E), surface.alpha, surface.beta])
    _, gradient = reference_objective(start, *columns, surface.delta)
    assert np.abs(gradient).max() < 1e-6
