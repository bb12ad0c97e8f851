"""A study's own trainer is executed, watched, stopped and believed as far as its contract goes."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

import isoflop
from isoflop import workflow
from isoflop.errors import Diverged, InputError, Interrupted, RunError
from isoflop.launching.causes import Cause
from isoflop.launching.own import run as execute
from isoflop.launching.states import states
from isoflop.launching.trainers import trainer_of
from isoflop.planning.recipes import named
from isoflop.recommendation.ladder import Ladder
from isoflop.store import read_json

#: Trains on a law: its losses are those of L = 1.5 + 300/N^0.4 + 400/D^0.4, for which N* ∝ C^0.5.
LAW = """
import json
from isoflop.files import write_json

def train(assignment):
    file = assignment.checkpoints / "step.json"
    first = json.loads(file.read_text())["step"] if file.exists() else 0
    assert 1.4 * sum(assignment.rate(step) > 0 for step in range(assignment.steps)) > assignment.steps
    for done in range(first + 1, assignment.steps + 1):
        if done % 5 == 0:
            write_json(file, {"step": done}, durable=False)
            assignment.progress(done, 9.0 - done / assignment.steps)
    with (assignment.outputs / "starts.txt").open("a") as starts:
        starts.write(f"{first}\\n")
    loss = 1.5 + 300 / assignment.params**0.4 + 400 / assignment.tokens**0.4
    return {"loss": loss, "loss_half": loss / 2, "params": assignment.params, "tokens": assignment.tokens, "note": "x"}
"""


def run_with(own_trainer, code, on_progress=None, **sections):
    """Execute the first run of a study whose trainer is `code`'s ``train``; returns the run and what came of it."""
    study = own_trainer.study(f"{own_trainer.code(code)}:train", **sections)
    planned = workflow.plan(study).runs[0]
    return planned, execute(planned, own_trainer.place.root, trainer=study.trainer, on_progress=on_progress)


def test_a_whole_study_recovers_its_trainers_law(own_trainer):
    """Sizes from a table, run by the real launcher, fitted, recommended: the exponents are those of the losses."""
    study = own_trainer.study(f"{own_trainer.code(LAW)}:train")
    outcome = workflow.run(study, own_trainer.place.root)
    assert outcome.reason is None
    assert set(outcome.points["state"]) == {"done"}
    assert outcome.law.exponents.a.value == pytest.approx(0.5, abs=0.01)
    assert outcome.law.exponents.ratio.value == pytest.approx(1.0, abs=0.02)
    points = outcome.points
    assert (6 * points["params"] * points["tokens"] == points["flops"]).all()
    assert points["loss_half"].tolist() == pytest.approx((points["loss"] / 2).tolist())
    assert points["trunk"].nunique() == len(points)
    assert not (own_trainer.place.root / "trunks").exists()
    assert outcome.recommendation.shape.shape.label.startswith("m")
    ladder = Ladder(named(study.recipe), 1, study.model)
    assert isoflop.recommend(outcome.law, flops=2.4e9, ladder=ladder).shape.run.batch_size == pytest.approx(100, abs=5)
    assert own_trainer.place.run(points["run"][0]).outputs.joinpath("starts.txt").read_text() == "0\n"
    assert not own_trainer.place.run(points["run"][0]).checkpoints.exists()
    # Called again, nothing is trained again.
    assert workflow.run(study, own_trainer.place.root).points.equals(points)
    assert own_trainer.place.run(points["run"][0]).outputs.joinpath("starts.txt").read_text() == "0\n"


def test_an_interrupted_run_carries_on_and_its_metrics_have_each_row_once(own_trainer):
    study = own_trainer.study(f"{own_trainer.code(LAW)}:train")
    planned = workflow.plan(study).runs[0]
    seen = []

    def stop(progress):
        seen.append(progress.step)
        raise Interrupted(Cause.STOPPED)

    with pytest.raises(Interrupted):
        execute(planned, own_trainer.place.root, trainer=study.trainer, on_progress=stop)
    place = own_trainer.place.run(planned.id)
    assert seen == [5]
    assert place.status()["state"] == "running"
    assert place.result() is None
    result = execute(planned, own_trainer.place.root, trainer=study.trainer)
    assert place.outputs.joinpath("starts.txt").read_text() == "5\n"
    steps = [int(line.split(",")[0]) for line in place.metrics_file.read_text().splitlines()[1:]]
    assert steps == list(range(5, planned.steps + 1, 5))
    assert result == place.result()
    assert result["told"] == ["params", "tokens"]
    assert result["note"] == "x"
    assert place.status() == {"state": "done"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {'val_loss': 2.0}", r"must return its loss, but got a mapping with \['val_loss'\]"),
        ("return None", "numbers, text, true or false, but got loss = NoneType"),
        ("return float('nan')", "loss must be a finite number, but got nan"),
        ("return {'loss': 2.0, 'loss_x': float('inf')}", "loss_x must be a finite number"),
        ("return {'loss': 2.0, 'params': 7}", "params must be within 1% of the plan's, 2,000, but got 7"),
        ("return {'loss': 2.0, 'run': 'x'}", "keys must be plain names .* but got 'run'"),
        ("return {'loss': 2.0, 'curve': [1, 2]}", "but got curve = list"),
        ("assignment.progress(10**9, 1.0)", "a step from 0 to"),
    ],
)
def test_what_is_no_result_is_refused_and_the_run_stays(own_trainer, body, message):
    with pytest.raises(InputError, match=message):
        run_with(own_trainer, f"def train(assignment):\n    {body}\n")
    (run_id,) = own_trainer.place.run_ids()
    assert own_trainer.place.run(run_id).result() is None
    assert own_trainer.place.run(run_id).status()["state"] == "running"


