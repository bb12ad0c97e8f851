"""The report's tables as plain strings: minima, token types, runs, how far each budget is, what failed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from isoflop.fitting.intervals import Estimate
from isoflop.fitting.minima import Minimum, Status
from isoflop.fitting.sensitivity import Sensitivity, signed
from isoflop.fitting.shifts import NAMES
from isoflop.fitting.token_types import TypeLaw
from isoflop.fitting.words import bound, count, percent, power
from isoflop.reporting.content import Content, Progress
from isoflop.reporting.runs import Row, duration, loss_columns, loss_name
from isoflop.reporting.sentences import minimum_words

#: Failed runs that are named.
_FAILURES = 20
#: States in the order in which a run goes through them.
_STATES = ("done", "running", "queued", "planned", "failed", "cancelled")
#: How a state looks.
_LOOKS = {"done": "pass", "failed": "fail"}


@dataclass(frozen=True)
class Cell:
    """A number to read, and the same to sort by (empty where there is none)."""

    text: str
    value: str


def cell(value: float | None, text: Callable[[float], str]) -> Cell:
    """A cell of a number; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return Cell("–", "")
    return Cell(text(value), f"{value:.8g}")


def minima_table(minima: Sequence[Minimum]) -> list[dict[str, str]]:
    """A row for each budget."""
    return [
        {
            "budget": power(each.budget),
            "status": each.status.replace("_", " "),
            "ok": "pass" if each.status is Status.INTERIOR else "warn",
            "params": cell(each.params, count).text,
            "params_interval": _span(each.params_low, each.params_high),
            "tokens": cell(each.tokens, count).text,
            "tokens_interval": _span(each.tokens_low, each.tokens_high),
            "loss": cell(each.loss, "{:.4f}".format).text,
            "runs": f"{each.runs}" if each.runs == each.sizes else f"{each.runs} of {each.sizes} sizes",
            "words": minimum_words(each),
        }
        for each in minima
    ]


def types_table(types: Sequence[TypeLaw]) -> list[dict[str, str]]:
    """A row for each token type: its exponents, and where it wants another model than the total."""
    return [_type(each) for each in types]


def audit_table(audit: Sensitivity) -> list[dict[str, str]]:
    """A row for each choice: what it does to the losses and to each quantity, and what to know of it."""
    return [
        {
            "name": shift.name,
            "loss": "–" if shift.loss is None else f"{signed(shift.loss)} at {shift.cells} cells",
            **{name: "–" if (move := shift.of(name)) is None else audit.moves(name, move) for name in NAMES},
            "note": shift.note,
        }
        for shift in audit.shifts
    ]


def _type(law: TypeLaw) -> dict[str, str]:
    told = dict.fromkeys(("a", "b", "ratio", "size", "turned"), "–")
    if law.exponents is None:
        return {"name": law.name, **told, "ok": "warn", "verdict": law.reason.splitlines()[0]}
    for name in ("a", "b", "ratio"):
        told[name] = _estimate(getattr(law.exponents, name), "{:.3f}")
    if law.against is None:
        return {"name": law.name, **told, "ok": "warn", "verdict": "too few budgets have both minima"}
    told["size"] = f"{_estimate(law.against.size, '{:.2f}')} at {power(law.against.flops)}"
    told["turned"] = _estimate(law.against.a, "{:+.3f}")
    verdict = "wants another model" if law.against.differs else "not told apart"
    return {"name": law.name, **told, "ok": "warn" if law.against.differs else "pass", "verdict": verdict}


def _estimate(estimate: Estimate, form: str) -> str:
    value, low, high = (form.format(each) if math.isfinite(each) else bound(each) for each in _three(estimate))
    return f"{value} ({low} to {high})"


