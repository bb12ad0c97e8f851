"""Which trials a search tries, as a function of what it has seen: generations of them at every cell.

The first generation is spread over the ranges (one trial in each of as many strata), the next ones Optuna's TPE draws
from all that ended before, and where the loss still falls at an end of a range the last one goes beyond it, once. A
generation begins when the one before has ended. So what a trial tries depends on the search's seed, its cell, its
number and results, never on who was faster, nor on how often the search was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from isoflop.errors import InputError
from isoflop.tuning.optimum import Optimum, Sample, optimum, terms
from isoflop.tuning.space import Dimension
from isoflop.tuning.storage import Trial

#: Part of a search's trials that the first generation spreads over the ranges.
_SPREAD = 0.6
#: Generations that TPE draws, unless the launcher is wide enough for fewer: each costs the start of the workers.
_DRAWN = 2
#: Trials beyond an end of a range.
_BEYOND = 3


@dataclass(frozen=True)
class Search:
    """A search, the same at every cell.

    Parameters
    ----------
    dimensions
        What is searched over.
    trials
        Choices of hyperparameters at each cell, those beyond a range not among them.
    seeds
        Runs of each trial.
    seed
        Of the choices.
    together
        Trials of a cell that the launcher runs at once.
    """

    dimensions: tuple[Dimension, ...]
    trials: int
    seeds: int = 2
    seed: int = 0
    together: int = 1

    def __post_init__(self) -> None:
        fewest = terms(self.dimensions) + 1
        if self.trials < fewest:
            raise InputError(
                f"trials must be {fewest} or more, for a parabola in {len(self.dimensions)} and its noise, "
                f"but got {self.trials}"
            )
        for name in ("seeds", "together"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} >= 1 must hold, but got {getattr(self, name)}")

    @staticmethod
    def usual_trials(dimensions: tuple[Dimension, ...]) -> int:
        """Trials at each cell where nobody says otherwise: two for each coefficient of the parabola, and two more."""
        return 2 * terms(dimensions) + 2

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def spread(self) -> int:
        """Trials of the first generation."""
        return math.ceil(_SPREAD * self.trials)

    @property
    def _drawn(self) -> int:
        left = self.trials - self.spread
        return max(1, math.ceil(left / _DRAWN), min(left, self.together))


@dataclass(frozen=True)
class Proposal:
    """A trial to begin: the ranges it is drawn from, and its values, or None for TPE to draw them."""

    dimensions: tuple[Dimension, ...]
    values: dict[str, float] | None


def ends(search: Search, trials: Sequence[Trial]) -> list[int]:
    """Numbers of trials at which each generation of a cell ends, as far as is known."""
    drawn = range(search.spread + search._drawn, search.trials, search._drawn)
    found = [search.spread, *drawn, search.trials]
    settled = [trial for trial in trials[: search.trials] if trial.state != "open"]
    if len(settled) == search.trials:
        beyond = _BEYOND * len(_first(search, trials).edges)
        found += [search.trials + beyond] * (beyond > 0)
    return found


def due(search: Search, trials: Sequence[Trial]) -> int:
    """How many trials a cell is to have now: those of the generation that has begun, or, if it ended, of the next."""
    known = ends(search, trials)
    number = len(trials)
    if number in {0, *known} and any(trial.state == "open" for trial in trials):
        return number
    return next((end for end in known if end > number), number)


def begun(search: Search, trials: Sequence[Trial]) -> int:
    """How many trials a cell is to have of the generations that have begun; more than it has where one is not whole."""
    return next(end for end in [0, *ends(search, trials), len(trials)] if end >= len(trials))


def first_of(search: Search, trials: Sequence[Trial], number: int) -> int:
    """The first number of the generation of trial `number`."""
    return max(end for end in [0, *ends(search, trials)] if end <= number)


def proposal(search: Search, trials: Sequence[Trial]) -> Proposal:
    """The next trial of a cell that has `trials`."""
    number = len(trials)
    if number < search.spread:
        return Proposal(search.dimensions, _strata(search)[number])
    if number < search.trials:
        return Proposal(search.dimensions, None)
    found = _first(search, trials)
    edge = found.edges[(number - search.trials) // _BEYOND]
    fraction = ((number - search.trials) % _BEYOND + 0.5) / _BEYOND
    dimensions = tuple(
        replace(each, low=each.extended[0], high=each.extended[1]) if each.name == edge.name else each
        for each in search.dimensions
    )
    at = next(each for each in search.dimensions if each.name == edge.name)
    start, stop = (at.high, at.extended[1]) if edge.upper else (at.low, at.extended[0])
    values = {name: interval.value for name, interval in found.values.items()}
    return Proposal(dimensions, {**values, edge.name: start * (stop / start) ** fraction})


def found(search: Search, trials: Sequence[Trial]) -> Optimum:
    """The optimum of a cell, by all its trials."""
    return optimum(search.dimensions, _samples(trials))


def _first(search: Search, trials: Sequence[Trial]) -> Optimum:
    """The optimum by the trials within the ranges, which says whether to go beyond."""
    return found(search, trials[: search.trials])


def _samples(trials: Sequence[Trial]) -> list[Sample]:
    """The trials that came to an end; hyperparameters that came twice are one, since their runs are."""
    by_values: dict[tuple[tuple[str, float], ...], Sample] = {}
    for trial in trials:
        if trial.state == "done":
            by_values.setdefault(_key(trial.values), trial.sample)
    return list(by_values.values())


def _key(values: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(values.items()))


def _strata(search: Search) -> list[dict[str, float]]:
    """Places of the first generation: in each dimension one in the middle of each of as many equal parts."""
    from scipy.stats import qmc

    cube = qmc.LatinHypercube(len(search.dimensions), scramble=False, rng=search.seed).random(search.spread)
    return [
        {each.name: each.at(fraction) for each, fraction in zip(search.dimensions, row, strict=True)}
        for row in cube.tolist()
    ]
