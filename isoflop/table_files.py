"""Tables that a study keeps: in Parquet and, beside it, in CSV; each file whole or not there."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop.errors import CorruptFileError
from isoflop.files import replacing

if TYPE_CHECKING:
    import pandas as pd


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write `table` to `path` (Parquet) and a `.csv` beside it."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
    with replacing(path.with_suffix(".csv")) as temporary:
        table.to_csv(temporary, index=False)


def write_rows(path: Path, rows: Sequence[Mapping[str, str | bool | int | float | None]]) -> None:
    """Write records, of one type in a column, to the files that `write_table` writes.

    Without pandas, which takes longer to load than a study takes to submit.
    """
    import pyarrow as pa
    import pyarrow.json as arrow_json
    import pyarrow.parquet as arrow_parquet

    arrow_types = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    types = {name: arrow_types[type(value)] for row in rows for name, value in row.items() if value is not None}
    names = list(dict.fromkeys(name for row in rows for name in row))
    schema = pa.schema([(name, types.get(name, pa.null())) for name in names])
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    table = arrow_json.read_json(
        io.BytesIO(lines.encode()), parse_options=arrow_json.ParseOptions(explicit_schema=schema)
    ).select(names)
    with replacing(path) as temporary:
        arrow_parquet.write_table(table, temporary)
    with replacing(path.with_suffix(".csv")) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table that `write_table` wrote; `CorruptFileError` if it is none or lacks one of `columns`."""
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except Exception as error:  # a damaged file raises whatever the reader stumbles over
        raise CorruptFileError(f"{path} must be a Parquet table, but: {error}") from error
    if missing := [name for name in columns if name not in table]:
        raise CorruptFileError(f"{path} must have the columns {', '.join(columns)}, but lacks {', '.join(missing)}")
    return table
