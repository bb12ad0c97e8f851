"""Searches at work, through the launcher of this machine: with losses of a known best rate, and some that train."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from isoflop import store, tuning, workflow
from isoflop.claims import Claims
from isoflop.errors import InputError
from isoflop.launching.profiles import LocalProfile
from isoflop.launching.states import cancel
from isoflop.launching.synthetic import BestRate, Conditions
from isoflop.planning import prior
from isoflop.store import StudyDirectory
from isoflop.study import Study
from isoflop.tuning import pruning, tuner
from isoflop.tuning.cells import chosen
from isoflop.tuning.optimum import Status
from isoflop.tuning.search import Search
from isoflop.tuning.space import parsed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROFILE = LocalProfile(workers=2)
#: The best rate: twice the recipe's at width 16, and falling faster with the width.
TRUTH = BestRate(scale=0.025 * 16**1.3, width_exponent=-1.3, batch_exponent=0.0, curvature=0.05)
CELLS = ("1e9:16", "2e9:24", "4e9:12")


@pytest.fixture
def pretended(tmp_path):
    """A rehearsal's directory whose losses know the best rate; runs take so many seconds for each 1e9 FLOPs."""

    def make(name="study", seconds=0.0, truth=TRUTH, noise=0.003):
        study = Study.parse(
            {
                "name": name,
                "data": {"abstract": {"vocabulary": 40, "unique_tokens": 1e12}},
                "model": {"sequence_length": 16},
                "recipe": {"base": "tiny", "tokens_per_step": 128, "warmup_steps": 4},
                "grid": {"budgets": [1e9, 2e9, 4e9], "sizes": [8, 12, 16, 24, 32, 40], "tolerance": 0.05},
                "training": {"validation_tokens": 640},
            }
        )
        planned = workflow.plan(study)
        place = StudyDirectory(tmp_path / name)
        conditions = Conditions(prior.published("soda-surface"), planned.cost, noise, 0.0, 0, seconds / 1e9, truth)
        store.write_json(place.rehearsal_file, conditions.to_json())
        workflow.write_plan(study, place, planned)
        return place, planned

    return make


def searching(trials=6, seeds=2, **options):
    return Search(parsed("lr"), trials, seeds, **options)


def trials_of(place):
    """What a search has come to: every trial with its hyperparameters, losses and runs."""
    return json.loads((tuner.home(place).root / "tuning.json").read_text())["trials"]


def check_each_run_was_done_once(place):
    """The last attempt at each run finished it; a crew killed after that left its claim open."""
    claims = Claims(tuner.home(place).root)
    for run in tuner.home(place).run_ids():
        *before, last = ["open" if claim.end is None else claim.end["outcome"] for claim in claims.history(run)]
        assert last in {"done", "open"}, run
        assert "done" not in before, run


def test_the_known_best_rates_are_found_in_a_quarter_of_a_dense_scan(pretended):
    place, planned = pretended()
    cells = chosen(planned, CELLS)
    made = tuning.tune(place, cells, searching(), PROFILE)
    # 25 rates in steps of 2^(1/4) over the same range, of as many seeds.
    assert all(len(trials) <= 25 / 4 for trials in made.trials.values())
    for cell in cells:
        factor = TRUTH.of(cell.base) / cell.base.learning_rate
        assert 1 / 1.5 <= made.optima[cell.name].values["lr"].value / factor <= 1.5
    (rule,) = made.rules
    assert rule.exponents["width"].low <= -0.3 <= rule.exponents["width"].high
    assert made.recipe.name == "study-tuned"
    # The study's own runs are as they were, and its points hold no trial.
    assert set(store.points(place.root)["state"]) == {"planned"}
    assert len(tuner.home(place).run_ids()) == sum(map(len, made.trials.values())) * 2
    check_each_run_was_done_once(place)


#: A trainer of one's own whose loss is least where its rate is 0.06 over the width.
OWN = """
from math import log

def train(assignment):
    off = log(assignment.planned.learning_rate * assignment.planned.shape.d_model / 0.06)
    return 2 + 30 / assignment.params**0.4 + 0.1 * off**2 + 0.001 * (assignment.seed % 2)
"""


