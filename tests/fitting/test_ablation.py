from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from isoflop.errors import NoAnswerError
from isoflop.fitting.ablation import Ablation, Cell, Factor, compare

SHARES = Factor("share", ("0", "0.05", "0.1", "0.25", "0.5"), "0", (0.0, 0.05, 0.1, 0.25, 0.5))
ORDER = Factor("order", ("text-first", "audio-first"), "text-first")


def table(
    loss: Callable[[float, str], float],
    seeds: int = 4,
    noise: float = 0.002,
    orders: tuple[str, ...] = ("text-first",),
    draw: int = 5,
) -> pd.DataFrame:
    """Runs at one cell; what a seed does to all arms alike is ten times the noise."""
    generator = np.random.default_rng(draw)
    shift = 10 * noise * generator.standard_normal(seeds)
    rows = []
    for label, share in zip(SHARES.labels, SHARES.numbers or (), strict=True):
        for order in orders:
            for seed in range(seeds):
                audio = loss(share, order) + shift[seed] + noise * generator.standard_normal()
                text = 3 - share + shift[seed] + noise * generator.standard_normal()
                rows.append(
                    {
                        "run": f"run-{label}-{order}-{seed}",
                        "state": "done",
                        "in_grid": True,
                        "budget": 1e9,
                        "cell": "d8",
                        "held_out": "same",
                        "axis_share": label,
                        "axis_order": order,
                        "seed": seed,
                        "params": 1000,
                        "loss": audio + text,
                        "loss_text": text,
                        "loss_semantic": audio,
                        "loss_acoustic": audio,
                        "loss_acoustic_1": audio,
                        "loss_from_talks": audio,
                        "loss_control": 0.1,
                        "bits_per_audio_second": 100 * audio,
                    }
                )
    return pd.DataFrame(rows)


def costly(share: float, order: str) -> float:
    """Up to a share of 0.1 text costs nothing."""
    return 2 + max(0.0, share - 0.1) + 0.05 * (order == "audio-first")


def of(found: Ablation, measure: str) -> dict[str, str]:
    """The verdicts of one loss by arm."""
    return {
        ", ".join(row.levels): "" if row.against is None else row.verdict
        for row in found.rows
        if row.measure == measure
    }


def test_the_share_from_which_text_costs_audio_is_found() -> None:
    found = compare(table(costly), [SHARES], "speech")
    assert of(found, "loss_semantic") == {
        "0": "",
        "0.05": "not told apart",
        "0.1": "not told apart",
        "0.25": "worse",
        "0.5": "worse",
    }
    assert set(of(found, "loss_text").values()) == {"", "better"}
    row = next(row for row in found.rows if row.measure == "loss_semantic" and row.levels == ("0.25",))
    assert row.against is not None
    # Seeds differ by ten times as much: unpaired, 0.002 would not be seen.
    assert row.against.high - row.against.low < 0.02
    trends = {trend.measure: trend for trend in found.trends}
    audio, text = trends["bits_per_audio_second"], trends["loss_text"]
    assert audio.above is not None
    assert (audio.above[0], audio.below) == ("0.25", None)
    assert text.below is not None
    assert (text.best, text.below[0], text.above) == ("0.5", "0.25", None)
    told = " ".join(found.findings)
    assert "share from 0.25 up costs audio loss: +14." in told
    assert "share from 0.25 down costs text loss" in told
    assert "bits per second of sound" in str(found)


def test_intervals_cover_the_truth() -> None:
    """0.15 nats, 95 % of the time: 60 studies of three seeds each."""
    covered = 0
    for draw in range(60):
        found = compare(table(costly, seeds=3, draw=draw), [SHARES])
        (against,) = [row.against for row in found.rows if (row.measure, row.levels) == ("loss_acoustic", ("0.25",))]
        assert against is not None
        covered += against.low <= 0.15 <= against.high
    assert covered >= 53


def test_single_codebooks_sources_and_marks_are_not_told() -> None:
    found = compare(table(costly), [SHARES])
    assert found.measures == ("loss", "loss_text", "loss_semantic", "loss_acoustic", "bits_per_audio_second")
    assert found.cells == (Cell(1e9, "d8"),)


