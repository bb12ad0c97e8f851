"""Points tables from files: CSV, Parquet, JSON, exports of trackers, with columns named as their authors named them.

::

    reading     a file becomes a points table: formats, names, tokens from C = 6ND
    exports     W&B's and TensorBoard's tables, a column or a row per logged value, become rows of runs
    choosing    the texts of the command line: --columns, --where, --pin, --tie; rows that match; one table a group

What a points table must hold and which of its rows a fit uses is `isoflop.fitting.points`' matter.

>>> read_points("sweep.csv", parse_columns('params="Model Size",flops=FLOP'))                # doctest: +SKIP
"""

from isoflop.tables.choosing import (
    by_group,
    choose_rows,
    parse_columns,
    parse_delta,
    parse_pins,
    parse_ties,
    parse_window,
)
from isoflop.tables.reading import NUMERIC, read_points

__all__ = [
    "NUMERIC",
    "by_group",
    "choose_rows",
    "parse_columns",
    "parse_delta",
    "parse_pins",
    "parse_ties",
    "parse_window",
    "read_points",
]
