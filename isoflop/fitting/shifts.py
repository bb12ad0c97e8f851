"""What a choice moves: its effect put on the points of a law, and these read again in the way that leads there.

Choices of training change losses, measured at re-run cells (`isoflop.fitting.effects`). The runs of a few cells are
noisy, and so is what they move: how much of a move noise alone would make is drawn, its size known from the runs of
another seed. Conventions change no loss, only what N or C counts; N* is told by the law's own N again, and asked for at
the C that the law's own optimum costs by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.columns import Floats
from isoflop.fitting.conventions import across, params_by
from isoflop.fitting.cost import fit_cost
from isoflop.fitting.effects import Effect, RateResponse, carried, pairs_of, rate_response
from isoflop.fitting.intervals import NORMAL_TAIL, High
from isoflop.fitting.law import Law
from isoflop.fitting.methods import SurfaceOptions
from isoflop.fitting.points import Points
from isoflop.fitting.reading import Reading, Way, read
from isoflop.flops import ParamsConvention

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["rate", "best rate", "batch", "seed", "convention"]
Name = Literal["a", "b", "ratio", "params"]
#: The noise of as many runs, in ln loss.
Draw = Callable[[int], Floats]

#: What is asked of every reading, in the order in which it is told.
NAMES: tuple[Name, ...] = ("a", "b", "ratio", "params")
#: Draws of the runs' noise behind that of a shift: good to about a seventh of it.
_DRAWS = 40


@dataclass(frozen=True)
class Rerun:
    """Cells that were run again with another choice.

    Parameters
    ----------
    name, kind
        What was chosen: ``rate ×2`` of the kind ``rate``.
    effects
        What it did, by cell.
    factor
        Of the rate or of the batch, over the study's.
    missing
        Why cells are lacking, a sentence each.
    """

    name: str
    kind: Kind
    effects: tuple[Effect, ...]
    factor: float = 1.0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counted:
    """C by another convention: its name, training FLOPs of every row of the table, and what N counts with it."""

    name: str
    flops: Floats
    params: ParamsConvention


@dataclass(frozen=True)
class Move:
    """By how much a quantity moves: the `value` that it has less the law's, and the sd of the runs' `noise` in that."""

    value: float
    noise: High = 0.0

    @property
    def beyond(self) -> float:
        """What of the move the noise does not explain, in squares: 0 where it could be nothing else."""
        return math.copysign(math.sqrt(max(self.value**2 - self.noise**2, 0.0)), self.value)


@dataclass(frozen=True)
class Shift:
    """What one choice moves.

    Parameters
    ----------
    name, kind
        The choice.
    cells
        How many cells stand behind it; 0 where nothing was run again.
    loss
        Mean change of ln loss over them; None where nothing was run again.
    a, b, ratio, params
        The moves, of ln N* for ``params``; None where there are none.
    note
        What to know of it; why there are no moves.
    """

    name: str
    kind: Kind
    cells: int = 0
    loss: float | None = None
    a: Move | None = None
    b: Move | None = None
    ratio: Move | None = None
    params: Move | None = None
    note: str = ""

    def of(self, name: Name) -> Move | None:
        """The move of one quantity."""
        move: Move | None = getattr(self, name)
        return move

    def by(self, moves: Sequence[float], noise: Sequence[float]) -> Shift:
        """The same with moves in the order of `NAMES`."""
        a, b, ratio, params = map(Move, moves, noise)
        return replace(self, a=a, b=b, ratio=ratio, params=params)

    def with_note(self, note: str) -> Shift:
        """The same with one more thing to know."""
        return replace(self, note="; ".join(filter(None, [note, self.note])))


def examine(
    table: pd.DataFrame,
    points: Points,
    law: Law,
    reruns: Sequence[Rerun],
    counted: Sequence[Counted],
    target: float,
) -> tuple[RateResponse | None, tuple[Shift, ...]]:
    """How the loss depends on the rate, where that is known, and the shift of every choice; see `sensitivity`."""
    way = way_of(law)
    noise = seed_noise(reruns)
    study = _Study(table, points, way, target, read(points, way, target), law.noise if noise is None else noise)
    response, best = _best_rate(reruns, study)
    # Cells are the same for most choices, and so is what noise makes of them.
    cells = {tuple(replace(effect, change=0.0) for effect in each.effects) for each in reruns if each.effects}
    made = {each: study.noise_of(_at(each, study)) for each in cells}
    found = [_shift(each, study, made) for each in reruns]
    after_rates = max((place + 1 for place, each in enumerate(reruns) if each.kind == "rate"), default=0)
    found[after_rates:after_rates] = best
    others = [each for each in points.conventions if (params_by(table, each)[points.row] != points.params).any()]
    found += [_by_params(each, study) for each in others]
    found += [_by_flops(each, study) for each in counted if each.params in (points.params_convention, *others)]
    return response, tuple(found)


def way_of(law: Law) -> Way:
    """The way that leads in `law`."""
    options = law.provenance.options
    return Way(
        by_surface=law.method == "parametric",
        window=options.window,
        method=options.minimum,
        surface=SurfaceOptions(options.huber_delta, options.pins, options.ties),
        repetition=None if law.parametric is None else law.parametric.repetition,
    )


@dataclass(frozen=True, eq=False)
class _Study:
    """The points as they are, how they are read and what they say; `noise` is the sd of a run's ln loss."""

    table: pd.DataFrame
    points: Points
    way: Way
    target: float
    base: Reading
    noise: float

    def moved(self, found: Shift, change: Floats, noise: Sequence[float]) -> Shift:
        """The shift by a `change` of ln loss at the points, in which each move has its `noise`."""
        try:
            return found.by(self._moves(change), noise)
        except NoAnswerError as error:
            return found.with_note(f"no law with it: {error}")

    def _moves(self, change: Floats) -> list[float]:
        reading = read(replace(self.points, loss=self.points.loss * np.exp(change)), self.way, self.target)
        return self.against(reading.a, reading.b, reading.params)

    def against(self, a: float, b: float, params: float) -> list[float]:
        """What is read less what the points say as they are, in the order of the names."""
        base = self.base
        return [a - base.a, b - base.b, b / a - base.ratio, math.log(params / base.params)]

    def noise_of(self, effect: Callable[[Draw], Floats]) -> list[float]:
        """The sd of each move by the noise of the runs alone, by the middle 68 % of what it makes of an `effect`."""
        if not self.noise:
            return [0.0] * len(NAMES)
        generator = np.random.default_rng(0)
        drawn = []
        for _ in range(_DRAWS):
            try:
                drawn.append(self._moves(effect(lambda size: generator.normal(0.0, self.noise, size))))
            except NoAnswerError:
                continue
        if 2 * len(drawn) < _DRAWS:
            return [math.inf] * len(NAMES)
        low, high = np.quantile(drawn, [NORMAL_TAIL, 1 - NORMAL_TAIL], axis=0)
        half: list[float] = ((high - low) / 2).tolist()
        return half


