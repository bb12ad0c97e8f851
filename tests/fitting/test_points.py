from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isoflop.errors import InputError
from isoflop.fitting.points import judge, simulated


def table(**columns):
    rows = max(len(values) for values in columns.values())
    plain = {"flops": [6e10] * rows, "params": [1e4] * rows, "tokens": [1e6] * rows, "loss": [3.0] * rows}
    return pd.DataFrame({**plain, **columns})


def test_every_row_is_used_or_excluded_with_its_reason():
    points = table(
        loss=[3.0, np.nan, 2.9, 2.8, -1.0, np.inf, 2.7],
        tokens=[1e6, 1e6, 0.0, 1e6, 1e6, 1e6, 1e6],
        state=["done", "planned", "done", "failed", "done", "done", "done"],
        in_grid=[True, True, True, True, True, True, False],
        run=list("abcdefg"),
    )
    judged = judge(points)
    assert list(judged.row) == [0]
    assert {each.row: (each.reason, each.run) for each in judged.excluded} == {
        1: ("the run is planned", "b"),
        2: ("tokens is not positive: 0", "c"),
        3: ("the run is failed", "d"),
        4: ("loss is not positive: -1", "e"),
        5: ("loss is not finite: inf", "f"),
        6: ("not in the grid", "g"),
    }


def test_a_repeated_row_is_named_and_repeats_with_other_seeds_are_not():
    repeated = table(loss=[3.0, 2.9, 3.0])
    assert [(each.row, each.reason) for each in judge(repeated).excluded] == [(2, "repeats row 0")]
    assert judge(repeated.assign(seed=[0, 0, 1])).excluded == ()


def test_order_of_rows_and_other_columns_do_not_change_what_is_used():
    points = table(params=[1e4, 2e4, 3e4, 4e4], loss=[3.0, 2.8, 2.9, np.nan])
    judged, shuffled = judge(points), judge(points.iloc[[2, 0, 3, 1]].assign(note="x"))
    assert judged.digest == shuffled.digest
    np.testing.assert_array_equal(judged.loss, shuffled.loss)
    assert judge(points.assign(loss=[3.0, 2.8, 2.90001, np.nan])).digest != judged.digest


def test_budgets_are_the_tables_own_or_clusters_of_flops_never_rounded():
    flops = [1.00e18, 1.04e18, 1.02e18, 1.06e18, 3e18]
    clustered = judge(table(flops=flops, params=[1.0, 2.0, 3.0, 4.0, 5.0]))
    # 1.06e18 is 6 % above the lowest of the first cluster.
    assert list(clustered.budgets) == [1.02e18, 1.06e18, 3e18]
    named = judge(table(flops=flops, params=[1.0, 2.0, 3.0, 4.0, 5.0], budget=[1e18] * 4 + [3e18]))
    assert list(named.budgets) == [1e18, 3e18]
    partly = judge(table(flops=flops, params=[1.0, 2.0, 3.0, 4.0, 5.0], budget=[1e18] * 4 + [np.nan]))
    assert list(partly.budgets) == [1e18, 3e18]
    # What costs the same as a named point is at its budget, from either side.
    some = judge(table(flops=flops, params=[1.0, 2.0, 3.0, 4.0, 5.0], budget=[np.nan, 1e18, np.nan, np.nan, np.nan]))
    assert list(some.budgets) == [1e18, 3e18]


def test_missing_columns_are_named_with_the_nearest():
    points = pd.DataFrame({"FLOPS": [1.0], "n_params": [1.0], "tokens": [1.0], "final_loss": [1.0]})
    with pytest.raises(
        InputError, match=r"lacks flops, params, loss and has 'FLOPS'.*flops=\"FLOPS\".*params=\"n_params\""
    ):
        judge(points)


def test_text_among_numbers_is_named_with_its_row_and_empty_cells_are_not_text():
    with pytest.raises(InputError, match=r"'loss' must hold numbers, but row 1 \(counted from 0\) holds 'diverged'"):
        judge(table(loss=["3.0", "diverged"]))
    judged = judge(table(loss=["3.0", "", "NaN", None], params=[1.0, 2.0, 3.0, 4.0]))
    assert [each.reason for each in judged.excluded] == ["loss is not finite: nan"] * 3


def test_a_table_without_rows_or_with_a_column_twice_is_refused():
    with pytest.raises(InputError, match="must have rows"):
        judge(table(loss=[3.0]).iloc[:0])
    doubled = pd.concat([table(loss=[3.0]), pd.Series([1.0], name="loss")], axis="columns")
    with pytest.raises(InputError, match="one column 'loss', but got 2"):
        judge(doubled)


