from __future__ import annotations

import numpy as np
import pytest

from isoflop.fitting.cost import fit_cost
from isoflop.flops import Shape


def ladder(widths):
    return [
        Shape(
            n_layers=max(2, width // 64),
            d_model=width,
            n_heads=max(1, width // 64),
            n_kv_heads=max(1, width // 64),
            head_size=64,
            d_mlp=4 * width,
            vocabulary=32768,
            sequence_length=2048,
            tied_head=False,
        )
        for width in widths
    ]


def test_6nd_is_recognised_to_a_thousandth_and_no_farther():
    params = np.geomspace(1e6, 1e9, 7)
    tokens = np.geomspace(1e11, 1e9, 7)
    model = fit_cost(6 * params * tokens * 1.0009, params, tokens)
    assert model.form == "6nd"
    assert model.worst == pytest.approx(9e-4, rel=1e-3)
    assert model.flops(2e6, 3e9) == pytest.approx(36e15, rel=1e-12)
    assert model.slope(1e7) == 1.0
    assert fit_cost(6 * params * tokens * 1.0012, params, tokens).form == "smooth"


def test_a_quadratic_of_ln_n_is_recovered_exactly_and_goes_on_straight():
    params = np.geomspace(1e6, 1e9, 9)
    u = np.log(params / 1e7)
    forward = np.exp(15 + 0.8 * u + 0.01 * u**2)
    tokens = np.full(9, 1e9)
    model = fit_cost(3 * forward * tokens, params, tokens)
    assert model.worst < 1e-12
    assert model.flops(1e7, 1e9) == pytest.approx(3 * np.exp(15) * 1e9, rel=1e-10)
    assert model.slope(1e8) == pytest.approx(0.8 + 0.02 * np.log(10), rel=1e-9)
    # Beyond the sizes: the slope at the end, and no step there.
    assert model.slope(1e12) == pytest.approx(model.slope(1e9), rel=1e-12)
    ratio = model.flops(1e12, 1e9) / model.flops(1e9, 1e9)
    assert np.log(ratio) / np.log(1e3) == pytest.approx(model.slope(1e9), rel=1e-9)


def test_tokens_undo_flops_for_arrays():
    params = np.array([1e7, 3e7, 1e8, 5e8])
    model = fit_cost(np.array([1e8, 2.5e8, 7e8, 3e9]), params, np.ones(4))
    sizes, tokens = np.array([2e7, 9e7]), np.array([1e9, 2e9])
    assert model.tokens(sizes, model.flops(sizes, tokens)) == pytest.approx(tokens)


def test_the_slope_is_the_derivative_and_tokens_invert_flops():
    shapes = ladder(range(128, 1152, 128))
    params = np.array([shape.parameters.total for shape in shapes], dtype=float)
    tokens = np.full(len(shapes), 1e9)
    model = fit_cost(np.array([shape.training_flops(1e9) for shape in shapes]), params, tokens)
    assert model.form == "smooth"
    assert model.worst < 0.02
    for size in (1e7, 1e8, 1e10):
        step = 1e-5
        numeric = np.log(model.flops(size * np.exp(step), 1.0) / model.flops(size * np.exp(-step), 1.0)) / (2 * step)
        assert model.slope(size) == pytest.approx(numeric, rel=1e-6)
        assert model.flops(size, model.tokens(size, 1e20)) == pytest.approx(1e20, rel=1e-12)


def test_one_or_two_sizes_give_a_lower_degree():
    one = fit_cost(np.array([1e12, 2e12]), np.array([1e5, 1e5]), np.array([1e6, 2e6]))
    assert one.flops(1e5, 3e6) == pytest.approx(3e12)
    assert one.flops(2e5, 3e6) == pytest.approx(6e12)
    two = fit_cost(np.array([1e12, 4e12]), np.array([1e5, 2e5]), np.array([1e6, 1e6]))
    assert two.slope(3e5) == pytest.approx(2.0)
    assert len(two.coefficients) == 2
