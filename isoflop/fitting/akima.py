"""The minimum of an Akima spline through a profile, for one profile or thousands of resamples of it at once.

A spline assumes nothing of the profile's shape, so over a wide grid it is not biased as a parabola is; in return it
follows every loss's noise. Akima's (1970) keeps an outlier's influence local. Its minima of ln loss reproduce the
exponents that Porian et al. (2024) published.

Source: Akima 1970, J. ACM 17(4), equations 1 to 3 and 8 to 9.
"""

from __future__ import annotations

import numpy as np

from isoflop.fitting.columns import Floats
from isoflop.fitting.parabola import Vertices

#: Slopes whose changes are smaller than this share of the largest are one straight line.
_STRAIGHT = 1e-9


def spline(x: Floats, y: Floats) -> Floats:
    """Coefficients of the cubics c0 + c1·t + c2·t² + c3·t³, t = x − (the interval's left end).

    Parameters
    ----------
    x : shape (n,)
        Ascending, n >= 2.
    y : shape (r, n)
        Values, a spline a row.

    Returns
    -------
    shape (4, r, n − 1)
    """
    step = np.diff(x)
    chord = np.diff(y, axis=1) / step
    # Two more chords on each side, as if the ends were parabolas.
    second, last = (chord[:, min(1, len(step) - 1)], chord[:, max(-2, -len(step))])
    left = 2 * chord[:, 0] - second
    right = 2 * chord[:, -1] - last
    m = np.column_stack([2 * left - chord[:, 0], left, chord, right, 2 * right - chord[:, -1]])
    change = np.abs(np.diff(m, axis=1))
    before, after = change[:, :-2], change[:, 2:]
    total = before + after
    bent = total > _STRAIGHT * total.max(axis=1, keepdims=True, initial=0)
    share = np.where(bent, before / np.where(bent, total, 1.0), 0.5)
    slope = (1 - share) * m[:, 1:-2] + share * m[:, 2:-1]
    quadratic = (3 * chord - 2 * slope[:, :-1] - slope[:, 1:]) / step
    cubic = (slope[:, :-1] + slope[:, 1:] - 2 * chord) / step**2
    return np.stack([y[:, :-1], slope[:, :-1], quadratic, cubic])


def evaluate(x: Floats, y: Floats, at: Floats) -> Floats:
    """The spline through `y`, shape (n,), at places between the ends of `x`, shape (m,)."""
    cubics = spline(x, y[None])[:, 0]
    interval = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    t = at - x[interval]
    c0, c1, c2, c3 = cubics[:, interval]
    value: Floats = c0 + t * (c1 + t * (c2 + t * c3))
    return value


def find_spline_vertices(x: Floats, y: Floats) -> Vertices:
    """The lowest place of the spline through each row of `y`; the parameters are `spline`'s, n >= 3.

    `inside` tells whether that is between the smallest and the largest x; `start` is 0, as every size counts.
    """
    c0, c1, c2, c3 = spline(x, y)
    step = np.diff(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(c2**2 - 3 * c1 * c3)
        # Of the two roots of the derivative the one at which the cubic curves upwards, in the form that is stable
        # for either sign of c2 and for c3 = 0.
        place = np.where(c2 > 0, -c1 / (c2 + root), (root - c2) / (3 * c3))
    valid = np.isfinite(place) & (place >= 0) & (place <= step)
    place = np.where(valid, place, 0.0)
    height = np.where(valid, c0 + place * (c1 + place * (c2 + place * c3)), np.inf)
    rows = np.arange(len(y))
    best = height.argmin(axis=1)
    lowest = y.argmin(axis=1)
    level = height[rows, best]
    position = x[best] + place[rows, best]
    # A minimum of the spline at an end of x is a slope there, not a valley.
    inside = (level <= y[rows, lowest]) & (position > x[0]) & (position < x[-1])
    return Vertices(
        position=np.where(inside, position, x[lowest]),
        curvature=(c2 + 3 * c3 * place)[rows, best],
        height=np.where(inside, level, y[rows, lowest]),
        start=np.zeros(len(y), dtype=np.int64),
        inside=inside,
        lowest=lowest,
    )


def level_crossings(x: Floats, y: Floats, place: float, level: float) -> tuple[float | None, float | None]:
    """Where the spline through `y`, shape (n,), first rises to `level` left and right of `place`; None where never."""
    cubics = spline(x, y[None])[:, 0]
    left: float | None = None
    right: float | None = None
    for interval, start in enumerate(x[:-1]):
        c0, c1, c2, c3 = cubics[:, interval]
        roots = np.roots([c3, c2, c1, c0 - level])
        real = roots[np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots.real))].real
        for root in real[(real >= 0) & (real <= x[interval + 1] - start)]:
            crossing = float(start + root)
            if crossing <= place:
                left = crossing if left is None else max(left, crossing)
            else:
                right = crossing if right is None else min(right, crossing)
    return left, right
