"""Parts of a study: what workers find there, and what the study has done already."""

from __future__ import annotations

import pytest

from isoflop import store, workflow
from isoflop.errors import InputError
from isoflop.launching.parts import open_part, take_over
from isoflop.store import StudyDirectory
from isoflop.study import Study


@pytest.fixture
def places(tmp_path):
    return StudyDirectory(tmp_path / "study"), StudyDirectory(tmp_path / "study" / "audit")


def test_the_embedded_corpus_is_the_study_s(places, small_study):
    place, part = places
    study = small_study(data="embedded")
    place.corpus.mkdir(parents=True)
    (place.corpus / "index.json").write_text("{}")
    part.root.mkdir()
    for _ in range(2):
        open_part(place, part, study)
    assert (part.corpus_of(study) / "index.json").read_text() == "{}"
    assert Study.load(part.study_file) == study


def test_a_rehearsal_s_part_pretends_under_the_same_conditions(places, small_study):
    place, part = places
    store.write_json(place.rehearsal_file, {"noise": 0.1})
    open_part(place, part, small_study(data="embedded"))
    assert store.read_json(part.rehearsal_file) == {"noise": 0.1}
    assert not part.corpus.is_symlink()


def test_what_was_probed_is_known(places, small_study):
    place, part = places
    store.write_json(place.probes_file, {"probes": []})
    open_part(place, part, small_study())
    assert store.read_json(part.probes_file) == {"probes": []}


def test_what_the_study_has_done_is_done(places, small_study):
    place, part = places
    first, second, *_ = workflow.plan(small_study()).runs
    place.run(first.id).publish({"run": first.id, "loss": 2.0})
    store.write_text(place.run(first.id).metrics_file, "step\n1\n")
    for run in (first, second, first):
        take_over(place, part, run)
    assert part.load_run(second.id) == second
    assert part.run(first.id).result()["loss"] == 2.0
    assert part.run(first.id).metrics_file.read_text() == "step\n1\n"
    assert part.run(second.id).result() is None


@pytest.mark.parametrize("marker", ["search_file", "variations_file"])
def test_a_part_is_no_study_to_be_run(places, small_study, marker):
    _, part = places
    store.write_json(getattr(part, marker), {})
    with pytest.raises(InputError, match="holds the runs of a search or of an audit"):
        workflow.admit(small_study(), part)