def test_a_loss_that_is_no_number_on_the_way_is_a_divergence(own_trainer):
    with pytest.raises(Diverged, match="at step 3 is not finite"):
        run_with(own_trainer, "def train(assignment):\n    assignment.progress(3, float('nan'))\n")
    (run_id,) = own_trainer.place.run_ids()
    status = own_trainer.place.run(run_id).status()
    assert (status["state"], status["cause"], status["step"]) == ("failed", "diverged", 0)


@pytest.mark.parametrize(
    ("code", "target", "message"),
    [
        ("raise ValueError('no luck')", "train", "must be importable .* ValueError: no luck"),
        ("train = 3", "train", "must name a function, but got int"),
        ("train = print", "other", "must name a function, but got NoneType"),
    ],
)
def test_what_cannot_be_called_is_told(own_trainer, code, target, message):
    study = own_trainer.study(f"{own_trainer.code(code)}:{target}")
    planned = workflow.plan(study).runs[0]
    with pytest.raises(InputError, match=message):
        execute(planned, own_trainer.place.root, trainer=study.trainer)
    assert own_trainer.place.run_ids() == []


def test_a_module_that_does_not_import_is_every_runs_cause_until_it_is_mended(own_trainer):
    """Through real workers: one try each, and the status tells why."""
    name = own_trainer.code("import no_such_package")
    study = own_trainer.study(f"{name}:train")
    with pytest.raises(RunError, match="No module named 'no_such_package'") as failed:
        workflow.run(study, own_trainer.place.root)
    assert str(failed.value).count("no_such_package") == 1
    assert {(run.state, run.cause) for run in states(own_trainer.place)} == {("failed", Cause.BAD_INPUT)}
    (own_trainer.folder / f"{name}.py").write_text(LAW)
    assert set(workflow.run(study, own_trainer.place.root).points["state"]) == {"done"}


@pytest.mark.slurm
def test_a_cluster_trains_and_fits_it_too(cluster, profile, own_trainer):
    own_trainer.study(f"{own_trainer.code(LAW)}:train")
    file, place = own_trainer.folder / "study.yaml", own_trainer.place
    cluster.isoflop("submit", file, "--dir", place.root, "--launcher", profile())
    cluster.wait(180)
    assert {run.state for run in states(place)} == {"done"}
    assert read_json(place.law_file)["exponents"]["a"]["value"] == pytest.approx(0.5, abs=0.01)


def test_numbers_of_numpy_and_one_loss_alone_will_do(own_trainer):
    planned, result = run_with(own_trainer, "import numpy\ndef train(assignment):\n    return numpy.float32(2.5)\n")
    assert (result["loss"], result["told"], result["params"]) == (2.5, [], planned.shape.parameters.total)
    assert type(read_json(own_trainer.place.run(planned.id).result_file)["loss"]) is float


def test_a_run_of_another_trainer_is_refused(own_trainer):
    study = own_trainer.study("a:train")
    planned = workflow.plan(study).runs[0]
    other = own_trainer.study({"python": "a:train", "revision": 1})
    with pytest.raises(InputError, match="must be of the study's trainer, python:a:train@1"):
        execute(planned, own_trainer.place.root, trainer=other.trainer)
    assert planned.id not in {run.id for run in workflow.plan(other).runs}


def test_planning_imports_nothing_of_the_trainer(own_trainer):
    name = own_trainer.code("raise SystemExit('imported')")
    study = own_trainer.study(f"{name}:train")
    assert len(workflow.plan(study).runs) == 24
    assert name not in sys.modules


def test_a_study_names_it_and_a_worker_finds_it(own_trainer):
    study = own_trainer.study({"python": f"{own_trainer.code(LAW)}:train", "options": {"width": "3e-1"}})
    workflow.create(own_trainer.place)
    planned = workflow.prepare(study, own_trainer.place, workflow.Watcher())
    found = trainer_of(own_trainer.place)
    assert found.keywords["trainer"].folder == own_trainer.folder
    assert found.keywords["corpora"] == {}
    assert dict(planned.runs[0].options) == {"width": 0.3}
    assert math.isfinite(found(planned.runs[0], own_trainer.place.root)["loss"])


def test_the_contract_loads_no_torch():
    script = "import isoflop.trainer, isoflop.launching.own, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
