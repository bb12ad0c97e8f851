"""What a worker executes where."""

from __future__ import annotations

import json

import pytest

from isoflop import rehearsal, store, workflow
from isoflop.errors import CorruptFileError, InputError
from isoflop.launching.trainers import trainer_of
from isoflop.store import StudyDirectory


@pytest.fixture
def study(small_study):
    return small_study(data={"abstract": {"vocabulary": 40, "unique_tokens": 1e9}})


def test_where_a_rehearsal_is_marked_nothing_is_trained(study, tmp_path):
    planned = workflow.plan(study)
    pretended = rehearsal.conditions(planned, rehearsal.surface("soda", study), noise=0.0, seconds=0.0)
    place = StudyDirectory(tmp_path)
    store.write_json(place.rehearsal_file, pretended.to_json())
    result = trainer_of(place)(planned.runs[0], tmp_path)
    assert result["simulated"]
    assert result["loss"] == pretended.loss(planned.runs[0])


def test_a_damaged_mark_is_no_licence_to_train(tmp_path):
    place = StudyDirectory(tmp_path)
    place.rehearsal_file.write_text(json.dumps({"noise": 0}))
    with pytest.raises(CorruptFileError, match=r"rehearsal\.json"):
        trainer_of(place)


def test_elsewhere_the_corpus_is_opened(small_study, small_corpus, tmp_path):
    place = StudyDirectory(tmp_path)
    study = small_study()
    store.write_text(place.study_file, study.to_yaml())
    assert trainer_of(place).keywords["sources"]["small-corpus"].corpus.fingerprint == "small-corpus"
    store.write_text(place.study_file, small_study(data={"corpus": str(tmp_path / "none")}).to_yaml())
    with pytest.raises(InputError, match="none"):
        trainer_of(place)


def test_what_is_planned_to_be_trained_at_once_is(small_study, small_corpus, tmp_path):
    hardware = {"accelerator": "h100", "micro_batch": 2}
    for changes, expected in (
        ({}, 0),
        ({"hardware": hardware}, 2),
        ({"hardware": hardware, "training": {"micro_batch": 3}}, 3),
    ):
        place = StudyDirectory(tmp_path / str(expected))
        study = small_study(**changes)
        store.write_text(place.study_file, study.to_yaml())
        assert trainer_of(place).keywords["options"].micro_batch == study.micro_batch == expected
        assert study.machine is None or study.machine.micro_batch == expected


def test_a_run_is_told_when_to_validate_and_how_fast_the_plan_takes_it_to_be(small_study, small_corpus, tmp_path):
    place = StudyDirectory(tmp_path)
    hardware = {"accelerator": "h100", "mfu": 0.25, "gpus_per_run": 2}
    training = {"validation_tokens": 640, "validate_every": 1e4, "precision": "bf16"}
    store.write_text(place.study_file, small_study(hardware=hardware, training=training).to_yaml())
    options = trainer_of(place).keywords["options"]
    assert options.validate_every == 10_000
    # Two devices at a quarter of their peak of 989 TFLOP/s.
    assert options.flops_per_second == pytest.approx(0.5 * 989e12, rel=0.01)
    store.write_text(place.study_file, small_study().to_yaml())
    options = trainer_of(place).keywords["options"]
    assert (options.validate_every, options.flops_per_second) == (0, 0.0)
