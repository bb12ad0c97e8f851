"""How far the minima would move if every run were trained again with other noise.

Within a budget there are five to ten sizes, too few to resample: a third of the resamples of pairs lose the very
sizes that hold the parabola, and intervals come out up to twice too wide. So residuals are resampled: those of all
interior budgets in one pool (ln loss has much the same noise at every budget of a study), each divided by √(1 − h)
of its leverage h and all scaled to the unbiased σ. Each resample finds its window anew. On simulated studies of
three surfaces, five budgets × 6 sizes to seven × 9, nominal 95 % intervals of a cover 93 to 98 %.

Where points of several budgets are one model (branches of a trunk), a resample's errors have a part that these share
(`isoflop.fitting.sharing`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.columns import Floats
from isoflop.fitting.intervals import percentiles
from isoflop.fitting.minima import Method, Minimum, Profile, Status, vertices_by_params, vertices_by_tokens
from isoflop.fitting.parabola import Vertices, design, solvers
from isoflop.fitting.sharing import SHARES, Models, Shared, likely_shares

#: Interior minima that a law needs: two make a line, the third says how far to trust it.
FEWEST_BUDGETS = 3
#: Leverage above which a residual says nothing: the parabola passes through the point.
_FULL_LEVERAGE = 1 - 1e-9


@dataclass(frozen=True, eq=False)
class Noise:
    """The sd of one run's ln loss about the local parabolas, its degrees of freedom, and the pool to draw from.

    `pool` has mean 0 and sd `sd`; where nothing is left over to tell noise from shape, `freedom` is 0 and sd too.
    """

    sd: float
    freedom: int
    pool: Floats


@dataclass(frozen=True, eq=False)
class Draws:
    """Minima of resampled profiles, shape (draws, budgets) each; `inside` tells which were interior.

    `shared` says what points of several budgets had in common, None where each had its own errors alone.
    """

    log_params: Floats
    log_tokens: Floats
    log_loss: Floats
    inside: NDArray[np.bool_]
    noise: Noise
    shared: Shared | None = None

    @property
    def failed(self) -> Floats:
        """Share of the resamples in which each budget had no interior minimum, shape (budgets,)."""
        shares: Floats = 1 - self.inside.mean(axis=0)
        return shares

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which resamples have interior minima enough for a power law, shape (draws,)."""
        enough: NDArray[np.bool_] = self.inside.sum(axis=1) >= FEWEST_BUDGETS
        return enough


def resample(
    interior: Sequence[Profile],
    window: int,
    draws: int,
    seed: int,
    method: Method = "parabola",
    models: Models | None = None,
) -> Draws:
    """Draw the minima of the `interior` profiles `draws` times.

    A resample's losses are the parabola's within the window and the observed ones outside it, plus noise, of which the
    points of each of the `models` share a part; in ln D the same noise meets the parabola in ln D. A spline through
    such losses has its minimum elsewhere than the observed one, by a constant that is taken off. Equal input and `seed`
    give equal draws.
    """
    noise = estimate_noise(interior, window)
    drawn_errors, shared = _errors(interior, window, draws, seed, noise, models)
    found: list[tuple[Vertices, Vertices]] = []
    for profile, errors in zip(interior, drawn_errors, strict=True):
        drawn = []
        for find, smooth in (
            (vertices_by_params, _smooth_by_params(profile, window)),
            (vertices_by_tokens, _smooth_by_tokens(profile, window)),
        ):
            vertices = find(profile, smooth + errors, window, method)
            if method == "akima":
                vertices = _moved(
                    vertices,
                    find(profile, smooth[None], window, method),
                    find(profile, profile.log_loss[None], window, method),
                )
            drawn.append(vertices)
        found.append((drawn[0], drawn[1]))
    return Draws(
        log_params=np.stack([by_params.position for by_params, _ in found], axis=1),
        log_tokens=np.stack([by_tokens.position for _, by_tokens in found], axis=1),
        log_loss=np.stack([by_params.height for by_params, _ in found], axis=1),
        inside=np.stack([by_params.inside & by_tokens.inside for by_params, by_tokens in found], axis=1),
        noise=noise,
        shared=shared,
    )


