"""Several recommendations beside each other."""

from __future__ import annotations

import json

import pytest

from isoflop.errors import InputError
from isoflop.recommendation import recommend
from isoflop.recommendation.comparison import against, suite, table


def test_what_chinchilla_would_say_and_what_its_points_say():
    found = against("hoffmann2022", ["besiroglu2024"], flops=5.76e23)
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    other = recommend("besiroglu2024", flops=5.76e23)
    # The published coefficients of both, in the closed form.
    assert record["params"]["value"] == pytest.approx(
        (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62) * (5.76e23 / 6) ** (0.28 / 0.62), rel=1e-9
    )
    assert record["against"] == [other.to_json()]
    spread = other.params.value / record["params"]["value"]
    assert record["spread"]["params"] == pytest.approx(spread)
    assert record["spread"]["tokens"] == pytest.approx(spread)  # both are 6ND
    assert "×2.24 in parameters" in str(found)


def test_a_table_has_a_row_for_each_budget():
    found = table("besiroglu2024", [1e20, 1e21], unique_tokens=1e10)
    rows = found.to_json()["table"]
    assert [row["flops"] for row in rows] == [1e20, 1e21]
    assert rows[1] == recommend("besiroglu2024", flops=1e21, unique_tokens=1e10).to_json()
    lines = str(found).splitlines()
    assert lines[0].split()[:3] == ["law", "FLOPs", "parameters"]
    assert lines[1].startswith("besiroglu2024  1e20")


def test_a_suite_is_trained_at_the_budget_or_each_at_its_own_optimum():
    own = suite("besiroglu2024", [135e6, 4e9])
    for answer, size in zip(own.answers, [135e6, 4e9], strict=True):
        assert answer.params.value == size
        assert recommend("besiroglu2024", flops=answer.flops).params.value == pytest.approx(size, rel=1e-9)
    same = suite("besiroglu2024", [135e6, 4e9], flops=1e21)
    best = recommend("besiroglu2024", flops=1e21).loss.value
    assert all(answer.flops == 1e21 and answer.loss.value > best and answer.binds == "size" for answer in same.answers)


def test_an_empty_comparison_is_refused():
    with pytest.raises(InputError, match="a suite must have sizes"):
        suite("besiroglu2024", [])
