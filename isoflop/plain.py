"""Values as JSON has them: what is not finite, and so not known, is null."""

from __future__ import annotations

import math
from typing import Any


def plain(value: Any) -> Any:
    """`value`, its dicts and lists within, with None for NaN and infinities; tuples become lists."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
