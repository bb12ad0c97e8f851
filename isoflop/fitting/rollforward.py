"""The test that a law can be given before the money is spent: fit below each budget, and ask about those above.

At every budget that leaves enough runs below it, the forecaster is fitted to those alone and forecasts the runs above
that were near the best loss at their compute: how far off it was, how many its intervals held. And the exponent a is
fitted anew each time a budget is added: one that keeps moving as budgets grow will not stop at the last of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isoflop.fitting.checks import Check, CheckStatus
from isoflop.fitting.forecasts import ASKED_ABOUT, DRAWS, LEVEL, Runs, make_forecaster, normal_quantile
from isoflop.fitting.minima import Minimum, Status
from isoflop.fitting.powerlaw import fit_lines, slope_interval
from isoflop.fitting.words import percent, power

#: How far above a cut runs are asked about, as a factor in C: beyond the next budget's, and what is calibrated.
NEAREST, FARTHEST = 1.5, 10.0
#: Budgets are met to a few per cent: the ends of that range are too.
_SLACK = 1.02
#: Intervals that held less than this share of what they say are too narrow for the table.
_FEW_HELD = 0.8
#: Held or not says little of fewer forecasts.
_FEWEST = 5
#: A line through fewer minima has no interval.
_FEWEST_MINIMA = 3
#: A move of a by less than this matters to nobody.
_MOVE = 0.01


@dataclass(frozen=True)
class Step:
    """One cut: what was forecast from the runs of at most `cut` FLOPs.

    `rows` is what the fit rested on, `forecasts` how many runs above it were asked about, up to `decades` away, and
    `held` how many of their losses lay in their intervals. `bias` and `error` are the mean and the root mean square of
    ln(forecast/loss), `half_width` the median half-width of the intervals in ln loss.
    """

    cut: float
    rows: int
    forecasts: int
    decades: float
    held: int
    bias: float
    error: float
    half_width: float


@dataclass(frozen=True)
class Drift:
    """The exponent a of the minima of all budgets up to `flops`, with its 95 % interval by t."""

    flops: float
    a: float
    low: float
    high: float


@dataclass(frozen=True)
class RollForward:
    """What the hold-out found: a step per cut and an exponent per added budget, both ascending."""

    level: float
    steps: tuple[Step, ...]
    drift: tuple[Drift, ...]

    @property
    def forecasts(self) -> int:
        """Forecasts made, over all cuts."""
        return sum(step.forecasts for step in self.steps)

    @property
    def coverage(self) -> float:
        """Share of the forecasts whose interval held the loss; NaN where none were made."""
        return sum(step.held for step in self.steps) / self.forecasts if self.steps else math.nan

    @property
    def error(self) -> float:
        """Root mean square of ln(forecast/loss) over all forecasts; NaN where none were made."""
        squares = sum(step.forecasts * step.error**2 for step in self.steps)
        return math.sqrt(squares / self.forecasts) if self.steps else math.nan


def roll_forward(
    runs: Runs,
    minima: Sequence[Minimum] = (),
    *,
    level: float = LEVEL,
    nearest: float = NEAREST,
    farthest: float = FARTHEST,
    draws: int = DRAWS,
    seed: int = 0,
) -> RollForward:
    """Roll forward over `runs` and the budgets' `minima`.

    Parameters
    ----------
    level
        Of the forecasts' intervals.
    nearest, farthest
        Runs with this many times the cut's compute, and up to this many, are asked about.
    draws, seed
        Of each forecaster's bootstrap.
    """
    asked = runs.near_best(ASKED_ABOUT)
    quantile = normal_quantile(level)
    steps = []
    for cut in runs.centres:
        above = asked.only((asked.flops >= nearest / _SLACK * cut) & (asked.flops <= farthest * _SLACK * cut))
        if not len(above.flops):
            continue
        forecaster = make_forecaster(runs, cut, draws=draws, seed=seed)
        forecast, sd = forecaster.log_loss(above.params, above.tokens, above.flops)
        off = forecast - np.log(above.loss)
        steps.append(
            Step(
                cut=cut,
                rows=forecaster.rows,
                forecasts=len(off),
                decades=float(forecaster.decades(above.flops).max()),
                held=int((np.abs(off) <= quantile * sd).sum()),
                bias=float(off.mean()),
                error=math.sqrt(float(np.mean(off**2))),
                half_width=quantile * float(np.median(sd)),
            )
        )
    return RollForward(level, tuple(steps), follow_exponent(minima))


def follow_exponent(minima: Sequence[Minimum]) -> tuple[Drift, ...]:
    """Fit a to the interior `minima` of the lowest three budgets, then with one more at a time."""
    pairs = sorted((each.flops, each.params) for each in minima if each.status is Status.INTERIOR and each.params)
    found = []
    for count in range(_FEWEST_MINIMA, len(pairs) + 1):
        x, y = np.log(np.array(pairs[:count])).T
        line = fit_lines(x, y[None], np.ones((1, count), dtype=bool))
        found.append(Drift(pairs[count - 1][0], float(line.slope[0]), *slope_interval(line)))
    return tuple(found)


def check_hold_out(rolled: RollForward) -> Check:
    """Say what the roll-forward found: a warning where its intervals held too little, or a left its own."""
    sentences, suspicions = [], []
    if rolled.steps:
        held = sum(step.held for step in rolled.steps)
        sentences.append(
            f"fitted below each of {len(rolled.steps)} budgets and asked about the runs above, up to "
            f"×{10 ** max(step.decades for step in rolled.steps):.2g}, forecasts of the loss were off by "
            f"{percent(rolled.error)} (rms), and their {rolled.level:.0%} intervals held {held} of {rolled.forecasts}"
        )
        if rolled.forecasts >= _FEWEST and rolled.coverage < _FEW_HELD * rolled.level:
            worst = max(rolled.steps, key=lambda step: step.error)
            suspicions.append(
                f"too few; the farthest off were those from C = {power(worst.cut)} down ({percent(worst.error)}). Look "
                "for what changes there (data, recipe, tuning), and read intervals beyond the budgets as too narrow"
            )
    else:
        sentences.append("no budget leaves runs enough below it to forecast those above")
        suspicions.append("how well this study extrapolates is not known from it; add budgets")
    if len(rolled.drift) > 1:
        sentences.append(f"a was {', '.join(f'{each.a:.3f}' for each in rolled.drift)} as the budgets came")
        before, last = rolled.drift[-2], rolled.drift[-1]
        if not before.low - _MOVE <= last.a <= before.high + _MOVE:
            suspicions.append(
                f"with C = {power(last.flops)} a left the interval that it had without, [{before.low:.3f}, "
                f"{before.high:.3f}]: one power law does not hold all budgets, or that one went wrong"
            )
    found = "; ".join(sentences)
    if suspicions:
        return Check("hold_out", CheckStatus.WARN, f"{found}: {'; '.join(suspicions)}.")
    return Check("hold_out", CheckStatus.PASS, f"{found}.")