def _errors(
    interior: Sequence[Profile], window: int, draws: int, seed: int, noise: Noise, models: Models | None
) -> tuple[list[Floats], Shared | None]:
    """Errors of the sizes of each profile, shape (draws, sizes), and what they share."""
    generator = np.random.default_rng(seed)
    own = [
        generator.choice(noise.pool, size=(draws, len(profile.runs))) / np.sqrt(profile.runs) for profile in interior
    ]
    if models is None:
        return own, None
    probability = likely_shares(interior, models, window)
    share = generator.choice(SHARES, size=(draws, 1), p=probability)
    by_model = generator.choice(noise.pool, size=(draws, models.number))
    errors = [
        np.sqrt(share) * (by_model @ weights.T) + np.sqrt(1 - share) * each
        for each, weights in zip(own, models.weights(interior), strict=True)
    ]
    return errors, Shared(models.column, models.number, float(SHARES @ probability))


def _moved(drawn: Vertices, smooth: Vertices, observed: Vertices) -> Vertices:
    """`drawn` vertices, moved as a whole from about those of the smooth losses to about the `observed` ones."""
    return replace(
        drawn,
        position=drawn.position + (observed.position[0] - smooth.position[0]),
        height=drawn.height + (observed.height[0] - smooth.height[0]),
    )


def with_intervals(minima: Sequence[Minimum], draws: Draws) -> tuple[Minimum, ...]:
    """Give the minima the bootstrap intervals of their places, from the resamples in which they were interior."""
    place = 0
    result = []
    for minimum in minima:
        if minimum.status is not Status.INTERIOR or minimum.params is None or minimum.tokens is None:
            result.append(minimum)
            continue
        inside = draws.inside[:, place]
        params = np.exp(percentiles(draws.log_params[inside, place]))
        tokens = np.exp(percentiles(draws.log_tokens[inside, place]))
        result.append(
            replace(
                minimum,
                params_low=min(float(params[0]), minimum.params),
                params_high=max(float(params[1]), minimum.params),
                tokens_low=min(float(tokens[0]), minimum.tokens),
                tokens_high=max(float(tokens[1]), minimum.tokens),
            )
        )
        place += 1
    return tuple(result)


def estimate_noise(interior: Sequence[Profile], window: int) -> Noise:
    """Estimate the noise of a run from what the local parabolas leave over and from repeats of a size."""
    squares, freedom, pool = 0.0, 0, [np.zeros(0)]
    for profile in interior:
        start = int(vertices_by_params(profile, profile.log_loss[None], window).start[0])
        width = min(window, len(profile.runs))
        chosen = slice(start, start + width)
        x, y, runs = profile.log_params[chosen], profile.log_loss[chosen], profile.runs[chosen]
        hat = design(x) @ solvers(x, runs, width)[0]
        residual = (y - hat @ y) * np.sqrt(runs)
        leverage = np.diag(hat)
        free = leverage < _FULL_LEVERAGE
        pool.append(residual[free] / np.sqrt(1 - leverage[free]))
        squares += float(residual @ residual) + profile.repeat_squares
        freedom += width - 3 + int(profile.runs.sum()) - len(profile.runs)
    sd = math.sqrt(squares / freedom) if freedom else 0.0
    residuals = np.concatenate(pool)
    residuals = residuals - residuals.mean() if len(residuals) else residuals
    size = math.sqrt(float(np.mean(residuals**2))) if len(residuals) else 0.0
    # Sizes of which only repeats tell the noise leave no residuals: then the pool is the two-point one of that sd.
    return Noise(sd, freedom, residuals * (sd / size) if size > 0 else np.array([-sd, sd]))


def _smooth_by_params(profile: Profile, window: int) -> Floats:
    fitted = vertices_by_params(profile, profile.log_loss[None], window)
    return _smooth(profile.log_params, profile.log_loss, fitted, window)


def _smooth_by_tokens(profile: Profile, window: int) -> Floats:
    order = profile.by_tokens
    fitted = vertices_by_tokens(profile, profile.log_loss[None], window)
    smooth = np.empty_like(profile.log_loss)
    smooth[order] = _smooth(profile.log_tokens[order], profile.log_loss[order], fitted, window)
    return smooth


def _smooth(x: Floats, y: Floats, fitted: Vertices, window: int) -> Floats:
    """`y` with the parabola's values in its window."""
    smooth = y.copy()
    chosen = slice(int(fitted.start[0]), int(fitted.start[0]) + min(window, len(x)))
    smooth[chosen] = fitted.height[0] + fitted.curvature[0] * (x[chosen] - fitted.position[0]) ** 2
    return smooth
