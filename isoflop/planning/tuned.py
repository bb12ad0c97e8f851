"""Cells beyond what the recipe was tuned on: there its rules are extrapolated, and the plan says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isoflop.fitting.words import power
from isoflop.planning.findings import Finding
from isoflop.planning.runs import Run

if TYPE_CHECKING:
    from isoflop.planning.plan import Plan


def beyond_tuning(planned: Plan) -> list[Run]:
    """The runs of `planned` outside of what its recipe was tuned on; none where it was not."""
    tuned = planned.settings.recipe.tuned
    if tuned is None:
        return []
    return [run for run in planned.runs if tuned.beyond(run.shape.d_model, run.learning_rate)]


def tuning_findings(planned: Plan) -> tuple[Finding, ...]:
    """A flag for the runs of `planned` beyond what its recipe was tuned on; empty without any, or a tuned recipe."""
    tuned = planned.settings.recipe.tuned
    outside = beyond_tuning(planned)
    if tuned is None or not outside:
        return ()
    budgets = tuple(dict.fromkeys(run.budget for run in outside))
    farthest = max(outside, key=lambda run: run.shape.d_model)
    reason = (
        f"a recipe's rules hold where they were tuned, but {len(outside)} of {len(planned.runs)} runs lie outside "
        f"of that, at budgets from {power(budgets[0])} to {power(budgets[-1])}: of {farthest.id} "
        f"{tuned.beyond(farthest.shape.d_model, farthest.learning_rate)}"
    )
    cure = (
        f"tuning at larger cells too (isoflop tune --cells {farthest.budget:g}:{farthest.shape.d_model}, the largest) "
        "would say whether they hold there"
    )
    return (Finding("flag", "tuning", budgets, reason, cure),)
