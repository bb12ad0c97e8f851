"""The example of a trainer of one's own: its table is what it counts, it learns and resumes under the real launcher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from isoflop import workflow
from isoflop.launching.checking import apart, cheapest, check
from isoflop.launching.states import states
from isoflop.store import StudyDirectory
from isoflop.study import Study
from isoflop.study_recipe import Size
from isoflop.training.digits import Transformer, flops_per_sample, sizes

GRID = Path(__file__).parents[2] / "grids" / "digits.yaml"
#: The same study on budgets that take seconds.
SMALL = ["grid.budgets=[3e7, 6e7]", "grid.runs_per_budget=3", "grid.min_cells=3", "recipe.warmup_steps=8"]


def test_the_grids_table_is_what_the_models_are():
    ladder = Study.load(GRID).recipe.ladder
    for row, counted in zip(ladder, sizes(), strict=True):
        assert row == Size.model_validate({**counted, "learning_rate": row.learning_rate})
        assert row.learning_rate == pytest.approx(counted["learning_rate"], rel=1e-5)


def test_flops_are_what_torch_counts():
    """Without attention, which torch's counter leaves out on a CPU: two matmuls of p² by the width, a block."""
    for width, depth in ((8, 2), (48, 3)):
        model = Transformer(width, depth)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(5, 8, 8))
        attention = depth * 4 * 4**2 * width
        assert flops_per_sample(width, depth) == 3 * (counter.get_total_flops() / 5 + attention)


@pytest.mark.slow
def test_it_keeps_its_contract_bit_for_bit(tmp_path):
    study = Study.load(GRID, [*SMALL, "grid.budgets=[2e8, 4e8]"])  # long enough to be stopped in the middle
    places = apart(tmp_path)
    for place in places:
        workflow.admit(study, place)
        planned = workflow.prepare(study, place, workflow.Watcher())
    found = check(*places, cheapest(planned.runs))
    assert found.passed, str(found)
    assert "bit for bit" in str(found)


@pytest.mark.slow
def test_the_real_launcher_trains_it(tmp_path):
    study = Study.load(GRID, SMALL)
    outcome = workflow.run(study, tmp_path)
    assert {run.state for run in states(StudyDirectory(tmp_path))} == {"done"}
    means = outcome.points.groupby("budget")["loss"].min()
    # Guessing costs ln 10 = 2.303; twice the compute teaches more.
    assert means.iloc[1] < means.iloc[0] < 2.2
    assert outcome.reason is not None or outcome.law is not None
    assert outcome.report.exists()