def cells_in(effects: Sequence[Effect]) -> int:
    """How many cells the effects are of."""
    return len({(effect.budget, effect.params) for effect in effects})


def seed_noise(reruns: Sequence[Rerun]) -> float | None:
    """The sd of a run's ln loss by the runs of another seed; None without any."""
    changes = [effect.change for each in reruns if each.kind == "seed" for effect in each.effects]
    return math.sqrt(float(np.mean(np.square(changes))) / 2) if changes else None


def _shift(rerun: Rerun, study: _Study, noise: Mapping[tuple[Effect, ...], Sequence[float]]) -> Shift:
    missing = "; ".join(rerun.missing)
    if not rerun.effects:
        return Shift(rerun.name, rerun.kind, note=missing or "nothing was run again")
    changes = [effect.change for effect in rerun.effects]
    found = Shift(rerun.name, rerun.kind, cells_in(rerun.effects), float(np.mean(changes)), note=missing)
    if not any(changes):
        return found.with_note("every loss is the same to the last bit: what trains these models does not heed it")
    cells = tuple(replace(effect, change=0.0) for effect in rerun.effects)
    return study.moved(found, carried(rerun.effects, study.points.budget, study.points.params), noise[cells])


def _at(cells: Sequence[Effect], study: _Study) -> Callable[[Draw], Floats]:
    """What the noise of two runs at each of `cells` does to the points."""
    points = study.points
    return lambda draw: carried(_noisy(cells, draw(len(cells)) - draw(len(cells))), points.budget, points.params)


