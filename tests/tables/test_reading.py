from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from isoflop.errors import InputError
from isoflop.tables import parse_columns, read_points

TABLE = pd.DataFrame(
    {
        "flops": [6e18, 6e18, 1.2e19],
        "params": [1e8, 2e8, 1e8],
        "tokens": [1e10, 5e9, 2e10],
        "loss": [3.25, 3.125, np.nan],
        "budget": [6e18, 6e18, 1.2e19],
        "run": ["a", "b", "c"],
    }
)


def write(path, table=TABLE):
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        path.write_text(json.dumps(json.loads(table.to_json(orient="records"))))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json", ".CSV"])
def test_a_table_comes_back_as_it_was(tmp_path, suffix):
    path = write(tmp_path / f"points{suffix.lower()}")
    path = path.rename(tmp_path / f"points{suffix}")
    pd.testing.assert_frame_equal(read_points(path), TABLE, check_dtype=False)
    assert read_points(str(path)).dtypes[["flops", "params", "loss", "budget"]].eq("float64").all()


@pytest.mark.parametrize("orient", ["records", "list", "dict"])
def test_json_may_hold_records_or_columns(tmp_path, orient):
    path = tmp_path / "points.json"
    path.write_text(json.dumps(TABLE.drop(index=2).to_dict(orient)))
    pd.testing.assert_frame_equal(
        read_points(path).reset_index(drop=True), TABLE.drop(index=2), check_dtype=False, check_index_type=False
    )


def test_foreign_columns_are_named(tmp_path):
    foreign = TABLE.rename(columns={"params": "Model, Size", "flops": "Training FLOP", "loss": "nll"})
    path = write(tmp_path / "points.csv", foreign.assign(loss="text that gives way"))
    columns = parse_columns('params="Model, Size", flops="Training FLOP",loss=nll')
    assert columns == {"params": "Model, Size", "flops": "Training FLOP", "loss": "nll"}
    read = read_points(path, columns)
    pd.testing.assert_frame_equal(read[list(TABLE.columns)], TABLE, check_dtype=False)


def test_tokens_come_from_6nd_only_where_there_are_none(tmp_path):
    path = write(tmp_path / "points.csv", TABLE.drop(columns="tokens"))
    with pytest.raises(InputError, match="lacks tokens"):
        read_points(path)
    np.testing.assert_allclose(read_points(path, tokens_from="6nd")["tokens"], TABLE["tokens"])
    with pytest.raises(InputError, match="this one has 'tokens'"):
        read_points(write(tmp_path / "whole.csv"), tokens_from="6nd")
    with pytest.raises(InputError, match="must be '6nd', but got '7nd'"):
        read_points(path, tokens_from="7nd")
    zero = write(tmp_path / "zero.csv", TABLE.drop(columns="tokens").assign(params=[0.0, 1e8, 1e8]))
    assert np.isnan(read_points(zero, tokens_from="6nd")["tokens"][0])


def test_missing_columns_are_named_with_the_file_and_the_nearest(tmp_path):
    path = write(tmp_path / "points.csv", TABLE.rename(columns={"loss": "final_loss", "params": "n_params"}))
    with pytest.raises(
        InputError, match=r"points.csv: .*lacks params, loss .*params=\"n_params\", loss=\"final_loss\""
    ):
        read_points(path)
    with pytest.raises(InputError, match="lacks 'nothing' and has 'flops', 'n_params'"):
        read_points(path, {"loss": "nothing"})
    with pytest.raises(InputError, match="one purpose"):
        read_points(path, {"loss": "final_loss", "params": "final_loss"})


def test_text_in_a_column_of_numbers_is_named_with_its_row(tmp_path):
    path = write(tmp_path / "points.csv", TABLE.assign(loss=["3.2", "3.1", "diverged"]))
    with pytest.raises(InputError, match=r"points.csv: .*'loss' must hold numbers, but row 2 .* holds 'diverged'"):
        read_points(path)
    path = write(tmp_path / "budget.csv", TABLE.assign(budget=["small", "small", "large"]))
    with pytest.raises(InputError, match="'budget' must hold numbers, but row 0"):
        read_points(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "is not there"),
        ("points.txt", b"x", r"must be a .csv, .parquet, .json file"),
        ("empty.csv", b"", "must hold a table"),
        ("header.csv", b"flops,params,tokens,loss\n", "must hold a table with rows"),
        ("binary.csv", b"\xff\xfe\x00\x81\x00", "must hold a table"),
        ("prose.csv", b"Dear all,\nhere is, as promised, the table\n", "must have the columns"),
        ("broken.json", b'[{"flops": 1', "must hold a table"),
        ("number.json", b"3", "list of records or an object of columns"),
        ("ragged.json", b'{"flops": [1, 2], "loss": [1]}', "must hold a table"),
        ("points.parquet", b"PAR1 not really", "must hold a table"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_points(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_points(tmp_path / "folder.csv")


def test_c_is_6nd_only_where_it_is_asked_for(tmp_path):
    path = write(tmp_path / "points.csv", TABLE.drop(columns="flops"))
    with pytest.raises(InputError, match="lacks flops"):
        read_points(path)
    np.testing.assert_allclose(read_points(path, tokens_from="6nd")["flops"], TABLE["flops"])
    grouped = TABLE.drop(columns=["flops", "params"]).assign(params_body=5e7, params_embedding=4e7, params_head=0.0)
    path = write(tmp_path / "groups.csv", grouped)
    np.testing.assert_allclose(read_points(path, tokens_from="6nd")["flops"], 6 * 9e7 * TABLE["tokens"])
    body = read_points(path, tokens_from="6nd", params_convention="non_embedding")
    np.testing.assert_allclose(body["flops"], 6 * 5e7 * TABLE["tokens"])


def test_rows_are_chosen_before_anything_is_asked_of_them(tmp_path):
    table = TABLE.assign(loss=["3.2", "text", "3.1"], run=["a", "b", "a"])
    read = read_points(write(tmp_path / "points.csv", table), where=["run=a"])
    assert list(read["loss"]) == [3.2, 3.1]
    with pytest.raises(InputError, match=r"points.csv: .*none has 'run=z'; 'run' holds 'a', 'b'"):
        read_points(tmp_path / "points.csv", where=["run=z"])
