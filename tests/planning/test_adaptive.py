"""Studies on paper: each run once where a table tells them, and an end in every case."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting import fit
from isoflop.fitting.cost import six_nd
from isoflop.fitting.points import judge
from isoflop.planning.adaptive import conduct, of_table
from isoflop.planning.information import Goal
from isoflop.planning.prior import published
from isoflop.planning.question import Question

COST = six_nd(1e5, 1e11)
PRIOR = published("besiroglu2024")


@pytest.fixture(scope="module")
def pools():
    from pathlib import Path

    path = Path(__file__).parents[3] / "shared" / "data" / "porian" / "isoflops.csv"
    if not path.is_file():
        pytest.skip("the folder of public points, shared/data, is not beside the project")
    table = pd.read_csv(path)
    return {str(name): part.reset_index(drop=True) for name, part in table.groupby("exp", sort=False)}


def replayed(table, cap):
    points = judge(table)
    cells = of_table(points.budget, points.flops, points.params, points.tokens)
    total = float(points.flops.sum())
    question = Question((Goal("a", 0.001),), lambda flops: PRIOR.optimum(flops, COST), COST, 0.003, cap=cap * total)
    return conduct(question, cells, lambda cell: float(points.loss[cell.cell])), total


def exponent(table):
    return fit(table, minimum="akima", bootstrap=100).methods.akima.a


def test_a_fifth_of_a_published_pool_tells_its_exponent(pools):
    table = pools["rw|tuned|warm=short|decay=const|count=standard|val"]
    study, total = replayed(table, 0.2)
    assert study.end.action == "cap"
    assert study.spent <= 0.2 * total
    found = study.finished
    assert len(np.unique(np.stack([found.flops, found.params]), axis=1).T) == len(found)
    assert abs(exponent(pd.DataFrame(vars(found))) - exponent(table)) < 0.02


def test_a_table_that_is_used_up_is_an_end(pools):
    table = pools["rw|tuned|warm=short|decay=const|count=standard|val"]
    study, _ = replayed(table[table["flops"] < 2e17], 10.0)
    assert study.end.action in ("exhausted", "stop")
    assert len(study.finished) <= (table["flops"] < 2e17).sum()
