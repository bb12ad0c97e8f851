"""`next` on a study directory: seeds, proposals from what is done, cells added to the plan, a record of it all."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isoflop import choosing, store, workflow
from isoflop.errors import CorruptFileError, InputError, RunError
from isoflop.fitting.cost import six_nd
from isoflop.fitting.points import judge
from isoflop.planning.adaptive import conduct, of_table
from isoflop.planning.choice import Finished
from isoflop.planning.decision import decide
from isoflop.planning.information import Goal
from isoflop.planning.prior import published
from isoflop.planning.question import Question
from isoflop.store import StudyDirectory
from isoflop.study import Study

GOALS = (Goal("ratio", 0.01),)
CONTENT = {
    "name": "x",
    "data": {"abstract": {"vocabulary": 32000, "unique_tokens": 10**15}},
    "model": {"sequence_length": 2048},
    "recipe": {"base": "marin-2025", "width_step": 64, "head_size": 64, "tokens_per_step": 65536},
    "grid": {"generator": "chosen", "budgets": [3e18, 9e18, 1.8e19, 3e19, 9e19], "prior": "besiroglu2024"},
}
STUDY = Study.parse(CONTENT)


def finish(study: Study, place: StudyDirectory, noise: float = 0.002) -> int:
    """Give every planned run a loss of Chinchilla's surface; returns how many there were."""
    surface, done = published("besiroglu2024").surface, 0
    for run_id in place.run_ids():
        run = place.load_run(run_id)
        if place.run(run_id).result() is None:
            error = np.random.default_rng([run.steps, run.seed]).standard_normal()
            loss = float(surface.loss(run.shape.parameters.total, run.tokens)) * math.exp(noise * error)
            place.run(run_id).publish({"run": run_id, "loss": loss})
            done += 1
    return done


@pytest.fixture
def begun(tmp_path):
    """A study whose seeds are run."""
    place = StudyDirectory(tmp_path / "x")
    study = choosing.add(STUDY, place, choosing.propose(STUDY, place, GOALS))
    assert finish(study, place) == 14
    return study, place


def test_chosen_cells_become_runs_and_carry_on(begun):
    study, place = begun
    assert Study.load(place.study_file) == study
    for _ in range(3):
        found = choosing.propose(study, place, GOALS)
        assert found.proposal.action == "run"
        assert found.proposal.form == "surface"
        study = choosing.add(study, place, found)
        assert finish(study, place) == len(found.runs)
    points = store.points(place.root)
    assert points["in_grid"].all()
    assert (points["state"] == "done").all()
    assert len(json.loads(place.choices_file.read_text())["choices"]) == 4


def test_the_same_points_give_the_same_proposal_recorded_once_and_added_once(begun):
    study, place = begun
    first = choosing.propose(study, place, GOALS)
    study = choosing.add(study, place, first)
    planned = len(place.run_ids())
    again = choosing.propose(study, place, GOALS)
    assert again.to_json() == first.to_json()
    choosing.add(study, place, again)
    assert len(place.run_ids()) == planned == 14 + len(first.runs)
    assert len(json.loads(place.choices_file.read_text())["choices"]) == 2


def test_a_cell_again_gets_its_next_seed(begun):
    study, place = begun
    found = choosing.propose(study, place, GOALS, count=12)
    again = [cell for cell in found.proposal.cells if cell.replicate]
    assert again, "twelve cells of so few runs should have repeats"
    choosing.add(study, place, found)
    seeds = [place.load_run(run_id).seed for run_id in place.run_ids()]
    assert max(seeds) == max(cell.replicate for cell in found.proposal.cells)


