"""The arithmetic of local parabolas, for one profile or thousands of resamples of it at once.

A profile of losses is flat at its bottom and not symmetric about it, so a parabola over all of it puts the minimum
in the wrong place. Here it is fitted to the `window` sizes nearest its own vertex: start with those nearest the
lowest loss, fit, move to those nearest the vertex, until that stands still. In resamples the window moves too; one
that is held fixed makes intervals a fifth too wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.columns import Floats

#: Sizes that a parabola needs.
FEWEST = 3


@dataclass(frozen=True, eq=False)
class Vertices:
    """Parabolas y = height + curvature·(x − position)², one a row of losses, shape (r,) each.

    `start` is the first of the window's sizes. `inside` tells which have a minimum between the smallest and the
    largest size, and `lowest` which of the sizes has the lowest loss.
    """

    position: Floats
    curvature: Floats
    height: Floats
    start: NDArray[np.int64]
    inside: NDArray[np.bool_]
    lowest: NDArray[np.int64]


def find_vertices(x: Floats, y: Floats, weights: Floats, window: int) -> Vertices:
    """Fit a local parabola to each row of `y`.

    Parameters
    ----------
    x : shape (n,)
        Ascending ln N or ln D, n >= 3.
    y : shape (r, n)
        ln loss.
    weights : shape (n,)
        Runs behind each loss.
    window
        Sizes per parabola, at least 3; all of them where there are fewer.
    """
    count = len(x)
    width = min(window, count)
    starts = count - width + 1
    rows = np.arange(len(y))
    windows = np.lib.stride_tricks.sliding_window_view(y, width, axis=1).transpose(1, 2, 0)
    level, linear, bend = (solvers(x, weights, width) @ windows).transpose(1, 0, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = -linear / (2 * bend)
    position = shift + window_centers(x, width)[:, None]
    lowest = y.argmin(axis=1)
    # The `width` sizes nearest to a place start one later beyond each midpoint of the size left and the one gained.
    switches = (x[: starts - 1] + x[width:]) / 2
    start = np.searchsorted(switches, x[lowest])
    for _ in range(starts):
        nearest = np.searchsorted(switches, position[start, rows])
        moved = np.where(bend[start, rows] > 0, nearest, start)
        if np.array_equal(moved, start):
            break
        start = moved
    chosen = (start, rows)
    convex = bend[chosen] > 0
    found = np.where(convex, position[chosen], np.nan)
    return Vertices(
        position=found,
        curvature=bend[chosen],
        height=np.where(convex, level[chosen] - bend[chosen] * shift[chosen] ** 2, np.nan),
        start=start,
        inside=convex & (found > x[0]) & (found < x[-1]) & (lowest > 0) & (lowest < count - 1),
        lowest=lowest,
    )


def window_centers(x: Floats, width: int) -> Floats:
    """Where the parabola of each window is centred for the arithmetic's sake, shape (n − width + 1,)."""
    centers: Floats = np.lib.stride_tricks.sliding_window_view(x, width).mean(axis=1)
    return centers


def solvers(x: Floats, weights: Floats, width: int) -> Floats:
    """Return each window's matrix from its losses to the weighted least-squares level, slope and curvature.

    Shape (n − width + 1, 3, width).
    """
    roots = np.sqrt(np.lib.stride_tricks.sliding_window_view(weights, width))
    designs = design(np.lib.stride_tricks.sliding_window_view(x, width)) * roots[:, :, None]
    matrices: Floats = np.asarray(np.linalg.pinv(designs), dtype=np.float64) * roots[:, None, :]
    return matrices


def design(x: Floats) -> Floats:
    """Columns 1, u, u² of u = x − mean(x) for x of shape (…, n), shape (…, n, 3)."""
    u = x - x.mean(axis=-1, keepdims=True)
    return np.stack([np.ones_like(u), u, u * u], axis=-1)
