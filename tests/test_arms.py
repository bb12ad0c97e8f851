from __future__ import annotations

import pytest

from isoflop.arms import arms, baselines, refuse_axes, studies
from isoflop.errors import InputError
from isoflop.study import Study

CONTENT = {
    "name": "x",
    "data": {"corpus": "somewhere", "text_share": 0.1},
    "recipe": "tiny",
    "grid": {"budgets": [1e9], "sizes": [8]},
    "axes": {
        "share": {"key": "data.text_share", "values": [0, 0.1, 1]},
        "decay": {"key": "recipe.weight_decay", "values": [0, 0.2]},
    },
}


def test_every_combination_is_the_study_with_these_keys_replaced() -> None:
    study = Study.parse(CONTENT)
    found = arms(study)
    assert [arm.name for arm in found] == [
        f"share={share}, decay={decay}" for share in (0, 0.1, 1) for decay in (0, 0.2)
    ]
    for arm in found:
        assert arm.study.data.text_share == float(arm.levels["share"])
        assert arm.study.recipe.weight_decay == float(arm.levels["decay"])
        assert arm.study.axes == {}
        # The same tokens are held out in all, and one size is enough.
        assert (arm.study.data.held_out, arm.study.grid.min_cells) == ("corpus", 1)
        same = {"data", "recipe", "grid", "axes"}
        assert arm.study.model_dump(exclude=same) == study.model_dump(exclude=same)
    assert studies(study) == tuple(arm.study for arm in found)


def test_one_by_one_varies_an_axis_while_others_stand_at_their_baselines() -> None:
    study = Study.parse({**CONTENT, "arms": "one_by_one"})
    # The study's own share, and of the decay, which the study does not say, the first.
    assert baselines(study) == {"share": "0.1", "decay": "0"}
    assert [arm.name for arm in arms(study)] == [
        "share=0.1, decay=0",
        "share=0, decay=0",
        "share=1, decay=0",
        "share=0.1, decay=0.2",
    ]


def test_a_baseline_that_is_named_is_the_baseline() -> None:
    axis = {"key": "data.text_share", "values": [0, 0.1], "baseline": 0}
    assert baselines(Study.parse({**CONTENT, "axes": {"share": axis}})) == {"share": "0"}


def test_a_study_without_axes_has_no_arms() -> None:
    study = Study.parse({**CONTENT, "axes": {}})
    assert arms(study) == ()
    assert studies(study) == (study,)
    refuse_axes(study, "anything")


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        (
            {"key": "data.text_shar", "values": [0, 1]},
            "a=0: keys must be known, but got 'data.text_shar'; did you mean",
        ),
        ({"key": "data.text_share", "values": [0, 2]}, "a=2: data.text_share must be <= 1, but got 2"),
        ({"key": "data.text_share", "values": ["x", 0]}, "a=x: data.text_share must be a number, but got 'x'"),
        ({"key": "data.corpus.deep", "values": [0, 1]}, "'corpus' in the key of axes.a holds 'somewhere'"),
        ({"key": "recipe.weight_decay", "values": [each / 2000 for each in range(1001)]}, "at most 1000 arms"),
    ],
)
def test_an_arm_that_is_no_study_is_refused_by_its_name(axis: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as refused:
        arms(Study.parse({**CONTENT, "axes": {"a": axis}}))
    assert said in str(refused.value)


def test_what_is_about_exponents_is_refused() -> None:
    with pytest.raises(InputError, match="a search must be of a study without axes, but x varies share, decay"):
        refuse_axes(Study.parse(CONTENT), "a search")
