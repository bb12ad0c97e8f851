"""Columns of a points table: which there must be, numbers in them, texts in them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("flops", "params", "tokens", "loss")

#: What tables write into a cell that holds no number.
_EMPTY = frozenset({"", "nan", "none", "null", "na", "n/a"})
#: What tables write into a cell that says yes.
_YES = ("true", "1", "1.0", "yes")

Floats = NDArray[np.float64]


def require_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise `InputError` naming the missing columns, what the table has, and the nearest right ones."""
    present = [str(name) for name in table.columns]
    missing = [name for name in names if name not in present]
    if not missing:
        return
    free = [name for name in present if name not in names]
    folded = {name.casefold(): name for name in free}
    hints = []
    for name in missing:
        near = difflib.get_close_matches(name, list(folded), n=1, cutoff=0.5)
        near = near or [each for each in folded if name in each or name.rstrip("s") in each][:1]
        hints += [f'{name}="{folded[near[0]]}"'] if near else []
    nearest = f"; the nearest: {', '.join(hints)}" if hints else ""
    raise InputError(
        f"a points table must have the columns {', '.join(REQUIRED)}, but lacks {', '.join(missing)} and has "
        f"{', '.join(map(repr, present)) or 'none'}{nearest}"
    )


def numbers(table: pd.DataFrame, name: str) -> Floats:
    """Return the column `name` as floats, empty cells as NaN; `InputError` names the first row that holds text."""
    import pandas as pd

    require_columns(table, [name])
    copies = int((table.columns == name).sum())
    if copies > 1:
        raise InputError(f"a points table must have one column {name!r}, but got {copies} of that name")
    column = table[name]
    values = pd.to_numeric(column, errors="coerce")
    unread = places(np.asarray(values.isna() & column.notna()))
    wrong = [place for place in unread if str(column.iloc[place]).strip().casefold() not in _EMPTY]
    if wrong:
        place = wrong[0]
        raise InputError(
            f"the column {name!r} must hold numbers, but row {place} (counted from 0) holds {column.iloc[place]!r}"
        )
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def texts(table: pd.DataFrame, name: str) -> NDArray[np.object_] | None:
    """Return the column `name` as texts, None where a cell is empty; None where there is no such column."""
    if name not in table:
        return None
    column = table[name]
    return column.astype(str).where(column.notna(), None).to_numpy(dtype=object)


def flags(table: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    """Which cells of the column `name` say yes."""
    said: NDArray[np.bool_] = table[name].astype(str).str.strip().str.casefold().isin(_YES).to_numpy(dtype=bool)
    return said


def places(mask: NDArray[np.bool_]) -> list[int]:
    """The rows at which `mask` is true."""
    return [int(place) for place in np.flatnonzero(mask)]
