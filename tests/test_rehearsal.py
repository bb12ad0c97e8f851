"""Studies of known truth, from the plan to the recommendation, through the real launcher."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from isoflop import rehearsal, store, table_files, workflow
from isoflop.errors import CorruptFileError, InputError, RunError
from isoflop.fitting import fit
from isoflop.launching.profiles import LocalProfile
from isoflop.planning.plan import Plan
from isoflop.planning.prior import published
from isoflop.store import StudyDirectory
from isoflop.study import Study

pytestmark = pytest.mark.slow

GRIDS = Path(__file__).parents[1] / "grids"
TWO_WORKERS = LocalProfile(workers=2)
COMMAND = [sys.executable, "-c", "from isoflop.cli import main; main()"]
#: Makes importing torch fail, in this process's children too.
NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "lightning"}:
            raise ImportError(f"{name} is not to be had")
sys.meta_path.insert(0, Refuse())
"""
CONTENT = {
    "name": "known",
    "data": {"abstract": {"vocabulary": 144644, "unique_tokens": 1e12}},
    "model": {"sequence_length": 4096, "tied_head": False},
    "recipe": {"base": "marin-2025", "width_step": 64, "head_size": 64},
    "grid": {
        "generator": "centred",
        "budgets": [3e18, 9e18, 3e19, 9e19],
        "runs_per_budget": 7,
        "width": 8,
        "prior": "soda-surface",
        "noise": 0.0005,
    },
    "fit": {"window": "all"},
}


@pytest.fixture(scope="module")
def planned() -> Plan:
    return workflow.plan(Study.parse(CONTENT))


def pretend(planned, surface="soda", seconds=0.0, **options):
    return rehearsal.conditions(planned, rehearsal.surface(surface, planned.settings), seconds=seconds, **options)


@pytest.fixture(scope="module")
def rehearsed(planned, tmp_path_factory):
    """Many faults, of which only divergences outlast their retries: its directory, its conditions, what it came to."""
    place = StudyDirectory(tmp_path_factory.mktemp("rehearsal") / "known-rehearsal")
    pretended = pretend(planned, fail=0.4, seed=2)
    return place, pretended, rehearsal.rehearse(planned, place.root, pretended, profile=TWO_WORKERS)


def test_every_run_is_accounted_for_and_the_truth_recovered(planned, rehearsed):
    place, pretended, found = rehearsed
    runs = found.runs
    assert runs["planned"] == len(planned.runs) == 28
    assert runs["done"] + runs["failed"] == 28
    assert runs["retried"] > 0
    lost = {run.id for run in planned.runs if place.run(run.id).result() is None}
    assert set(found.failures) == lost
    assert found.recovered
    for run in planned.runs:
        result = place.run(run.id).result()
        if result is not None:
            assert result["loss"] == pretended.loss(run)


def test_only_what_diverged_is_left_and_it_is_not_tried_again(planned, rehearsed):
    """Each run ends as its draws say: the first attempt without a fault succeeds, a divergence before it is final."""
    place, pretended, found = rehearsed
    kinds = set()
    for run in planned.runs:
        faults = []
        while (fault := pretended.fault(run.id, len(faults) + 1)) and "divergence" not in faults:
            faults.append(fault[0])
        kinds |= set(faults)
        if "divergence" in faults:
            assert "diverged" in found.failures[run.id]
            assert rehearsal.Pretence.load(place.run(run.id)).attempts == faults.index("divergence") + 1
        else:
            assert place.run(run.id).result()["attempts"] == len(faults) + 1
    assert kinds == {"crash", "error", "divergence", "preemption"}


def test_the_truth_is_the_surfaces_under_the_studys_own_cost(planned, rehearsed):
    _, pretended, found = rehearsed
    soda, cost = published("soda-surface"), pretended.cost
    low, high = soda.optimum(3e18, cost), soda.optimum(9e19, cost)
    from_ends = {"a": (high / low), "b": cost.tokens(high, 9e19) / cost.tokens(low, 3e18)}
    for name, growth in from_ends.items():
        assert getattr(found.truth, name) == pytest.approx(math.log(growth) / math.log(30), abs=0.002)
    assert found.truth.ratio == pytest.approx(found.truth.b / found.truth.a)


def test_the_document_says_what_was_asked(rehearsed):
    _, _, found = rehearsed
    document = json.loads(json.dumps(found.to_json()))
    assert document["recovered"] is True
    assert document["simulated"] is True
    assert set(document["truth"]) == {"a", "b", "ratio"}
    for name, each in document["exponents"].items():
        assert each["low"] <= document["truth"][name] <= each["high"]
    assert document["runs"]["done"] + document["runs"]["failed"] == document["runs"]["planned"]
    assert document["recommendation"]["flops"] == 9e20
    assert "the truth was recovered" in str(found)


def test_carried_on_it_changes_nothing(planned, rehearsed):
    place, pretended, found = rehearsed
    heard = []
    again = rehearsal.rehearse(planned, place.root, pretended, watcher=workflow.Watcher(event=heard.append))
    assert heard == []
    assert again.to_json() == found.to_json()


def test_it_is_labelled_as_simulated_wherever_it_shows(rehearsed):
    place, _, found = rehearsed
    assert found.outcome.law.provenance.simulated
    assert "SIMULATED points" in str(found.outcome.law)
    assert "points are simulated" in found.outcome.recommendation.warnings[0]
    assert fit(store.points(place.root)).provenance.simulated
    assert table_files.read_table(place.points_file)["simulated"].all()
    page = place.report_file.read_text()
    assert "known (simulated)" in page
    assert "No model was trained" in page
    assert str(found).startswith("SIMULATED")
    assert store.read_law(place.law_file) == found.outcome.law