def test_listed_sizes_are_chosen_and_added_by_name(tmp_path):
    place = StudyDirectory(tmp_path / "x")
    rows = [
        {"name": f"s{number}", "params": round(2e7 * 1.19**number), "flops_per_token": 1.2e8 * 1.19**number}
        for number in range(40)
    ]
    recipe = {"base": "tiny", "ladder": rows, "learning_rate": 1e-3, "tokens_per_step": 65536}
    study = Study.parse({**CONTENT, "recipe": recipe})
    for _ in range(3):
        found = choosing.propose(study, place, GOALS)
        assert found.proposal.action == "run"
        study = choosing.add(study, place, found)
        assert finish(study, place) == len(found.runs)
    again = Study.load(place.study_file)
    assert {size for cells in again.grid.cells for size in cells.sizes} <= {row["name"] for row in rows}
    assert {run.id for run in workflow.plan(again, place.root).runs} == set(place.run_ids())


def test_a_trunk_that_stands_makes_its_branch_cheaper(tmp_path):
    content = {**CONTENT, "recipe": {**CONTENT["recipe"], "warmup_steps": 100}}
    study, place = Study.parse(content), StudyDirectory(tmp_path / "x")
    dear = choosing.propose(study, place, GOALS)
    place.root.mkdir()
    run = dear.runs[0]
    (place.trunk(run.trunk).checkpoints / f"step-{run.branch_step // 2:08d}-x.pt").mkdir(parents=True)
    cheap = choosing.propose(study, place, GOALS)
    assert cheap.proposal.cells[0].price == pytest.approx(dear.proposal.cells[0].price * 0.6, rel=0.01)
    assert cheap.proposal.cells[1].price == dear.proposal.cells[1].price


def test_points_of_a_table_are_gone_by_without_a_record(begun, tmp_path):
    study, place = begun
    table = store.points(place.root)[["flops", "params", "tokens", "loss", "budget"]]
    elsewhere = choosing.propose(study, StudyDirectory(tmp_path / "nowhere"), GOALS, table=table)
    assert elsewhere.to_json() == choosing.propose(study, place, GOALS).to_json()


def test_adopted_points_count_as_runs_of_their_cells(begun, tmp_path):
    study, place = begun
    table = store.points(place.root)[["flops", "params", "tokens", "loss"]].astype(float)
    other = StudyDirectory(tmp_path / "other")
    choosing.adopt_points(STUDY, other, table, "runs.csv")
    told = choosing.propose(STUDY, other, GOALS).to_json()
    assert told == choosing.propose(study, place, GOALS).to_json()


def test_a_run_that_failed_is_not_chosen_again(begun):
    study, place = begun
    found = choosing.propose(study, place, GOALS, count=1)
    study = choosing.add(study, place, found)
    new = next(run_id for run_id in place.run_ids() if place.run(run_id).result() is None)
    place.run(new).write_status("failed", cause="diverged")
    after = choosing.propose(study, place, GOALS, count=1)
    assert (after.runs[0].budget, after.runs[0].shape) != (found.runs[0].budget, found.runs[0].shape)


def test_a_study_without_belief_and_points_cannot_begin(tmp_path):
    grid = {name: value for name, value in CONTENT["grid"].items() if name != "prior"}
    with pytest.raises(InputError, match=r"grid\.prior must be given"):
        choosing.propose(Study.parse({**CONTENT, "grid": grid}), StudyDirectory(tmp_path / "x"), GOALS)


def test_a_damaged_record_is_named(begun):
    study, place = begun
    store.write_json(place.choices_file, {"choices": [3]})
    with pytest.raises(CorruptFileError, match=r"choices\.json"):
        choosing.propose(study, place, GOALS)


def test_the_groups_of_parameters_are_no_hindrance(begun):
    study, place = begun
    table = pd.DataFrame({"flops": [9e18], "params": [2e8], "tokens": [7.5e9], "loss": [3.1]})
    choosing.adopt_points(study, place, table, "one.csv")
    assert len(choosing._finished(store.points(place.root))) == 15


class KilledError(Exception):
    """The process was killed."""


