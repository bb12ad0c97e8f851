"""Tables of a study: written whole, read back equal."""

from __future__ import annotations

import math
import subprocess
import sys

import pandas as pd

from isoflop import table_files


def test_tables_come_back_and_have_a_csv_for_people(tmp_path):
    table = pd.DataFrame({"a": [1.5, math.nan], "b": ["x", ""]})
    table_files.write_table(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(table_files.read_table(tmp_path / "t.parquet"), table)
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == "a,b"


def test_rows_are_written_as_a_table_would_be(tmp_path):
    rows = [
        {"id": f"{number:06d}", "loss": number / 7, "steps": 10**12 + number, "tied": number % 2 == 0, "dropped": ""}
        for number in range(20_000)
    ]
    rows += [{"steps": 5, "tied": False, "epochs": None, "dropped": 'too "large", by far'}]
    table_files.write_rows(tmp_path / "rows.parquet", rows)
    read = pd.read_parquet(tmp_path / "rows.parquet")
    expected = pd.DataFrame(rows)
    assert list(read.columns) == list(expected.columns)
    assert read.pop("epochs").isna().all()
    pd.testing.assert_frame_equal(read, expected.drop(columns="epochs"), check_dtype=False)
    assert pd.api.types.is_integer_dtype(read["steps"])
    text = pd.read_csv(tmp_path / "rows.csv", dtype={"id": str}, keep_default_na=False, na_values={"loss": [""]})
    assert list(text["id"])[:2] == ["000000", "000001"]
    assert list(text["loss"])[:-1] == [row["loss"] for row in rows[:-1]]
    assert text["dropped"].iloc[-1] == 'too "large", by far'


def test_writing_rows_loads_no_pandas(tmp_path):
    script = (
        "import sys; from pathlib import Path; from isoflop import table_files\n"
        "table_files.write_rows(Path(sys.argv[1]), [{'id': 'a', 'loss': None}, {'id': None, 'loss': 1.5}])\n"
        "print('pandas' in sys.modules)"
    )
    call = [sys.executable, "-c", script, str(tmp_path / "rows.parquet")]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip() == "False"