def test_crossed_axes_are_held_against_one_baseline() -> None:
    found = compare(table(costly, orders=ORDER.labels), [SHARES, ORDER])
    assert found.baseline == ("0", "text-first")
    verdicts = of(found, "loss_semantic")
    assert list(verdicts)[:3] == ["0, text-first", "0, audio-first", "0.05, text-first"]
    assert verdicts["0, audio-first"] == verdicts["0.05, audio-first"] == "worse"
    assert "against order=text-first: worse: audio-first (+0.04" in " ".join(found.findings)


def test_no_difference_is_certain_by_one_seed() -> None:
    found = compare(table(costly, seeds=1), [SHARES])
    assert set(of(found, "loss").values()) == {"", "one seed"}
    assert all(trend.above is None and trend.below is None for trend in found.trends)
    assert "One seed" in found.notes[0]
    assert "with one seed nobody knows" in found.findings[0]
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["rows"][1]["against"]["low"] is None


def test_arms_on_other_tokens_are_compared_by_bits_alone() -> None:
    points = table(costly)
    points.loc[points["axis_share"] == "0.25", "held_out"] = "other"
    found = compare(points, [SHARES])
    assert of(found, "loss_semantic")["0.25"] == ""
    assert of(found, "bits_per_audio_second")["0.25"] == "more bits"
    assert of(found, "bits_per_audio_second")["0.5"] == "worse"
    assert "bits per second of sound alone" in " ".join(found.notes)
    assert "not comparable" in str(found)
    # The trend leaves such an arm out.
    trend = next(trend for trend in found.trends if trend.measure == "loss_semantic")
    assert trend.above is not None
    assert trend.above[0] == "0.5"


def test_runs_that_are_missing_are_said() -> None:
    points = table(costly)
    points.loc[points["axis_share"] == "0.05", ["state", "loss_semantic", "loss"]] = ["failed", math.nan, math.nan]
    outside = points.iloc[:1].assign(run="left", in_grid=False, loss_semantic=99.0)
    found = compare(pd.concat([points, outside], ignore_index=True), [SHARES])
    assert found.notes[0] == "Provisional: 16 of 20 runs are done."
    row = next(row for row in found.rows if row.measure == "loss" and row.levels == ("0.05",))
    assert math.isnan(row.mean)
    assert "no run is done" in str(found)
    with pytest.raises(NoAnswerError, match="must have a finished run"):
        compare(points.assign(state="planned"), [SHARES])


def test_an_arm_without_a_token_type_has_none() -> None:
    points = table(costly)
    points.loc[points["axis_share"] == "0.5", ["loss_semantic", "bits_per_audio_second"]] = np.nan
    found = compare(points, [SHARES])
    assert [row.verdict for row in found.rows if row.measure == "loss_semantic"][-1] == "has none"
    points.loc[points["axis_share"] == "0.5", "state"] = "planned"
    assert [row.verdict for row in compare(points, [SHARES]).rows if row.measure == "loss"][-1] == "no run is done"


def test_without_a_baseline_no_arm_is_compared() -> None:
    points = table(costly)
    points.loc[points["axis_share"] == "0", "state"] = "failed"
    assert set(of(compare(points, [SHARES]), "loss").values()) == {""}


def test_cells_are_compared_each_by_itself() -> None:
    small, large = table(costly), table(lambda share, order: 1.5).assign(cell="d16", params=4000)
    found = compare(pd.concat([small, large], ignore_index=True), [SHARES])
    assert [cell.size for cell in found.cells] == ["d8", "d16"]
    trends = {trend.cell.size: trend for trend in found.trends if trend.measure == "bits_per_audio_second"}
    assert trends["d8"].above is not None
    assert trends["d16"].above is None
    assert "audio loss at 1e9 FLOPs, d8 is least" in " ".join(found.findings)


def test_arms_of_other_sizes_are_told() -> None:
    points = table(costly)
    points.loc[points["axis_share"] == "0.5", "params"] = 1100
    assert "Arms differ in N" in " ".join(compare(points, [SHARES]).notes)
