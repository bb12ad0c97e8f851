"""Arms side by side: what each value of an axis does to the loss of each token type, at the same budget and size.

Every arm is held against the baseline by the runs of the same seed (`isoflop.fitting.paired`). Each loss is a family of
comparisons of its own: its p values are adjusted for all arms and cells. Losses per token are compared where arms were
validated on the same tokens; elsewhere only bits per second of sound are: what the model needs for the codec's own
stream, into however many tokens that is cut. A codec that tells less of the sound needs fewer.

>>> str(compare(points, factors))                                                   # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.columns import numbers
from isoflop.fitting.paired import Difference, adjusted, difference
from isoflop.fitting.points import simulated
from isoflop.plain import plain

if TYPE_CHECKING:
    import pandas as pd

#: Columns of a points table that tell the value of an axis begin so.
PREFIX = "axis_"
#: The column that names the cell: equal where arms are compared.
CELL = "cell"
#: The column that names the held-out tokens: losses per token are compared where it is equal.
HELD_OUT = "held_out"
#: What a second of sound costs, in bits, into however many tokens it is cut.
BITS = "bits_per_audio_second"
#: Losses that are not told: of single codebooks, of sources, of marks; and the sd of ln loss.
_PARTS = ("loss_acoustic_", "loss_from_", "loss_control", "loss_sigma")

Levels = tuple[str, ...]


@dataclass(frozen=True)
class Factor:
    """An axis: its name, the labels of its values, the baseline's, and the values where all are numbers."""

    name: str
    labels: Levels
    baseline: str
    numbers: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Cell:
    """Where arms are compared: training FLOPs, and the size by name."""

    budget: float
    size: str


@dataclass(frozen=True)
class Row:
    """One loss of one arm at one cell.

    Parameters
    ----------
    cell
        Where.
    levels
        The labels of the arm's values, in the order of the axes.
    measure
        Column of the points table: ``loss``, ``loss_<type>``, ``bits_per_audio_second``.
    mean
        Over seeds; NaN where no run is done or none has this loss.
    losses
        By seed.
    against
        Less the baseline's; None for the baseline itself, and where the two cannot be compared.
    same_tokens
        Whether it is taken over the baseline's held-out tokens.
    done
        Whether a run of the arm is done there.
    """

    cell: Cell
    levels: Levels
    measure: str
    mean: float
    losses: dict[int, float]
    against: Difference | None
    same_tokens: bool = True
    done: bool = True

    @property
    def verdict(self) -> str:
        """Whether it differs from the baseline for certain; bits of another stream are more or fewer, not worse."""
        if self.against is None:
            return "not comparable" if self.losses else "has none" if self.done else "no run is done"
        word = self.against.verdict
        return word if self.same_tokens else {"worse": "more bits", "better": "fewer bits"}.get(word, word)


@dataclass(frozen=True)
class Trend:
    """What going along a numeric axis costs, other axes at their baseline.

    Parameters
    ----------
    factor, cell, measure
        Of what, where.
    best
        The label with the least mean.
    above, below
        The value nearest the best, on either side, that is certainly worse than the best, as is every one beyond, or
        has as great a mean; and by how much. None where there is none.
    told
        Whether every value has two seeds or more in common with the best.
    """

    factor: str
    cell: Cell
    measure: str
    best: str
    above: tuple[str, Difference] | None
    below: tuple[str, Difference] | None
    told: bool


