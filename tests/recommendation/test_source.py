"""Published laws as they are asked."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isoflop.errors import InputError, NoAnswerError
from isoflop.planning.prior import names, published
from isoflop.recommendation import recommend
from isoflop.recommendation.source import by_name


@pytest.mark.parametrize("name", names())
def test_every_published_law_answers_at_its_cost_without_intervals(name):
    source = by_name(name)
    found = recommend(name, flops=1e20)
    cost = source.cost.flops(found.params.value, found.tokens.value)
    assert cost == pytest.approx(1e20, rel=1e-9)
    assert found.params.value == pytest.approx(published(name).optimum(1e20, source.cost), rel=1e-4)
    record = found.to_json()
    for quantity in ("params", "tokens", "loss"):
        assert record[quantity]["low"] is record[quantity]["high"] is None
    assert "no_intervals" in found.statuses
    assert (record["loss"]["value"] is None) == (published(name).line is not None)
    assert record["provenance"] is None


def test_known_lines_are_met():
    assert recommend("llama3", flops=1e22).tokens.value == pytest.approx(0.29 * 1e22**0.53, rel=1e-6)
    anchor = recommend("soda-anchor", flops=3e20)
    assert anchor.params.value == pytest.approx(2.7e8 * 100**0.367, rel=1e-6)


@pytest.mark.parametrize("name", ["besiroglu2024", "soda-anchor", "soda-surface", "llama3"])
def test_a_budget_is_found_again_by_its_size_and_by_its_tokens(name):
    source = by_name(name)
    found = recommend(name, flops=3e20)
    assert source.budget_of("params", found.params.value) == pytest.approx(3e20, rel=1e-6)
    assert source.budget_of("tokens", found.tokens.value) == pytest.approx(3e20, rel=1e-6)


@pytest.mark.parametrize("name", names())
def test_profiles_are_least_at_the_optimum(name):
    source = by_name(name)
    best = source.optimal_params(1e20)
    profile = source.profile(1e20)(np.log(best) + np.array([-0.1, 0.0, 0.1]))
    assert profile[1] < min(profile[0], profile[2])


def test_a_line_tells_nothing_of_repetition():
    with pytest.raises(NoAnswerError, match="llama3 has none"):
        recommend("llama3", flops=1e22, unique_tokens=1e9)
    # Where all tokens are fresh, nothing of it is needed.
    assert recommend("llama3", flops=1e22, unique_tokens=1e15).binds == "compute"


def test_an_unknown_law_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"hoffman2021.*did you mean 'hoffmann2022'"):
        recommend("hoffman2021", flops=1e20)


def test_decades_are_told_where_budgets_are():
    assert recommend("hoffmann2022", flops=3e23).decades == pytest.approx(2, abs=1e-9)
    assert recommend("hoffmann2022", flops=1e20).decades == 0
    below = recommend("hoffmann2022", flops=6e17)
    assert (below.status, below.decades) == ("below", pytest.approx(1))
    assert recommend("besiroglu2024", flops=1e20).decades is None
    assert math.isnan(by_name("besiroglu2024").place(1e20).decades)
