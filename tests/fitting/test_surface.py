from __future__ import annotations

import numpy as np
import pytest

from isoflop.errors import InputError
from isoflop.fitting.cost import fit_cost
from isoflop.fitting.surface import Surfaces

CHINCHILLA = Surfaces(*(np.array([value]) for value in (1.8172, 482.01, 2085.43, 0.3478, 0.3658)))
PARAMS = np.geomspace(1e7, 1e11, 30)


def six_nd():
    return fit_cost(6 * PARAMS * 1e10, PARAMS, np.full(30, 1e10))


def counted():
    """A cost whose head and attention weigh less and less: γ from 0.82 to 1.0 over the sizes."""
    u = np.log(PARAMS / 1e9)
    return fit_cost(3 * np.exp(21 + 0.9 * u + 0.01 * u**2) * 1e10, PARAMS, np.full(30, 1e10))


def test_the_optimum_under_6nd_is_hoffmanns_closed_form():
    flops = np.geomspace(1e17, 1e26, 7)
    found = CHINCHILLA.optimum(flops, six_nd())
    _, A, B, alpha, beta = (float(getattr(CHINCHILLA, name)[0]) for name in ("E", "A", "B", "alpha", "beta"))
    expected = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
    assert found.params[0] == pytest.approx(expected, rel=1e-12)
    assert 6 * found.params * found.tokens == pytest.approx(flops[None], rel=1e-12)
    a, b = CHINCHILLA.exponents(1e20, six_nd())
    assert (a[0], b[0]) == pytest.approx((beta / (alpha + beta), alpha / (alpha + beta)), rel=1e-12)


def test_the_optimum_under_counted_flops_costs_c_and_nothing_on_its_budget_is_better():
    cost, flops = counted(), np.array([1e18, 1e21, 1e24])
    assert cost.form == "smooth"
    found = CHINCHILLA.optimum(flops, cost)
    for place in range(3):
        params, tokens = float(found.params[0, place]), float(found.tokens[0, place])
        assert cost.flops(params, tokens) == pytest.approx(flops[place], rel=1e-10)
        around = params * np.exp(np.linspace(-1, 1, 2001))
        losses = CHINCHILLA.at(around, cost.tokens(around, flops[place]))[0]
        assert around[losses.argmin()] == pytest.approx(params, rel=2e-3)
        assert losses.min() >= found.loss[0, place] - 1e-13


@pytest.mark.parametrize("flops", [1e19, 1e21, 1e23])
def test_exponents_under_counted_flops_are_the_slopes_of_the_optimum(flops):
    cost, step = counted(), 1e-4
    around = CHINCHILLA.optimum(flops * np.exp([-step, step]), cost)
    a, b = CHINCHILLA.exponents(flops, cost)
    assert a[0] == pytest.approx(float(np.diff(np.log(around.params[0]))[0]) / (2 * step), rel=1e-6)
    assert b[0] == pytest.approx(float(np.diff(np.log(around.tokens[0]))[0]) / (2 * step), rel=1e-6)
    assert a[0] + b[0] != pytest.approx(1.0, abs=1e-3)


def test_many_surfaces_are_as_each_alone():
    generator = np.random.default_rng(0)
    scales = generator.uniform(0.8, 1.2, (5, 20))
    names = ("E", "A", "B", "alpha", "beta")
    many = Surfaces(*(getattr(CHINCHILLA, name) * scale for name, scale in zip(names, scales, strict=True)))
    cost, flops = counted(), np.array([1e19, 1e22])
    together = many.optimum(flops, cost)
    for row in range(20):
        alone = Surfaces(*(getattr(many, name)[row : row + 1] for name in names))
        assert alone.optimum(flops, cost).params[0] == pytest.approx(together.params[row], rel=1e-13)
        assert alone.exponents(1e20, cost)[0] == pytest.approx(many.exponents(1e20, cost)[0][row : row + 1])


def test_a_budget_must_be_positive():
    from isoflop.fitting.parametric import fit_surface

    params, tokens = np.geomspace(1e7, 1e9, 30), np.tile(np.geomspace(1e9, 1e11, 5), 6)
    surface = fit_surface(params, tokens, CHINCHILLA.at(params, tokens)[0])
    assert surface.at(1e8, 1e10) == pytest.approx(float(CHINCHILLA.at(np.array([1e8]), np.array([1e10]))[0, 0]))
    with pytest.raises(InputError, match="flops must be positive and finite, but got -1"):
        surface.optimum(-1.0, six_nd())
    params_at, tokens_at, loss = surface.optimum(1e21, six_nd())
    assert 6 * params_at * tokens_at == pytest.approx(1e21)
    assert loss == pytest.approx(surface.at(params_at, tokens_at))
