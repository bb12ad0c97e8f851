"""Does the surface hold what the points hold? A test of its residuals, against themselves and against repeats.

Residuals of an adequate form are noise, so no smooth function of ln N and ln D explains them. Those that a surface
can follow (its own derivatives) are taken out first; what cubic polynomials explain of the rest is compared with what
they do not, by F. A lack of fit of half the noise of a run shows in four of five studies of 63 runs.

Source: Draper & Smith 1998, Applied Regression Analysis, chapter 2; Ramsey 1969, J. R. Stat. Soc. B 31(2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from isoflop.fitting.columns import Floats
from isoflop.fitting.surface import Surface

#: Residuals of ln loss that are rounding, and no lack of fit.
_ROUNDING = 1e-7
#: Residuals are cut at this many robust sd: one wild run is no lack of form.
_CUT = 4.0
#: Directions of the design that are shorter than this share of the longest say nothing.
_RANK = 1e-6


@dataclass(frozen=True)
class Adequacy:
    """What the test found: an adequate surface has a large `p_value`.

    Parameters
    ----------
    p_value
        Probability of so much structure in the residuals of a form that is right; 1 where nothing is left over.
    smooth
        The sd of ln loss that the structure amounts to.
    residual
        The sd of ln loss about the surface, its parameters counted.
    pure, pure_freedom
        The sd of ln loss between repeats of the same N and D, and its degrees of freedom; 0 where nothing is repeated.
    """

    p_value: float
    smooth: float
    residual: float
    pure: float
    pure_freedom: int


def examine_surface(surface: Surface, params: Floats, tokens: Floats, loss: Floats, weights: Floats) -> Adequacy:
    """Test `surface` on the points that it was fitted to, shape (n,) each, n > 5."""
    from scipy.special import fdtrc  # late: scipy.special is a third of this package's import time

    root = np.sqrt(weights / weights.mean())
    fitted = surface.at(params, tokens)
    residual = root * (np.log(loss) - np.log(fitted))
    pure, pure_freedom = _repeats(params, tokens, loss)
    count = len(residual)
    size = math.sqrt(float(residual @ residual) / max(count - 5, 1))
    if size < _ROUNDING:
        return Adequacy(1.0, 0.0, size, pure, pure_freedom)
    spread = 1.4826 * float(np.median(np.abs(residual)))
    residual = np.clip(residual, -_CUT * spread, _CUT * spread) if spread > 0 else residual
    x, z = _standard(np.log(params)), _standard(np.log(tokens))
    model = surface.A * np.exp(-surface.alpha * np.log(params)) / fitted
    data = surface.B * np.exp(-surface.beta * np.log(tokens)) / fitted
    own = np.stack([1 / fitted, model, data, model * x, data * z], axis=1) * root[:, None]
    smooth = np.stack([x * x, x * z, z * z, x**3, x * x * z, x * z * z, z**3], axis=1) * root[:, None]
    basis = _basis(own)
    left = residual - basis @ (basis.T @ residual)
    extra = _basis(smooth - basis @ (basis.T @ smooth), np.linalg.norm(smooth, axis=0).max())
    explained = float(((extra.T @ left) ** 2).sum())
    rest = float(left @ left) - explained
    directions, freedom = extra.shape[1], count - basis.shape[1] - extra.shape[1]
    if freedom < 1 or directions < 1 or rest <= 0:
        return Adequacy(1.0, 0.0, size, pure, pure_freedom)
    ratio = (explained / directions) / (rest / freedom)
    beyond = max(explained - directions * rest / freedom, 0.0)
    p_value = float(fdtrc(directions, freedom, ratio))
    if pure_freedom >= 3:
        # Repeats know the noise without any form: the whole misfit is held against them too.
        within = pure**2 * pure_freedom
        between = max(float(residual @ residual) - within, 0.0) / max(count - 5 - pure_freedom, 1)
        p_value = (
            min(1.0, 2 * min(p_value, float(fdtrc(max(count - 5 - pure_freedom, 1), pure_freedom, between / pure**2))))
            if pure > 0
            else p_value
        )
    return Adequacy(p_value, math.sqrt(beyond / count), size, pure, pure_freedom)


def _standard(values: Floats) -> Floats:
    """Centred, in units of their sd."""
    spread = float(values.std())
    centred: Floats = (values - values.mean()) / (spread or 1.0)
    return centred


def _basis(columns: Floats, longest: float | None = None) -> Floats:
    """Orthonormal directions of the columns' span, without those that are rounding."""
    vectors, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    kept: Floats = vectors[:, sizes > _RANK * (sizes[0] if longest is None else longest)]
    return kept


def _repeats(params: Floats, tokens: Floats, loss: Floats) -> tuple[float, int]:
    """The sd of ln loss between points of the same N and D, and its degrees of freedom."""
    keys = np.stack([np.round(np.log(params), 6), np.round(np.log(tokens), 6)], axis=1)
    _, group, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    freedom = len(loss) - len(counts)
    if not freedom:
        return 0.0, 0
    group = group.reshape(-1)
    height = np.log(loss)
    mean = np.bincount(group, height) / counts
    return math.sqrt(float(((height - mean[group]) ** 2).sum()) / freedom), freedom