def until(place, *, die_after=100, study=STUDY, within=0.3):
    rounds = []

    def execute(study):
        workflow.create(place)
        workflow.write_plan(study, place, workflow.plan(study, place.root))
        if len(rounds) == die_after:
            raise KilledError
        rounds.append(finish(study, place))
        return len(rounds)

    return choosing.run_until(study, place, (Goal("ratio", within),), execute)


def test_a_study_runs_until_it_is_sure_and_the_same_choices_follow_an_interruption(tmp_path):
    straight, broken = StudyDirectory(tmp_path / "a" / "x"), StudyDirectory(tmp_path / "b" / "x")
    rounds, found = until(straight)
    assert found.proposal.action == "stop"
    assert rounds >= 2
    with pytest.raises(KilledError):
        until(broken, die_after=1)
    _, after = until(broken)
    assert broken.run_ids() == straight.run_ids()
    assert after.to_json() == found.to_json()
    kept = [json.loads(place.choices_file.read_text())["choices"][-1] for place in (straight, broken)]
    assert kept[0] == kept[1]


def test_runs_that_never_finish_end_the_loop(tmp_path):
    place = StudyDirectory(tmp_path / "x")
    with pytest.raises(RunError, match="must finish"):
        choosing.run_until(STUDY, place, GOALS, lambda study: None)


def test_only_a_study_of_chosen_cells_chooses_them(tmp_path):
    grid = {**CONTENT["grid"], "generator": "rule", "runs_per_budget": 5}
    with pytest.raises(InputError, match=r"must have grid.generator: chosen .*but got 'rule'"):
        choosing.run_until(Study.parse({**CONTENT, "grid": grid}), StudyDirectory(tmp_path), GOALS, lambda study: None)


def test_forty_adopted_cells_of_a_published_pool_are_carried_on_as_its_replay_does(tmp_path):
    path = Path(__file__).parents[2] / "shared" / "data" / "porian" / "isoflops.csv"
    if not path.is_file():
        pytest.skip("the folder of public points, shared/data, is not beside the project")
    table = pd.read_csv(path)
    points = judge(table[table["exp"] == "rw|tuned|warm=short|decay=const|count=standard|val"].reset_index(drop=True))
    pool = of_table(points.budget, points.flops, points.params, points.tokens)
    prior, cost, goals = published("besiroglu2024"), six_nd(1e5, 1e11), (Goal("a", 0.001),)
    question = Question(goals, lambda flops: prior.optimum(flops, cost), cost, 0.003, cap=0.1 * points.flops.sum())
    replay = conduct(question, pool, lambda cell: float(points.loss[cell.cell])).finished
    first = Finished(*(values[:40] for values in vars(replay).values()))
    run = {(flops, params) for flops, params in zip(first.flops, first.params, strict=True)}
    taken = np.array([int(each in run) for each in zip(pool.flops, pool.params, strict=True)])
    wanted = decide(replace(question, cap=None), first, replace(pool, taken=taken))

    sizes = [{"name": f"n{size:.0f}", "params": int(size), "flops_per_token": 6 * size} for size in set(points.params)]
    study = Study.parse(
        {
            "name": "porian",
            "data": {"abstract": {"vocabulary": 50432, "unique_tokens": 10**13}},
            "model": {"sequence_length": 128},
            "recipe": {
                "base": "tiny",
                "learning_rate": 1e-3,
                "tokens_per_step": 8192,
                "ladder": sorted(sizes, key=lambda size: size["params"]),
            },
            "grid": {
                "generator": "chosen",
                "budgets": points.budgets.tolist(),
                "prior": "besiroglu2024",
                "convention": "6nd",
                "tolerance": 0.02,
            },
        }
    )
    place = StudyDirectory(tmp_path / "porian")
    choosing.adopt_points(study, place, pd.DataFrame(vars(first)).drop(columns="budget"), "porian.csv")
    found = choosing.propose(study, place, goals).proposal
    assert found.form == wanted.form == "brackets"
    assert [(cell.budget, cell.params) for cell in found.cells] == [(cell.budget, cell.params) for cell in wanted.cells]
