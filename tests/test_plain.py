from __future__ import annotations

import json
import math

from isoflop.plain import plain


def test_what_is_not_finite_is_null_at_any_depth():
    value = {"a": math.inf, "b": [1, (math.nan, -math.inf, 2.5)], "c": {"d": "inf", "e": True}}
    assert plain(value) == {"a": None, "b": [1, [None, None, 2.5]], "c": {"d": "inf", "e": True}}
    assert json.loads(json.dumps(plain(value), allow_nan=False))["b"] == [1, [None, None, 2.5]]