@dataclass(frozen=True)
class Ablation:
    """What a study with axes found.

    Parameters
    ----------
    study
        Its name.
    factors
        Its axes.
    rows
        By measure, then cell, then arm.
    trends
        Of its numeric axes.
    notes
        What a reader must know.
    simulated
        Whether no model was trained.
    """

    study: str
    factors: tuple[Factor, ...]
    rows: tuple[Row, ...]
    trends: tuple[Trend, ...]
    notes: tuple[str, ...]
    simulated: bool = False

    @property
    def baseline(self) -> Levels:
        """The arm that others are held against."""
        return tuple(factor.baseline for factor in self.factors)

    @property
    def measures(self) -> tuple[str, ...]:
        """The losses that are told."""
        return tuple(dict.fromkeys(row.measure for row in self.rows))

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Where arms are compared."""
        return tuple(dict.fromkeys(row.cell for row in self.rows))

    @property
    def findings(self) -> list[str]:
        """What was found, in sentences."""
        from isoflop.fitting.ablation_text import findings

        return findings(self)

    def of(self, measure: str, cell: Cell) -> list[Row]:
        """The arms' rows of one loss at one cell."""
        return [row for row in self.rows if row.measure == measure and row.cell == cell]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is infinite or not known is null."""
        rows = []
        for row in self.rows:
            record = asdict(row)
            levels = {factor.name: label for factor, label in zip(self.factors, row.levels, strict=True)}
            verdict = "baseline" if row.levels == self.baseline else row.verdict
            rows.append({**record, "levels": levels, "losses": list(row.losses.items()), "verdict": verdict})
        found = {
            "study": self.study,
            "simulated": self.simulated,
            "axes": [asdict(factor) for factor in self.factors],
            "rows": rows,
            "trends": [asdict(trend) for trend in self.trends],
            "findings": self.findings,
            "notes": list(self.notes),
        }
        known: dict[str, Any] = plain(found)
        return known

    def __str__(self) -> str:
        from isoflop.fitting.ablation_text import lines

        return "\n".join(lines(self))


def compare(points: pd.DataFrame, factors: Sequence[Factor], study: str = "") -> Ablation:
    """Hold the arms of a points table against their baseline.

    Parameters
    ----------
    points
        A row per run: ``budget``, ``cell``, ``seed``, ``state``, ``in_grid``, ``held_out``, an ``axis_<name>`` for each
        axis, ``loss`` and ``loss_<type>`` in nats per token, ``bits_per_audio_second``.
    factors
        The axes.
    study
        Its name.

    Raises
    ------
    NoAnswerError
        If no run of an arm is done.
    """
    table = points[points["in_grid"] & points[CELL].notna()].reset_index(drop=True)
    done = table[table["state"] == "done"].reset_index(drop=True)
    if not len(done):
        raise NoAnswerError("an ablation must have a finished run, but got none")
    arms = _arms(table, factors)
    measures = _measures(done)
    cells = [
        Cell(float(budget), str(size)) for budget, size in _distinct(zip(table["budget"], table[CELL], strict=True))
    ]
    held_out, finished = _held_out(table, factors), set(_cells_of(done, factors))
    baseline = tuple(factor.baseline for factor in factors)
    rows: list[Row] = []
    trends: list[Trend] = []
    for measure in measures:
        losses = _losses(done, factors, measure)
        family: list[Row] = []
        for cell in cells:
            base = losses.get((cell, baseline), {})
            for levels in arms:
                own = losses.get((cell, levels), {})
                same = held_out.get((cell, levels)) == held_out.get((cell, baseline))
                against = difference(own, base) if (same or measure == BITS) and levels != baseline else None
                mean = float(np.mean(list(own.values()))) if own else math.nan
                family.append(Row(cell, levels, measure, mean, own, against, same, (cell, levels) in finished))
        rows += _adjusted(family)
        trends += [
            trend
            for number, factor in enumerate(factors)
            if factor.numbers is not None
            for cell in cells
            if (trend := _trend(factor, number, cell, measure, baseline, losses, held_out)) is not None
        ]
    return Ablation(
        study, tuple(factors), tuple(rows), tuple(trends), tuple(_notes(table, factors, held_out)), simulated(done)
    )


_Losses = dict[tuple[Cell, Levels], dict[int, float]]
_Keys = dict[tuple[Cell, Levels], str]


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _levels(table: pd.DataFrame, factors: Sequence[Factor]) -> list[Levels]:
    """The arm of each row."""
    columns = [table[PREFIX + factor.name].astype(str) for factor in factors]
    return list(zip(*columns, strict=True))


def _arms(table: pd.DataFrame, factors: Sequence[Factor]) -> list[Levels]:
    """All arms, in the order of the axes' values."""
    places = [{label: place for place, label in enumerate(factor.labels)} for factor in factors]
    return sorted(
        set(_levels(table, factors)), key=lambda arm: [own[label] for own, label in zip(places, arm, strict=True)]
    )


def _measures(table: pd.DataFrame) -> list[str]:
    """The losses that are told: of all tokens, of each type that some run has, and bits per second of sound."""
    columns = [str(name) for name in table.columns]
    types = [name for name in columns if name.startswith("loss_") and not name.startswith(_PARTS)]
    wanted = ["loss", *types, *([BITS] if BITS in table else [])]
    return [name for name in wanted if np.isfinite(numbers(table, name)).any()]


