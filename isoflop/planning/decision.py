"""What an adaptive study does next: first runs, cells that tell most, a test on runs held out, or an end.

::

    few runs yet             seeds: a few sizes at the cheapest budgets, about the optimum that is believed
    too few minima           brackets: a run beyond each edge, since a law needs three minima that are interior
    the surface fits         cells by what they tell per FLOP (`isoflop.planning.choice`)
    the goals are in reach   two runs of the largest budget are forecast, then run: held out
    all of that holds        stop
    the surface does not fit a ladder of brackets (`isoflop.planning.brackets`)

A study stops where the law's own intervals reach the goals *and* the lack-of-fit test is passed *and* the two runs
held out came out within their intervals; or where its FLOPs are used up. Each alone is fooled: an interval knows
nothing of a wrong form, the test sees only where there are runs, and two runs say little of exponents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import NoAnswerError
from isoflop.fitting.adequacy import Adequacy, examine_surface
from isoflop.fitting.bootstrap import FEWEST_BUDGETS
from isoflop.fitting.columns import Floats
from isoflop.fitting.intervals import t_quantile
from isoflop.fitting.methods import SIGNIFICANT
from isoflop.fitting.minima import Method
from isoflop.fitting.parametric import fit_surface
from isoflop.fitting.powerlaw import fit_lines
from isoflop.fitting.surface_objective import Prior as Weak
from isoflop.fitting.words import count as in_words
from isoflop.fitting.words import percent, power
from isoflop.planning import brackets
from isoflop.planning.choice import SAME_CELL, Choice, Feasible, Finished, most_telling, pick, seeds
from isoflop.planning.information import Aim, Frame, Goal, Information
from isoflop.planning.prior import Surface
from isoflop.planning.question import Action, Held, Progress, Proposal, Question

if TYPE_CHECKING:
    from isoflop.fitting.law import Law

#: Sizes of the first runs, from the smallest budget on, and the factor over which they are spread at the least.
SEEDS = (4, 4, 3, 3)
_SEED_WIDTH = 8.0
#: The lack-of-fit test takes twelve runs for itself: with fewer than so many it sees nothing, and a study goes on.
FEWEST = 20
#: With so small a probability, or about so large a scatter (sd of ln loss), the surface is given up.
_WRONG, _SCATTERED = 0.01, 0.01
#: Runs of the largest budget that are held out, and the quantile of the two intervals together (95 %).
HELD_OUT = 2
_BOTH = 2.2365
#: How far from the optimum these lie, as a power of the width: near the outermost sizes, which tell most.
_ASIDE = 0.4
#: The noise that is expected counts like so many residuals of the runs.
_NOISE_RUNS = 10
#: How near a goal must seem before runs are held out and the law is asked, which takes a hundred times as long.
_NEAR = 1.1
#: Weak priors of ln α and ln β while there are few runs; E lies below the lowest loss by some share of it.
_EXPONENT = Weak(math.log(0.4), 0.5)
_FLOOR = Weak(math.log(0.75), 0.25)
#: Resamples behind the intervals that end a study.
BOOTSTRAP = 300


def decide(
    question: Question,
    finished: Finished,
    cells: Feasible,
    *,
    held: Sequence[Held] = (),
    spent: float | None = None,
) -> Proposal:
    """Say what to do next; the same input gives the same proposal.

    Parameters
    ----------
    question, finished, cells
        What is wanted, what is done, what could be.
    held
        The runs that were forecast before they were run, in their order.
    spent
        FLOPs that the finished runs took; None: those that they count.
    """
    spent = float(finished.flops.sum()) if spent is None else spent
    found = _decide(question, finished, cells, held)
    if question.cap is None or found.action != "run":
        return found
    left, kept = question.cap - spent, []
    for cell in found.cells:
        if cell.price <= left * (1 + 1e-9):
            kept.append(cell)
            left -= cell.price
    if kept and not (len(kept) < len(found.cells) and kept[0].purpose == "hold_out"):
        return replace(found, cells=tuple(kept))
    reason = f"the cap of {power(question.cap)} FLOPs is reached: {power(spent)} are spent, and {found.reason}"
    return replace(found, action="cap", cells=(), reason=reason)


def _decide(
    question: Question,
    finished: Finished,
    cells: Feasible,
    held: Sequence[Held],
) -> Proposal:
    if len(finished) < sum(SEEDS) - 2 or len(np.unique(finished.budget)) < 3:
        first = _first(question, cells)
        if first:
            return Proposal("run", tuple(first), f"{len(finished)} runs are done: too few to tell a surface")
        if len(finished) <= 7:
            return Proposal("exhausted", (), f"{len(finished)} runs are too few, and there is no feasible cell left")
    seen = _Seen.of(question, finished)
    if seen.wrong:
        return _by_brackets(question, finished, cells, seen.wrong)
    return _by_surface(question, finished, cells, seen, held)


def _first(question: Question, cells: Feasible) -> list[Choice]:
    """The seeds that are not run yet."""
    budgets = sorted(set(cells.budget.tolist()))[: len(SEEDS)]
    centers = {budget: question.center(budget) for budget in budgets}
    chosen = seeds(cells, centers, SEEDS, max(question.width, _SEED_WIDTH))
    return [cell for cell in chosen if cells.taken[cell.cell] == 0]


@dataclass(frozen=True, eq=False)
class _Seen:
    """The surface through the runs so far, whether it fits, and what the runs tell about it."""

    adequacy: Adequacy
    frame: Frame
    reference: float
    information: Information
    aims: tuple[Aim, ...]
    wrong: str

    @classmethod
    def of(cls, question: Question, finished: Finished) -> _Seen:
        lowest = float(finished.loss.min())
        priors = {"alpha": _EXPONENT, "beta": _EXPONENT, "E": Weak(_FLOOR.mean + math.log(lowest), _FLOOR.sd)}
        fitted = fit_surface(finished.params, finished.tokens, finished.loss, priors=priors)
        runs = len(finished)
        adequacy = examine_surface(fitted, finished.params, finished.tokens, finished.loss, np.ones(runs))
        squares = _NOISE_RUNS * question.noise**2 + max(runs - 5, 0) * adequacy.residual**2
        noise = math.sqrt(squares / (_NOISE_RUNS + max(runs - 5, 0)))
        surface = Surface(max(fitted.E, 1e-6 * lowest), fitted.A, fitted.B, fitted.alpha, fitted.beta)
        frame = Frame.about(surface, finished.params, finished.tokens, question.cost)
        reference = math.exp(float(np.log(finished.flops).mean()))
        return cls(
            adequacy=adequacy,
            frame=frame,
            reference=reference,
            information=Information.of(frame, finished.params, finished.tokens, noise),
            aims=tuple(Aim.of(goal, frame, reference) for goal in question.goals),
            wrong=_why_wrong(adequacy, fitted.noise),
        )


def _why_wrong(adequacy: Adequacy, scatter: float) -> str:
    """Why the surface cannot be gone by; empty where it can."""
    if adequacy.p_value < _WRONG:
        return f"the surface does not fit: its residuals hold a form of their own (p = {adequacy.p_value:.2g})"
    if scatter > _SCATTERED:
        return f"the surface does not fit: the runs scatter about it by {percent(scatter)} of their loss"
    return ""


def _by_surface(
    question: Question,
    finished: Finished,
    cells: Feasible,
    seen: _Seen,
    held: Sequence[Held],
) -> Proposal:
    centers = dict(zip(budgets := np.unique(cells.budget), seen.frame.optimum(budgets), strict=True))
    away = np.abs(np.log(cells.params) - np.log([centers[budget] for budget in cells.budget]))
    near = np.flatnonzero(cells.open & (away <= math.log(question.width) / 2 + 1e-9))
    now = [seen.information.half_width(aim) for aim in seen.aims]
    repair = brackets.repairs(finished, cells)
    if repair:
        return _proposed("run", repair, "a law needs three interior minima", seen, now, now)
    tests = [] if _passed(finished, held) else _hold_outs(question, seen, cells, near, centers)
    expected = seen.information
    for test in tests:
        expected = expected.with_run(*_of(seen.frame, test))
    wanted = [goal.half_width for goal in question.goals]
    sure = [expected.half_width(aim) <= _NEAR * half for aim, half in zip(seen.aims, wanted, strict=True)]
    enough = len(finished) + len(tests) >= FEWEST and seen.adequacy.p_value >= SIGNIFICANT
    reason = "the goals are not reached yet"
    if all(sure) and enough:
        if tests:
            after = [expected.half_width(aim) for aim in seen.aims]
            why = f"{_named(question)} seem in reach: two runs of the largest budget are held out to test it"
            return _proposed("run", tests, why, seen, now, after)
        try:
            fitted = law_of(finished)
        except NoAnswerError as error:
            reason = f"there is no law yet: {error}"
        else:
            now = [half_width_of(fitted, goal) for goal in question.goals]
            if fitted.method == "parametric" and all(mine <= half for mine, half in zip(now, wanted, strict=True)):
                why = (
                    f"{_named(question)} reached by the law's own intervals, its residuals hold no form of their own "
                    f"(p = {seen.adequacy.p_value:.2g}), and the runs held out came out as forecast"
                )
                return _proposed("stop", [], why, seen, now, now)
            reason = (
                "the law's own intervals do not reach the goals yet"
                if fitted.method == "parametric"
                else "the surface does not lead the law yet"
            )
    elif all(sure):
        reason = (
            f"{len(finished)} runs are too few to test the surface's form"
            if len(finished) < FEWEST
            else f"the residuals may hold a form of their own (p = {seen.adequacy.p_value:.2g})"
        )
    chosen, known = most_telling(
        seen.information, seen.frame, seen.aims, cells.only(near), question.count, beyond=all(sure)
    )
    if not chosen:
        return _proposed("exhausted", [], f"{reason}, but no feasible cell would tell more", seen, now, now)
    told = [replace(each, cell=int(near[each.cell])) for each in chosen]
    return _proposed("run", told, reason, seen, now, [known.half_width(aim) for aim in seen.aims])


def _by_brackets(question: Question, finished: Finished, cells: Feasible, wrong: str) -> Proposal:
    """The ladder; it ends where the law by its minima is sure enough and has foretold the last two of them."""
    now = [math.inf] * len(question.goals)
    rung, why = brackets.next_rung(finished, cells, question.center)
    # Between budgets alone: a law in which one minimum is half found says less than the one before it.
    if not rung or not (finished.budget == rung[0].budget).any():
        try:
            fitted = law_of(finished, "akima")
        except NoAnswerError as error:
            why = f"{why}; there is no law yet: {error}"
        else:
            now = [half_width_of(fitted, goal) for goal in question.goals]
            sure = all(mine <= goal.half_width for mine, goal in zip(now, question.goals, strict=True))
            if sure and _foretold(fitted):
                reason = (
                    f"{_named(question)} reached by the law's minima, the last two of which lay where those below them "
                    f"said; {wrong}"
                )
                return _laddered("stop", [], reason, question, now)
    return _laddered("run" if rung else "exhausted", rung, f"{wrong}; {why}", question, now)


def _laddered(
    action: Action, cells: Sequence[Choice], reason: str, question: Question, now: Sequence[float]
) -> Proposal:
    progress = tuple(Progress(goal, half, half) for goal, half in zip(question.goals, now, strict=True))
    return Proposal(action, tuple(cells), reason, progress, "brackets")


def _foretold(law: Law) -> bool:
    """Whether each of the last two minima lies where the line through those below it says (95 % by t)."""
    minima = law.interior
    x, y = np.log([[each.flops for each in minima], [each.params or math.nan for each in minima]])
    for last in range(len(minima) - HELD_OUT, len(minima)):
        if last < FEWEST_BUDGETS + 1:
            return False
        line = fit_lines(x[:last], y[None, :last], np.ones((1, last), dtype=bool))
        off = abs(float(y[last] - line.at(x[last : last + 1])[0, 0]))
        error = math.hypot(float(line.standard_error(x[last : last + 1])[0, 0]), float(line.scatter[0]))
        if off > t_quantile(last - 2) * error:
            return False
    return True


def _named(question: Question) -> str:
    return " and ".join(map(str, question.goals))


def _proposed(
    action: Action, cells: Sequence[Choice], reason: str, seen: _Seen, now: Sequence[float], after: Sequence[float]
) -> Proposal:
    goals = [aim.goal for aim in seen.aims]
    progress = tuple(Progress(*each) for each in zip(goals, now, after, strict=True))
    return Proposal(action, tuple(cells), reason, progress, "surface")


def _of(frame: Frame, cell: Choice) -> tuple[Floats, Floats]:
    """Slope and place of a cell."""
    params, tokens = np.array([cell.params]), np.array([cell.tokens])
    return frame.slopes(params, tokens)[0], np.log([cell.params, cell.tokens])


def _hold_outs(
    question: Question, seen: _Seen, cells: Feasible, near: NDArray[np.intp], centers: dict[float, float]
) -> list[Choice]:
    """Two cells of the largest budget, one on each side of its optimum, with the losses that are expected of them."""
    top = float(cells.budget.max())
    found: list[Choice] = []
    for side in (-_ASIDE, _ASIDE):
        wanted = math.log(centers[top]) + side * math.log(question.width)
        used = {cell.cell for cell in found}
        free = [int(place) for place in near if cells.budget[place] == top and int(place) not in used]
        if not free:
            return []
        place = min(free, key=lambda each: abs(math.log(cells.params[each]) - wanted))
        params, tokens = float(cells.params[place]), float(cells.tokens[place])
        chosen = pick(cells, place, int(cells.taken[place]), "hold_out", "")
        middle, sd = seen.frame.log_loss(params, tokens), seen.information.forecast_sd(*_of(seen.frame, chosen))
        low, high = middle - _BOTH * sd, middle + _BOTH * sd
        reason = (
            f"held out to test the law: its loss should lie between {math.exp(low):.4g} and {math.exp(high):.4g} "
            f"({in_words(params)} parameters at the largest budget)"
        )
        found.append(replace(chosen, reason=reason, expected=(middle, low, high)))
    return found


def _passed(finished: Finished, held: Sequence[Held]) -> bool:
    """Whether the last two runs held out are done and came out as they were forecast."""
    return len(held) >= HELD_OUT and all(came_as_forecast(finished, each) for each in held[-HELD_OUT:])


def came_as_forecast(finished: Finished, held: Held) -> bool | None:
    """Whether a run that was held out came within its interval; None while it is not done."""
    apart = np.hypot(np.log(finished.params / held.params), np.log(finished.tokens / held.tokens))
    losses = finished.loss[apart < SAME_CELL]
    return any(held.low <= math.log(loss) <= held.high for loss in losses) if len(losses) else None


def half_width_of(law: Law, goal: Goal) -> float:
    """Half of the law's own 95 % interval of what is wanted; of ln N* and ln L* at some C."""
    if goal.flops is None:
        exponent = getattr(law.exponents, goal.quantity)
        return float(exponent.high - exponent.low) / 2
    interval = getattr(law.optimum(goal.flops), goal.quantity)
    return math.log(interval.high / interval.low) / 2


def law_of(finished: Finished, minimum: Method = "parabola") -> Law:
    """The law of finished runs, with as many resamples as an end is judged by."""
    import pandas as pd

    from isoflop.fitting import fit

    return fit(pd.DataFrame(vars(finished)), minimum=minimum, bootstrap=BOOTSTRAP)
