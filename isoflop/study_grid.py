"""The grid section of a study file: budgets, sizes, and what is believed of the optimum beforehand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from isoflop.settings import Number, Section, SizeName, Whole


class PriorChoice(Section):
    """What is believed before the study: a published law, an earlier study's, or a line N*(C)."""

    published: str | None = Field(
        None, description="name of a published law: soda-anchor, soda-surface, hoffmann2022 …"
    )
    law: Path | None = Field(None, description="law.json of an earlier study; a relative path starts at the study file")
    budget: Number | None = Field(None, gt=0, description="or training FLOPs at which `params` is expected optimal")
    params: Number | None = Field(None, gt=0, description="expected optimal size there, parameters in total")
    exponent: Number = Field(0.5, ge=0, le=1, description="expected exponent a of N* in C (no unit)")
    curvature: Number | None = Field(
        None, gt=0, description="expected d²ln L/d(ln N)² at the optimum, for the forecast (no unit); default: 0.03"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.budget is None) != (self.params is None):
            raise ValueError(
                f"budget and params must be given together, but got {sorted(self.model_fields_set - {'exponent'})}"
            )
        given = [self.published is not None, self.law is not None, self.budget is not None]
        if sum(given) != 1:
            raise ValueError(f"a prior must be one of published, law, and budget with params, but got {sum(given)}")
        if self.curvature is not None and self.budget is None:
            raise ValueError(f"curvature must be given with budget and params, but got {self.curvature:g} with a law")
        return self


def _increasing(values: tuple[float | str, ...]) -> tuple[float | str, ...]:
    """Numbers in their order; names, which have none, at least distinct."""
    numbers = [value for value in values if not isinstance(value, str)]
    for value in numbers:
        if value <= 0:
            raise ValueError(f"must be positive, but got {value:g}")
    for before, after in pairwise(numbers):
        if before == after:
            raise ValueError(f"must be distinct, but got {after:g} twice")
        if before > after:
            raise ValueError(f"must be increasing, but got {after:g} after {before:g}")
    names = [value for value in values if isinstance(value, str)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"must be distinct, but got {name!r} twice")
    return values


#: Widths of models, or their names in a ladder.
_Sizes = Annotated[tuple[SizeName, ...], AfterValidator(_increasing)]


class Cells(Section):
    """Cells picked by hand at one budget."""

    budget: Number = Field(gt=0, description="training FLOPs, one of the grid's budgets")
    sizes: _Sizes = Field(
        min_length=1, description="model widths d_model, increasing; or names, where the recipe lists its sizes"
    )
    seeds: Whole | None = Field(None, ge=1, description="replicates of each of them; default: the grid's")


class Grid(Section):
    """The cells: budgets × sizes, around a predicted optimum where a prior is given."""

    generator: Literal["rule", "centred", "chosen"] = Field(
        "rule", description="rule: sizes given, or the recipe's walk; centred: about the prior's optimum; chosen: cells"
    )
    budgets: Annotated[tuple[Number, ...], AfterValidator(_increasing)] = Field(
        min_length=1, description="training FLOPs of each profile, increasing"
    )
    sizes: _Sizes = Field(
        (), description="the ladder: model widths d_model, increasing, or names of listed sizes; default: the recipe's"
    )
    cells: tuple[Cells, ...] = Field((), description="cells picked by hand, beside the generator's")
    runs: Whole | None = Field(
        None, ge=3, description="runs of the whole grid, shared out over the budgets; or runs_per_budget"
    )
    runs_per_budget: Whole | None = Field(
        None, ge=3, description="sizes kept at each budget, nearest the prior's optimum in log N; default: all"
    )
    width: Number = Field(8.0, gt=1, description="centred: largest size over smallest at a budget (no unit)")
    seeds: Whole = Field(1, ge=1, description="replicates of each cell, with seeds from training.seed on")
    prior: PriorChoice | None = Field(None, description="the predicted optimum; needed to keep or centre sizes")
    forecast_under: tuple[str, ...] = Field((), description="published laws under which the grid is forecast too")
    noise: Number = Field(
        0.003, ge=0, lt=1, description="sd of ln loss between seeds of one run, for the forecast (no unit)"
    )
    target: Number | None = Field(
        None, gt=0, description="training FLOPs at which N* is wanted; default: ten times the largest budget"
    )
    ratio_within: Number | None = Field(
        None,
        gt=0,
        description="half-width of b/a that the study must reach (no unit); a grid of its own that cannot is refused",
    )
    tolerance: Number = Field(0.01, gt=0, lt=1, description="largest |planned C − budget| / budget (fraction)")
    meet: Literal["steps", "batch"] = Field(
        "steps", description="steps: the budget is met by whole steps alone; batch: by another batch where they cannot"
    )
    min_cells: Whole = Field(5, ge=1, description="fewest sizes left at a budget; fewer refuse the plan")
    convention: Literal["counted", "levanter", "6nd", "6nd_non_embedding", "6nd_body_and_head"] = Field(
        "counted", description="how the budgets' FLOPs are counted"
    )
    attention: Literal["full", "causal"] = Field("full", description="length at which attention's FLOPs are counted")

    @field_validator("prior", mode="before")
    @classmethod
    def _prior_by_name(cls, value: Any) -> Any:
        return {"published": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.runs is not None and self.runs_per_budget is not None:
            raise ValueError(
                f"at most one of runs and runs_per_budget must be given, but got {self.runs} and {self.runs_per_budget}"
            )
        asked = "runs_per_budget" if self.runs is None else "runs"
        some = self.runs is not None or self.runs_per_budget is not None
        if some and self.prior is None:
            raise ValueError(f"grid.prior must be given where {asked} is, but got none")
        if self.generator == "centred" and (self.prior is None or not some):
            raise ValueError(
                "a centred grid must have a prior and one of runs and runs_per_budget, but got "
                f"{'no prior' if self.prior is None else 'neither'}"
            )
        if self.runs is not None and self.runs < len(self.budgets) * self.seeds:
            raise ValueError(
                f"runs >= budgets × seeds must hold, but got {self.runs}, {len(self.budgets)} and {self.seeds}"
            )
        if self.runs_per_budget is not None and 0 < len(self.sizes) < self.runs_per_budget:
            raise ValueError(
                f"runs_per_budget <= number of sizes must hold, but got {self.runs_per_budget} and {len(self.sizes)}"
            )
        for cells in self.cells:
            if cells.budget not in self.budgets:
                raise ValueError(f"cells must be at one of the budgets, but got {cells.budget:g}")
        return self
