"""What N counts: every convention that a points table allows.

A table may carry the groups of parameters (`params_body`, `params_embedding`, `params_head`, a tied head owning none)
or N by a convention's name (`params_total`, `params_non_embedding`, `params_body_and_head`). Then N is what
the wanted convention says; else it is the column `params`, which is taken to be by the convention that is declared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np

from isoflop.errors import InputError
from isoflop.fitting.columns import Floats, numbers
from isoflop.flops import ParamsConvention

if TYPE_CHECKING:
    import pandas as pd

GROUPS = ("params_body", "params_embedding", "params_head")
CONVENTIONS: tuple[ParamsConvention, ...] = get_args(ParamsConvention)


def conventions_of(table: pd.DataFrame, declared: ParamsConvention) -> tuple[ParamsConvention, ...]:
    """The conventions by which `table` tells N; `declared` is what its `params` counts where nothing else says so."""
    grouped = all(name in table for name in GROUPS)
    named = {each for each in CONVENTIONS if grouped or f"params_{each}" in table}
    if "params" in table:
        # Beside other conventions' columns an unnamed `params` is the whole; alone it is whatever was declared.
        named.add("total" if named else declared)
    return tuple(each for each in CONVENTIONS if each in named)


def params_by(table: pd.DataFrame, convention: ParamsConvention) -> Floats:
    """N of every row by `convention`, shape (rows,).

    Raises
    ------
    InputError
        If the convention is unknown, or a column holds text, or the table tells N by other conventions only.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"params_convention must be one of {', '.join(CONVENTIONS)}, but got {convention!r}")
    if f"params_{convention}" in table:
        return numbers(table, f"params_{convention}")
    if all(name in table for name in GROUPS):
        body, embedding, head = (numbers(table, name) for name in GROUPS)
        if convention == "total":
            return body + embedding + head
        # A tied head owns no weights, and multiplies every token by the embedding's.
        return body if convention == "non_embedding" else body + np.where(head > 0, head, embedding)
    others = conventions_of(table.drop(columns="params", errors="ignore"), convention)
    if others and convention != "total":
        raise InputError(
            f"a table must tell N by the convention that is asked for, but this one has total and {', '.join(others)}, "
            f"and lacks params_{convention}"
        )
    return numbers(table, "params")


def across(params: Floats, one: Floats, other: Floats) -> Floats:
    """N by another convention, of models of `params` by `one`, told by sizes that both conventions name, shape (n,).

    Between the sizes along straight lines in logarithms, and beyond them on along the outermost ones; so there and
    back again is where one was.
    """
    x, first = np.unique(np.log(one), return_index=True)
    y = np.log(other)[first]
    if len(x) == 1:
        return np.asarray(params * np.exp(y[0] - x[0]), dtype=np.float64)
    at = np.log(params)
    part = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
    slope = (y[part + 1] - y[part]) / (x[part + 1] - x[part])
    return np.asarray(np.exp(y[part] + slope * (at - x[part])), dtype=np.float64)
