from __future__ import annotations

import math

import pytest

from isoflop.reporting.panels import linear_axis, log_axis, pairs, places_axis, rounded


def test_a_log_axis_holds_its_values_and_is_ticked_at_round_ones():
    axis = log_axis("N", [9.8e3, 4.1e5])
    assert axis["min"] < 9.8e3 < 4.1e5 < axis["max"]
    assert [tick["label"] for tick in axis["ticks"]] == ["10k", "20k", "50k", "100k", "200k", "500k"]
    assert all(axis["min"] <= tick["value"] <= axis["max"] for tick in axis["ticks"])


def test_over_many_decades_there_are_powers_of_ten_alone_in_the_words_of_budgets():
    axis = log_axis("C", [1e18, 1e23], budgets=True)
    assert [tick["label"] for tick in axis["ticks"]] == ["1e18", "1e19", "1e20", "1e21", "1e22", "1e23"]


@pytest.mark.parametrize("values", [[], [math.nan], [5.0], [3.0], [2.1, 4.9], [0.0, -1.0]])
def test_an_axis_of_nothing_or_of_one_value_is_an_axis(values):
    axis = log_axis("N", values)
    assert axis["min"] < axis["max"]
    assert axis["ticks"]


def test_what_is_not_finite_is_null():
    assert rounded([1.23456789, math.inf, math.nan, None]) == [1.23457, None, None, None]
    assert pairs([1.0], [math.nan]) == [[1.0, None]]


def test_linear_axes_hold_the_ends_of_intervals_and_labels_have_their_places():
    assert linear_axis("a", [None, 0.2, math.inf, -0.1]) == {
        "title": "a",
        "log": False,
        "unit": "",
        "low": -0.1,
        "high": 0.2,
    }
    axis = places_axis(["one", "two"])
    assert [(tick["value"], tick["label"]) for tick in axis["ticks"]] == [(0, "one"), (1, "two")]
    assert axis["min"] < 0 < 1 < axis["max"]
