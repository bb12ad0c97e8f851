"""The texts by which the command line names columns, rows and parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pandas as pd

from isoflop.errors import InputError

#: The parameters of L = E + A/N^alpha + B/D^beta that can be pinned to a value.
PINNABLE = ("E", "alpha", "beta")
#: Values of a column that a message shows.
_SHOWN = 6


def parse_columns(text: str | None) -> dict[str, str]:
    """Read ``params="Model Size",flops=FLOP`` as a mapping from our names to a file's.

    Names that hold commas go into double quotes; None, no text, names nothing.

    Raises
    ------
    InputError
        If a part is not NAME=COLUMN, or a name comes twice.
    """
    found: dict[str, str] = {}
    if text is None:
        return found
    for part in _split(text):
        name, separator, column = (piece.strip() for piece in part.partition("="))
        column = column[1:-1] if len(column) > 1 and column[0] == column[-1] == '"' else column
        if not (name and separator and column):
            raise InputError(f"columns must be NAME=COLUMN, separated by commas, but got {part.strip()!r} in {text!r}")
        if name in found:
            raise InputError(f"columns must name {name!r} once, but got {text!r}")
        found[name] = column
    return found


def choose_rows(table: pd.DataFrame, conditions: Sequence[str]) -> pd.DataFrame:
    """Keep the rows of `table` that meet every ``COLUMN=VALUE`` of `conditions`.

    Numbers are compared as numbers, everything else as text.

    Raises
    ------
    InputError
        If a condition is not COLUMN=VALUE, names no column, or is met by no row.
    """
    for condition in conditions:
        name, separator, value = (piece.strip() for piece in condition.partition("="))
        if not (name and separator):
            raise InputError(f"a condition must be COLUMN=VALUE, but got {condition!r}")
        column = _column(table, name)
        met = (column == float(value)) if _numeric(column, value) else (column.astype(str).str.strip() == value)
        if not met.any():
            raise InputError(f"a condition must be met by some row, but none has {condition!r}; {_shown(column)}")
        table = table[met.to_numpy(dtype=bool)]
    return table.reset_index(drop=True) if conditions else table


def by_group(table: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    """One table for each value of the column `name`, in the order in which the values first appear.

    Raises
    ------
    InputError
        If there is no such column, or a row of it is empty.
    """
    column = _column(table, name)
    if column.isna().any():
        place = int(column.isna().to_numpy().argmax())
        raise InputError(f"every row must tell its group, but row {place} (counted from 0) has no {name!r}")
    return {
        str(value): part.reset_index(drop=True)
        for value, part in table.groupby(column.astype(str).to_numpy(), sort=False)
    }


def parse_pins(texts: Sequence[str]) -> dict[str, float]:
    """Read ``E=1.7`` (also ``alpha=…``, ``beta=…``) as parameters to hold at a value.

    Raises
    ------
    InputError
        If a text is not NAME=VALUE with a finite value that is not negative, or names another parameter, or one twice.
    """
    pins: dict[str, float] = {}
    for text in texts:
        for part in text.split(","):
            name, _, value = (piece.strip() for piece in part.partition("="))
            if name not in PINNABLE or name in pins:
                raise InputError(f"a pin must be one of {', '.join(PINNABLE)}, each once, as E=1.7, but got {text!r}")
            pins[name] = _finite(value, text)
    return pins


def parse_ties(text: str | None) -> bool:
    """Whether ``alpha=beta`` is asked for; `InputError` for every other text."""
    if text is None:
        return False
    if text.replace(" ", "") not in {"alpha=beta", "beta=alpha"}:
        raise InputError(f"a tie must be alpha=beta, but got {text!r}")
    return True


def parse_window(text: str) -> int | Literal["all"]:
    """Read a window of parabolas: a number of sizes, or ``all``."""
    if text == "all":
        return "all"
    if not text.strip().isdecimal():
        raise InputError(f"a window must be a number of sizes or 'all', but got {text!r}")
    return int(text)


def parse_delta(text: str) -> float | Literal["auto"] | None:
    """Read Huber's δ: ``auto``, ``none`` (least squares) or a positive number."""
    if text == "auto":
        return "auto"
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"Huber's delta must be auto, none or a positive number, but got {text!r}")
    return value


def _split(text: str) -> list[str]:
    """Cut `text` at the commas outside double quotes."""
    parts, quoted = [""], False
    for character in text:
        quoted ^= character == '"'
        if character == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    if quoted:
        raise InputError(f"a double quote must be closed, but got {text!r}")
    return parts


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table:
        raise InputError(
            f"the table must have the column that is named, but lacks {name!r} and has "
            f"{', '.join(repr(str(each)) for each in table.columns)}"
        )
    return table[name]


def _numeric(column: pd.Series, value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _shown(column: pd.Series) -> str:
    values = [str(value) for value in column.dropna().unique()]
    rest = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return f"{column.name!r} holds {', '.join(map(repr, values[:_SHOWN]))}{rest}"


def _finite(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise InputError(f"a pin's value must be finite and not negative, but got {text!r}")
    return number
