from __future__ import annotations

import pandas as pd
import pytest

from isoflop.errors import InputError
from isoflop.tables import (
    by_group,
    choose_rows,
    parse_columns,
    parse_delta,
    parse_pins,
    parse_ties,
    parse_window,
)

TABLE = pd.DataFrame({"exp": ["a=1", "b", "a=1"], "size": [1.0, 2.0, 2.0], "done": [True, False, True]})


def test_no_text_names_no_columns():
    assert parse_columns(None) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("params", r"must be NAME=COLUMN, separated by commas, but got 'params'"),
        ("params=", "NAME=COLUMN"),
        ("=x", "NAME=COLUMN"),
        ("", "NAME=COLUMN"),
        ("a=b,,c=d", "NAME=COLUMN"),
        ("params=a,params=b", "must name 'params' once"),
        ('params="a', "double quote must be closed"),
    ],
)
def test_wrong_column_texts_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_columns(text)


def test_rows_are_chosen_by_text_and_by_number():
    assert list(choose_rows(TABLE, ["exp=a=1"])["size"]) == [1.0, 2.0]
    assert list(choose_rows(TABLE, ["size=2"])["exp"]) == ["b", "a=1"]
    assert list(choose_rows(TABLE, ["size=2.0", "exp=b"]).index) == [0]
    assert list(choose_rows(TABLE, ["done=True"])["size"]) == [1.0, 2.0]
    assert choose_rows(TABLE, []) is TABLE


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("exp", "must be COLUMN=VALUE, but got 'exp'"),
        ("=b", "must be COLUMN=VALUE"),
        ("epx=b", "lacks 'epx' and has 'exp', 'size', 'done'"),
        ("exp=c", "none has 'exp=c'; 'exp' holds 'a=1', 'b'"),
        ("size=large", "'size' holds '1.0', '2.0'"),
    ],
)
def test_conditions_that_choose_nothing_are_refused(condition, message):
    with pytest.raises(InputError, match=message):
        choose_rows(TABLE, [condition])


def test_a_table_for_each_group_in_the_order_of_the_file():
    groups = by_group(TABLE, "exp")
    assert {name: list(part["size"]) for name, part in groups.items()} == {"a=1": [1.0, 2.0], "b": [2.0]}
    assert list(by_group(TABLE, "size")) == ["1.0", "2.0"]
    alike = by_group(TABLE.assign(exp=[1, "1", 2]), "exp")
    assert {name: len(part) for name, part in alike.items()} == {"1": 2, "2": 1}
    with pytest.raises(InputError, match=r"row 1 \(counted from 0\) has no 'exp'"):
        by_group(TABLE.assign(exp=["a", None, "a"]), "exp")
    with pytest.raises(InputError, match="lacks 'x'"):
        by_group(TABLE, "x")


def test_pins_and_ties():
    assert parse_pins(["E=1.7", "alpha=0.3,beta=0.4"]) == {"E": 1.7, "alpha": 0.3, "beta": 0.4}
    assert parse_pins([]) == {}
    assert parse_ties("alpha=beta")
    assert parse_ties(" beta = alpha")
    assert not parse_ties(None)


@pytest.mark.parametrize("text", ["A=3", "E", "E=", "E=high", "E=-1", "E=nan", "E=1,E=2"])
def test_wrong_pins_are_refused(text):
    with pytest.raises(InputError, match="a pin"):
        parse_pins([text])


def test_other_ties_are_refused():
    with pytest.raises(InputError, match="must be alpha=beta, but got 'E=beta'"):
        parse_ties("E=beta")


def test_windows_and_deltas():
    assert parse_window("5") == 5
    assert parse_window("all") == "all"
    assert parse_delta("auto") == "auto"
    assert parse_delta("none") is None
    assert parse_delta("1e-3") == 0.001
    for text in ("five", "-1", "", "3.5"):
        with pytest.raises(InputError, match="a window must be a number of sizes or 'all'"):
            parse_window(text)
    for text in ("0", "-1", "nan", "large"):
        with pytest.raises(InputError, match="must be auto, none or a positive number"):
            parse_delta(text)
