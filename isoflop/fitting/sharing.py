"""What the branches of one trunk have in common, and so what the minima of neighbouring budgets do.

A branch is its trunk up to where they part, so a trunk that came out well is well at every budget. Its size lies to
the right of one budget's minimum and to the left of a larger one's: one error moves both, apart, and the line through
the minima turns. Residuals drawn one by one know nothing of it. Resampled by whole trunks they would be too few (the
demo has ten), and hold little of what is shared, for a parabola through five sizes takes up three fifths of it. So the
errors of a resample are those of a model: one part is common to the points that are one model, the rest each run's
own. How large a part is told from how the residuals of a model go together over its budgets, by their likelihood
(REML). As few residuals tell it roughly, every resample has another share, as often as it is likely.

On the grid of the demo, with all noise of a trunk shared, 95 % intervals of a hold the truth in 94 % of 600 simulated
studies, and without this in 89 %; with a share of 1/2 or none, though trunks are named, in 95 and 99 % of 500.

Seeds name no models: what all runs of a seed have in common moves the sizes of a profile alike, and no minimum.

Sources: Patterson & Thompson 1971, Biometrika 58(3), the likelihood of the residuals; Cameron & Miller 2015, J. Human
Resources 50(2), section VI, on what a bootstrap of few clusters misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isoflop.fitting.cells import MOST_POINTS
from isoflop.fitting.clusters import Clusters, Column
from isoflop.fitting.columns import Floats
from isoflop.fitting.minima import Profile, vertices_by_params
from isoflop.fitting.parabola import FEWEST, design
from isoflop.fitting.points import Points

#: The columns whose values are each one model, if of one size: branches of a trunk, rows of a run.
_MODELS: tuple[Column, ...] = ("trunk", "run")
#: ln N that differ by less are one size, in digits.
_DIGITS = 6
#: The shares that are tried: at 1 itself a single rounded loss would have no probability.
SHARES = (np.arange(20) + 0.5) / 20


@dataclass(frozen=True)
class Shared:
    """What the resamples of the minima kept together: the models that the values of `column` name, and their number.

    `share` is the part of a run's noise variance that a model's points have in common: the mean of what the residuals
    tell.
    """

    column: Column
    number: int
    share: float


@dataclass(frozen=True, eq=False)
class Models:
    """Which points are one model at several budgets: by profile, the number of the model of each of its points."""

    column: Column
    number: int
    labels: tuple[NDArray[np.int64], ...]

    def only(self, places: Sequence[int]) -> Models:
        """Those of some of the profiles."""
        return replace(self, labels=tuple(self.labels[place] for place in places))

    def weights(self, profiles: Sequence[Profile]) -> list[Floats]:
        """The part of each model in the mean loss of each size, shape (sizes, models) by profile."""
        found = []
        for profile, label in zip(profiles, self.labels, strict=True):
            weights = np.zeros((len(profile.runs), self.number))
            size = np.repeat(np.arange(len(profile.runs)), profile.runs.astype(np.int64))
            np.add.at(weights, (size, label), 1 / profile.runs[size])
            found.append(weights)
        return found


def models_of(points: Points, every: Sequence[Profile]) -> Models | None:
    """The models of the `points`, whose profiles are `every`, where some stand at several budgets; else None.

    None too for tables so large that they are averaged.
    """
    if len(points.row) > MOST_POINTS:
        return None
    ends = np.cumsum([int(profile.runs.sum()) for profile in every])[:-1]
    for clusters in points.clusters:
        if clusters.column in _MODELS:
            label = _of_one_size(clusters, points.params)
            number, labels = int(label.max()) + 1, tuple(np.split(label, ends))
            if sum(len(np.unique(each)) for each in labels) > number:
                return Models(clusters.column, number, labels)
    return None


def _of_one_size(clusters: Clusters, params: Floats) -> NDArray[np.int64]:
    """The number of each point's model: what shares a label and has another size is no branch of it."""
    size = np.unique(np.round(np.log(params), _DIGITS), return_inverse=True)[1]
    pairs = np.stack([clusters.label, size])
    label: NDArray[np.int64] = np.unique(pairs, axis=1, return_inverse=True)[1].astype(np.int64).ravel()
    return label


def likely_shares(interior: Sequence[Profile], models: Models, window: int) -> Floats:
    """How likely each of `SHARES` is, summing to 1, from what the local parabolas of the `interior` profiles leave.

    With z the coordinates of all residuals in the space that the parabolas leave, z ~ N(0, σ²·((1 − s)·I + s·K)) at a
    share of s, where K is what the models' errors alone would give; σ² is profiled out, and all s are as likely
    beforehand. Where nothing is left over, they stay so.
    """
    left, mixing = [np.zeros(0)], [np.zeros((0, models.number))]
    for profile, weights in zip(interior, models.weights(interior), strict=True):
        start = int(vertices_by_params(profile, profile.log_loss[None], window).start[0])
        chosen = slice(start, start + min(window, len(profile.runs)))
        roots = np.sqrt(profile.runs[chosen])[:, None]
        space = np.linalg.qr(design(profile.log_params[chosen]) * roots, mode="complete")[0][:, FEWEST:]
        left.append(space.T @ (roots[:, 0] * profile.log_loss[chosen]))
        mixing.append(space.T @ (roots * weights[chosen]))
    by_model = np.concatenate(mixing)
    scales, axes = np.linalg.eigh(by_model @ by_model.T)
    squares = (axes.T @ np.concatenate(left)) ** 2
    if not squares.sum() > 0:
        return np.full(len(SHARES), 1 / len(SHARES))
    variances = 1 + SHARES[:, None] * (scales - 1)
    logs = -0.5 * (np.log(variances).sum(axis=1) + len(scales) * np.log((squares / variances).sum(axis=1)))
    likelihood = np.exp(logs - logs.max())
    probability: Floats = likelihood / likelihood.sum()
    return probability
