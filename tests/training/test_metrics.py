from __future__ import annotations

from pathlib import Path

import pytest

from isoflop.store import RunDirectory
from isoflop.training.metrics import COLUMNS, append, cut, cut_metrics, last_step

HEADER = ",".join(COLUMNS) + "\n"
ROWS = [f"{step},{step * 32},2.5,1.0,0.01,0\n" for step in (50, 100, 150)]


@pytest.mark.parametrize(
    ("before", "step", "after"),
    [
        (None, 0, HEADER),
        (HEADER + "".join(ROWS), 0, HEADER),
        (HEADER + "".join(ROWS), 100, HEADER + "".join(ROWS[:2])),
        (HEADER + "".join(ROWS), 150, HEADER + "".join(ROWS)),
        # Killed in the middle of a row.
        (HEADER + "".join(ROWS[:2]) + ROWS[2][:5], 200, HEADER + "".join(ROWS[:2])),
        (HEADER + "".join(ROWS[:2]) + ROWS[2][:-1], 200, HEADER + "".join(ROWS[:2])),
        (HEADER[:7], 0, HEADER),
    ],
)
def test_metrics_are_cut_to_whole_rows_up_to_the_step(
    tmp_path: Path, before: str | None, step: int, after: str
) -> None:
    directory = RunDirectory(tmp_path)
    if before is not None:
        directory.metrics_file.write_text(before, encoding="utf-8")
    cut_metrics(directory, step)
    assert directory.metrics_file.read_text(encoding="utf-8") == after


def test_rows_of_an_earlier_version_are_kept_where_their_columns_are_wanted(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.metrics_file.write_text("step,tokens,loss\n50,1600,2.5\n100,3200,2.25\n", encoding="utf-8")
    cut_metrics(directory, 50, ("loss_text",))
    append(directory.metrics_file, (100, 3200, 2.0, 1.5, 0.01, 1, float("nan")))
    assert directory.metrics_file.read_text(encoding="utf-8") == (
        f"{HEADER[:-1]},loss_text\n50,1600,2.5,,,,\n100,3200,2.0,1.5,0.01,1,\n"
    )


def test_a_table_is_cut_with_the_columns_that_it_has() -> None:
    assert cut("", 5) == ""
    assert cut("step,loss\n5,1.0\n10,2.0\n15,", 10) == "step,loss\n5,1.0\n10,2.0\n"
    assert last_step(cut("step,loss\n5,1.0\n10,2.0\n", 7)) == 5
    assert last_step("") == last_step("step,loss\n") == 0
