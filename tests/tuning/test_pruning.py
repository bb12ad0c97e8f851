"""Which loss curves are stopped."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from isoflop.store import RunDirectory
from isoflop.tuning.pruning import Curve, verdict


def curve(level: float, steps: int = 20) -> Curve:
    return Curve(tuple((step / steps, level + math.exp(-step / 5)) for step in range(1, steps + 1)))


EARLIER = [curve(2.0), curve(2.1), curve(2.2)]


def test_a_curve_above_the_median_is_stopped_and_one_below_is_not():
    assert "after 50% of its steps, above the median of 3" in verdict(curve(2.15), EARLIER)
    assert verdict(curve(2.05), EARLIER) == ""
    assert verdict(Curve(((0.6, math.nan),)), EARLIER) != ""


def test_nothing_is_stopped_before_half_of_its_steps_nor_without_three_to_go_by():
    bad = curve(9.0)
    assert verdict(Curve(tuple(row for row in bad.rows if row[0] < 0.5)), EARLIER) == ""
    assert verdict(bad, EARLIER[:2]) == ""


def test_what_is_done_is_not_stopped():
    early = curve(2.05)
    assert verdict(Curve((*early.rows[:-1], (1.0, 99.0))), EARLIER) == ""


def test_a_row_half_written_is_left_out(tmp_path: Path, small_study):
    from isoflop import workflow

    run = workflow.plan(small_study()).runs[0]
    place = RunDirectory(tmp_path)
    assert Curve.read(place, run).rows == ()
    with place.metrics_file.open("w") as file:
        csv.writer(file, lineterminator="\n").writerows([("step", "tokens", "loss"), (run.steps, 9, 2.5)])
        file.write("99,12,2.")
    assert Curve.read(place, run).rows == ((1.0, 2.5),)
