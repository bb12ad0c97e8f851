"""Study files: loading, overrides, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from isoflop.errors import InputError
from isoflop.study import Study
from isoflop.study_template import commented, starter

MINIMAL = "name: x\ngrid: {budgets: [2.5e10, 1e11], sizes: [8, 16, 24]}\n"


@pytest.fixture
def load(tmp_path):
    def from_text(text, *overrides):
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return Study.load(path, overrides)

    return from_text


def test_numbers_that_yaml_reads_as_text_are_numbers(load):
    study = load("name: x\ngrid: {budgets: [3e18, 1.8e19], sizes: [8]}\ntraining: {validation_tokens: 1e4}\n")
    assert study.grid.budgets == (3e18, 1.8e19)
    assert study.training.validation_tokens == 10_000


def test_yaml_round_trip(load):
    study = load(MINIMAL, "recipe.warmup_steps=3", "data={abstract: {vocabulary: 10, unique_tokens: 1e6}}")
    assert load(study.to_yaml()) == study


def test_overrides_reach_nested_keys_and_short_forms(load):
    study = load(MINIMAL + "recipe: tiny\n", "training.seed=3", "recipe.rate_times_width=0.2", "grid.budgets=[1e10]")
    assert (study.training.seed, study.recipe.rate_times_width, study.grid.budgets) == (3, 0.2, (1e10,))


def test_a_relative_corpus_starts_at_the_study_file(load, tmp_path):
    assert load(MINIMAL + "data: {corpus: tokens}\n").data.corpus == tmp_path / "tokens"


def test_the_starter_loads_and_explains_every_key(load):
    text = starter("mine")
    study = load(text)
    assert study.name == "mine"
    assert "# training FLOPs of each profile, increasing" in text
    assert "budgets: [2.4e10, 5e10, 1.05e11, 2.2e11, 4.6e11]" in text
    keys = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert len(comments) > len(keys)


def test_any_study_comes_back_from_its_commented_form(load):
    study = load(MINIMAL, "limits.epochs=2.5", "training.precision=bf16", "recipe.decay_fraction=0.1")
    assert load(commented(study)) == study


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "trainin: {}\n", "keys must be known, but got 'trainin'; did you mean 'training'?"),
        (MINIMAL + "model: {sequence_lenght: 3}\n", "'model.sequence_lenght'; did you mean 'sequence_length'?"),
        (MINIMAL + "zzz: 1\n", "known keys: name, data, model"),
        ("name: x\n", "grid must be given, but is missing"),
        ("name: x\ngrid: {budgets: [-1e10], sizes: [8]}\n", "grid.budgets: must be positive, but got -1e+10"),
        ("name: x\ngrid: {budgets: [1e10, 1e10], sizes: [8]}\n", "must be distinct, but got 1e+10 twice"),
        ("name: x\ngrid: {budgets: [1e11, 1e10], sizes: [8]}\n", "must be increasing, but got 1e+10 after 1e+11"),
        ("name: x\ngrid: {budgets: [1e10], sizes: [16, 8]}\n", "grid.sizes: must be increasing, but got 8 after 16"),
        ("name: x\ngrid: {budgets: [.inf], sizes: [8]}\n", "must be finite, but got inf"),
        ("name: x\ngrid: {budgets: [.nan], sizes: [8]}\n", "must be finite, but got nan"),
        ("name: x\ngrid: {budgets: [many], sizes: [8]}\n", "must be a number, but got 'many'"),
        ("name: x\ngrid: {budgets: [1e10], sizes: [8.5]}\n", "must be a whole number, but got 8.5"),
        ("name: x\ngrid: {budgets: [], sizes: [8]}\n", "grid.budgets must have 1 or more valid entries, but got []"),
        ("name: ../up\ngrid: {budgets: [1e10], sizes: [8]}\n", "a name must be letters … but got '../up'"),
        (MINIMAL + "training: {seed: true}\n", "training.seed must be a number, but got True"),
        (MINIMAL + "training: {precision: fp8}\n", "training.precision must be '32' or 'bf16', but got 'fp8'"),
        (
            MINIMAL + "data: {embedded: true, corpus: x}\n",
            "exactly one of embedded, corpus, abstract and external … but got 2",
        ),
        (MINIMAL + "data: nothing\n", "data must be a section with keys, but got 'nothing'"),
        (MINIMAL + "limits: {epochs: 0}\n", "limits.epochs must be > 0.0, but got 0"),
        ("name: x\ngrid: {budgets: [1e10], sizes: [8, 9, 10], runs_per_budget: 3}\n", "grid.prior must be given"),
        (MINIMAL + "data: {abstract: {vocabulary: 9}}\n", "exactly one of unique_tokens and sources … but got neither"),
        (
            MINIMAL + "data: {abstract: {vocabulary: 9, sources: {a: {unique_tokens: 5, share: 0.4}}}}\n",
            "the shares of the sources must sum to 1, but got 0.4",
        ),
        (
            MINIMAL + "data: {abstract: {vocabulary: 9, sources: {a: {unique_tokens: 5, sare: 1}}}}\n",
            "'data.abstract.sources.a.sare'; did you mean 'share'?",
        ),
        ("name: x\ngrid: {budgets: [1e10], prior: {budget: 1e9}}\n", "budget and params must be given together"),
        (
            "name: x\ngrid: {budgets: [1e10], prior: {published: llama3, law: law.json}}\n",
            "a prior must be one of published, law, and budget with params, but got 2",
        ),
        (
            "name: x\ngrid: {budgets: [1e10], generator: centred, prior: llama3}\n",
            "a centred grid must have a prior and one of runs and runs_per_budget, but got neither",
        ),
        (
            "name: x\ngrid: {budgets: [1e10], prior: llama3, runs: 9, runs_per_budget: 9}\n",
            "at most one of runs and runs_per_budget must be given, but got 9 and 9",
        ),
        (
            "name: x\ngrid: {budgets: [1e10, 2e10], prior: llama3, runs: 5, seeds: 3}\n",
            "runs >= budgets × seeds must hold, but got 5, 2 and 3",
        ),
        (
            "name: x\ngrid: {budgets: [1e10], cells: [{budget: 2e10, sizes: [8]}]}\n",
            "cells must be at one of the budgets, but got 2e+10",
        ),
        (MINIMAL + "fit: {window: 2}\n", "fit.window: must be a whole number from 3 on, or all, but got 2"),
        ("[1, 2]", "must hold keys and values, but … holds list"),
        ("name: [unclosed", "must be YAML, but got"),
        ("name: !!python/object/apply:os.system [true]", "must be YAML, but got"),
        ("", "must hold keys and values, but … holds NoneType"),
    ],
)
def test_a_wrong_study_is_refused_with_the_rule_and_the_value(load, text, message):
    with pytest.raises(InputError) as error:
        load(text)
    assert all(part in str(error.value) for part in message.split(" … ")), str(error.value)


def test_a_prior_may_be_a_word_a_file_or_a_line(load, tmp_path):
    words = "name: x\ngrid: {budgets: [1e10], runs_per_budget: 5, prior: soda-anchor}\n"
    assert load(words).grid.prior.published == "soda-anchor"
    assert load(words, "grid.prior=llama3").grid.prior.published == "llama3"
    assert load(words, "grid.prior={budget: 1e9, params: 1e4}").grid.prior.params == 1e4
    law = load(words, "grid.prior={law: old/law.json}")
    assert law.grid.prior.law == tmp_path / "old" / "law.json"
    assert load(law.to_yaml()) == law


def test_sources_and_a_ladder_of_one_s_own_round_trip(load):
    study = load(
        MINIMAL,
        "data={abstract: {vocabulary: 10, sources: {a: {unique_tokens: 1e9, share: 0.5, orders: 2}, "
        "b: {unique_tokens: 5, share: 0.5}}}}",
        "recipe={base: tiny, ladder: [{name: s, params: 1e6, flops_per_token: 7e6}, "
        "{n_layers: 2, d_model: 8, n_heads: 1}], learning_rate: 1e-3}",
        "hardware={accelerator: h100}",
        "fit.window=all",
    )
    assert load(study.to_yaml()) == study
    assert load(commented(study)) == study
    assert study.recipe.changes() == {"learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "an override must be KEY.KEY=VALUE, but got 'seed'"),
        ("a..b=1", "an override must be KEY.KEY=VALUE"),
        ("name.first=1", "must name a key of a section, but 'name' in 'name.first=1' holds 'x'"),
        ("training.sed=1", "'training.sed'; did you mean 'seed'"),
        ("training.seed=[", "an override's value must be YAML"),
    ],
)
def test_a_wrong_override_is_refused(load, override, message):
    with pytest.raises(InputError, match=message):
        load(MINIMAL, override)


def test_every_broken_rule_is_told_at_once(load):
    with pytest.raises(InputError, match=r"grid\.sizes: .*limits\.epochs"):
        load("name: x\ngrid: {budgets: [1e10], sizes: [16, 8]}\nlimits: {epochs: -1}\n")


def test_a_missing_and_an_unreadable_file_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.yaml does not exist"):
        Study.load(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(InputError, match=r"must be readable text, but got .*binary\.yaml"):
        Study.load(tmp_path / "binary.yaml")


@pytest.mark.parametrize("name", ["1.5", "true", "null", "2024-01-01", "0x1F", "1_000"])
def test_a_starter_whose_name_looks_like_something_else_loads(load, name):
    assert load(starter(name)).name == name


def test_the_starter_asks_for_what_the_demo_asks(load):
    demo = Study.load(Path(__file__).parents[1] / "grids" / "demo.yaml")
    assert load(starter("demo")) == demo


def test_a_saved_study_says_everything(load):
    saved = load(MINIMAL).to_yaml()
    assert "rate_times_width" not in saved
    for key in ("embedded", "sequence_length", "base", "validation_tokens", "epochs", "tolerance"):
        assert f"{key}:" in saved
