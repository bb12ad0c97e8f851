from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isoflop.errors import InputError
from isoflop.fitting import fit
from isoflop.fitting.conventions import across, conventions_of, params_by
from isoflop.flops import Shape

SHAPES = [Shape(4, width, 2, 2, 32, 4 * width, 4096, 512, tied_head=True) for width in range(32, 1024, 16)]
UNTIED = Shape(4, 64, 2, 2, 32, 256, 4096, 512, tied_head=False)


def groups(shapes):
    parts = [shape.parameters for shape in shapes]
    return pd.DataFrame(
        {
            "params": [part.total for part in parts],
            "params_body": [part.body for part in parts],
            "params_embedding": [part.embedding for part in parts],
            "params_head": [part.head for part in parts],
        }
    )


def test_groups_tell_every_convention_as_shapes_do():
    shapes = [*SHAPES, UNTIED]
    table = groups(shapes)
    assert conventions_of(table, "total") == ("total", "non_embedding", "body_and_head")
    for convention in ("total", "non_embedding", "body_and_head"):
        expected = [shape.parameters.by(convention) for shape in shapes]
        np.testing.assert_array_equal(params_by(table, convention), expected)


def test_a_lone_column_is_what_it_is_declared_to_be():
    table = pd.DataFrame({"params": [1.0, 2.0]})
    assert conventions_of(table, "non_embedding") == ("non_embedding",)
    np.testing.assert_array_equal(params_by(table, "non_embedding"), [1.0, 2.0])
    named = table.assign(params_non_embedding=[0.5, 1.5])
    assert conventions_of(named, "total") == ("total", "non_embedding")
    np.testing.assert_array_equal(params_by(named, "non_embedding"), [0.5, 1.5])
    with pytest.raises(InputError, match="lacks params_body_and_head"):
        params_by(named, "body_and_head")
    with pytest.raises(InputError, match="must be one of total, non_embedding, body_and_head, but got 'all'"):
        params_by(named, "all")


def test_exponents_are_told_under_each_and_equal_those_of_a_fit_by_it():
    """Counted FLOPs, so C stays what it is whatever N counts."""
    table = groups(SHAPES)
    per_token = np.array([shape.training_flops(1) for shape in SHAPES])
    parts = []
    for flops in np.geomspace(1e15, 3e17, 5):
        tokens = flops / per_token
        loss = 1.69 + 406.4 / table["params"] ** 0.34 + 410.7 / tokens**0.28
        near = np.argsort(loss.to_numpy())[:8]
        parts.append(table.assign(flops=flops, tokens=tokens, loss=loss).iloc[near])
    points = pd.concat(parts, ignore_index=True)
    law = fit(points, bootstrap=100)
    found = {each.convention: each for each in law.conventions}
    assert [each.headline for each in law.conventions] == [True, False, False]
    other = fit(points, bootstrap=100, params_convention="non_embedding")
    assert other.provenance.params_convention == "non_embedding"
    assert other.methods.parabola.a == pytest.approx(found["non_embedding"].minima_a, abs=1e-12)
    assert found["non_embedding"].minima_a > found["total"].minima_a + 0.02
    assert other.methods.parametric.a == pytest.approx(found["non_embedding"].parametric_a, abs=1e-6)


def test_sizes_by_one_convention_are_those_of_another_and_back():
    total = np.array([4e6, 1e6, 2e6, 2e6])
    body = total - 5e5
    asked = np.array([5e5, 1e6, 1.5e6, 4e6, 1e8])
    there = across(asked, total, body)
    assert there[1] == pytest.approx(5e5)
    assert there[3] == pytest.approx(3.5e6)
    assert across(there, body, total) == pytest.approx(asked)
    assert across(asked, np.array([1e6]), np.array([5e5])) == pytest.approx(asked / 2)