def _cells_of(table: pd.DataFrame, factors: Sequence[Factor]) -> list[tuple[Cell, Levels]]:
    """The cell and the arm of each row."""
    places = zip(table["budget"], table[CELL], _levels(table, factors), strict=True)
    return [(Cell(float(budget), str(size)), levels) for budget, size, levels in places]


def _losses(done: pd.DataFrame, factors: Sequence[Factor], measure: str) -> _Losses:
    found: _Losses = {}
    for place, seed, value in zip(_cells_of(done, factors), done["seed"], numbers(done, measure), strict=True):
        if math.isfinite(value):
            found.setdefault(place, {})[int(seed)] = float(value)
    return found


def _held_out(table: pd.DataFrame, factors: Sequence[Factor]) -> _Keys:
    return dict(zip(_cells_of(table, factors), table[HELD_OUT].astype(str), strict=True))


def _adjusted(family: list[Row]) -> list[Row]:
    compared = [number for number, row in enumerate(family) if row.against is not None]
    found = adjusted([each for row in family if (each := row.against) is not None])
    for number, against in zip(compared, found, strict=True):
        family[number] = replace(family[number], against=against)
    return family


def _trend(
    factor: Factor, number: int, cell: Cell, measure: str, baseline: Levels, losses: _Losses, held_out: _Keys
) -> Trend | None:
    """What a numeric axis does to one loss at one cell; None where fewer than two of its values can be compared."""
    assert factor.numbers is not None  # noqa: S101 - asked for such alone
    known: list[tuple[float, str, dict[int, float]]] = []
    for value, label in zip(factor.numbers, factor.labels, strict=True):
        place = (cell, (*baseline[:number], label, *baseline[number + 1 :]))
        same = measure == BITS or held_out.get(place) == held_out.get((cell, baseline))
        if same and losses.get(place):
            known.append((value, label, losses[place]))
    if len(known) < 2:
        return None
    known.sort(key=lambda each: each[0])
    best = min(range(len(known)), key=lambda place: float(np.mean(list(known[place][2].values()))))
    others = [place for place in range(len(known)) if place != best]
    found = [difference(known[place][2], known[best][2]) for place in others]
    if any(each is None for each in found):
        return None
    told = dict(zip(others, adjusted([each for each in found if each is not None]), strict=True))

    def onset(places: Sequence[int]) -> tuple[str, Difference] | None:
        """The first of `places` (from the best outwards) that is worse, as are all beyond, surely or by as much."""
        for rank, place in enumerate(places):
            here, beyond = told[place], [told[each] for each in places[rank:]]
            if here.verdict == "worse" and all(each.verdict == "worse" or each.value >= here.value for each in beyond):
                return known[place][1], here
        return None

    return Trend(
        factor.name,
        cell,
        measure,
        known[best][1],
        onset(range(best + 1, len(known))),
        onset(range(best - 1, -1, -1)),
        all(each.seeds > 1 for each in told.values()),
    )


def _notes(table: pd.DataFrame, factors: Sequence[Factor], held_out: _Keys) -> list[str]:
    """How arms were compared, and what is missing."""
    notes = []
    missing = int((table["state"] != "done").sum())
    if missing:
        notes.append(f"Provisional: {len(table) - missing} of {len(table)} runs are done.")
    seeds = table["seed"].nunique()
    if seeds == 1:
        notes.append("One seed: differences have no intervals, and none of them is certain.")
    else:
        notes.append(
            f"Differences pair the runs of each of {seeds} seeds; intervals are 95 % of each alone (Student's t), "
            "verdicts by p values that are adjusted for all comparisons of the same loss (Holm)."
        )
    if len(set(held_out.values())) > 1:
        notes.append(
            "Arms with other held-out tokens than the baseline's are compared by bits per second of sound alone: their "
            "nats per token are of other tokens. A codec that tells less of the sound needs fewer bits."
        )
    sizes = table.groupby(["budget", CELL])["params"].nunique()
    if (sizes > 1).any():
        notes.append(
            "Arms differ in N at the same width and budget (by vocabulary or shape), and so in tokens: budgets are "
            "equal, sizes nearly."
        )
    if any(factor.numbers is not None for factor in factors) and seeds > 1:
        notes.append(
            "The best value of an axis is the one with the least mean of these runs; the others are held against it "
            "with p values adjusted among themselves (Holm)."
        )
    return notes
