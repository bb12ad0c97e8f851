"""What a run tells of itself while it trains: its progress, and the rows of its metrics and validation files.

Rows are a function of the run alone, with no clock in them: one that was interrupted writes what one that was not
would have. Without torch, for whoever reads them, and for the synthetic trainer (`isoflop.launching.synthetic`),
which writes the same files.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isoflop.planning.runs import Run
from isoflop.store import RunDirectory, write_text

#: The metrics file's columns, before those of the loss by type; loss and gradient norm are means over the steps since
#: the row before, spikes were counted in them.
COLUMNS = ("step", "tokens", "loss", "gradient_norm", "learning_rate", "spikes")


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Parameters
    ----------
    step, steps
        Optimiser steps done, and to do in all.
    loss
        Mean training loss of the last steps, in nats per token.
    tokens_per_second
        Since this process took the run up.
    """

    step: int
    steps: int
    loss: float
    tokens_per_second: float


def add_row(
    directory: RunDirectory,
    run: Run,
    step: int,
    loss: float,
    gradient_norm: float,
    spikes: int = 0,
    by_type: Sequence[float] = (),
) -> None:
    """Append what `run` has come to after `step` steps; tokens and rate follow from the run."""
    rate = run.learning_rate * run.schedule.factor(step - 1)
    append(directory.metrics_file, (step, step * run.tokens_per_step, loss, gradient_norm, rate, spikes, *by_type))


def cut_metrics(directory: RunDirectory, step: int, by_type: Sequence[str] = ()) -> None:
    """Keep the metrics' whole rows up to `step`; `by_type` are the columns after `COLUMNS`."""
    path = directory.metrics_file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, cut(text, step, (*COLUMNS, *by_type)))


def append(path: Path, values: Sequence[float]) -> None:
    """Append a row; what is not a number is left empty."""
    with path.open("a", encoding="utf-8") as file:
        file.write(",".join("" if math.isnan(value) else repr(value) for value in values) + "\n")


def cut(text: str, step: int, columns: Sequence[str] = ()) -> str:
    """The header and the whole rows up to `step` of a table that begins with the step.

    `columns` are those that it is to have, empty where it lacks one; none given: those that it has.
    """
    lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    found = lines[0].rstrip("\n").split(",") if lines else []
    whole = [line for line in lines[1:] if line.count(",") == len(found) - 1 and int(line.split(",")[0]) <= step]
    if not columns or tuple(found) == tuple(columns):
        return "".join([*lines[:1], *whole])
    rows: list[Mapping[str, str]] = list(csv.DictReader(whole, found))
    kept = [",".join(row.get(column, "") for column in columns) for row in rows]
    return "".join(f"{line}\n" for line in (",".join(columns), *kept))


def last_step(text: str) -> int:
    """The step of a table's last row, 0 where it has none."""
    lines = text.splitlines()[1:]
    return int(lines[-1].split(",")[0]) if lines else 0
