from __future__ import annotations

from pathlib import Path

import pytest

from isoflop.store import RunDirectory
from isoflop.training.metrics import COLUMNS, cut_metrics

HEADER = ",".join(COLUMNS) + "\n"
ROWS = [f"{step},{step * 32},2.5,1.0,0.01\n" for step in (50, 100, 150)]


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
