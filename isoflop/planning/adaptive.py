"""An adaptive study on paper: decide, measure, decide again, until it stops by itself or has spent its cap.

The runs are told by a function: a surface with noise, to see how a choice of cells fares where the truth is known, or
a finished table, to see what a study would have come to with fewer of its runs (`of_table`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from isoflop.errors import InputError
from isoflop.fitting.columns import Floats
from isoflop.planning.choice import Choice, Feasible, Finished
from isoflop.planning.decision import decide
from isoflop.planning.question import Held, Proposal, Question

#: Decisions after which a study on paper is given up: there is always an end before.
_ROUNDS = 500

Decide = Callable[[Question, Finished, Feasible, list[Held]], Proposal]


@dataclass(frozen=True, eq=False)
class Conducted:
    """What an adaptive study on paper came to: its runs, every proposal in order, and the FLOPs spent."""

    finished: Finished
    proposals: tuple[Proposal, ...]
    spent: float

    @property
    def end(self) -> Proposal:
        """The last proposal, which ran nothing."""
        return self.proposals[-1]


def conduct(
    question: Question, cells: Feasible, measure: Callable[[Choice], float], decider: Decide | None = None
) -> Conducted:
    """Conduct a study whose runs are told by `measure`, which gives the loss of a chosen cell.

    Raises
    ------
    InputError
        If there is no end, which a cap or a finite number of cells gives.
    """
    asked = decider or (lambda question, finished, cells, held: decide(question, finished, cells, held=held))
    none = np.zeros(0)
    finished, spent = Finished(none, none, none, none, none), 0.0
    held: list[Held] = []
    proposals: list[Proposal] = []
    for _ in range(_ROUNDS):
        proposal = asked(question, finished, cells, held)
        proposals.append(proposal)
        if proposal.action != "run":
            return Conducted(finished, tuple(proposals), spent)
        taken = cells.taken.copy()
        for choice in proposal.cells:
            finished = _and(finished, cells, choice, measure(choice))
            spent += choice.price
            taken[choice.cell] += 1
            if choice.expected is not None:
                held.append(Held(choice.params, choice.tokens, choice.expected[1], choice.expected[2]))
        cells = replace(cells, taken=taken)
    raise InputError(f"a study on paper must end, but {_ROUNDS} decisions brought none")


def _and(finished: Finished, cells: Feasible, choice: Choice, loss: float) -> Finished:
    row = (choice.budget, float(cells.flops[choice.cell]), choice.params, choice.tokens, loss)
    return Finished(*(np.append(values, value) for values, value in zip(vars(finished).values(), row, strict=True)))


def ladder(budgets: Floats, sizes: Floats, tokens: Callable[[Floats, Floats], Floats]) -> Feasible:
    """Every size at every budget, `tokens(params, flops)` long: shape (budgets × sizes,)."""
    budget, params = (each.ravel() for each in np.meshgrid(budgets, sizes, indexing="ij"))
    return Feasible(budget, budget, params, tokens(params, budget), budget, np.zeros(len(budget), dtype=np.int64))


def of_table(budget: Floats, flops: Floats, params: Floats, tokens: Floats) -> Feasible:
    """The rows of a finished table as feasible cells, each of which can be run once."""
    return Feasible(budget, flops, params, tokens, flops, np.zeros(len(flops), dtype=np.int64), most=1)
