"""The cells of a study at which its recipe is tuned, and the runs of a trial there.

A trial is made of real runs: the recipe's, with some of its constants replaced (`isoflop.planning.variations`). So
hyperparameters that come again are runs that are done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isoflop.arms import refuse_axes
from isoflop.errors import InputError
from isoflop.planning.feasibility import Dropped, Planner
from isoflop.planning.plan import Plan
from isoflop.planning.recipes import named
from isoflop.planning.runs import Run
from isoflop.planning.variations import varied

#: Budgets whose middle sizes are tuned where nobody says otherwise: the cheapest.
_BUDGETS = 3
#: Significant digits of a hyperparameter.
_DIGITS = 4


@dataclass(frozen=True)
class Cell:
    """A cell of the study, as the recipe would run it.

    Parameters
    ----------
    base
        That run.
    planner
        The study's.
    """

    base: Run
    planner: Planner

    @property
    def name(self) -> str:
        """Its budget and its size."""
        return f"{self.base.budget:.3g}-{self.base.shape.label}"

    def snapped(self, values: Mapping[str, float]) -> dict[str, float]:
        """The nearest hyperparameters that a run can have: batches are whole sequences."""
        near = {name: float(f"{value:.{_DIGITS}g}") for name, value in values.items()}
        if "batch" in near:
            near["batch"] = max(1, round(near["batch"] * self.base.batch_size)) / self.base.batch_size
        return near

    def runs(self, values: Mapping[str, float], seeds: int) -> tuple[Run, ...] | Dropped:
        """The runs of the trial of `values` (see `snapped`), one for each seed, or why there are none."""
        made = [varied(self.planner, self.base, values, self.base.seed + seed) for seed in range(seeds)]
        dropped = next((each for each in made if isinstance(each, Dropped)), None)
        return dropped or tuple(each for each in made if isinstance(each, Run))


def chosen(planned: Plan, asked: Iterable[str] = ()) -> tuple[Cell, ...]:
    """The cells to tune at: those `asked` for as ``BUDGET:SIZE``, else the cheapest budgets' middle sizes.

    Raises
    ------
    InputError
        If the plan has no run there, or a size has a rate of its own, which no rule gives.
    """
    study = planned.settings
    refuse_axes(study, "a search")
    planner = Planner(study, named(study.recipe), planned.data)
    cells = tuple(Cell(run, planner) for run in ([_asked(planned, text) for text in asked] or _middles(planned)))
    rated = [row.name for row in planner.recipe.ladder if row.learning_rate is not None]
    if rated:
        raise InputError(f"rates must follow the recipe's rule to be tuned, but {', '.join(rated)} have their own")
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise InputError(f"cells must be distinct, but got {', '.join(names)}")
    return cells


def _asked(planned: Plan, text: str) -> Run:
    """The run of a size, by its width or its name, at a budget."""
    budget, _, size = text.partition(":")
    try:
        flops = float(budget)
    except ValueError:
        raise InputError(f"a cell must be BUDGET:SIZE, but got {text!r}") from None
    at = [run for run in planned.runs if run.budget == flops]
    found = next((run for run in at if size in {str(run.shape.d_model), run.shape.label}), None)
    if found is None:
        names = (f"{run.budget:g}:{run.shape.d_model or run.shape.label}" for run in planned.runs)
        raise InputError(f"a cell must be one of the plan's, {', '.join(dict.fromkeys(names))}, but got {text!r}")
    return found


def _middles(planned: Plan) -> list[Run]:
    """The size nearest the middle of each of the cheapest budgets, each of another width where that can be."""
    seed, found = planned.settings.training.seed, list[Run]()
    for budget in planned.budgets[:_BUDGETS]:
        runs = sorted(
            (run for run in planned.at(budget) if run.seed == seed), key=lambda run: run.shape.parameters.total
        )
        middle = (len(runs) - 1) // 2
        by_distance = [
            runs[place] for place in sorted(range(len(runs)), key=lambda place: (abs(place - middle), -place))
        ]
        taken = {run.shape.d_model for run in found}
        found.append(next((run for run in by_distance if run.shape.d_model not in taken), by_distance[0]))
    return found
