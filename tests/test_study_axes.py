from __future__ import annotations

from pathlib import Path

import pytest

from isoflop.errors import InputError
from isoflop.study import Study


def study(**axes: object) -> Study:
    return Study.parse({"name": "x", "grid": {"budgets": [1e9], "sizes": [8]}, "axes": axes})


def test_values_have_labels_and_numbers_are_told_from_text() -> None:
    axes = study(
        share={"key": "data.text_share", "values": [0, 0.05, "1e-1"]},
        tied={"key": "model.tied_head", "values": [True, False]},
        rule={"key": "recipe.base", "values": {"ours": "tiny", "theirs": "marin-2025"}, "baseline": "theirs"},
        decay={"key": "recipe.weight_decay", "values": {"none": 0, "some": 0.1}},
    ).axes
    assert axes["share"].values == {"0": 0, "0.05": 0.05, "0.1": 0.1}
    assert axes["share"].numbers == (0.0, 0.05, 0.1)
    assert axes["tied"].values == {"true": True, "false": False}
    assert axes["tied"].numbers is None
    assert axes["rule"].numbers is None
    assert axes["decay"].numbers == (0.0, 0.1)
    assert (axes["tied"].label_of(True), axes["share"].label_of(0.05), axes["share"].label_of(0.2)) == (
        "true",
        "0.05",
        None,
    )
    # True is 1 to Python, and no value of this axis.
    assert axes["decay"].label_of(False) is None


def test_paths_start_at_the_study_file_and_are_told_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text("base: tiny\nwarmup_steps: 7\n")
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: x\ndata: {corpus: a/one}\ngrid: {budgets: [1e9], sizes: [8]}\naxes:\n"
        "  order: {key: data.corpus, values: [a/one, b/two], baseline: b/two}\n"
        "  both: {key: data, values: {x: {corpus: a/one, text_share: 0.5}, y: {corpus: b/two}}}\n"
        "  rule: {key: recipe, values: {tuned: {file: rule.yaml}, plain: tiny}}\n"
    )
    loaded = Study.load(path)
    assert loaded.axes["order"].values == {"one": f"{tmp_path}/a/one", "two": f"{tmp_path}/b/two"}
    assert loaded.axes["order"].baseline == "two"
    assert loaded.axes["both"].values["x"] == {"corpus": f"{tmp_path}/a/one", "text_share": 0.5}
    assert loaded.axes["rule"].values["tuned"] == {"base": "tiny", "warmup_steps": 7}
    again = tmp_path / "elsewhere" / "study.yaml"
    again.parent.mkdir()
    again.write_text(loaded.to_yaml())
    assert Study.load(again) == loaded


@pytest.mark.parametrize(
    ("name", "axis", "said"),
    [
        ("a", {"key": "name", "values": [1, 2]}, "must be a key of data, model, recipe, training, trainer.options"),
        ("a", {"key": "grid.budgets", "values": [1, 2]}, "but got 'grid.budgets'"),
        ("a", {"key": "trainer.command", "values": ["a", "b"]}, "but got 'trainer.command'"),
        ("a", {"key": "data..text_share", "values": [1, 2]}, "but got 'data..text_share'"),
        ("a", {"key": "training.seed", "values": [1, 2]}, "seeds are replicates of every arm: grid.seeds"),
        ("a", {"key": "training.validation_tokens", "values": [1, 2]}, "compared on the same held-out tokens"),
        ("a", {"key": "recipe.ladder", "values": [1, 2]}, "sizes are the same in every arm"),
        ("a", {"key": "training", "values": {"x": {"seed": 1}, "y": {}}}, "without training.seed, but got one with it"),
        ("a", {"key": "data.text_share", "values": []}, "must have two or more, but got 0"),
        ("a", {"key": "data.text_share", "values": [0.1]}, "must have two or more, but got 1"),
        ("a", {"key": "data.text_share", "values": [0.1, "1e-1"]}, "distinct values, but got 0.1 twice"),
        ("a", {"key": "data.text_share", "values": 0.1}, "must be a list, or a section with labels, but got 0.1"),
        ("a", {"key": "data.text_share", "values": [0.1, None]}, "but got null"),
        ("a", {"key": "data.corpus", "values": ["a/x", "b/x"]}, "distinct labels (write them before the values"),
        ("a", {"key": "data.corpus", "values": {"x\ty": "a", "z": "b"}}, "1 to 48 printable characters"),
        ("a", {"key": "data.text_share", "values": [0, 1], "baseline": 0.5}, "must be one of 0, 1, but got '0.5'"),
        ("a", {"key": "data.text_share", "values": [0, 1], "base": 0}, "did you mean 'baseline'?"),
        ("a", {"values": [0, 1]}, "axes.a.key must be given, but is missing"),
        ("a-b", {"key": "data.text_share", "values": [0, 1]}, "letters, digits and '_', 32 at most"),
        ("", {"key": "data.text_share", "values": [0, 1]}, "letters, digits and '_', 32 at most"),
    ],
)
def test_a_broken_axis_is_refused_with_its_rule(name: str, axis: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as refused:
        study(**{name: axis})
    assert said in str(refused.value)


def test_two_axes_must_not_vary_the_same_key() -> None:
    axis = {"key": "data.text_share", "values": [0, 1]}
    with pytest.raises(InputError, match=r"distinct keys, but got data.text_share twice"):
        study(one=axis, other=axis)
