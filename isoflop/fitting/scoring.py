"""A law against runs that came later: how far off it was, and whether its intervals held.

Each run is forecast as `Law.predict` would have, and compared. Scores are told by compute and by size, because a law
that is right on average is often wrong at one end, and the end that matters is the large one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from isoflop.errors import NoAnswerError
from isoflop.fitting.columns import Floats, texts
from isoflop.fitting.law import Law
from isoflop.fitting.points import Excluded, judge
from isoflop.fitting.words import count, percent, power

#: The runs are told apart in this many parts of C and of N, of equal width in logarithms.
_PARTS = 3
#: With fewer of the forecasts than this share of their level inside, intervals are too narrow.
_FEW_HELD = 0.8


@dataclass(frozen=True)
class Scored:
    """One run: what was forecast, what came; `error` is ln(forecast/loss)."""

    row: int
    run: str | None
    flops: float
    params: float
    tokens: float
    loss: float
    value: float
    low: float
    high: float
    held: bool
    error: float
    decades: float


@dataclass(frozen=True)
class Part:
    """The runs between `low` and `high`: how many, the share whose interval held, mean and rms of ln(forecast/loss)."""

    low: float
    high: float
    runs: int
    coverage: float
    bias: float
    error: float


@dataclass(frozen=True)
class Scorecard:
    """A law's score on later runs.

    Parameters
    ----------
    level
        Of the forecasts' intervals.
    total
        All runs; `low` and `high` are the least and the most C.
    by_flops, by_params
        By parts of C and of N, ascending, empty ones left away.
    runs
        Each run.
    excluded
        Rows that could not be scored, with reasons.
    known
        How many of the runs lie within the budgets that the law was fitted to.
    """

    level: float
    total: Part
    by_flops: tuple[Part, ...]
    by_params: tuple[Part, ...]
    runs: tuple[Scored, ...]
    excluded: tuple[Excluded, ...]
    known: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`."""
        return asdict(self)

    def __str__(self) -> str:
        total = self.total
        lines = [
            f"{total.runs} runs scored ({len(self.excluded)} excluded), {self.known} of them within the law's budgets",
            f"forecasts are off by {percent(total.error)} (rms), {percent(total.bias)} on average; "
            f"{self.level:.0%} intervals held {percent(total.coverage)}",
        ]
        if total.coverage < _FEW_HELD * self.level:
            lines.append(
                "! too few: the later runs are not what the law was fitted to. Read its intervals as too narrow"
            )
        lines += ["", f"{'':<22}  {'runs':>5}  {'held':>6}  {'bias':>8}  {'error':>8}"]
        for name, parts, text in (("C", self.by_flops, power), ("N", self.by_params, count)):
            lines += [
                f"{name} {text(part.low):>8} to {text(part.high):<8}  {part.runs:5d}  {percent(part.coverage):>6}  "
                f"{percent(part.bias):>8}  {percent(part.error):>8}"
                for part in parts
            ]
        return "\n".join(lines)


def check(law: Law, points: pd.DataFrame, level: float = 0.9) -> Scorecard:
    """Score `law` on the runs of a points table, with intervals that should hold the share `level` of them.

    Raises
    ------
    InputError
        If `points` is no points table, or `level` does not lie between 0 and 1.
    NoAnswerError
        If no row can be scored, or the law has no forecast of single runs.
    """
    judged = judge(points, law.provenance.params_convention)
    if not len(judged.row):
        reasons = sorted({each.reason for each in judged.excluded})
        raise NoAnswerError(f"no run can be scored: all {len(points)} are excluded ({'; '.join(reasons[:3])})")
    names = texts(points, "run")
    runs = []
    distinct = judged.tokens if judged.unique_tokens is None else judged.unique_tokens
    for row, flops, params, tokens, unique_tokens, loss in zip(
        judged.row.tolist(),
        judged.flops.tolist(),
        judged.params.tolist(),
        judged.tokens.tolist(),
        distinct.tolist(),
        judged.loss.tolist(),
        strict=True,
    ):
        told = law.predict(params, tokens, level, unique_tokens=unique_tokens)
        runs.append(
            Scored(
                row=row,
                run=None if names is None else names[row],
                flops=flops,
                params=params,
                tokens=tokens,
                loss=loss,
                value=told.value,
                low=told.low,
                high=told.high,
                held=told.low <= loss <= told.high,
                error=math.log(told.value / loss),
                decades=told.decades,
            )
        )
    lowest, highest = law.budgets
    inside = (judged.flops >= 0.99 * lowest) & (judged.flops <= 1.01 * highest)
    return Scorecard(
        level=level,
        total=_part(runs, judged.flops),
        by_flops=_parts(runs, judged.flops),
        by_params=_parts(runs, judged.params),
        runs=tuple(runs),
        excluded=judged.excluded,
        known=int(inside.sum()),
    )


def _parts(runs: Sequence[Scored], values: Floats) -> tuple[Part, ...]:
    """Parts of equal width in ln `values`."""
    x = np.log(values)
    width = float(np.ptp(x)) or 1.0
    place = np.minimum(((x - x.min()) / width * _PARTS).astype(np.int64), _PARTS - 1)
    found = []
    for part in range(_PARTS):
        members = np.flatnonzero(place == part)
        if len(members):
            found.append(_part([runs[each] for each in members.tolist()], values[members]))
    return tuple(found)


def _part(runs: Sequence[Scored], values: Floats) -> Part:
    errors = np.array([run.error for run in runs])
    return Part(
        low=float(values.min()),
        high=float(values.max()),
        runs=len(runs),
        coverage=float(np.mean([run.held for run in runs])),
        bias=float(errors.mean()),
        error=math.sqrt(float(np.mean(errors**2))),
    )
