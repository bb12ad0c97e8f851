"""The runs, one by one, as people read them: where each stands, what it was to cost and did, losses, verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isoflop.fitting.ablation import CELL, PREFIX
from isoflop.fitting.ablation_text import arm
from isoflop.fitting.words import count, percent, power
from isoflop.reporting.content import Content, Work

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.ablation import Ablation

#: Names of losses by token type, beside which ``loss_sigma`` is none.
_PREFIX, _NOISE = "loss_", "loss_sigma"


@dataclass(frozen=True)
class Row:
    """One run.

    Parameters
    ----------
    run, state, in_grid
        Its id (or its row's number), its state, whether the study still has it.
    budget, flops
        Training FLOPs, planned and achieved: of all its steps, or of those done so far. NaN: not known.
    params, tokens
        Its size and data, as planned.
    losses
        By column, ``loss`` first; NaN while there is none.
    done
        Part of its steps that are done; None where that is not known.
    work
        What else is known of its execution.
    verdict
        What the fit made of it; of a study with axes its arm.
    """

    run: str
    state: str
    in_grid: bool
    budget: float
    flops: float
    params: float
    tokens: float
    losses: dict[str, float]
    done: float | None
    work: Work | None
    verdict: str

    @property
    def off(self) -> str:
        """How far the achieved FLOPs are from the planned ones; empty where nothing is done."""
        if not (math.isfinite(self.flops) and self.budget > 0) or self.flops == 0:
            return ""
        ratio = self.flops / self.budget - 1
        return f"{'+' if ratio >= 0 else '−'}{percent(abs(ratio))}"

    @property
    def tip(self) -> list[str]:
        """The lines that a plot shows of it."""
        losses = [f"{loss_name(name)} {loss:.4f}" for name, loss in self.losses.items() if math.isfinite(loss)]
        lines = [
            self.run,
            f"{self.state}; {self.verdict}" if self.verdict else self.state,
            f"N {count(self.params)} parameters, D {count(self.tokens)} tokens",
            f"C planned {power(self.budget)}, achieved {power(self.flops)} ({self.off})"
            if self.off
            else f"C planned {power(self.budget)}",
            *(" · ".join(losses[start : start + 3]) for start in range(0, len(losses), 3)),
        ]
        if self.work is not None and self.work.seconds:
            lines.append(f"{duration(self.work.seconds)} on {self.work.device or 'an unnamed device'}")
        return lines


def loss_columns(content: Content) -> list[str]:
    """``loss``, and the losses by token type that the points carry."""
    named = [str(name) for name in content.points.columns if str(name).startswith(_PREFIX) and name != _NOISE]
    return ["loss", *named]


def loss_name(column: str) -> str:
    """A loss as people call it: ``total``, ``acoustic 1``."""
    return "total" if column == "loss" else column.removeprefix(_PREFIX).replace("_", " ")


def rows(content: Content) -> list[Row]:
    """Every row of the points table, in its order."""
    reasons = {each.row: each.reason for each in content.judged.excluded}
    fitted = "used by the fit" if content.law is not None else "fit for use"
    if content.ablation is not None:
        reasons, fitted = _arms(content.points, content.ablation), "of no arm"
    columns = loss_columns(content)
    return [
        _row(content, place, record, columns, reasons.get(place, fitted))
        for place, record in enumerate(content.points.to_dict("records"))
    ]


def _arms(points: pd.DataFrame, ablation: Ablation) -> dict[int, str]:
    """The arm of each row that has one."""
    columns = [points[PREFIX + factor.name] for factor in ablation.factors]
    told = (arm([str(each) for each in labels]) for labels in zip(*columns, strict=True))
    return {place: text for place, (text, known) in enumerate(zip(told, points[CELL].notna(), strict=True)) if known}


def _row(content: Content, place: int, record: dict[Any, Any], columns: list[str], verdict: str) -> Row:
    run = str(record.get("run", f"row {place}"))
    state = content.state(run, str(record.get("state", "done")))
    planned = _number(record.get("flops"))
    work = content.work.get(run)
    flops = work.flops if work is not None else planned if state == "done" else math.nan
    return Row(
        run=run,
        state=state,
        in_grid=bool(record.get("in_grid", True)),
        budget=_number(record.get("budget", planned)),
        flops=flops,
        params=_number(record.get("params")),
        tokens=_number(record.get("tokens")),
        losses={name: _number(record[name]) for name in columns},
        done=1.0 if state == "done" else None if work is None or not work.steps else work.step / work.steps,
        work=work,
        verdict=verdict,
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def duration(seconds: float) -> str:
    """A time in the unit that fits it: ``5.3 s``, ``12 min``, ``3 h 20 min``, ``2.5 days``."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 48:
        return f"{seconds / 86400:.1f} days"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