def _three(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{count(low)} to {count(high)}"


def runs_table(content: Content, rows: Sequence[Row]) -> dict[str, Any]:
    """Columns, rows and the states that occur; what nobody knows of any run has no column."""
    losses = loss_columns(content)
    columns: list[tuple[str, Callable[[Row], Cell]]] = [
        ("C planned", lambda row: cell(row.budget, power)),
        ("C achieved", _achieved),
        ("N", lambda row: cell(row.params, count)),
        ("D", lambda row: cell(row.tokens, count)),
    ]
    columns += [(loss_name(name) if name != "loss" else "loss", _loss(name)) for name in losses]
    work = [row.work for row in rows if row.work is not None]
    if any(each.seconds is not None for each in work):
        columns.append(("wall-clock", lambda row: cell(row.work.seconds if row.work else None, duration)))
        columns.append(("FLOP/s", _rate))
    if any(each.cost is not None for each in work):
        columns.append(("cost", lambda row: cell(row.work.cost if row.work else None, "{:,.2f}".format)))
    return {
        "columns": [
            {"name": "run", "number": False},
            {"name": "state", "number": False},
            *({"name": name, "number": True} for name, _ in columns),
            {"name": "in the fit" if content.ablation is None else "arm", "number": False},
        ],
        "rows": [
            {
                "run": row.run,
                "state": row.state,
                "ok": _LOOKS.get(row.state, "warn"),
                "cells": [told(row) for _, told in columns],
                "verdict": _verdict(row),
            }
            for row in rows
        ],
        "states": list(dict.fromkeys(row.state for row in rows)),
    }


def _achieved(row: Row) -> Cell:
    told = cell(row.flops, power)
    return Cell(f"{told.text} ({row.off})" if row.off else told.text, told.value)


def _rate(row: Row) -> Cell:
    seconds = row.work.seconds if row.work is not None else None
    return cell(row.flops / seconds if seconds else None, power)


def _loss(name: str) -> Callable[[Row], Cell]:
    return lambda row: cell(row.losses[name], "{:.4f}".format)


def _verdict(row: Row) -> str:
    why = row.work.reason if row.work is not None and row.state in ("failed", "cancelled") else ""
    return f"{row.verdict}: {why}" if why else row.verdict


def progress_table(content: Content, rows: Sequence[Row], progress: Progress) -> dict[str, Any]:
    """How far the study is, by budget, and what failed."""
    grid = [row for row in rows if row.in_grid]
    states = [state for state in _STATES if any(row.state == state for row in grid)]
    failed = [row for row in grid if row.state == "failed"]
    return {
        "sentence": _progress_sentence(progress),
        "freshness": ""
        if progress.refresh is None
        else f"This page is written anew every {duration(progress.refresh)} until all is done, and reloads itself.",
        "states": states,
        "budgets": [
            _progress_row(budget, [row for row in grid if row.budget == budget], states)
            for budget in dict.fromkeys(row.budget for row in grid)
        ],
        "failures": [
            {
                "run": row.run,
                "reason": row.work.reason if row.work is not None else "",
                "advice": progress.advice.get(row.run, ""),
            }
            for row in failed[:_FAILURES]
        ],
        "more_failures": max(len(failed) - _FAILURES, 0),
    }


def _progress_row(budget: float, rows: Sequence[Row], states: Sequence[str]) -> dict[str, Any]:
    done = sum(row.done or 0.0 for row in rows) / len(rows)
    number = Counter(row.state for row in rows)
    losses = [row.losses["loss"] for row in rows if math.isfinite(row.losses["loss"])]
    return {
        "budget": power(budget),
        "done": f"{done:.3f}",
        "percent": percent(done),
        "states": [str(number[state] or "") for state in states],
        "best": f"{min(losses):.4f}" if losses else "–",
    }


def _progress_sentence(progress: Progress) -> str:
    told = [
        f"{power(progress.spent_flops)} of {power(progress.planned_flops)} training FLOPs",
        f"{count(progress.device_hours)} device-hours held",
    ]
    if progress.cost is not None:
        told.append(f"cost so far {progress.cost:,.2f}")
    if progress.seconds_left:
        told.append(f"about {duration(progress.seconds_left)} left")
    return ", ".join(told) + "."
