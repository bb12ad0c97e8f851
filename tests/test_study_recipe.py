"""The recipe section: what a study may change, and how sizes are told."""

from __future__ import annotations

import pytest

from isoflop.errors import InputError
from isoflop.study import Study
from isoflop.study_recipe import Tuned


def recipe(**content):
    return Study.parse({"name": "x", "recipe": content, "grid": {"budgets": [1e10], "sizes": [8]}}).recipe


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ladder": []}, "recipe.ladder must have 1 or more valid entries, but got []"),
        (
            {"ladder": [{"d_model": 8}]},
            "must have n_layers, d_model and n_heads, or params and flops_per_token, but got",
        ),
        ({"ladder": [{"name": "a", "params": 5}]}, "one of flops_per_token and flops_per_sample, but got 0"),
        (
            {"ladder": [{"name": "a", "params": 5, "flops_per_token": 1, "flops_per_sample": 1}]},
            "one of flops_per_token and flops_per_sample, but got 2",
        ),
        ({"ladder": [{"params": 5, "flops_per_token": 1}]}, "a size with params must have a name, but got none"),
        (
            {"ladder": [{"name": "a", "params": 5, "flops_per_token": 1, "n_layers": 2}]},
            "a size must be a shape or have params, but got both",
        ),
        (
            {"ladder": [{"n_layers": 1, "d_model": 8, "n_heads": 1, "flops_per_token": 1}]},
            "a shape's FLOPs are counted, not given, but got",
        ),
        (
            {"ladder": [{"n_layers": 1, "d_model": 8, "n_heads": 1, "learning_rate": 0.1}]},
            "a shape's rate follows the recipe's rule, but got learning_rate 0.1",
        ),
        (
            {"ladder": [{"name": "a", "params": 5, "flops_per_token": 1}] * 2},
            "names must be distinct, but got 'a' twice",
        ),
        ({"ladder": [{"n_layer": 1}]}, "'recipe.ladder.0.n_layer'; did you mean 'n_layers'?"),
        ({"heads": 2, "head_size": 64}, "at most one of heads and head_size must be given, but got 2 and 64"),
        ({"warmup_steps": 2, "warmup_fraction": 0.1}, "at most one of warmup_steps and warmup_fraction"),
        ({"learning_rate": 1, "rate_times_width": 1}, "at most one of learning_rate and rate_times_width"),
        (
            {"published_ladder": "soda-suite", "ladder": [{"n_layers": 1, "d_model": 8, "n_heads": 1}]},
            "at most one of ladder and published_ladder must be given",
        ),
        ({"z_loss": -1}, "recipe.z_loss must be >= 0, but got -1"),
        ({"optimizer": "sgd"}, "recipe.optimizer must be 'adamw' or 'cautious', but got 'sgd'"),
        ({"decay_fraction": 1.5}, "recipe.decay_fraction must be <= 1, but got 1.5"),
        ({"beta2": 1}, "recipe.beta2 must be < 1, but got 1"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_rule_and_the_value(content, message):
    with pytest.raises(InputError) as error:
        recipe(**content)
    assert message in str(error.value)


def test_changes_are_what_the_study_gives():
    assert recipe(base="marin-2025").changes() == {}
    assert recipe(max_steps="1e4", mlp="plain").changes() == {"max_steps": 10_000, "mlp": "plain"}


def test_a_recipe_is_read_from_its_file_and_what_stands_beside_it_wins(tmp_path):
    (tmp_path / "recipe.yaml").write_text("{base: tiny, name: mine, rate_times_width: 0.3, clip: 2.0}")
    path = tmp_path / "study.yaml"
    path.write_text("{name: x, recipe: {file: recipe.yaml, clip: 0.5}, grid: {budgets: [1e10], sizes: [8]}}")
    found = Study.load(path).recipe
    assert (found.name, found.rate_times_width, found.clip) == ("mine", 0.3, 0.5)


@pytest.mark.parametrize("content", [None, "[1, 2]", "{file: other.yaml}", "{a: ["])
def test_what_is_no_recipe_file_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "recipe.yaml").write_text(content)
    path = tmp_path / "study.yaml"
    path.write_text("{name: x, recipe: {file: recipe.yaml}, grid: {budgets: [1e10], sizes: [8]}}")
    with pytest.raises(InputError, match=r"recipe.* file?.*recipe\.yaml|recipe\.file must be"):
        Study.load(path)


def test_what_a_recipe_was_tuned_on_says_what_lies_beyond():
    tuned = Tuned(
        widths=(12, 24), tokens=(1e5, 1e6), rates=(0.002, 0.05), trials=18, seeds=2, data="d", source="somebody"
    )
    assert tuned.beyond(16, 0.01) == tuned.beyond(12, 0.05) == ""
    assert tuned.beyond(16, 0.06) == "its rate, 0.06, was not tried (0.002 to 0.05)"
    assert tuned.beyond(48, 0.001).count(" and ") == 1
