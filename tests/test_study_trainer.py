"""The trainer section: what is refused with which words, and what enters the ids of runs."""

from __future__ import annotations

import pytest

from isoflop import workflow
from isoflop.errors import InputError
from isoflop.planning.runs import Run
from isoflop.study import Study

STUDY = {
    "name": "own",
    "trainer": "pkg.mod:train",
    "data": {"external": {"name": "pictures", "samples": 5000}},
    "recipe": {
        "base": "tiny",
        "tokens_per_step": 10,
        "learning_rate": 0.1,
        "warmup_steps": 0,
        "ladder": [
            {"name": f"n{n}", "params": n, "flops_per_sample": 6 * n, "options": {"width": n}} for n in (5, 6, 7)
        ],
    },
    "grid": {"budgets": [1e4], "tolerance": 0.1, "min_cells": 3},
}


def study(**sections):
    return Study.parse({**STUDY, **sections})


def ids(**sections):
    return [run.id for run in workflow.plan(study(**sections)).runs]


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ("train", "trainer.python: must be package.module:function, but got 'train'"),
        ("pkg.mod:train; rm", "must be package.module:function"),
        ("../mod:train", "must be package.module:function"),
        ({"options": {"a": 1}}, "exactly one of python, lightning and command must be given, but got 0"),
        ({"python": "a:b", "command": ["x", "{result}"]}, "exactly one of .* but got 2"),
        ({"command": ["x"]}, "must be told where its result goes"),
        ({"command": ["x", "{reslut}"]}, r"placeholders must be of run, size, .* but got \{reslut\}"),
        ({"command": ["x", "{result}", "{options.depth}"]}, r"options must be of width, but got \{options.depth\}"),
        ({"command": ["", "{result}"]}, "words must be text"),
        ({"python": "a:b", "options": {"x": [1]}}, "must be a finite number, text, true or false, but got"),
        ({"python": "a:b", "options": {"x-y": 1}}, "names must be letters, digits and '_'"),
        ({"python": "a:b", "opitons": {}}, "did you mean 'options'"),
        ({"python": "a:b", "revision": -1}, "trainer.revision must be >= 0"),
    ],
)
def test_a_wrong_trainer_is_refused_with_the_rule_and_the_value(trainer, message):
    with pytest.raises(InputError, match=message):
        study(trainer=trainer)


def test_data_from_elsewhere_need_a_trainer_and_the_other_way_round_models_that_are_listed(small_content):
    with pytest.raises(InputError, match="a trainer must be given where data are external, but got 'pictures' alone"):
        study(trainer=None)
    listed = Study.parse({**small_content, "recipe": STUDY["recipe"], "grid": STUDY["grid"]})
    assert len(workflow.plan(listed).runs) == 3
    with pytest.raises(InputError, match=r"without a trainer of your own \(trainer:\), but got the listed 'n5'"):
        workflow.run(listed, "unwritten")
    with pytest.raises(InputError, match=r"exactly one of embedded, corpus, abstract and external .* but got 2"):
        study(data={"external": "pictures", "embedded": True})
    with pytest.raises(InputError, match="a shape must have no options, but got"):
        Study.parse(
            {**small_content, "recipe": {"ladder": [{"n_layers": 1, "d_model": 8, "n_heads": 1, "options": {"a": 1}}]}}
        )


def test_what_changes_the_result_changes_the_ids_and_nothing_else_does(tmp_path):
    first = ids()
    assert ids() == first
    for change in (
        {"trainer": "pkg.mod:other"},
        {"trainer": {"lightning": "pkg.mod:train"}},
        {"trainer": {"command": ["train", "{result}"]}},
        {"trainer": {"python": "pkg.mod:train", "revision": 1}},
        {"trainer": {"python": "pkg.mod:train", "options": {"depth": 2}}},
        {"data": {"external": {"name": "other", "samples": 5000}}},
        {"recipe": {**STUDY["recipe"], "ladder": [{**row, "options": {}} for row in STUDY["recipe"]["ladder"]]}},
    ):
        assert not set(ids(**change)) & set(first), change
    assert ids(trainer={"python": "pkg.mod:train", "folder": str(tmp_path)}) == first
    assert ids(data={"external": {"name": "pictures", "samples": 6000}}) == first


def test_runs_share_no_trunk_and_come_back_equal_from_their_files():
    plan = workflow.plan(
        study(
            grid={**STUDY["grid"], "budgets": [1e4, 2e4]},
            trainer={"python": "a:b", "options": {"z": "1e-3", "a": True}},
        )
    )
    assert plan.trunks == ()
    assert "the study's own trainer trains each by itself" in " ".join(plan.notes())
    for run in plan.runs:
        assert run.trunk == run.id
        assert run.options == (("a", True), ("z", 0.001))
        assert dict(run.shape.options) == {"width": run.shape.params}
        assert Run.from_dict(run.to_dict()) == run
    assert [run.tokens for run in plan.at(1e4)] == [330, 280, 240]
    assert plan.epochs(plan.at(1e4)[0]) == 330 / 5000


def test_a_relative_folder_starts_at_the_study_file_and_travels(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(study(trainer={"python": "a:b", "folder": "code"}).to_yaml())
    loaded = Study.load(path)
    assert loaded.trainer.folder == tmp_path / "code"
    copy = tmp_path / "elsewhere" / "study.yaml"
    copy.parent.mkdir()
    copy.write_text(loaded.to_yaml())
    assert Study.load(copy) == loaded
    assert Study.load(path, ["trainer.revision=3"]).trainer.revision == 3


def test_how_often_data_repeat_is_not_known_without_their_number():
    assert "give data.external.samples" in " ".join(workflow.plan(study(data={"external": "pictures"})).notes())
