from __future__ import annotations

import math

import pytest

from isoflop.reporting.content import Content
from isoflop.reporting.runs import duration, loss_columns, rows
from isoflop.reporting.tables import progress_table, runs_table


def test_a_row_tells_planned_and_achieved_flops_losses_and_verdict(content, points):
    found = rows(content)
    assert [row.run for row in found] == list(points["run"])
    assert found[1].tip[3] == "C planned 1e18, achieved 1e18 (+0 %)"
    assert found[1].verdict == "used by the fit"
    failed = found[8]
    assert (failed.state, failed.done, failed.off) == ("failed", 0.5, "−50 %")
    assert "the run is failed" in failed.verdict
    assert found[0].losses == {name: points.loc[0, name] for name in ("loss", "loss_text", "loss_acoustic_0")}


def test_points_from_elsewhere_have_what_they_have(points):
    plain = Content("plain", points[["flops", "params", "tokens", "loss"]].assign(loss_sigma=0.01))
    assert loss_columns(plain) == ["loss"]
    row = rows(plain)[3]
    assert (row.run, row.state, row.work) == ("row 3", "done", None)
    assert row.flops == row.budget
    names = [column["name"] for column in runs_table(plain, rows(plain))["columns"]]
    assert names == ["run", "state", "C planned", "C achieved", "N", "D", "loss", "in the fit"]


def test_what_nobody_measured_is_a_dash_and_sorts_last(content):
    table = runs_table(content, rows(content))
    names = [column["name"] for column in table["columns"]]
    failed, done = table["rows"][8], table["rows"][1]
    for name, text in (("wall-clock", "3.6 s"), ("cost", "0.50")):
        place = names.index(name) - 2
        assert (failed["cells"][place].text, failed["cells"][place].value) == ("–", "")
        assert done["cells"][place].text == text
    rate = done["cells"][names.index("FLOP/s") - 2]
    assert float(rate.value) == pytest.approx(1e18 / 3.6)
    assert table["states"] == ["done", "failed"]


def test_progress_counts_steps_by_budget(content):
    table = progress_table(content, rows(content), content.progress)
    assert table["states"] == ["done", "failed"]
    first, second = table["budgets"][:2]
    assert first == {"budget": "1e18", "done": "1.000", "percent": "100 %", "states": ["7", ""], "best": first["best"]}
    assert second["done"] == f"{6.5 / 7:.3f}"
    assert second["states"] == ["6", "1"]
    assert not math.isnan(float(first["best"]))


@pytest.mark.parametrize(
    ("seconds", "text"), [(5.26, "5.3 s"), (754, "13 min"), (12000, "3 h 20 min"), (216000, "2.5 days")]
)
def test_times_are_told_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text
