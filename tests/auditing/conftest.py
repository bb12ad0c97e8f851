"""Simulated studies whose rates are off by a known law, trained by this process alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from isoflop import store, workflow
from isoflop.launching import synthetic
from isoflop.launching.synthetic import BestRate, Conditions
from isoflop.planning import prior
from isoflop.planning.plan import Plan
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory
from isoflop.study import Study

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
    },
}


def best_rate(planned: Plan, width_exponent: float, curvature: float = 0.02) -> BestRate:
    """A best rate that is the recipe's at the middle of the plan, where that goes by 1/width and the root of batch."""
    middle = planned.runs[len(planned.runs) // 2]
    scale = middle.learning_rate / middle.shape.d_model**width_exponent / middle.batch_size**0.5
    return BestRate(scale, width_exponent, 0.5, curvature)


def pretend(place: StudyDirectory, runs: tuple[Run, ...]) -> None:
    """Do what workers would, here and now."""
    for run in runs:
        synthetic.run(run, place.root)


@pytest.fixture
def simulated(tmp_path: Path) -> Callable[..., tuple[Study, StudyDirectory, Plan]]:
    """A finished rehearsal; the width's true exponent is the recipe's, -1, unless it is said.

    At the largest budget only models of `least` parameters or more are done.
    """

    def make(width_exponent: float = -1.0, noise: float = 0.0, seed: int = 0, least: float = 0.0, **grid: object):
        study = Study.parse({**CONTENT, "grid": {**CONTENT["grid"], **grid}})
        planned = workflow.plan(study)
        place = StudyDirectory(tmp_path / f"{width_exponent}-{seed}")
        conditions = Conditions(
            prior.published("soda-surface"), planned.cost, noise, 0.0, seed, 0.0, best_rate(planned, width_exponent)
        )
        store.write_json(place.rehearsal_file, conditions.to_json())
        workflow.write_plan(study, place, planned)
        top = max(planned.budgets)
        pretend(place, tuple(run for run in planned.runs if run.budget < top or run.shape.parameters.total >= least))
        return study, place, planned

    return make
