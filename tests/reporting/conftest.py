from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting import fit
from isoflop.fitting.effects import Effect
from isoflop.fitting.points import judge
from isoflop.fitting.sensitivity import sensitivity
from isoflop.fitting.shifts import Rerun
from isoflop.recommendation import recommend
from isoflop.recommendation.ladder import Ladder
from isoflop.reporting.content import Content, Progress, Work


@pytest.fixture(scope="module")
def points():
    """A small study as `store.points` gives it: one budget refused, a run failed, one with a hostile name."""
    generator = np.random.default_rng(0)
    rows = []
    for budget in np.geomspace(1e18, 1e20, 5):
        best = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62) * (budget / 6) ** (0.28 / 0.62)
        for place, spread in enumerate(np.geomspace(1 / 3, 3, 7)):
            params = best * spread
            tokens = budget / 6 / params
            loss = 1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28
            noisy = loss * np.exp(0.002 * generator.standard_normal())
            rows.append(
                {
                    "run": f"d{place}-{budget:.0e}",
                    "state": "done",
                    "in_grid": True,
                    "budget": budget,
                    "flops": budget,
                    "params": params,
                    "tokens": tokens,
                    "loss": noisy,
                    "loss_text": 0.5 * noisy,
                    "loss_acoustic_0": 1.2 * noisy,
                }
            )
    table = pd.DataFrame(rows)
    top = table["budget"] == table["budget"].max()
    table = table[~top | (table["params"] < table.loc[top, "params"].median())].reset_index(drop=True)
    table.loc[0, "run"] = "<script>alert('run')</script>"
    table.loc[8, ["state", "loss", "loss_text", "loss_acoustic_0"]] = ["failed", np.nan, np.nan, np.nan]
    return table


@pytest.fixture(scope="module")
def law(points):
    return fit(points)


@pytest.fixture(scope="module")
def recommendation(law):
    return recommend(law, flops=1e21, ladder=Ladder.named("marin-2025", 1024, 256))


@pytest.fixture(scope="module")
def work(points):
    """What each run did: one failed half way."""
    done = {
        row["run"]: Work("done", step=100, steps=100, flops=row["flops"], seconds=3.6, device="cpu", cost=0.5)
        for row in points.to_dict("records")
    }
    failed = points.loc[8, "run"]
    return {**done, failed: Work("failed", 50, 100, points.loc[8, "flops"] / 2, reason="out of memory: <b>no room</b>")}


@pytest.fixture(scope="module")
def progress(points):
    return Progress(
        spent_flops=1e20,
        planned_flops=4e20,
        device_hours=2.5,
        seconds_left=7200.0,
        cost=5.0,
        advice={points.loc[8, "run"]: "take a smaller micro_batch"},
    )


@pytest.fixture(scope="module")
def content(points, law, recommendation, work, progress):
    return Content(
        study_name="demo <b>",
        points=points,
        law=law,
        recommendation=recommendation,
        notes=("A smoke test & no more: <i>small</i> models.",),
        work=work,
        progress=progress,
        study_text="name: demo # </pre><script>alert('study')</script>",
        made_with=(("trained with", "torch <9>"),),
    )


@pytest.fixture(scope="module")
def audit(points, law):
    """An audit of the law: a batch that tilts the losses, and a choice whose runs all failed, with a hostile reason."""
    judged = judge(points)
    middles = [np.flatnonzero(judged.budget == each.budget)[2:5] for each in law.interior]
    effects = tuple(
        Effect(
            float(judged.budget[row]),
            float(judged.flops[row]),
            float(judged.params[row]),
            0.004 * number * float(np.log(judged.params[row] / 1e8)),
        )
        for number, rows in enumerate(middles)
        for row in rows
    )
    reruns = [Rerun("batch ×2", "batch", effects, 2.0), Rerun("rate ×2", "rate", (), 2.0, ("a | b <i>failed</i>",))]
    return sensitivity(points, judged, law, reruns, target=1e21)
