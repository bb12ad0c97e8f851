"""What the branches of a trunk share: told from their residuals, and heeded by the intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

from isoflop.fitting import fit
from isoflop.fitting.intervals import NORMAL
from isoflop.fitting.law import Law
from isoflop.fitting.lines import lines_through
from isoflop.fitting.minima import find_minimum, profiles
from isoflop.fitting.points import judge
from isoflop.fitting.sharing import SHARES, likely_shares, models_of

#: The sizes of grids/demo.yaml, of which each budget trains six, the first one rung higher than the budget before.
LADDER = np.array([4096, 7680, 12288, 17920, 24576, 40896, 61360, 85920, 147328, 225120], dtype=float)
BUDGETS = np.repeat([2.4e10, 5e10, 1.05e11, 2.2e11, 4.6e11], 6)
TRUNK = (np.arange(5)[:, None] + np.arange(6)).ravel()
#: N* ∝ C^TRUTH, and how the loss rises about it.
TRUTH, BEND = 0.58, 0.015
NOISE = 0.003


def branches(seed: int, share: float) -> pd.DataFrame:
    """A study of ten trunks whose branches have `share` of the noise's variance in common."""
    generator = np.random.default_rng(seed)
    own, common = generator.standard_normal(len(TRUNK)), generator.standard_normal(len(LADDER))[TRUNK]
    noise = NOISE * (np.sqrt(share) * common + np.sqrt(1 - share) * own)
    params = LADDER[TRUNK]
    best = 2.8e4 * (BUDGETS / 1.05e11) ** TRUTH
    return pd.DataFrame(
        {
            "flops": BUDGETS,
            "params": params,
            "tokens": BUDGETS / 6 / params,
            "loss": np.exp(BEND * np.log(params / best) ** 2 + noise),
            "trunk": [f"t{each}" for each in TRUNK],
        }
    )


def lines_of(table, bootstrap=200):
    points = judge(table)
    found = profiles(points)
    minima, models = [find_minimum(profile, 5) for profile in found], models_of(points, found)
    return lines_through(found, minima, width=5, bootstrap=bootstrap, seed=0, models=models)


def test_branches_are_numbered_by_trunk_in_the_order_of_the_profiles():
    points = judge(branches(0, 1.0).sample(frac=1, random_state=0))
    models = models_of(points, profiles(points))
    assert (models.column, models.number) == ("trunk", 10)
    numbers = np.stack(models.labels)
    assert all(len(np.unique(each)) == 6 for each in numbers)
    # The second size of a budget is the first of the next one.
    np.testing.assert_array_equal(numbers[:-1, 1:], numbers[1:, :-1])
    assert models.only([1, 3]).labels[1].tolist() == numbers[3].tolist()


def test_weights_are_the_parts_of_a_sizes_mean():
    table = branches(0, 1.0)
    again = table.assign(trunk=table["trunk"] + "b", loss=table["loss"] * 1.001)
    points = judge(pd.concat([table, again]))
    found = profiles(points)
    models = models_of(points, found)
    assert models.number == 20
    for profile, weights in zip(found, models.weights(found), strict=True):
        assert profile.runs.tolist() == [2] * 6
        np.testing.assert_array_equal(np.sort(weights, axis=1)[:, -3:], [[0, 0.5, 0.5]] * 6)


@pytest.mark.parametrize(
    "labels",
    [{}, {"trunk": list(range(30))}, {"trunk": ["one"] * 30}, {"seed": [0] * 30}],
    ids=["no trunks", "a trunk for each", "one label for models of other sizes", "a seed is no model"],
)
def test_points_that_are_no_model_of_several_budgets_share_nothing(labels):
    table = branches(0, 0.0).drop(columns="trunk")
    # Sizes of their own at each budget, so that no label can mean one model.
    table = table.assign(**labels, params=table["params"] * np.repeat(1.01 ** np.arange(5), 6))
    table["tokens"] = table["flops"] / 6 / table["params"]
    points = judge(table)
    assert models_of(points, profiles(points)) is None


def test_rows_of_one_run_at_several_budgets_are_one_model():
    table = branches(0, 1.0)
    points = judge(table.rename(columns={"trunk": "run"}))
    models = models_of(points, profiles(points))
    assert (models.column, models.number) == ("run", 10)


def test_the_likelihood_is_that_of_normal_residuals():
    points = judge(branches(3, 0.5))
    found = profiles(points)
    models = models_of(points, found)
    window = 6
    # Written anew: every residual coordinate at once, by matrices.
    label = np.concatenate(models.labels)
    spaces = [linalg.null_space(np.vander(each.log_params - each.log_params.mean(), 3).T) for each in found]
    space = linalg.block_diag(*spaces)
    z = space.T @ np.concatenate([each.log_loss for each in found])
    expected = []
    for share in SHARES:
        covariance = space.T @ (share * (label[:, None] == label) + (1 - share) * np.eye(len(label))) @ space
        logdet, form = np.linalg.slogdet(covariance)[1], z @ np.linalg.solve(covariance, z)
        expected.append(-0.5 * (logdet + len(z) * np.log(form)))
    found_logs = np.log(likely_shares(found, models, window))
    np.testing.assert_allclose(found_logs - found_logs[0], np.array(expected) - expected[0], rtol=1e-6, atol=1e-6)


def test_the_share_is_told_and_stays_open_where_nothing_tells_it():
    told = {}
    for share in (0.0, 0.5, 1.0):
        draws = [lines_of(branches(seed, share), 100).draws for seed in range(30)]
        told[share] = np.mean([each.shared.share for each in draws])
    assert told[0.0] < 0.4 < told[0.5] < 0.7 < 0.85 < told[1.0]
    table = branches(0, 1.0)
    few = table[np.tile([True] * 3 + [False] * 3, 5)]
    found = profiles(judge(few))
    assert likely_shares(found, models_of(judge(few), found), 5) == pytest.approx(np.full(len(SHARES), 0.05))


@pytest.mark.parametrize(("share", "studies"), [(1.0, 300), (0.5, 100), (0.0, 100)])
def test_95_percent_intervals_hold_the_truth_whatever_is_shared(share, studies):
    """Resamples that know of no trunks hold 91 % where all is shared, and spread 0.63 times as far as the estimates."""
    held, spread, estimates = {"a": 0, "ratio": 0}, [], []
    for seed in range(1000, 1000 + studies):
        lines = lines_of(branches(seed, share), bootstrap=100)
        a, ratio = lines.law("params").exponent, lines.ratio
        held["a"] += a.low <= TRUTH <= a.high
        held["ratio"] += ratio.low <= (1 - TRUTH) / TRUTH <= ratio.high
        spread.append((a.bootstrap[1] - a.bootstrap[0]) / 2 / NORMAL)
        estimates.append(a.value)
    assert all(0.92 <= count / studies <= 0.99 for count in held.values()), held
    assert np.median(spread) > 0.7 * np.std(estimates)


def test_a_law_says_what_its_minima_share():
    table = branches(1, 1.0)
    law = fit(table, bootstrap=100)
    shared = law.power_laws.shared
    assert (shared.column, shared.number) == ("trunk", 10)
    assert 0.5 < shared.share < 1
    assert Law.from_json(law.to_json()) == law
    check = next(each for each in law.checks if each.name == "bootstrap")
    assert "those of the minima keep together what the points of a trunk share (10 models, " in check.message
    alone = fit(table.drop(columns="trunk"), bootstrap=100)
    assert alone.power_laws.shared is None
    assert alone.power_laws.params.exponent.value == law.power_laws.params.exponent.value
    assert alone.power_laws.params.exponent.t == law.power_laws.params.exponent.t
