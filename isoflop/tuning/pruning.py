"""Which runs are stopped early: those whose loss curve lies above that of most trials before.

Not before half of the steps: on the demo's corpus (`tests/golden/tune_scan.csv`) the loss at 30 % of the steps is least
at four times the rate that ends best, from half on at that rate itself. A trial is held only against trials of earlier
generations, so what becomes of it does not depend on which of its generation was faster.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from isoflop.launching.base import estimated_seconds
from isoflop.planning.runs import Run
from isoflop.store import RunDirectory

#: Fraction of the steps from which a curve says how the run will end, and over how many of them it is averaged.
_FROM, _WINDOW = 0.5, 0.15
#: Trials that make a median.
_FEWEST = 3
#: A run is let go on where what is left of it costs less than a worker's start: seconds on one core.
_WORTH = 60.0


@dataclass(frozen=True)
class Curve:
    """Training loss, in nats per token, by fraction of the steps."""

    rows: tuple[tuple[float, float], ...]

    @classmethod
    def read(cls, place: RunDirectory, run: Run) -> Curve:
        """What the run has written of itself so far."""
        if not place.metrics_file.exists():
            return cls(())
        with place.metrics_file.open(encoding="utf-8", newline="") as file:
            # A last row may be half there.
            whole = list(csv.reader(line for line in file if line.endswith("\n")))[1:]
        return cls(tuple((int(row[0]) / run.steps, float(row[2])) for row in whole))

    def at(self, fraction: float) -> float | None:
        """Mean loss over the steps up to a fraction; None where there is no row."""
        found = [loss for place, loss in self.rows if fraction - _WINDOW < place <= fraction]
        return sum(found) / len(found) if found else None


def worthwhile(run: Run) -> bool:
    """Whether stopping the run half-way would save anything."""
    return (1 - _FROM) * estimated_seconds([run])[run.id] >= _WORTH


def verdict(curve: Curve, earlier: Sequence[Curve]) -> str:
    """Why the run of `curve` is to be stopped, held against finished runs of `earlier` trials; empty if it is not."""
    if len(earlier) < _FEWEST:
        return ""
    for fraction, _ in curve.rows:
        # The last row is the end: nothing is left to save.
        if _FROM <= fraction < 1:
            own = curve.at(fraction)
            others = [loss for each in earlier if (loss := each.at(fraction)) is not None]
            if own is not None and len(others) >= _FEWEST and not own <= median(others):
                return f"loss {own:.4g} after {fraction:.0%} of its steps, above the median of {len(others)} before it"
    return ""