def _noisy(effects: Sequence[Effect], noise: Floats) -> list[Effect]:
    return [replace(each, change=each.change + error) for each, error in zip(effects, noise.tolist(), strict=True)]


def _best_rate(reruns: Sequence[Rerun], study: _Study) -> tuple[RateResponse | None, list[Shift]]:
    """How the loss depends on the rate, and what the best rate at every run would move."""
    by_factor = {each.factor: each for each in reruns if each.kind == "rate"}
    reach = max(by_factor, default=1.0)
    if reach <= 1 or 1 / reach not in by_factor:
        return None, []
    points, pairs = study.points, pairs_of(by_factor[1 / reach].effects, by_factor[reach].effects)
    found = Shift("best rate", "best rate", cells_in([low for low, _ in pairs]))
    if not any(low.change or high.change for low, high in pairs):
        return None, [found.with_note("nothing is known of it, for no loss changed with the rate")]
    try:
        response = rate_response(pairs, reach)
    except NoAnswerError as error:
        return None, [found.with_note(str(error))]
    if response.beyond:
        found = found.with_note(
            f"at some cells the best rate lies beyond those that were tried, about ×{response.farthest:.2g} of the "
            "study's: tune the rates before anything else (isoflop tune)"
        )
    audited = np.array([[each.params, each.flops] for each, _ in pairs])
    gained = float(response.excess(audited[:, 0], audited[:, 1]).mean())

    def effect(draw: Draw) -> Floats:
        lower, higher, before = (draw(len(pairs)) for _ in range(3))
        noisy = zip(
            _noisy([low for low, _ in pairs], lower - before),
            _noisy([high for _, high in pairs], higher - before),
            strict=True,
        )
        return -rate_response(list(noisy), reach).excess(points.params, points.flops)

    change = -response.excess(points.params, points.flops)
    return response, [study.moved(replace(found, loss=-gained), change, study.noise_of(effect))]


def _by_params(convention: ParamsConvention, study: _Study) -> Shift:
    """N by another convention; where C is 6ND it is so of that N."""
    found, points = Shift(f"N {_spoken(convention)}", "convention"), study.points
    params = params_by(study.table, convention)[points.row]
    counted = replace(points, params=params)
    if fit_cost(points.flops, points.params, points.tokens).form == "6nd":
        counted = replace(counted, flops=6 * params * points.tokens)
    return _recounted(found, counted, study)


def _by_flops(other: Counted, study: _Study) -> Shift:
    """C by another convention."""
    points = study.points
    name = f"C {other.name}"
    if other.params != points.params_convention:
        name += f" and N {_spoken(other.params)}"
    params = params_by(study.table, other.params)[points.row]
    counted = replace(points, flops=other.flops[points.row], params=params)
    return _recounted(Shift(name, "convention"), counted, study)


def _recounted(found: Shift, counted: Points, study: _Study) -> Shift:
    """What `counted` points say; of N* in the law's own N, at what the law's own optimum costs by their C."""
    points, base = study.points, study.base
    if not all((np.isfinite(each) & (each > 0)).all() for each in (counted.flops, counted.params)):
        return found.with_note("not every point tells it")
    own = fit_cost(points.flops, points.params, points.tokens)
    other = fit_cost(counted.flops, counted.params, counted.tokens)
    same = float(across(np.array([base.params]), points.params, counted.params)[0])
    there = other.flops(same, own.tokens(base.params, study.target))
    try:
        reading = read(counted, study.way, there)
    except NoAnswerError as error:
        return found.with_note(f"no law with it: {error}")
    size = float(across(np.array([reading.params]), counted.params, points.params)[0])
    return found.by(study.against(reading.a, reading.b, size), [0.0] * len(NAMES))


def _spoken(convention: ParamsConvention) -> str:
    return convention.replace("_", " ")
