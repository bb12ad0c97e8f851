from __future__ import annotations

import json
from pathlib import Path

import pytest

from isoflop import workflow
from isoflop.errors import InputError
from isoflop.planning.ablation import AblationPlan, factors
from isoflop.study import Study
from isoflop.tokens.mixture import resolve
from isoflop.tokens.shards import Corpus
from isoflop.training.data import CorpusSource

#: What is held out of these 240 documents suffices.
HELD_OUT = 640


def study(corpus: Path, **sections: object) -> Study:
    return Study.parse(
        {
            "name": "arms",
            "data": {"corpus": str(corpus)},
            "model": {"sequence_length": 16},
            "recipe": {"base": "tiny", "tokens_per_step": 32, "warmup_steps": 4},
            "grid": {"budgets": [1e8], "sizes": [8], "seeds": 2, "tolerance": 0.05},
            "training": {"validation_tokens": HELD_OUT},
            "limits": {"epochs": 10},
            "axes": {"share": {"key": "data.text_share", "values": [0, 0.25, 1]}},
            **sections,
        }
    )


def planned(*given: object, **sections: object) -> AblationPlan:
    plan = workflow.plan(study(*given, **sections))  # type: ignore[arg-type]
    assert isinstance(plan, AblationPlan)
    return plan


def test_all_arms_are_one_sweep_of_one_size_and_the_same_seeds(mixed_corpora):
    plan = planned(mixed_corpora[0])
    assert [plan.part_of[run.id].arm.name for run in plan.runs] == [
        f"share={n}" for n in ("0", "0.25", "1") for _ in "01"
    ]
    assert [run.seed for run in plan.runs] == [0, 1] * 3
    assert len({run.id for run in plan.runs}) == 6
    assert len({(run.flops, run.tokens, run.shape) for run in plan.runs}) == 1
    assert [dict(run.mixture) for run in plan.runs[::2]] == [
        {"speech": 1.0},
        {"speech": 0.75, "text": 0.25},
        {"text": 1.0},
    ]
    assert plan.epochs(plan.runs[0]) == plan.parts[0].plan.epochs(plan.runs[0]) != plan.epochs(plan.runs[2])
    assert max(entry.epochs for entry in plan.ledger) == max(filter(None, map(plan.epochs, plan.runs)))
    document = json.loads(json.dumps(plan.to_json()))
    assert [arm["levels"] for arm in document["arms"]] == [{"share": "0"}, {"share": "0.25"}, {"share": "1"}]
    assert "3 arms (crossed) by 2 seeds" in document["notes"][0]


def test_arms_are_validated_on_the_same_tokens_whatever_they_train_on(mixed_corpora):
    corpus = Corpus.open(mixed_corpora[0])
    source = CorpusSource(corpus)
    own = resolve(corpus, {})
    plan = planned(mixed_corpora[0])
    windows = [source.validation(run).tolist() for run in plan.runs]
    assert all(each == windows[0] for each in windows)
    assert {dict(run.held_out_mixture)["text"] for run in plan.runs} == {own["text"]}
    assert {tuple(source.origins(run)[0]) for run in plan.runs} == {("speech", "text")}
    assert len(set(plan.table()["held_out"])) == 1
    # A study may ask for the training mixture's instead: then arms are not comparable by token.
    other = planned(mixed_corpora[0], data={"corpus": str(mixed_corpora[0]), "held_out": "mixture"})
    assert {run.held_out_mixture for run in other.runs} == {()}
    assert len(set(other.table()["held_out"])) == 3


def test_an_arm_that_asks_for_nothing_is_the_run_of_a_study_without_axes(mixed_corpora):
    """Equal work has equal ids, so runs that are done count."""
    share = resolve(Corpus.open(mixed_corpora[0]), {})["text"]
    plan = planned(mixed_corpora[0], axes={"share": {"key": "data.text_share", "values": [share, 0.5]}})
    grid = {"budgets": [1e8], "sizes": [8], "seeds": 2, "tolerance": 0.05, "min_cells": 1}
    alone = workflow.plan(study(mixed_corpora[0], axes={}, grid=grid))
    assert [run.id for run in plan.runs[:2]] == [run.id for run in alone.runs]


def test_arms_on_other_corpora_say_so(mixed_corpora):
    two, one = mixed_corpora
    plan = planned(two, axes={"books": {"key": "data.corpus", "values": {"two": str(two), "one": str(one)}}})
    assert len({run.data for run in plan.runs}) == 2
    assert len(set(plan.table()["held_out"])) == 2
    assert "Arms read different corpora" in " ".join(plan.notes())
    assert "Arms read different corpora" not in " ".join(planned(two).notes())


def test_an_axis_without_effect_is_refused(mixed_corpora):
    axes = {"logger": {"key": "training.logger", "values": ["csv", "tensorboard"]}}
    with pytest.raises(InputError, match="arms must differ in what is trained, but logger=csv and logger=tensorboard"):
        planned(mixed_corpora[0], axes=axes)


def test_an_arm_that_cannot_be_planned_is_named(mixed_corpora):
    with pytest.raises(InputError, match=r"arm share=1: every budget must have at least 1 feasible sizes.*epochs"):
        planned(mixed_corpora[0], limits={"epochs": 0.7})


def test_dropped_cells_tell_their_arm(mixed_corpora):
    grid = {"budgets": [1e8], "sizes": [8, 16], "tolerance": 0.05}
    plan = planned(mixed_corpora[0], grid=grid, limits={"epochs": 0.7})
    assert [cell.reason.split(":")[0] for cell in plan.dropped] == ["share=1"]


def test_cells_are_told_by_width_where_that_suffices_and_else_by_shape(mixed_corpora):
    depth = {"depth": {"key": "recipe.n_layers", "values": [1, 2]}}
    assert set(planned(mixed_corpora[0], axes=depth).table()["cell"]) == {"d8"}
    rows = [{"n_layers": layers, "d_model": 8, "n_heads": 1} for layers in (1, 2)]
    recipe = {"base": "tiny", "tokens_per_step": 32, "warmup_steps": 4, "ladder": rows}
    plan = planned(mixed_corpora[0], recipe=recipe, grid={"budgets": [1e8], "tolerance": 0.05})
    assert set(plan.table()["cell"]) == {"d8-l1", "d8-l2"}


def test_labels_numbers_and_baselines_reach_the_comparison(mixed_corpora):
    (share,) = factors(study(mixed_corpora[0]))
    assert (share.name, share.labels, share.baseline, share.numbers) == ("share", ("0", "0.25", "1"), "0", (0, 0.25, 1))
