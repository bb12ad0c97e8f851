"""Which points share their noise, and from how many on they are resampled together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isoflop.fitting import fit
from isoflop.fitting.clusters import clusters_of, resampled_by


def chosen(**columns):
    table = pd.DataFrame(columns)
    return resampled_by(clusters_of(table, np.arange(len(table))))


def test_points_are_numbered_by_what_they_share_and_unlabelled_ones_stand_alone():
    (found,) = clusters_of(pd.DataFrame({"trunk": ["x", "y", "x", None, None]}), np.arange(5))
    assert found.label.tolist() == [0, 1, 0, 2, 3]
    assert (found.column, found.number) == ("trunk", 4)
    # (1 + 1 + 1 + 2)² / (1 + 1 + 1 + 4)
    assert found.effective == pytest.approx(25 / 7)
    assert found.only(np.array([0, 2])).number == 1


def test_the_coarsest_column_with_clusters_enough_is_taken():
    run, trunk = [f"r{place}" for place in range(64)], [place // 2 for place in range(64)]
    assert chosen(run=run) is None
    assert chosen(run=run, trunk=trunk).column == "trunk"
    assert chosen(run=run, trunk=trunk, seed=[place // 4 for place in range(64)]).column == "seed"
    assert chosen(run=run, trunk=trunk, seed=[place // 32 for place in range(64)]).column == "trunk"
    assert chosen(run=[each // 2 for each in range(64)], trunk=[0] * 64).column == "run"


@pytest.mark.parametrize(
    "seed",
    [[0] * 64, list(range(64)), [place % 3 for place in range(64)], [0] * 50 + list(range(14))],
    ids=["one for all", "one each", "three", "most have one, replicates their own"],
)
def test_seeds_that_are_no_clusters_make_none(seed):
    assert chosen(seed=seed) is None


def test_a_law_says_by_what_its_resamples_were_clustered(study):
    shared = study(sizes=9, repeats=10, noise=0.001)
    seed = np.tile(np.arange(10), len(shared) // 10)
    wild = 0.01 * np.random.default_rng(0).standard_normal(10)
    # What runs of a seed share tilts their profiles, those of larger budgets one way, others the other: that is a.
    size, budget = np.log(shared["params"]), np.log(shared["flops"])
    lean = (size - size.groupby(budget).transform("mean")) * (budget - budget.mean()) * wild[seed]
    shared = shared.assign(loss=shared["loss"] * np.exp(lean))
    told, untold = fit(shared.assign(seed=seed)), fit(shared)
    assert (told.parametric.clusters.column, told.parametric.clusters.number) == ("seed", 10)
    assert told.parametric.intervals.scheme == "clustered"
    assert untold.parametric.clusters is None
    assert untold.parametric.intervals.scheme == "stratified"
    wide, narrow = (high - low for low, high in (told.parametric.intervals.a, untold.parametric.intervals.a))
    assert wide > 2 * narrow
    assert type(told).from_json(told.to_json()) == told
    check = next(each for each in told.checks if each.name == "bootstrap")
    assert check.message == "1000 resamples of the surface, clustered by the 10 values of seed."


@pytest.mark.parametrize(
    ("column", "status", "told"),
    [
        ("seed", "pass", "points share 3 of seed (3.0 in effect), too few to be resampled whole"),
        ("trunk", "warn", "is in no interval. Train more of them."),
    ],
)
def test_clusters_that_are_too_few_are_named(study, column, status, told):
    points = study(noise=0.001, repeats=3)
    law = fit(points.assign(**{column: np.arange(len(points)) % 3}))
    check = next(each for each in law.checks if each.name == "bootstrap")
    assert check.status == status
    assert told in check.message
