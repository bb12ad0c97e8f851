"""The grid: which (budget, size) cells a study asks for.

``rule`` takes the sizes given, or walks the recipe's ladder; with a prior and a number of runs each budget keeps the
sizes nearest its predicted optimum. ``centred`` places sizes evenly in log N about that optimum and snaps each to a
shape of the ladder that can be run. ``chosen`` has the cells alone that the study names. Each cell
becomes the run that meets its budget, or falls out with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from isoflop.errors import InputError
from isoflop.fitting.cost import CostModel
from isoflop.flops import AnyShape
from isoflop.planning.costs import ladder_cost
from isoflop.planning.feasibility import Dropped, Planner
from isoflop.planning.prior import Prior
from isoflop.planning.runs import Run
from isoflop.study_grid import Grid

#: Sizes of a centred grid are looked for within this factor beyond its ends.
_BEYOND = 2.0


def shares(grid: Grid) -> list[int] | None:
    """Sizes of each budget: `runs` shared out evenly, the rest to the cheapest budgets; None for all there are.

    Raises
    ------
    InputError
        If `runs` are no multiple of the replicates.
    """
    if grid.runs is None:
        return None if grid.runs_per_budget is None else [grid.runs_per_budget] * len(grid.budgets)
    if grid.runs % grid.seeds:
        raise InputError(f"grid.runs must be a multiple of grid.seeds, but got {grid.runs} and {grid.seeds}")
    each, rest = divmod(grid.runs // grid.seeds, len(grid.budgets))
    return [each + (place < rest) for place in range(len(grid.budgets))]


def shortfall(grid: Grid, runs: Sequence[Run]) -> list[str]:
    """A sentence on the budgets at which `runs` have fewer sizes than were asked for; empty where none has."""
    short = []
    for budget, asked in zip(grid.budgets, shares(grid) or [], strict=False):
        found = len({run.shape for run in runs if run.budget == budget})
        if found < asked:
            short.append(f"{budget:.3g} ({found} of {asked})")
    if not short:
        return []
    where = ", ".join(short)
    return [f"Fewer sizes than asked for at {where} FLOPs: no others near the prior's optimum can be run."]


@dataclass(frozen=True)
class Sizes:
    """The shapes that a study may train, and the widths that its recipe cannot build, each with the reason."""

    shapes: tuple[AnyShape, ...]
    impossible: tuple[tuple[int, str], ...] = ()

    def dropped(self, budget: float) -> list[Run | Dropped]:
        """The impossible widths as cells of `budget`."""
        return [Dropped(budget, f"d{width}", width, reason) for width, reason in self.impossible]


def lay_out(planner: Planner, prior: Prior | None) -> Iterator[Run | Dropped]:
    """Every cell of the grid, by budget and then by size: a run for each seed, or the reason why there is none.

    Raises
    ------
    InputError
        If the study names no sizes and the recipe has no walk of its own, or it names sizes that the recipe does not
        have.
    """
    grid, seed = planner.study.grid, planner.study.training.seed
    place = {"centred": _centred, "chosen": _none, "rule": _by_rule}[grid.generator]
    counts: Sequence[int | None] = shares(grid) or [None] * len(grid.budgets)
    given = _given(planner)
    for budget, count in zip(grid.budgets, counts, strict=True):
        sizes = _sizes_at(planner, given, budget)
        found = place(planner, prior, budget, count, sizes.shapes) if sizes.shapes else []
        picked, times = _picked(planner, budget)
        known = {cell.shape if isinstance(cell, Run) else cell.size for cell in found}
        extra = [planner.run(budget, shape, seed) for shape in times if not {shape, shape.label} & known]
        dropped = [] if grid.generator == "chosen" else sizes.dropped(budget)
        for cell in sorted([*found, *extra, *dropped, *picked.dropped(budget)], key=_order):
            yield cell
            if isinstance(cell, Run):
                for replicate in range(1, max(grid.seeds, times.get(cell.shape, 1))):
                    yield planner.run(budget, cell.shape, seed + replicate)


def feasible(planner: Planner) -> Iterator[Run]:
    """The first run of every cell that a study of these budgets and sizes could have, whatever its generator takes."""
    given = _given(planner)
    for budget in planner.study.grid.budgets:
        for shape in _sizes_at(planner, given, budget).shapes:
            made = planner.run(budget, shape, planner.study.training.seed)
            if isinstance(made, Run):
                yield made


def _picked(planner: Planner, budget: float) -> tuple[Sizes, dict[AnyShape, int]]:
    """The sizes that are picked by hand at a budget, and how often each of their shapes is run."""
    cells = [cells for cells in planner.study.grid.cells if cells.budget == budget]
    times: dict[AnyShape, int] = {}
    impossible: list[tuple[int, str]] = []
    for some in cells:
        built = _built(planner, some.sizes)
        impossible += built.impossible
        for shape in built.shapes:
            times[shape] = max(times.get(shape, 1), some.seeds or 1)
    return Sizes(tuple(times), tuple(impossible)), times


def _sizes_at(planner: Planner, given: Sizes | None, budget: float) -> Sizes:
    return given or _walked(planner, budget)


def _none(
    planner: Planner, prior: Prior | None, budget: float, count: int | None, shapes: Sequence[AnyShape]
) -> list[Run | Dropped]:
    """No cells but those that are picked."""
    return []


def _order(cell: Run | Dropped) -> tuple[int, float]:
    if isinstance(cell, Run):
        return cell.shape.d_model, cell.shape.parameters.total
    return cell.d_model, 0.0


def _by_rule(
    planner: Planner, prior: Prior | None, budget: float, count: int | None, shapes: Sequence[AnyShape]
) -> list[Run | Dropped]:
    """All sizes; with a prior and a count, those nearest its optimum in log N."""
    if prior is not None and count is not None:
        centre = math.log(prior.optimum(budget, _cost(planner, shapes)))
        shapes = sorted(shapes, key=lambda shape: abs(math.log(shape.parameters.total) - centre))[:count]
    return [planner.run(budget, shape, planner.study.training.seed) for shape in shapes]


def _centred(
    planner: Planner, prior: Prior | None, budget: float, count: int | None, shapes: Sequence[AnyShape]
) -> list[Run | Dropped]:
    """Sizes spaced evenly in log N about the prior's optimum, each the nearest shape that can be run, all distinct.

    A shape that would have been chosen but cannot be run is listed as dropped, and the next nearest takes its place.
    """
    from scipy.optimize import linear_sum_assignment

    assert prior is not None  # noqa: S101 - held by Grid
    assert count is not None  # noqa: S101 - held by Grid
    half = math.log(planner.study.grid.width) / 2
    centre = math.log(prior.optimum(budget, _cost(planner, shapes)))
    wanted = centre + np.linspace(-half, half, count)
    reach = half + math.log(_BEYOND)
    candidates = [shape for shape in shapes if abs(math.log(shape.parameters.total) - centre) <= reach]
    made: dict[AnyShape, Run | Dropped] = {}
    while candidates:
        sizes = np.log([shape.parameters.total for shape in candidates])
        _, places = linear_sum_assignment((wanted[:, None] - sizes[None, :]) ** 2)
        chosen = [candidates[place] for place in places]
        for shape in chosen:
            if shape not in made:
                made[shape] = planner.run(budget, shape, planner.study.training.seed)
        if all(isinstance(made[shape], Run) for shape in chosen):
            return [made[shape] for shape in chosen] + [cell for cell in made.values() if isinstance(cell, Dropped)]
        candidates = [shape for shape in candidates if not isinstance(made.get(shape), Dropped)]
    return list(made.values())


def _cost(planner: Planner, shapes: Sequence[AnyShape]) -> CostModel:
    """C(N, D) along `shapes`, by the study's convention."""
    return ladder_cost(shapes, planner.study.grid.convention, planner.study.grid.attention)


