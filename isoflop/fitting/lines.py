"""The power laws through a study's minima, with their intervals: what a headline by minima rests on.

A plan is forecast with these same lines (`isoflop.planning.simulation`), so what it promises is what a fit prints where
the minima lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.bands import Band, drawn_lines, line_band
from isoflop.fitting.bootstrap import FEWEST_BUDGETS, Draws, resample
from isoflop.fitting.columns import Floats
from isoflop.fitting.intervals import Estimate
from isoflop.fitting.minima import Method, Minimum, Profile, Status
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.powerlaw import Lines, PowerLaw, fit_lines, growth_ratio, power_law
from isoflop.fitting.sharing import Models
from isoflop.fitting.words import percent, power

#: With fewer usable resamples than this share the noise swamps the profiles.
_FEWEST_USABLE = 0.1


@dataclass(frozen=True, eq=False)
class MinimaLines:
    """Lines of ln N*, ln D* and ln L* against ln C = `x`, shape (budgets,), with the resamples behind them.

    `profiles` and `minima` are the interior ones; `log_loss` is ln L*. `observed` and `drawn` have the keys
    ``params``, ``tokens``, ``loss``.
    """

    profiles: tuple[Profile, ...]
    minima: tuple[Minimum, ...]
    x: Floats
    log_loss: Floats
    draws: Draws
    observed: dict[str, Lines]
    drawn: dict[str, Lines]

    def law(self, name: str) -> PowerLaw:
        """The power law of ``params``, ``tokens`` or ``loss``."""
        return power_law(self.observed[name], self.drawn[name])

    @property
    def ratio(self) -> Estimate:
        """b/a."""
        return growth_ratio(
            self.observed["params"], self.observed["tokens"], self.drawn["params"], self.drawn["tokens"]
        )

    def band(self, name: str, grid: Floats) -> Band:
        """The interval of ``params`` or ``tokens`` at ln C = `grid`."""
        return line_band(grid, self.observed[name], self.drawn[name])


def lines_through(
    profiles: Sequence[Profile],
    minima: Sequence[Minimum],
    *,
    width: int,
    bootstrap: int,
    seed: int,
    method: Method = "parabola",
    models: Models | None = None,
) -> MinimaLines:
    """Fit the power laws through the interior ones of `minima`, those of `profiles` by parabolas of `width` sizes.

    `models` tells which points of the profiles share a part of their noise.

    Raises
    ------
    NoAnswerError
        If fewer than three budgets have an interior minimum, naming the others, or nothing tells an interval.
    """
    _require_enough(minima)
    kept = [place for place, minimum in enumerate(minima) if minimum.status is Status.INTERIOR]
    inside, found = tuple(profiles[place] for place in kept), tuple(minima[place] for place in kept)
    draws = resample(inside, width, bootstrap, seed, method, None if models is None else models.only(kept))
    _require_intervals(found, draws)
    x = np.log([minimum.flops for minimum in found])
    names = ("params", "tokens", "loss")
    heights = {name: np.log([getattr(minimum, name) for minimum in found]) for name in names}
    return MinimaLines(
        profiles=inside,
        minima=found,
        x=x,
        log_loss=heights["loss"],
        draws=draws,
        observed={name: fit_lines(x, heights[name][None], np.ones((1, len(x)), dtype=bool)) for name in names},
        drawn={name: drawn_lines(x, draws, getattr(draws, f"log_{name}")) for name in names},
    )


def _require_enough(minima: Sequence[Minimum]) -> None:
    refused = [minimum for minimum in minima if minimum.status is not Status.INTERIOR]
    interior = len(minima) - len(refused)
    if interior < FEWEST_BUDGETS:
        named = "".join(f"\n  C = {power(each.budget)}: {each.status}: {each.reason}; {each.cure}" for each in refused)
        budgets = f"{len(minima)} budget{'s' * (len(minima) != 1)}"
        raise NoAnswerError(
            f"a law needs {FEWEST_BUDGETS} budgets with an interior minimum, but {interior} of {budgets} "
            f"{'has' if interior == 1 else 'have'} one{named or ': add budgets'}"
        )


def _require_intervals(interior: Sequence[Minimum], draws: Draws) -> None:
    if draws.noise.freedom == 0 and len(interior) == FEWEST_BUDGETS:
        raise NoAnswerError(
            f"{FEWEST_BUDGETS} budgets of {FEWEST} sizes leave nothing over from which to tell an interval: add a size "
            f"to each, or a budget (got C = {', '.join(power(each.budget) for each in interior)})"
        )
    usable = float(draws.usable.mean())
    if usable < _FEWEST_USABLE:
        named = "".join(
            f"\n  C = {power(each.budget)}: {percent(failed)} of the resamples have no minimum"
            for each, failed in zip(interior, draws.failed, strict=True)
        )
        raise NoAnswerError(
            f"the noise of a run ({percent(draws.noise.sd)} of its loss) swamps the profiles: with other noise only "
            f"{percent(usable)} of the studies would have {FEWEST_BUDGETS} minima{named}"
        )
