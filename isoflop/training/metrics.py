"""What a run tells of itself while it trains: its progress, and the rows of its metrics file.

Without torch, for whoever reads them, and for the synthetic trainer (`isoflop.launching.synthetic`), which writes
the same files.
"""

from __future__ import annotations

from dataclasses import dataclass

from isoflop.planning.runs import Run
from isoflop.store import RunDirectory, write_text

#: The metrics file's columns; loss and gradient norm are means over the steps since the row before.
COLUMNS = ("step", "tokens", "loss", "gradient_norm", "learning_rate")


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


def add_row(directory: RunDirectory, run: Run, step: int, loss: float, gradient_norm: float) -> None:
    """Append what `run` has come to after `step` steps; tokens and rate follow from the run."""
    rate = run.learning_rate * run.schedule.factor(step - 1)
    with directory.metrics_file.open("a", encoding="utf-8") as file:
        file.write(f"{step},{step * run.tokens_per_step},{loss!r},{gradient_norm!r},{rate!r}\n")


def cut_metrics(directory: RunDirectory, step: int) -> None:
    """Keep the metrics' whole rows up to `step`; without a file, start one."""
    header = ",".join(COLUMNS) + "\n"
    path = directory.metrics_file
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[1:] if path.exists() else []
    whole = [line for line in lines if line.endswith("\n") and line.count(",") == len(COLUMNS) - 1]
    write_text(path, header + "".join(line for line in whole if int(line.split(",")[0]) <= step))
