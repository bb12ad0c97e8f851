"""How far a law would move had the study been designed otherwise: shifts, and the intervals that heed them.

Whoever plans a study makes choices that the law is not meant to depend on: rates, batches, seeds, what counts as N and
as C. The statistical interval knows none of them. Here each choice's effect on the losses (`isoflop.fitting.effects`)
is put on the points, these are read again in the way that leads in the law, and what a, b, b/a and N* move by is the
choice's shift.

*The design-sensitivity interval* is the statistical one, moved by the shift of every choice of training, all together:
from its lower end less the largest shift downwards to its upper end and the largest upwards. A choice is no draw of
which the mean is wanted: each would have been defended, one of them was made, and a reader who cannot say which is
right must allow for all, so shifts are added to the statistical interval, not in squares, and not to each other. Of a
shift that counts which noise does not explain, √(shift² − noise²): the noise of the study's runs is in its statistical
interval already. So is another seed, which moves no interval and tells how large that noise is. Where the rates were
tried on both sides, the rate that the losses ask for at every run is one choice more (``best rate``). Conventions do
not change what was trained, only what the numbers are called; they are in an interval of their own about that one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from isoflop.errors import InputError
from isoflop.fitting.effects import RateResponse
from isoflop.fitting.intervals import NORMAL, High, Low
from isoflop.fitting.law import Law
from isoflop.fitting.points import Points
from isoflop.fitting.shifts import NAMES, Counted, Move, Name, Rerun, Shift, cells_in, examine, seed_noise
from isoflop.fitting.words import bound, count, percent, power

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import TypeAdapter

_SPOKEN: dict[Name, str] = {"a": "a", "b": "b", "ratio": "b/a"}


@dataclass(frozen=True)
class Quantity:
    """One quantity, by how little it can be told.

    Parameters
    ----------
    value, statistical
        The law's, with its 95 % interval.
    design
        The design-sensitivity interval.
    conventions
        The same with the conventions' shifts.
    most, most_convention
        The choice of training that moves it most beyond the noise, and the convention that does; empty where none.
    hidden
        Moves by less than this the noise of the audit hides (95 %); infinite where nothing was run again.
    """

    value: float
    statistical: tuple[Low, High]
    design: tuple[Low, High]
    conventions: tuple[Low, High]
    most: str
    most_convention: str
    hidden: High


@dataclass(frozen=True)
class Sensitivity:
    """What an audit found.

    Parameters
    ----------
    points_digest
        Of the points that were audited, as the law has it.
    target
        Training FLOPs at which N* is asked for.
    a, b, ratio, params
        Each with its intervals; N* at `target`.
    shifts
        The choices, in the order in which they were examined.
    rates
        How the loss depends on the rate; None where that is not known.
    cells
        How many cells were run again.
    minima
        What was audited, and what could not be: a sentence a budget that has something to tell.
    noise, law_noise
        The sd of a run's ln loss by the runs of another seed (None without any), and by the law.
    simulated
        Whether the points are a rehearsal's.
    """

    points_digest: str
    target: float
    a: Quantity
    b: Quantity
    ratio: Quantity
    params: Quantity
    shifts: tuple[Shift, ...]
    rates: RateResponse | None
    cells: int
    minima: tuple[str, ...] = ()
    noise: float | None = None
    law_noise: float = 0.0
    simulated: bool = False

    def of(self, name: Name) -> Quantity:
        """One quantity."""
        value: Quantity = getattr(self, name)
        return value

    def sentences(self) -> list[str]:
        """A sentence a quantity, one for each choice, and the remarks."""
        return [*self.headlines(), *(self._moved(shift) for shift in self.shifts), *self.remarks()]

    def headlines(self) -> list[str]:
        """A sentence a quantity: its intervals, and the choices that move it most."""
        return [self._told(name) for name in NAMES]

    def remarks(self) -> list[str]:
        """What there is to say of the rates, of the noise, and of single minima."""
        told = [] if self.rates is None else [str(self.rates)]
        if self.noise is not None:
            told.append(
                f"runs of another seed differ as if a run's loss had a noise of {percent(self.noise)}; by the law it "
                f"is {percent(self.law_noise)}"
            )
        return [*told, *self.minima]

    def said(self, name: Name) -> str:
        """A quantity as people write it."""
        return f"N*({power(self.target)})" if name == "params" else _SPOKEN[name]

    def shown(self, name: Name, ends: tuple[float, float]) -> str:
        """An interval of a quantity as people write it."""
        show = count if name == "params" else bound
        return f"[{show(ends[0])}, {show(ends[1])}]"

    def moves(self, name: Name, move: Move) -> str:
        """A move of a quantity with its noise (one sd) as people write them: of N* as shares of it."""
        if name == "params":
            noise = "" if not move.noise else f" ± {percent(math.expm1(move.noise))}"
            return f"{signed(move.value)}{noise}"
        return f"{move.value:+.3f}" + (f" ± {move.noise:.3f}" if move.noise else "")

    def _told(self, name: Name) -> str:
        found = self.of(name)
        value = count(found.value) if name == "params" else f"{found.value:.3f}"
        said = [f"{self.said(name)} = {value} {self.shown(name, found.statistical)}"]
        hidden = percent(math.expm1(found.hidden)) if name == "params" else f"{found.hidden:.3f}"
        if found.most:
            said.append(
                f"the design-sensitivity interval is {self.shown(name, found.design)}, moved most by {found.most} "
                f"({self._by(found.most, name)})"
            )
        elif math.isfinite(found.hidden):
            said.append(f"no choice of training moves it beyond the noise, which hides moves under ±{hidden}")
        if found.most_convention:
            said.append(
                f"under other conventions {self.shown(name, found.conventions)}, moved most by "
                f"{found.most_convention} ({self._by(found.most_convention, name)})"
            )
        return "; ".join(said)

    def _by(self, choice: str, name: Name) -> str:
        move = next(shift.of(name) for shift in self.shifts if shift.name == choice)
        return "" if move is None else self.moves(name, move)

    def _moved(self, shift: Shift) -> str:
        said = []
        if shift.loss is not None:
            said.append(f"losses {signed(shift.loss)} at {shift.cells} cells")
        moves = [(name, move) for name in NAMES if (move := shift.of(name)) is not None]
        if moves:
            said.append(", ".join(f"{self.said(name)} {self.moves(name, move)}" for name, move in moves))
        return f"{shift.name}: {'; '.join([*said, *([shift.note] if shift.note else [])])}"

    def __str__(self) -> str:
        pretended = "SIMULATED: " if self.simulated else ""
        head = f"{pretended}audit of the design: {self.cells} cells, at the minima and beside them, run again"
        return "\n".join([head, *(f"  {sentence}" for sentence in self.sentences())])

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinite ends are null."""
        record: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Sensitivity:
        """Read what `to_json` gave; `InputError` where it is something else."""
        from pydantic import ValidationError

        try:
            return _adapter().validate_python(record)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"an audit's {'.'.join(map(str, first['loc']))} must be valid, but: {first['msg']}"
            ) from error


