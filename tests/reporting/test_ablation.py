from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting.ablation import Ablation, Factor, compare
from isoflop.reporting import sentences
from isoflop.reporting.ablation import ablation_figure, ablation_panels, ablation_tables
from isoflop.reporting.content import Content
from isoflop.reporting.figures import PAGE_NAMES, draw, svg
from isoflop.reporting.markdown import render_markdown
from isoflop.reporting.page import render_report

HOSTILE = "<img src=x>|$\\foo$"
LABELS = ("none", "some", HOSTILE)


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    """Three seeds of three arms: the last is worse by 0.5; one seed of the second failed."""
    generator = np.random.default_rng(0)
    rows = []
    for place, label in enumerate(LABELS):
        for seed in range(3):
            loss = 2 + 0.5 * (place == 2) + 0.001 * generator.standard_normal()
            row = {
                "run": f"{place}-{seed}",
                "state": "done",
                "in_grid": True,
                "budget": 1e9,
                "flops": 1e9,
                "seed": seed,
            }
            row |= {"params": 1e4, "tokens": 1e9 / 6e4, "loss": loss, "loss_text": loss, "cell": "d8", "held_out": "x"}
            rows.append({**row, "axis_mix": label, "bits_per_audio_second": 100 * loss})
    rows[4].update(state="failed", loss=np.nan, loss_text=np.nan, bits_per_audio_second=np.nan)
    rows.append({**rows[0], "run": "left", "in_grid": False, "axis_mix": None, "cell": None, "held_out": None})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def found(points: pd.DataFrame) -> Ablation:
    return compare(points, [Factor("mix", LABELS, "none")], "mixes")


@pytest.fixture(scope="module")
def content(points: pd.DataFrame, found: Ablation) -> Content:
    return Content("mixes", points, reason="no law", ablation=found)


def test_a_table_for_each_loss_tells_every_arm(found: Ablation) -> None:
    tables = ablation_tables(found)
    assert [table["title"] for table in tables] == [
        "loss of all tokens, nats per token, at 1e9 FLOPs, d8",
        "text loss, nats per token, at 1e9 FLOPs, d8",
        "audio loss, bits per second of sound, at 1e9 FLOPs, d8",
    ]
    assert [(row["arm"], row["seeds"], row["verdict"], row["ok"]) for row in tables[0]["rows"]] == [
        ("none", "3", "baseline", "pass"),
        ("some", "2", "not told apart", "warn"),
        (HOSTILE, "3", "worse", "fail"),
    ]
    assert tables[0]["rows"][0]["change"] == tables[0]["rows"][0]["p"] == ""


def test_panels_show_each_difference_where_it_is(found: Ablation) -> None:
    first, *_ = panels = ablation_panels(found)
    assert len({panel["name"] for panel in panels}) == len(panels) == 3
    zero, unsure, worse = first["layers"]
    assert zero["points"] == [[0.0, -0.6], [0.0, 2.6]]
    assert [place[1] for place in unsure["points"]] == [1.0]
    assert [place[1] for place in worse["points"]] == [2.0]
    ((low, high),) = worse["ends"]
    assert low < worse["points"][0][0] < high
    assert low < 0.5 < high
    json.dumps(panels, allow_nan=False)


def test_the_figure_has_a_panel_for_each_loss_and_a_mark_for_each_arm(found: Ablation, content: Content) -> None:
    figure = ablation_figure(found)
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in drawn][1] == "text loss, 1e9 FLOPs, d8"
    assert [label.get_text() for label in drawn[0].get_xticklabels()] == list(LABELS)
    assert len(drawn[0].containers) == 2
    # What looks like mathematics is a label.
    assert "</svg>" in svg(figure)
    assert list(draw(content).figures) == list(draw(content, PAGE_NAMES).figures) == ["ablation"]


def test_the_page_tells_arms_and_neither_law_nor_minima(content: Content) -> None:
    page = render_report(content)
    assert "What does mix do to the loss of each token type?" in page
    assert HOSTILE not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert page.count("&lt;img src=x&gt;|$") > 3
    assert "Minima" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    assert "Points that the fit did not use" not in page
    assert "Provisional: 8 of 9 runs are done." in page


def test_markdown_has_the_same_tables(content: Content) -> None:
    text = render_markdown(content)
    assert "| &lt;img src=x&gt;\\|$\\\\foo$ | 2.5" in text
    assert "## What was found" in text
    assert "Minima" not in text


def test_the_verdict_is_by_runs_and_seeds(points: pd.DataFrame) -> None:
    def verdict(table: pd.DataFrame) -> str:
        factors = [Factor("mix", LABELS, "none")]
        return sentences.verdict(Content("mixes", table, ablation=compare(table, factors))).word

    done = points[points["state"] == "done"]
    assert verdict(points) == "open"
    assert verdict(done) == "sound"
    assert verdict(done[done["seed"] == 0]) == "suspect"
    # What arms of another composition lack is no lack of seeds.
    assert verdict(done.assign(loss_text=done["loss_text"].where(done["axis_mix"] == "none"))) == "sound"
