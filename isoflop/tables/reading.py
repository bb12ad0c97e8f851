"""A file becomes a points table: formats, foreign names, what C = 6ND can fill in.

This module opens files, renames columns, and refuses what is no table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from isoflop.errors import InputError
from isoflop.fitting.columns import REQUIRED, numbers, require_columns
from isoflop.fitting.conventions import CONVENTIONS, GROUPS, conventions_of, params_by
from isoflop.flops import ParamsConvention
from isoflop.tables.choosing import choose_rows
from isoflop.tables.exports import from_export

#: Optional columns that hold numbers; others, such as `run` or `state`, are taken as they come.
NUMERIC = ("budget", "loss_sigma", "unique_tokens", "warmup_tokens", "lr_scale", "step", "steps")


def read_points(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    tokens_from: Literal["6nd"] | None = None,
    where: Sequence[str] = (),
    params_convention: ParamsConvention = "total",
) -> pd.DataFrame:
    """Read the points table at `path`.

    Parameters
    ----------
    path
        A ``.csv``, ``.parquet`` or ``.json`` file; JSON as a list of records or as an object of columns. Exports of
        trackers are recognised (`isoflop.tables.exports`).
    columns
        Our name to the file's, ``{"params": "Model Size"}``, for columns that the file names differently.
    tokens_from
        ``6nd`` says that C = 6·N·D holds, and computes what the file lacks: D = C/6N, or C where it has D and no
        `flops`.
    where
        Conditions ``COLUMN=VALUE``, by the names after renaming; rows that do not meet them are left away.
    params_convention
        Which N that is, where the file tells several (`isoflop.fitting.conventions`).

    Returns
    -------
    DataFrame
        A row per row of the file, in its order; `flops`, `params`, `tokens`, `loss` and the columns `NUMERIC` as
        floats, empty cells as NaN; everything else as it stands in the file.

    Raises
    ------
    InputError
        If there is no such file, it is no table, a column is missing (with what the file has and the nearest one),
        a column of numbers holds text (with the row), one column is named for two purposes, or no row is left.
    """
    path = Path(path)
    columns = columns or {}
    table = _renamed(from_export(_read(path), columns), columns, path)
    if not len(table):
        raise InputError(f"{path} must hold a table with rows, but got none")
    if tokens_from not in (None, "6nd"):
        raise InputError(f"tokens_from must be '6nd', but got {tokens_from!r}")
    try:
        table = choose_rows(table, where)
        if tokens_from is not None:
            table = _with_6nd(table, params_convention)
        told = conventions_of(table, params_convention)
        require_columns(table, [name for name in REQUIRED if name != "params" or not told])
        for name in (*REQUIRED, *GROUPS, *(f"params_{each}" for each in CONVENTIONS), *NUMERIC):
            if name in table:
                table[name] = numbers(table, name)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return table


def _read(path: Path) -> pd.DataFrame:
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": _read_csv,
        ".parquet": pd.read_parquet,
        ".json": _read_json,
    }
    if path.suffix.lower() not in readers:
        raise InputError(f"a points table must be a {', '.join(readers)} file, but got {path}")
    if not path.is_file():
        raise InputError(f"a points table must be a file, but {path} is {'a folder' if path.is_dir() else 'not there'}")
    try:
        return readers[path.suffix.lower()](path)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        # pandas' and pyarrow's errors of parsing are ValueErrors, a wrong encoding and JSON's too.
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{path} must hold a table ({path.suffix}), but: {told[0]}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, skipinitialspace=True, encoding="utf-8-sig")


def _read_json(path: Path) -> pd.DataFrame:
    value = json.loads(path.read_text(encoding="utf-8"))
    records = isinstance(value, list) and all(isinstance(record, dict) for record in value)
    columns = isinstance(value, dict) and all(isinstance(column, list | dict) for column in value.values())
    if not (records or columns):
        raise InputError(f"{path} must hold a list of records or an object of columns, but holds something else")
    return pd.DataFrame(value)


def _renamed(table: pd.DataFrame, columns: Mapping[str, str], path: Path) -> pd.DataFrame:
    present = [str(name) for name in table.columns]
    table = table.set_axis(present, axis="columns")
    if len(set(columns.values())) < len(columns):
        raise InputError(f"a column must be named for one purpose, but got {dict(columns)}")
    absent = [column for column in columns.values() if column not in present]
    if absent:
        raise InputError(
            f"{path} must have the columns that are named for it, but lacks {', '.join(map(repr, absent))} and has "
            f"{', '.join(map(repr, present))}"
        )
    # A column of ours that gives way to a named one is not needed under its old name.
    replaced = [name for name in columns if name in present and name not in columns.values()]
    return table.drop(columns=replaced).rename(columns={column: name for name, column in columns.items()})


def _with_6nd(table: pd.DataFrame, params_convention: ParamsConvention) -> pd.DataFrame:
    """`table` with the tokens or else the FLOPs that C = 6·N·D gives."""
    if "tokens" in table and "flops" in table:
        raise InputError("tokens can be computed from C = 6ND where a table has none, but this one has 'tokens'")
    if not conventions_of(table, params_convention):
        require_columns(table, ("params",))
    params = pd.Series(params_by(table, params_convention), index=table.index)
    if "tokens" in table:
        return table.assign(flops=6 * params * numbers(table, "tokens"))
    require_columns(table, ("flops",))
    return table.assign(tokens=numbers(table, "flops") / 6 / params.where(params != 0))