def test_runs_before_their_end_are_labelled():
    points = table(
        loss=[3.0, 2.9, 2.8, 2.7, 2.6],
        tokens=[1e6, 5e5, 1e6, 1e6, 2e6],
        warmup_tokens=[np.nan, 5e5, 1e5, 1e5, 1e5],
        step=[100, 100, 60, 50, 100],
        steps=[100, 100, 100, np.nan, np.nan],
        run=["a", "b", "c", "d", "d"],
    )
    assert {each.row: each.reason for each in judge(points).excluded} == {
        1: "inside warm-up: 5e+05 tokens of 5e+05",
        2: "mid-schedule: step 60 of 100",
        3: "mid-schedule: step 50 of a run that goes on to 100",
    }


def test_a_run_far_above_both_neighbours_diverged():
    sizes = [1e6 * 2.0**place for place in range(7)]
    clean = [3.2, 3.1, 3.05, 3.04, 3.08, 3.15, 3.3]
    loss = [3.2, 3.1, 3.05, 3.9, 3.08, 3.15, 3.3]
    flops = np.repeat([6e10, 2e11, 6e11], 7)
    points = table(flops=flops, params=sizes * 3, loss=loss + clean * 2)
    assert [(each.row, each.reason) for each in judge(points).excluded] == [
        (3, "diverged: its loss, 3.9, is 27% above those of both neighbouring sizes at its budget")
    ]
    # At an end nobody can tell, and a valley's wall is no divergence.
    wall = table(params=sizes, loss=[9.0, 6.0, 4.0, 3.0, 4.0, 6.0, 9.0])
    assert judge(wall).excluded == ()
    said = table(params=sizes, loss=clean, diverged=[False, True, False, False, False, False, "yes"])
    assert [(each.row, each.reason) for each in judge(said).excluded] == [
        (1, "diverged, as the table says"),
        (6, "diverged, as the table says"),
    ]


def test_empty_cells_of_noise_are_unknown_and_of_unique_tokens_mean_all():
    points = table(params=[1.0, 2.0], tokens=[1e6, 4e6], loss_sigma=[0.01, np.nan], unique_tokens=[5e5, None])
    judged = judge(points)
    np.testing.assert_array_equal(judged.sigma, [0.01, np.nan])
    np.testing.assert_array_equal(judged.unique_tokens, [5e5, 4e6])
    assert judge(points.assign(unique_tokens=[4e5, None])).digest != judged.digest
    empty = judge(points.assign(loss_sigma=np.nan, unique_tokens=""))
    assert (empty.sigma, empty.unique_tokens) == (None, None)
    with pytest.raises(InputError, match=r"loss_sigma must be positive and finite.*row 1 \(counted from 0\) holds 0"):
        judge(points.assign(loss_sigma=[0.01, 0.0]))


@pytest.mark.parametrize("state", ["done", "finished", "Completed "])
def test_runs_that_other_tools_call_finished_are_done(state):
    judged = judge(table(params=[1.0, 2.0], state=[state, "crashed"]))
    assert [each.reason for each in judged.excluded] == ["the run is crashed"]


def test_branches_of_a_trunk_are_one_cluster():
    points = table(params=[1.0, 2.0, 3.0, 4.0], trunk=["x", "y", "x", None])
    (clusters,) = judge(points).clusters
    assert (clusters.column, clusters.label.tolist()) == ("trunk", [0, 1, 0, 2])
    assert judge(points.drop(columns="trunk")).clusters == ()


def test_a_row_whose_budget_contradicts_its_c_is_named():
    flops = [1e18, 1.02e18, 3e19, 0.98e18, 3e19, 3e19]
    points = table(flops=flops, params=[1.0, 2.0, 3.0, 4.0, 1.0, 2.0], budget=[1e18] * 4 + [3e19] * 2)
    judged = judge(points)
    assert [each.row for each in judged.excluded] == [2]
    assert judged.excluded[0].reason == "its C, 3e19, contradicts its budget, 1e18, of which the others cost 1.01e18"
    # A name by another convention than the rows' C contradicts nothing.
    assert not judge(points.assign(flops=2.0 * points["budget"])).excluded


def test_budgets_that_most_rows_contradict_are_refused():
    points = table(flops=[1e18, 3e18, 1e19, 3e19, 1e20], params=[1.0, 2.0, 3.0, 4.0, 5.0], budget=[7.0] * 5)
    with pytest.raises(InputError, match=r"about the same, but of 5 4 do not.*budget 7e0 whose C is 1e18"):
        judge(points)
    assert len(judge(points.drop(columns="budget")).budgets) == 5


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([True, True], True), (["True", "true"], True), ([1, 1.0], True), ([False, False], False), (["", None], False)],
)
def test_simulated_points_are_told_from_real_ones(flags, expected):
    assert simulated(table(simulated=flags)) is expected
    assert simulated(table(loss=[3.0, 2.9])) is False


@pytest.mark.parametrize("flags", [[True, False], [np.nan, True], ["", "True"]])
def test_simulated_and_real_points_do_not_mix(flags):
    with pytest.raises(InputError, match="must be all simulated or all real, but got 1 simulated ones of 2"):
        simulated(table(simulated=flags))
