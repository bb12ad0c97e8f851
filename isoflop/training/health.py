"""Whether a run is well, by its training loss, step by step: spikes are counted, a divergence is told.

What is kept between two steps is a few numbers. They go into the checkpoints, and none of them depends on the run's
length: a resumed run, and one that starts from its trunk, come to the same verdict at the same step.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

#: Steps over which the loss's mean and variance are smoothed: hundreds of rows of the smallest batch.
MEMORY = 100
#: A spike is a loss so many standard deviations above the mean of the steps before it, as the OLMo 2 authors count
#: them (arXiv 2501.00656).
SPIKE_DEVIATIONS = 7.0
#: A run this far above its lowest mean has lost what a decade of compute buys (0.9 nats in the demo's study). One that
#: starts at ln V and only rises is beyond it too.
DIVERGED_NATS = 1.0
#: So many more steps must lie beyond that bound than within it since: spikes that heal take tens of steps.
DIVERGED_STEPS = 100


@dataclass
class Health:
    """The course of a run's training loss.

    Parameters
    ----------
    steps
        Seen so far.
    mean, variance
        Of their losses, smoothed over `MEMORY` steps (exponentially; the plain ones before), nats and nats².
    lowest
        The lowest mean so far.
    beyond
        How many more steps were `DIVERGED_NATS` above that than below, since there was one.
    spikes
        Steps whose loss was `SPIKE_DEVIATIONS` above the mean.
    good_step, good_loss
        The last step that was within the bound, and the mean there.
    """

    steps: int = 0
    mean: float = 0.0
    variance: float = 0.0
    lowest: float = math.inf
    beyond: int = 0
    spikes: int = 0
    good_step: int = 0
    good_loss: float = math.nan

    def see(self, step: int, loss: float, gradient_norm: float) -> str:
        """Take note of the step that ended at `step`; returns why the run has diverged, empty where it has not."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            return "its loss or gradient was not finite"
        deviation = loss - self.mean
        if self.steps >= MEMORY and deviation > SPIKE_DEVIATIONS * math.sqrt(self.variance):
            self.spikes += 1
        self.steps += 1
        weight = 1 / min(self.steps, MEMORY)
        self.mean += weight * deviation
        self.variance = (1 - weight) * (self.variance + weight * deviation**2)
        self.lowest = min(self.lowest, self.mean)
        if loss > self.lowest + DIVERGED_NATS:
            self.beyond += 1
        else:
            self.beyond = max(0, self.beyond - 1)
            self.good_step, self.good_loss = step, self.mean
        if self.beyond < DIVERGED_STEPS:
            return ""
        return f"its loss stayed more than {DIVERGED_NATS:g} nat above its lowest mean, {self.lowest:.4g}"

    def last_good(self, tokens_per_step: int) -> str:
        """The last good point in words."""
        if not self.good_step:
            return "no step was good"
        tokens = self.good_step * tokens_per_step
        return f"last good: step {self.good_step}, {tokens} tokens, loss {self.good_loss:.4g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, of which `Health` is made again."""
        return asdict(self)
