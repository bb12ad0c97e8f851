"""The 95 % intervals of N*(C), D*(C) and L*(C), from a decade below the budgets to three decades above them.

N* and D* are where the optimum lies; L* is the loss of one run trained there, so its interval holds that run's own
noise too. Each is the wider, at each C, of the bootstrap's and of one that takes the scatter of the minima at its
word. They are tabulated, because a law is read back from JSON and must give the same intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isoflop.fitting.bootstrap import Draws
from isoflop.fitting.columns import Floats
from isoflop.fitting.cost import CostModel
from isoflop.fitting.intervals import LEVEL, middle_interval, t_quantile
from isoflop.fitting.losscurve import LossCurve, fit_curves
from isoflop.fitting.powerlaw import Lines, fit_lines
from isoflop.fitting.surface import Surface, Surfaces

#: Decades below the smallest and above the largest budget, and steps per decade, of the tabulated bands.
_BELOW, _ABOVE, _STEPS = 1, 3, 5
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


@dataclass(frozen=True)
class Band:
    """Both ends of an interval at each of the table's C."""

    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Bands:
    """Intervals at tabulated C, in between (and beyond) by straight lines in logarithms."""

    flops: tuple[float, ...]
    params: Band
    tokens: Band
    loss: Band

    def at(self, flops: float, band: Band) -> tuple[float, float]:
        """Both ends of `band` at `flops` training FLOPs."""
        x = np.log(self.flops)
        place = int(np.clip(np.searchsorted(x, math.log(flops)) - 1, 0, len(x) - 2))
        share = (math.log(flops) - x[place]) / (x[place + 1] - x[place])
        ends = [(1 - share) * math.log(end[place]) + share * math.log(end[place + 1]) for end in (band.low, band.high)]
        return math.exp(ends[0]), math.exp(ends[1])


def band_grid(lowest: float, highest: float) -> Floats:
    """Ln C of the table for budgets from `lowest` to `highest` FLOPs."""
    low, high = math.log10(lowest) - _BELOW, math.log10(highest) + _ABOVE
    return np.linspace(low, high, round((high - low) * _STEPS) + 1) * math.log(10)


def line_band(grid: Floats, observed: Lines, drawn: Lines) -> Band:
    """Band of a power law: the wider of t about the `observed` line and of the middle of the `drawn` ones."""
    value = observed.at(grid)[0]
    half = t_quantile(int(observed.count[0]) - 2) * observed.standard_error(grid)[0]
    heights = drawn.at(grid)
    usable = heights[np.isfinite(heights).all(axis=1)]
    ends = [middle_interval(float(middle), column) for middle, column in zip(value, usable.T, strict=True)]
    low, high = np.array(ends).T
    return _band(value, (value - half, value + half), (low, high))


def loss_band(grid: Floats, x: Floats, log_loss: Floats, curve: LossCurve, draws: Draws, seed: int) -> Band:
    """Band of one run's loss at the optimum: curves refitted to the drawn minima, plus that run's noise.

    Where the minima scatter about the curve by more than the draws do, the draws are spread to that scatter.
    """
    usable = draws.usable
    inside, moved = draws.inside[usable], np.where(draws.inside, draws.log_loss - log_loss, 0.0)[usable]
    drawn_sd = float(np.sqrt((moved**2).sum() / max(inside.sum(), 1)))
    generator = np.random.default_rng(seed)
    if curve.scatter > drawn_sd:
        moved = moved + math.sqrt(curve.scatter**2 - drawn_sd**2) * generator.standard_normal(moved.shape)
    curves = fit_curves(x, log_loss + moved, inside)
    run_sd = max(draws.noise.sd, curve.scatter)
    heights = curves.at(grid) + run_sd * generator.standard_normal((len(moved), 1))
    value = np.log([curve.at(flops) for flops in np.exp(grid)])
    percentiles = _percentiles(heights, value)
    return _band(value, percentiles, percentiles)


def surface_bands(
    grid: Floats, surface: Surface, draws: Surfaces, cost: CostModel, noise: float, seed: int, turn: Floats
) -> tuple[Band, Band, Band]:
    """Bands of N*, D* and one run's loss along a surface's optimum, from its resamples.

    `turn`, of `grid`'s shape, is by how much more ln N* and ln D* may be off: what turns the law about its centre.
    """
    flops = np.exp(grid)
    own, drawn = surface.arrays.optimum(flops, cost), draws.optimum(flops, cost)
    errors = noise * np.random.default_rng(seed).standard_normal((len(drawn.loss), 1))
    bands = []
    for name, spread, extra in (("params", 0.0, turn), ("tokens", 0.0, turn), ("loss", errors, np.zeros(len(grid)))):
        value = np.log(getattr(own, name)[0])
        low, high = _percentiles(np.log(getattr(drawn, name)) + spread, value)
        ends = value - np.hypot(value - low, extra), value + np.hypot(high - value, extra)
        bands.append(_band(value, ends, ends))
    return bands[0], bands[1], bands[2]


def drawn_lines(x: Floats, draws: Draws, drawn: Floats) -> Lines:
    """Power laws of the draws, over the budgets whose minimum was interior in each; NaN where too few were."""
    enough = draws.inside & draws.usable[:, None]
    return fit_lines(x, np.where(enough, drawn, 0.0), enough)


def _percentiles(heights: Floats, value: Floats) -> tuple[Floats, Floats]:
    if not len(heights):
        return value, value
    low, high = np.quantile(heights, _TAILS, axis=0)
    return low, high


def _band(value: Floats, first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> Band:
    wider = (first[1] - first[0]) >= (second[1] - second[0])
    low = np.minimum(np.where(wider, first[0], second[0]), value)
    high = np.maximum(np.where(wider, first[1], second[1]), value)
    return Band(tuple(np.exp(low).tolist()), tuple(np.exp(high).tolist()))