def _given(planner: Planner) -> Sizes | None:
    """The sizes that the study names, or the whole ladder where that is what the generator walks; else None."""
    grid, recipe = planner.study.grid, planner.recipe
    if grid.sizes:
        return _built(planner, grid.sizes)
    if recipe.ladder or grid.generator in ("centred", "chosen"):
        return Sizes(tuple(recipe.every_shape(planner.data.vocabulary, planner.study.model)))
    return None


def _walked(planner: Planner, budget: float) -> Sizes:
    recipe = planner.recipe
    if recipe.walk is None:
        raise InputError(
            f"grid.sizes must be given, because recipe {recipe.name!r} has no walk of its own, but got none"
        )
    return _built(planner, recipe.walk.widths(budget))


def _built(planner: Planner, sizes: Sequence[int | str]) -> Sizes:
    """The shapes of these sizes: those of the recipe's list, or of these widths as far as it can build them."""
    recipe, vocabulary, model = planner.recipe, planner.data.vocabulary, planner.study.model
    if recipe.ladder:
        return Sizes(tuple(recipe.listed(size, vocabulary, model) for size in sizes))
    shapes: list[AnyShape] = []
    impossible: list[tuple[int, str]] = []
    for size in sizes:
        if isinstance(size, str):
            raise InputError(f"sizes must be widths where the recipe has a rule for them, but got {size!r}")
        try:
            shapes.append(recipe.shape(size, vocabulary, model))
        except InputError as error:
            impossible.append((size, str(error)))
    return Sizes(tuple(shapes), tuple(impossible))