def test_a_trainer_of_ones_own_is_tuned(tmp_path):
    (tmp_path / "tuned_trainer.py").write_text(OWN)
    rows = [{"name": f"m{width}", "d_model": width, "params": width**3, "flops_per_sample": 6 * width**3}
            for width in (8, 10, 12, 14, 16)]  # fmt: skip
    content = {
        "name": "own",
        "trainer": "tuned_trainer:train",
        "data": {"external": "made-up"},
        "recipe": {"base": "tiny", "tokens_per_step": 50, "rate_times_width": 0.1, "warmup_steps": 0, "ladder": rows},
        "grid": {"budgets": [3e7, 6e7, 1.2e8], "tolerance": 0.05},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    study, place = workflow.open_study(tmp_path / "study.yaml", directory=tmp_path / "own")
    cells = chosen(workflow.plan(study, place.root), ["3e7:m10", "6e7:m14"])
    made = tuning.tune(place, cells, searching(trials=7), PROFILE)
    for cell in cells:
        assert made.optima[cell.name].status is Status.INTERIOR
        assert made.optima[cell.name].values["lr"].value == pytest.approx(0.6, rel=0.05)
    check_each_run_was_done_once(place)


def start(place, *arguments):
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "isoflop", "tune", str(place.root), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """What it says, once it is done."""
    said, told = process.communicate()
    assert process.returncode == 0, told
    return json.loads(said)


COMMAND = ("--trials", "6", "--cells", "1e9:16", "--cells", "2e9:24", "--json")


def test_killed_and_resumed_and_by_two_at_once_the_trials_are_the_same(pretended, tmp_path):
    whole, _ = pretended("whole", seconds=0.2)
    finish(start(whole, *COMMAND))
    killed, _ = pretended("killed", seconds=0.2)
    runs = tuner.home(killed).root / "runs"
    for _ in range(3):
        done = len(list(runs.glob("*/result.json")))
        process = start(killed, *COMMAND)
        deadline = time.monotonic() + 60
        # Killed in the midst of runs: some more are done, others have begun.
        while process.poll() is None and len(list(runs.glob("*/result.json"))) < done + 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert not (tuner.home(killed).root / "tuning.json").exists()
    finish(start(killed, *COMMAND))
    both, _ = pretended("both", seconds=0.2)
    first, second = start(both, *COMMAND), start(both, *COMMAND)
    assert finish(first)["trials"] == finish(second)["trials"]
    assert [trial["number"] for trial in trials_of(whole)] == 2 * list(range(6))
    assert trials_of(killed) == trials_of(whole) == trials_of(both)
    for place in (whole, killed, both):
        check_each_run_was_done_once(place)


def test_an_optimum_beyond_the_range_extends_it_once(pretended):
    place, planned = pretended(truth=BestRate(0.0125 * 16 * 14, -1.0, 0.0, 0.05))
    made = tuning.tune(place, chosen(planned, CELLS[:1]), searching(seeds=1), PROFILE)
    (trials,) = made.trials.values()
    (found,) = made.optima.values()
    assert len(trials) == 9
    assert found.status is Status.INTERIOR
    assert found.values["lr"].value == pytest.approx(14, rel=0.2)


def test_runs_above_the_median_are_cancelled_and_labelled(pretended, monkeypatch):
    monkeypatch.setattr(pruning, "_WORTH", 0.0)
    place, planned = pretended(seconds=5.0, noise=0.0)
    cells = chosen(planned, CELLS[:1])
    # Of the two that TPE draws from the first three, one is near the best and one far above it.
    search = Search(parsed("lr=0.2:8"), trials=5, seeds=1, together=2)
    made = tuning.tune(place, cells, search, PROFILE)
    (trials,) = made.trials.values()
    assert [trial.state for trial in trials] == ["done"] * 4 + ["pruned"]
    assert "above the median of 3 before it" in trials[-1].reason
    (run,) = cells[0].runs(trials[-1].values, 1)
    assert tuner.home(place).run(run.id).cancelled_file.exists()
    assert tuner.home(place).run(run.id).result() is None


def test_a_trial_that_a_person_cancels_is_failed_and_the_others_go_on(pretended):
    place, planned = pretended()
    cells = chosen(planned, CELLS[:1])
    victim = []

    def begun(total, unfinished):
        if not victim:
            victim.append(unfinished[0].id)
            cancel(tuner.home(place), victim)

    made = tuning.tune(place, cells, searching(), PROFILE, tuner.Watcher(begun=begun))
    (trials,) = made.trials.values()
    assert [(trial.state, trial.reason) for trial in trials if trial.state != "done"] == [("failed", "cancelled")]
    assert len(trials) == 6


def test_a_search_is_carried_on_as_it_was_begun(pretended):
    place, planned = pretended()
    cells = chosen(planned, CELLS[:1])
    first = tuning.tune(place, cells, searching(trials=4, seeds=1), PROFILE)
    again = tuning.tune(place, cells, searching(trials=4, seeds=1, together=9), PROFILE)
    assert again.trials == first.trials
    with pytest.raises(InputError, match="has another trials"):
        tuning.tune(place, cells, searching(trials=5, seeds=1), PROFILE)
    with pytest.raises(InputError, match="has another cells"):
        tuning.tune(place, chosen(planned, CELLS[1:2]), searching(trials=4, seeds=1), PROFILE)


def test_what_the_study_has_trained_is_not_trained_again(pretended):
    place, planned = pretended()
    (cell,) = chosen(planned, CELLS[:1])
    base = place.run(cell.base.id)
    base.publish({"run": cell.base.id, "loss": 321.0})
    # Five strata: the middle one changes nothing.
    made = tuning.tune(place, (cell,), searching(trials=8, seeds=1), PROFILE)
    (trial,) = [trial for trial in made.trials[cell.name] if trial.values["lr"] == 1.0]
    assert trial.losses == (321.0,)


def test_real_trials_train_and_tell_a_rate(small_study, tmp_path):
    study = small_study()
    place = StudyDirectory(tmp_path / "study")
    workflow.create(place)
    cells = chosen(workflow.plan(study, place.root), ["4e8:16"])
    made = tuning.tune(place, cells, searching(trials=4, seeds=1), LocalProfile(workers=1))
    (trials,) = made.trials.values()
    losses = {trial.values["lr"]: trial.losses[0] for trial in trials if trial.state == "done"}
    assert len(losses) >= 4
    # A fifth of the recipe's rate learns least in 4e8 FLOPs.
    assert max(losses, key=losses.get) == min(losses) == pytest.approx(0.25, abs=0.1)