def test_a_study_and_a_rehearsal_never_share_a_directory(planned, rehearsed, small_study, tmp_path):
    place, pretended, _ = rehearsed
    before = sorted(path for path in place.root.rglob("*"))
    with pytest.raises(InputError, match="must not be run in the directory of a rehearsal"):
        workflow.run(small_study(), place.root)
    assert sorted(path for path in place.root.rglob("*")) == before
    store.write_text(StudyDirectory(tmp_path).study_file, planned.settings.to_yaml())
    with pytest.raises(InputError, match="a rehearsal must have a directory of its own"):
        rehearsal.rehearse(planned, tmp_path, pretended)
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_simulated_results_stay_so_without_their_mark(planned, rehearsed, tmp_path):
    place, _, _ = rehearsed
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(place.root), str(copy)], check=True)
    StudyDirectory(copy).rehearsal_file.unlink()
    with pytest.raises(InputError, match="must be all simulated or all real"):
        fit(store.points(copy))


def test_other_conditions_need_another_directory(planned, rehearsed):
    place, _, _ = rehearsed
    with pytest.raises(InputError, match="has another fail and seed; delete it"):
        rehearsal.rehearse(planned, place.root, pretend(planned, fail=0.1, seed=3))


def test_home_is_beside_the_study_and_a_rehearsal_is_its_own(rehearsed):
    place, _, _ = rehearsed
    assert rehearsal.home(StudyDirectory(Path("studies/x"))).root == Path("studies/x-rehearsal")
    assert rehearsal.home(place) == place


def test_a_wrong_surface_is_told_from_the_right_one(planned, rehearsed, tmp_path):
    """The same grid on Chinchilla's surface: another truth, and losses that lead to it and not to SODA's."""
    _, _, soda = rehearsed
    found = rehearsal.rehearse(planned, tmp_path / "r", pretend(planned, "chinchilla"), profile=TWO_WORKERS)
    assert found.truth.a > soda.truth.a + 0.05
    a = found.exponents["a"]
    assert abs(a.value - a.truth) < abs(a.value - soda.truth.a)


def test_a_law_file_is_a_truth_and_says_that_it_was_simulated(planned, rehearsed):
    place, pretended, found = rehearsed
    truth = rehearsal.surface(str(place.law_file), planned.settings)
    assert "simulated points" in truth.source
    law, cost = found.outcome.law, pretended.cost
    assert truth.exponents(np.array(planned.budgets), cost).a == pytest.approx(law.exponents.a.value, abs=0.01)
    optimum = truth.optimum(3e19, cost)
    assert optimum == pytest.approx(law.optimum(3e19).params.value, rel=0.02)
    assert truth.loss(optimum, 3e19, cost) == pytest.approx(law.loss_curve.at(3e19), rel=2e-3)
    third = next(minimum for minimum in law.minima if minimum.budget == 3e19)
    assert truth.loss(optimum, 3e19, cost) == pytest.approx(third.loss, rel=2e-3)


def test_surfaces_by_name(planned, tmp_path):
    study = planned.settings
    assert rehearsal.surface("soda", study) is published("soda-surface")
    assert rehearsal.surface("chinchilla", study) is published("besiroglu2024")
    assert rehearsal.surface("llama3", study) is published("llama3")
    assert rehearsal.surface(None, study) is published("soda-surface")
    own = Study.load(GRIDS / "speech.yaml")
    assert rehearsal.surface(None, own) == workflow.prior_of(own)
    with pytest.raises(InputError, match="must be a published law, but got 'sodi'"):
        rehearsal.surface("sodi", study)
    with pytest.raises(InputError, match=r"none\.json does not exist"):
        rehearsal.surface(str(tmp_path / "none.json"), study)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(CorruptFileError, match=r"bad\.json"):
        rehearsal.surface(str(tmp_path / "bad.json"), study)


def test_where_every_run_diverges_it_says_so(planned, tmp_path):
    place = StudyDirectory(tmp_path)
    pretended = pretend(planned)
    for run in planned.runs:
        place.run(run.id).write_status("failed", cause="diverged")
    with pytest.raises(RunError, match=r"has none: .*diverged"):
        rehearsal.rehearse(planned, tmp_path, pretended)


def test_killed_and_called_again_it_ends_in_the_same_losses(planned, tmp_path):
    file, place = tmp_path / "known.yaml", StudyDirectory(tmp_path / "r")
    file.write_text(planned.settings.to_yaml())
    call = [*COMMAND, "rehearse", str(file), "--surface", "soda", "--seconds", "3", "--dir", str(place.root), "--json"]
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(place.root.glob("runs/*/result.json"))) < 5:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["runs"]["done"] == len(planned.runs)
    pretended = pretend(planned, seconds=3)
    assert {run.id: place.run(run.id).result()["loss"] for run in planned.runs} == {
        run.id: pretended.loss(run) for run in planned.runs
    }


def test_sodas_grid_is_rehearsed_without_torch(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    refused = subprocess.run([sys.executable, "-c", "import torch"], env=environment, capture_output=True, text=True)
    assert "torch is not to be had" in refused.stderr
    call = [*COMMAND, "rehearse", str(GRIDS / "soda-64.yaml"), "--surface", "soda", "--fail", "0.1", "--seconds", "1"]
    done = subprocess.run(
        [*call, "--dir", str(tmp_path / "r"), "--json"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["runs"]["done"] + document["runs"]["failed"] == document["runs"]["planned"] == 64
    assert document["truth"]["ratio"] == pytest.approx(1.38, abs=0.01)
    assert document["recovered"] == all(each["held"] for each in document["exponents"].values())
