"""The trainer that pretends: its losses, its faults, its files."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from isoflop import store, workflow
from isoflop.errors import CorruptFileError, Diverged, InputError
from isoflop.launching.synthetic import BestRate, Conditions, Pretence, run
from isoflop.planning.plan import Plan
from isoflop.planning.prior import Line, Prior, Surface, published
from isoflop.planning.simulation import Cells, log_losses
from isoflop.store import StudyDirectory
from isoflop.study import Study
from isoflop.training.metrics import COLUMNS

SURFACE = Prior("known", "here", Surface(E=1.7, A=400.0, B=400.0, alpha=0.34, beta=0.3))
LINE = Prior("line", "here", line=Line("params", 1e11, 3e4, 0.5))


@pytest.fixture(scope="module")
def planned() -> Plan:
    content = {
        "name": "x",
        "data": {"abstract": {"vocabulary": 240, "unique_tokens": 5e7}},
        "grid": {"budgets": [2.5e10, 5e10, 1.2e11], "sizes": [8, 12, 16, 20, 24, 28]},
    }
    return workflow.plan(Study.parse(content))


def pretend(planned: Plan, prior: Prior = SURFACE, **changed: float) -> Conditions:
    plain = {"noise": 0.0, "fail": 0.0, "seed": 0, "seconds_per_flop": 0.0}
    return Conditions(prior=prior, cost=Cells.of(planned).cost, **{**plain, **changed})


def struck_by(planned: Plan, kind: str, fail: float = 0.5) -> tuple[Conditions, str]:
    """Conditions and a run whose first attempt meets that fault before anything else, and whose second meets none."""
    for seed in range(1000):
        conditions = pretend(planned, fail=fail, seed=seed)
        for each in planned.runs:
            first = conditions.fault(each.id, 1)
            if first and first[0] == kind and first[1] < 0.2 and conditions.fault(each.id, 2) is None:
                return conditions, each.id
    raise AssertionError(kind)


@pytest.mark.parametrize("prior", [SURFACE, LINE, published("soda-anchor")], ids=lambda prior: prior.name)
def test_losses_are_those_that_forecasts_simulate(planned, prior):
    cells = Cells.of(planned)
    conditions = pretend(planned, prior)
    ours = {(each.budget, each.shape.parameters.total): conditions.loss(each) for each in planned.runs}
    expected = np.exp(log_losses(cells, prior, cells.cost))
    for budget, params, loss in zip(cells.budget, cells.params, expected, strict=True):
        assert ours[budget, int(params)] == pytest.approx(loss, rel=1e-6)


def test_a_surfaces_loss_is_its_own_at_the_runs_size_and_tokens(planned):
    for each in planned.runs:
        expected = 1.7 + 400 / each.shape.parameters.total**0.34 + 400 / each.tokens**0.3
        assert pretend(planned).loss(each) == pytest.approx(expected, rel=1e-12)


def test_noise_has_the_sd_asked_for_and_is_shared_by_a_trunk(planned):
    one = planned.runs[0]
    same = next(each for each in planned.runs if each.trunk == one.trunk and each is not one)
    quiet = pretend(planned)
    drawn = [pretend(planned, noise=0.01, seed=seed) for seed in range(2000)]
    errors = [math.log(each.loss(one) / quiet.loss(one)) for each in drawn]
    assert statistics.mean(errors) == pytest.approx(0, abs=0.001)
    assert statistics.stdev(errors) == pytest.approx(0.01, rel=0.06)
    for each, error in zip(drawn[:20], errors, strict=False):
        assert math.log(each.loss(same) / quiet.loss(same)) == pytest.approx(error)


def test_faults_come_at_their_rate_in_equal_parts_and_anew_at_every_attempt(planned):
    conditions = pretend(planned, fail=0.2)
    drawn = [conditions.fault(f"run-{number}", 1) for number in range(20_000)]
    kinds = Counter(fault[0] for fault in drawn if fault)
    assert kinds.total() / len(drawn) == pytest.approx(0.2, abs=0.01)
    assert all(count / kinds.total() == pytest.approx(0.25, abs=0.025) for count in kinds.values())
    assert len(kinds) == 4
    again = [conditions.fault(f"run-{number}", 2) for number in range(20_000)]
    both = sum(bool(first and second) for first, second in zip(drawn, again, strict=True))
    assert both / len(drawn) == pytest.approx(0.04, abs=0.006)
    assert not any(pretend(planned).fault(f"run-{number}", 1) for number in range(100))


def test_every_process_draws_the_same(planned, tmp_path):
    conditions = pretend(planned, noise=0.01, fail=0.5, seed=3)
    store.write_json(tmp_path / "rehearsal.json", conditions.to_json())
    store.write_json(tmp_path / "run.json", planned.runs[0].to_dict())
    script = (
        "import json, sys; from pathlib import Path; from isoflop.launching.synthetic import Conditions\n"
        "from isoflop.planning.runs import Run\n"
        "c = Conditions.load(Path('rehearsal.json')); r = Run.from_dict(json.loads(Path('run.json').read_text()))\n"
        "print(json.dumps([c.loss(r), [c.fault(r.id, k) for k in range(9)], 'torch' in sys.modules]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    one = planned.runs[0]
    faults = [list(fault) if (fault := conditions.fault(one.id, attempt)) else None for attempt in range(9)]
    assert json.loads(said) == [conditions.loss(one), faults, False]


@pytest.mark.parametrize("prior", [SURFACE, LINE, published("soda-anchor")], ids=lambda prior: prior.name)
def test_conditions_are_read_back_equal(planned, tmp_path, prior):
    conditions = pretend(planned, prior, noise=0.003, fail=0.1, seed=7)
    store.write_json(tmp_path / "rehearsal.json", conditions.to_json())
    assert Conditions.load(tmp_path / "rehearsal.json") == conditions


@pytest.mark.parametrize("change", [{"fail": 2}, {"noise": None}, {"prior": {}}, {"seed": -1}])
def test_a_damaged_file_of_conditions_is_named(planned, tmp_path, change):
    path = tmp_path / "rehearsal.json"
    store.write_json(path, {**pretend(planned).to_json(), **change})
    with pytest.raises(CorruptFileError, match=r"rehearsal\.json must hold what a rehearsal pretends"):
        Conditions.load(path)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"noise": -0.1}, "noise must be the sd of ln loss, 0 or more, but got -0.1"),
        ({"fail": 1.0}, "0 <= fail < 1 must hold, but got 1.0"),
        ({"seed": -1}, "seed >= 0 must hold, but got -1"),
        ({"seconds_per_flop": math.inf}, "seconds of a FLOP must be finite and 0 or more, but got inf"),
    ],
)
def test_impossible_conditions_are_refused(planned, changed, rule):
    with pytest.raises(InputError, match=rule):
        pretend(planned, **changed)


def test_a_run_leaves_the_files_of_training(planned, tmp_path):
    one, conditions = planned.runs[0], pretend(planned, noise=0.003)
    seen = []
    result = run(one, tmp_path, conditions=conditions, on_progress=seen.append)
    place = StudyDirectory(tmp_path).run(one.id)
    assert sorted(path.name for path in place.root.iterdir()) == [
        "metrics.csv",
        "result.json",
        "run.json",
        "status.json",
    ]
    assert place.result() == result
    assert result["loss"] == conditions.loss(one)
    assert (result["simulated"], result["attempts"], result["tokens"]) == (True, 1, one.tokens)
    assert place.status() == {"state": "done"}
    assert StudyDirectory(tmp_path).load_run(one.id) == one
    header, *rows = place.metrics_file.read_text().splitlines()
    assert header == ",".join(COLUMNS)
    assert [int(row.split(",")[0]) for row in rows] == [progress.step for progress in seen]
    assert seen[-1].step == one.steps
    losses = [float(row.split(",")[2]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert run(one, tmp_path, conditions=conditions) == result


def test_an_interrupted_run_carries_on_to_the_same_loss(planned, tmp_path):
    one, conditions = planned.runs[0], pretend(planned, noise=0.003)

    def interrupt(progress):
        if progress.step > one.steps / 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(one, tmp_path, conditions=conditions, on_progress=interrupt)
    place = StudyDirectory(tmp_path).run(one.id)
    left = Pretence.load(place)
    assert one.steps / 3 < left.step < one.steps
    seen = []
    result = run(one, tmp_path, conditions=conditions, on_progress=seen.append)
    assert min(progress.step for progress in seen) > left.step
    assert result["loss"] == conditions.loss(one)
    assert (result["attempts"], result["resumed"]) == (2, 1)
    steps = [int(row.split(",")[0]) for row in place.metrics_file.read_text().splitlines()[1:]]
    assert steps == sorted(set(steps))


def test_runs_of_a_trunk_start_from_it_and_pretend_what_they_add(planned, tmp_path):
    trunk = planned.trunks[-1]
    runs = {each.id: each for each in planned.runs}
    short, long = runs[trunk.branches[0]], runs[trunk.branches[-1]]
    steps = dict(zip(trunk.branches, trunk.branch_steps, strict=True))
    place = StudyDirectory(tmp_path)
    store.write_json(place.trunk(trunk.id).trunk_file, {"id": trunk.id, "branches": steps})
    conditions = pretend(planned, noise=0.003)
    assert run(long, tmp_path, conditions=conditions)["loss"] == conditions.loss(long)
    assert place.trunk(trunk.id).stored() == set(steps.values())
    seen = []
    result = run(short, tmp_path, conditions=conditions, on_progress=seen.append)
    assert min(progress.step for progress in seen) > short.branch_step
    assert result["loss"] == conditions.loss(short)
    rows = [int(row.split(",")[0]) for row in place.run(short.id).metrics_file.read_text().splitlines()[1:]]
    assert rows == sorted(set(rows))
    assert rows[0] <= short.branch_step < rows[-1] == short.steps


def test_an_error_is_raised_and_the_next_attempt_succeeds(planned, tmp_path, capfd):
    conditions, struck = struck_by(planned, "error")
    one = next(each for each in planned.runs if each.id == struck)
    with pytest.raises(RuntimeError, match="simulated error at step"):
        run(one, tmp_path, conditions=conditions)
    assert f"simulated error of {struck}" in capfd.readouterr().err
    assert run(one, tmp_path, conditions=conditions)["attempts"] == 2


def test_a_divergence_is_told_as_training_tells_it(planned, tmp_path):
    conditions, struck = struck_by(planned, "divergence")
    one = next(each for each in planned.runs if each.id == struck)
    with pytest.raises(Diverged, match=f"run {struck} diverged"):
        run(one, tmp_path, conditions=conditions)
    status = StudyDirectory(tmp_path).run(struck).status()
    assert (status["state"], status["cause"], status["steps"]) == ("failed", "diverged", one.steps)


@pytest.mark.parametrize(("kind", "code"), [("crash", -9), ("preemption", -15)])
def test_a_crash_and_a_preemption_end_the_process(planned, tmp_path, kind, code):
    conditions, struck = struck_by(planned, kind)
    place = StudyDirectory(tmp_path)
    store.write_json(place.rehearsal_file, conditions.to_json())
    one = next(each for each in planned.runs if each.id == struck)
    store.write_json(place.run(struck).run_file, one.to_dict())
    script = (
        "import sys; from pathlib import Path; from isoflop.launching.synthetic import run\n"
        "from isoflop.store import StudyDirectory\n"
        "root = Path(sys.argv[1]); run(StudyDirectory(root).load_run(sys.argv[2]), root)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), struck]
    assert subprocess.run(command, capture_output=True).returncode == code
    assert Pretence.load(place.run(struck)).attempts == 1
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert place.run(struck).result()["loss"] == conditions.loss(one)


def test_runs_take_the_time_asked_for(planned, tmp_path):
    one = planned.runs[0]
    conditions = replace(pretend(planned), seconds_per_flop=0.3 / one.flops)
    assert run(one, tmp_path, conditions=conditions)["seconds"] == pytest.approx(0.3, abs=0.25)


def test_a_damaged_checkpoint_is_named(planned, tmp_path):
    one = planned.runs[0]
    path = Pretence.path(StudyDirectory(tmp_path).run(one.id))
    path.parent.mkdir(parents=True)
    path.write_text('{"steps": 1}')
    with pytest.raises(CorruptFileError, match=r"pretended\.json must be a pretended checkpoint"):
        run(one, tmp_path, conditions=pretend(planned))


def test_a_rate_costs_what_it_is_off_the_best(planned, tmp_path):
    one = planned.runs[0]
    rate = BestRate(scale=0.3, width_exponent=-1.2, batch_exponent=0.5, curvature=0.04)
    conditions = pretend(planned, rate=rate)
    best = replace(one, learning_rate=0.3 * one.shape.d_model**-1.2 * one.batch_size**0.5)
    assert conditions.loss(best) == pytest.approx(pretend(planned).loss(best))
    doubled = replace(best, learning_rate=2 * best.learning_rate)
    assert conditions.loss(doubled) / conditions.loss(best) == pytest.approx(math.exp(0.04 * math.log(2) ** 2))
    path = tmp_path / "rehearsal.json"
    store.write_json(path, conditions.to_json())
    assert Conditions.load(path) == conditions
