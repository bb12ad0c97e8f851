"""What is asked of an adaptive study, and what it answers: goals and limits in, a proposal with its reasons out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from isoflop.errors import InputError
from isoflop.fitting.cost import CostModel
from isoflop.planning.choice import Choice
from isoflop.planning.information import Goal

Action = Literal["run", "stop", "cap", "exhausted"]


@dataclass(frozen=True)
class Progress:
    """How far a goal is: the half-width `now` (infinite where nothing is known), and `expected` after the batch."""

    goal: Goal
    now: float
    expected: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        known = {"now": self.now, "expected": self.expected}
        return {
            "name": self.goal.name,
            "wanted": self.goal.half_width,
            **{name: half if math.isfinite(half) else None for name, half in known.items()},
        }


@dataclass(frozen=True)
class Held:
    """A run that was forecast before it was run: ln loss should lie between `low` and `high`."""

    params: float
    tokens: float
    low: float
    high: float


@dataclass(frozen=True)
class Proposal:
    """What to do next, and why.

    Parameters
    ----------
    action
        ``run`` the `cells`; ``stop``: the goals are reached; ``cap``: the FLOPs are used up; ``exhausted``: there is
        no feasible cell left that would tell anything.
    cells
        What to run, in the order of choice.
    reason
        A sentence.
    progress
        How far each goal is, as far as that is known.
    form
        What the choice goes by: ``seeds``, the ``surface``, or ``brackets`` where that does not fit.
    """

    action: Action
    cells: tuple[Choice, ...]
    reason: str
    progress: tuple[Progress, ...] = ()
    form: Literal["seeds", "surface", "brackets"] = "seeds"

    @property
    def price(self) -> float:
        """FLOPs that the cells take."""
        return sum(cell.price for cell in self.cells)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "action": self.action,
            "reason": self.reason,
            "form": self.form,
            "price": self.price,
            "cells": [cell.to_json() for cell in self.cells],
            "goals": [each.to_json() for each in self.progress],
        }


@dataclass(frozen=True, eq=False)
class Question:
    """What is wanted of a study, and what it may spend.

    Parameters
    ----------
    goals
        What is wanted, how surely.
    center
        N* that is believed at a budget before there are runs.
    cost
        C(N, D).
    noise
        The sd of ln loss between seeds of a run, as expected.
    width
        Largest over smallest size that may be run at a budget, about the optimum that is believed.
    count
        Cells to choose at a time.
    cap
        FLOPs that all runs together may take; None: any.
    """

    goals: tuple[Goal, ...]
    center: Callable[[float], float]
    cost: CostModel
    noise: float
    width: float = 8.0
    count: int = 4
    cap: float | None = None

    def __post_init__(self) -> None:
        if not self.goals:
            raise InputError("at least one goal must be given, but got none")
        if not (math.isfinite(self.noise) and self.noise > 0):
            raise InputError(f"noise must be the sd of ln loss, above 0, but got {self.noise}")
        if not self.width > 1 or self.count < 1:
            raise InputError(f"width > 1 and count >= 1 must hold, but got {self.width} and {self.count}")
        if self.cap is not None and not self.cap > 0:
            raise InputError(f"cap must be training FLOPs above 0, but got {self.cap}")
