"""Files that people write: what YAML lets pass, and what it would crash on."""

from __future__ import annotations

import pytest
import yaml

from isoflop.settings import read_yaml


def test_plain_values_and_anchors_are_read():
    text = "a: &common {x: 1, y: [2, 3e4]}\nb: {<<: *common, x: 5}\nc: [*common, null, 2020-01-01]\n"
    assert read_yaml(text)["b"] == {"x": 5, "y": [2, "3e4"]}
    assert read_yaml(text)["c"][0] == {"x": 1, "y": [2, "3e4"]}
    assert read_yaml("") is None


#: Each line holds the one before twice: 2^21 values in twenty lines.
DOUBLED = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 20))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 2, c: 3}\n", r"found the key 'c' twice[\s\S]*line 2, column 11"),
        ("a: " + "[" * 3000 + "]" * 3000, "sections nested too deep"),
        ("a: &a [*a]", "sections nested too deep"),
        (DOUBLED, "more than 1,000,000 values, aliases written out"),
        ("a: 2020-13-45", "month must be in 1..12"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("a: [", "expected"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_yaml(text, message):
    with pytest.raises(yaml.YAMLError, match=message):
        read_yaml(text)
