"""`recommend` from the shell: published laws, files, units, and calls that are wrong."""

from __future__ import annotations

import json

import pytest


def test_a_published_law_answers_in_json(isoflop):
    code, out, err = isoflop(
        "recommend", "--law", "hoffmann2022", "--flops", "5.76e23", "--against", "besiroglu2024", "--json"
    )
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert {"flops", "params", "tokens", "loss", "shape", "status"} <= set(record)
    assert set(record["loss"]) == {"value", "low", "high"}
    assert 6 * record["params"]["value"] * record["tokens"]["value"] == pytest.approx(5.76e23, rel=1e-9)
    (other,) = record["against"]
    assert other["law"] == "besiroglu2024"
    assert record["spread"]["params"] == pytest.approx(other["params"]["value"] / record["params"]["value"])


def test_the_same_budget_in_every_unit_is_the_same_answer(isoflop):
    h100 = ("--gpu", "h100", "--mfu", "0.4")
    flops = 1000 * 3600 * 989e12 * 0.4
    calls = [
        ("--flops", flops, *h100, "--gpus", 10, "--price-per-hour", 2),
        ("--gpu-hours", "1k", *h100, "--gpus", 10, "--price-per-hour", 2),
        ("--cost", 2000, "--price-per-hour", 2, *h100, "--gpus", 10),
        ("--days", 1000 / 240, "--gpus", 10, *h100, "--price-per-hour", 2),
    ]
    records = []
    for call in calls:
        code, out, _ = isoflop("recommend", "--law", "besiroglu2024", *call, "--json")
        assert code == 0
        records.append(json.loads(out))
    for record in records:
        assert record["params"]["value"] == pytest.approx(records[0]["params"]["value"], rel=1e-9)
        assert record["shape"]["machine"]["cost"] == pytest.approx(records[0]["shape"]["machine"]["cost"])


def test_audio_is_data(isoflop):
    call = ("recommend", "--law", "soda-surface", "--audio-hours", "100k", "--token-rate", "100", "--json")
    record = json.loads(isoflop(*call)[1])
    assert record["tokens"]["value"] == pytest.approx(3.6e10, rel=1e-6)
    assert record["audio_hours"] == pytest.approx(1e5, rel=1e-6)
    scarce = json.loads(isoflop(*call, "--flops", "1e22")[1])
    assert scarce["binds"] == "data"
    assert scarce["data"]["epochs"] > 1


def test_tables_and_suites_have_a_row_for_each(isoflop):
    call = ("recommend", "--law", "besiroglu2024")
    rows = json.loads(isoflop(*call, "--table", "1e20,1e21,1e22", "--json")[1])["table"]
    assert [row["flops"] for row in rows] == [1e20, 1e21, 1e22]
    rows = json.loads(isoflop(*call, "--suite", "135M,600M,1.7B,4B", "--flops", "1e21", "--json")[1])["suite"]
    assert [row["params"]["value"] for row in rows] == [135e6, 600e6, 1.7e9, 4e9]
    code, out, _ = isoflop(*call, "--suite", "135M,600M,1.7B,4B")
    assert code == 0
    assert len([line for line in out.splitlines() if line.startswith("besiroglu2024")]) == 4


def test_a_recipe_gives_shapes(isoflop):
    ladder = ("--recipe", "marin-2025", "--vocabulary", "32000", "--sequence-length", "2048", "--untied-head")
    record = json.loads(isoflop("recommend", "--law", "besiroglu2024", "--flops", "1e21", *ladder, "--json")[1])
    shape = record["shape"]
    assert (shape["shape"]["vocabulary"], shape["shape"]["tied_head"]) == (32000, False)
    assert shape["run"]["recipe"] == "marin-2025"
    assert 6 * shape["params"] * shape["run"]["tokens"] == pytest.approx(1e21, rel=1e-3)


def test_a_suite_is_built_of_its_own_shapes(isoflop):
    call = ("recommend", "--law", "soda-surface", "--suite", "135M,600M,1.7B,4B", "--flops", "1e21")
    rows = json.loads(isoflop(*call, "--ladder", "soda-suite", "--json")[1])["suite"]
    widths = [(row["shape"]["shape"]["d_model"], row["shape"]["shape"]["n_layers"]) for row in rows]
    # 135M cannot be trained for so long; the refusal names its shape.
    assert widths == [(1024, 28), (1024, 28), (2048, 28), (2560, 36)]
    assert rows[0]["shape"]["refused"][0].startswith("d512-l15: steps must be at most")
    assert (
        "5.46 times larger than 135M parameters, which has about 10 % less loss"
        in isoflop(*call, "--ladder", "soda-suite")[1]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            ("--flops", "1e22", "--ladder", "soda"),
            "a published ladder must be one of chinchilla, soda-suite, but got 'soda'",
        ),
        (("--flops", "0"), "--flops must be positive and finite, but got 0"),
        (("--flops", "1e22 FLOP/s"), "but got '1e22 FLOP/s'; FLOP/s are a speed"),
        (("--gpu-hours", "9", "--gpu", "h101"), "gpu must be one of a100-80, h100"),
        (("--gpu-hours", "9"), "--gpu-hours must go with --gpu"),
        (("--flops", "1e22", "--mfu", "0.4"), "--mfu must go with --gpu"),
        (
            ("--flops", "1e22", "--cost", "9"),
            "at most one compute budget must be given, but got --flops 1e22, --cost 9",
        ),
        (("--days", "9", "--gpu", "h100"), "days must go with a number of GPUs"),
        (("--cost", "9", "--gpu", "h100"), "a cost must go with a price"),
        (("--audio-hours", "9"), "--audio-hours must go with --token-rate"),
        (("--flops", "1e22", "--params", "1B", "--tokens", "1B"), "params and tokens must cost flops"),
        (("--law", "llama3", "--flops", "1e22", "--ladder", "soda-suite"), "--ladder must go with --recipe"),
        (("--flops", "1e22", "--vocabulary", "9"), "--vocabulary must go with --recipe"),
        (("--flops", "1e22", "--recipe", "tiny"), "--recipe must go with --vocabulary"),
        (("--table", "1e22", "--suite", "1B"), "at most one comparison"),
        (("--suite", "135Mio", "--flops", "1e22"), "--suite must be a plain number of parameters"),
        (("--flops", "1e22", "--against", "kaplan"), "but got 'kaplan'; did you mean"),
        ((), "one of --flops"),
    ],
)
def test_wrong_calls_exit_2_with_one_message(isoflop, call, message):
    code, out, err = isoflop("recommend", "--law", "hoffmann2022", *call)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_laws_that_are_none_exit_2(isoflop, tmp_path):
    code, _, err = isoflop("recommend", "--law", "hofmann", "--flops", "1e22")
    assert code == 2
    assert "hoffmann2022" in err
    (tmp_path / "old.json").write_text(json.dumps({"schema": 1}))
    code, _, err = isoflop("recommend", "--law", tmp_path / "old.json", "--flops", "1e22")
    assert code == 2
    assert "schema 2" in err
    code, _, err = isoflop("recommend", "--law", "llama3", "--flops", "1e22", "--unique-tokens", "1B")
    assert code == 1
    assert "llama3 has none" in err
