"""Adaptive studies of known truth: how they begin, what they hold out, when they stop and when they do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isoflop.errors import InputError
from isoflop.fitting.cost import six_nd
from isoflop.planning.adaptive import conduct, ladder
from isoflop.planning.choice import Finished
from isoflop.planning.decision import FEWEST, decide, half_width_of, law_of
from isoflop.planning.information import Goal
from isoflop.planning.prior import published
from isoflop.planning.question import Held, Question

COST = six_nd(1e7, 1e12)
PRIOR = published("besiroglu2024")
BUDGETS = np.array([3e18, 9e18, 1.8e19, 3e19, 9e19, 1.8e20, 3e20])
CELLS = ladder(BUDGETS, np.exp(np.arange(math.log(1e7), math.log(1e11), math.log(1.15))), COST.tokens)
NOTHING = Finished(*[np.zeros(0)] * 5)


GOALS = (Goal("ratio", 0.2),)


def question(goals=GOALS, cap=None, noise=0.002, off=2.0):
    return Question(goals, lambda flops: off * PRIOR.optimum(flops, COST), COST, noise, cap=cap)


def measured(loss=PRIOR.surface.loss, noise=0.002, seed=0):
    generator = np.random.default_rng(seed)
    return lambda cell: float(loss(cell.params, cell.tokens)) * math.exp(noise * generator.standard_normal())


@pytest.fixture(scope="module")
def study():
    return conduct(question(), CELLS, measured())


def test_a_study_stops_by_its_own_law_with_two_runs_held_out(study):
    assert study.end.action == "stop"
    assert study.proposals[0].form == "seeds"
    held = [cell for proposal in study.proposals for cell in proposal.cells if cell.purpose == "hold_out"]
    assert [cell.budget for cell in held] == [3e20, 3e20]
    law = law_of(study.finished)
    assert len(study.finished) >= FEWEST
    assert half_width_of(law, Goal("ratio", 0.2)) <= 0.2
    assert law.exponents.ratio.low <= PRIOR.surface.ratio_under_6nd <= law.exponents.ratio.high
    # A grid of 64 runs on these budgets takes 5.7e21.
    assert study.spent < 0.35 * 9 * BUDGETS.sum()
    assert "reached by the law's own intervals" in study.end.reason


def test_every_cell_comes_with_a_sentence_and_the_record_is_plain(study):
    for proposal in study.proposals:
        document = proposal.to_json()
        assert document["reason"]
        assert all(len(cell["reason"]) > 20 for cell in document["cells"])


def test_the_same_points_give_the_same_choice(study):
    again = conduct(question(), CELLS, measured())
    assert [proposal.to_json() for proposal in again.proposals] == [each.to_json() for each in study.proposals]


def test_runs_held_out_that_miss_their_forecast_keep_a_study_from_stopping(study):
    finished, held = (
        study.finished,
        [
            Held(cell.params, cell.tokens, cell.expected[1], cell.expected[2])
            for proposal in study.proposals
            for cell in proposal.cells
            if cell.expected
        ],
    )
    assert decide(question(), finished, CELLS, held=held).action == "stop"
    missed = [Held(each.params, each.tokens, each.low - 1, each.high - 1) for each in held]
    proposal = decide(question(), finished, CELLS, held=missed)
    assert [cell.purpose for cell in proposal.cells] == ["hold_out", "hold_out"]
    assert decide(question(), finished, CELLS).action == "run"


def test_no_study_spends_more_than_its_cap():
    cap = 4e20
    study = conduct(question((Goal("ratio", 0.001),), cap), CELLS, measured())
    assert study.end.action == "cap"
    assert 0.5 * cap < study.spent <= cap
    assert "cap of 4e20 FLOPs is reached" in study.end.reason


def test_another_form_does_not_stop_as_a_surface():
    surface, bent = PRIOR.surface, 0.5

    def loss(params, tokens):
        model, data = surface.A * params**-surface.alpha, surface.B * tokens**-surface.beta
        return surface.E + (model ** (1 / bent) + data ** (1 / bent)) ** bent

    study = conduct(question(noise=0.0015, cap=3e21), CELLS, measured(loss, 0.0015))
    assert study.end.form == "brackets"
    assert "does not fit" in study.end.reason


def test_first_runs_that_are_missing_are_asked_for_again():
    first = decide(question(), NOTHING, CELLS)
    assert [cell.purpose for cell in first.cells] == ["seed"] * 14
    assert decide(question(), NOTHING, CELLS).cells == first.cells


@pytest.mark.parametrize(
    ("change", "rule"),
    [({"goals": ()}, "at least one goal"), ({"noise": 0.0}, "noise must be"), ({"cap": -1.0}, "cap must be")],
)
def test_questions_state_their_rules(change, rule):
    with pytest.raises(InputError, match=rule):
        question(**change)