def sensitivity(
    table: pd.DataFrame,
    points: Points,
    law: Law,
    reruns: Sequence[Rerun],
    *,
    target: float,
    counted: Sequence[Counted] = (),
    minima: tuple[str, ...] = (),
) -> Sensitivity:
    """Say how far the law of `points` moves with every choice.

    Parameters
    ----------
    table, points, law
        The points table, its points, and their law.
    reruns
        What was run again.
    target
        Training FLOPs at which N* is asked for.
    counted
        The conventions of C that the table's runs could be counted by, but for its own.
    minima
        See `Sensitivity`.

    Raises
    ------
    InputError
        If `target` is not positive and finite.
    """
    response, shifts = examine(table, points, law, reruns, counted, target)
    ends = {
        "a": (law.exponents.a.low, law.exponents.a.high),
        "b": (law.exponents.b.low, law.exponents.b.high),
        "ratio": (law.exponents.ratio.low, law.exponents.ratio.high),
    }
    size = law.optimum(target).params
    return Sensitivity(
        points_digest=points.digest,
        target=target,
        a=_quantity("a", law.exponents.a.value, ends["a"], shifts),
        b=_quantity("b", law.exponents.b.value, ends["b"], shifts),
        ratio=_quantity("ratio", law.exponents.ratio.value, ends["ratio"], shifts),
        params=_quantity("params", size.value, (size.low, size.high), shifts),
        shifts=shifts,
        rates=response,
        cells=cells_in([effect for each in reruns for effect in each.effects]),
        minima=minima,
        noise=seed_noise(reruns),
        law_noise=law.noise,
        simulated=law.provenance.simulated,
    )


def _quantity(name: Name, value: float, ends: tuple[float, float], shifts: Sequence[Shift]) -> Quantity:
    told = {each.name: (each.kind, move) for each in shifts if (move := each.of(name)) is not None}
    conventions = {choice: move for choice, (kind, move) in told.items() if kind == "convention"}
    trained = {choice: move for choice, (kind, move) in told.items() if kind not in ("convention", "seed")}
    return Quantity(
        value=value,
        statistical=ends,
        design=_widened(ends, trained.values(), name),
        conventions=_widened(ends, [*trained.values(), *conventions.values()], name),
        most=_most(trained),
        most_convention=_most(conventions),
        hidden=NORMAL * max((move.noise for move in trained.values()), default=math.inf),
    )


def _widened(ends: tuple[float, float], moves: Iterable[Move], name: Name) -> tuple[float, float]:
    """The interval moved by every move, all together; of N* in its logarithm."""
    every = [0.0, *(move.beyond for move in moves)]
    if name == "params":
        return ends[0] * math.exp(min(every)), ends[1] * math.exp(max(every))
    return ends[0] + min(every), ends[1] + max(every)


def _most(moves: Mapping[str, Move]) -> str:
    most = max(moves, key=lambda choice: abs(moves[choice].beyond), default="")
    return most if most and moves[most].beyond else ""


def signed(change: float) -> str:
    """A change of a logarithm as a share of what changed."""
    share = math.expm1(change)
    return f"{'+' if share >= 0 else '−'}{percent(abs(share))}"


@cache
def _adapter() -> TypeAdapter[Sensitivity]:
    from pydantic import TypeAdapter

    return TypeAdapter(Sensitivity)
