"""The ways to the exponents side by side, and which of them leads.

The minima and the power laws through them assume little. The surface L = E + A/N^α + B/D^β uses every run and so is
two to three times as sharp, where the loss has that form. It leads only if it is fitted soundly, its residuals hold
no form of their own, and the minima agree with it; else it stands beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from isoflop.errors import NoAnswerError
from isoflop.fitting.adequacy import Adequacy, examine_surface
from isoflop.fitting.cells import Cells
from isoflop.fitting.clusters import Clustering
from isoflop.fitting.cost import CostModel
from isoflop.fitting.intervals import NORMAL, Estimate, High, Low
from isoflop.fitting.misfit import Misfit, unseen_misfit
from isoflop.fitting.parametric import report
from isoflop.fitting.parametric_bootstrap import Scheme, SurfaceDraws, SurfaceIntervals, bootstrap_surface
from isoflop.fitting.parametric_profile import FloorProfile, profile_floor
from isoflop.fitting.parametric_search import Delta, Search, SearchOptions, search
from isoflop.fitting.repetition import Repetition, fit_repetition, tokens_worth
from isoflop.fitting.surface import Surface

#: Structure in the residuals that would come about less often than this by chance is a lack of fit.
SIGNIFICANT = 0.1
#: Exponents that differ by less are the same to anybody.
SAME_EXPONENT = 0.01
#: Tokens beyond the distinct ones by more than this share are seen again.
_REPEATED = 1e-3


@dataclass(frozen=True)
class Parametric(Surface):
    """A fitted surface with the intervals of its parameters; `a` and `b` hold at `reference` FLOPs.

    Under 6ND they hold everywhere. `clusters` tells what the resamples behind the intervals kept together, None where
    points stand alone. `floor` is E's interval by profile; `repetition_low` and `repetition_high` are those of R*, and
    D is effective tokens then. `adequacy` tests the residuals; `misfit` is what a lack of fit that the test does not
    see could do to the exponents.
    """

    a: float = math.nan
    b: float = math.nan
    reference: float = math.nan
    intervals: SurfaceIntervals | None = None
    clusters: Clustering | None = None
    floor: FloorProfile | None = None
    repetition_low: Low | None = None
    repetition_high: High | None = None
    adequacy: Adequacy | None = None
    misfit: Misfit | None = None


@dataclass(frozen=True)
class MethodExponents:
    """What one method says: its exponents, None where it has no answer, and how far they are from the headline's.

    `bias_a` and `bias_b` are what the method would get wrong on the fitted surface (`isoflop.fitting.bias`).
    """

    a: float | None
    b: float | None
    difference_a: float | None
    difference_b: float | None
    budgets: int
    bias_a: float | None = None
    bias_b: float | None = None


@dataclass(frozen=True)
class Methods:
    """The methods by their names."""

    parabola: MethodExponents
    akima: MethodExponents
    parametric: MethodExponents


@dataclass(frozen=True)
class SurfaceOptions:
    """What was asked of the surface: Huber's δ (None: least squares), values held, parameters tied."""

    delta: Delta = "auto"
    pins: tuple[tuple[str, float], ...] = ()
    ties: tuple[str, ...] = ()

    def on(self, cells: Cells) -> SearchOptions:
        """With what the `cells` tell, as a search takes it."""
        return {
            "sigma": cells.sigma,
            "weights": cells.weights,
            "delta": self.delta,
            "pins": dict(self.pins),
            "ties": self.ties,
        }


@dataclass(frozen=True, eq=False)
class FittedSurface:
    """The surface and its resamples."""

    surface: Parametric
    draws: SurfaceDraws


def fit_parametric(
    cells: Cells, cost: CostModel, reference: float, options: SurfaceOptions, draws: int, seed: int
) -> FittedSurface | str:
    """Fit the surface to the `cells`, resample and examine it; or say in a sentence why there is none."""
    try:
        surface, found, repetition = _search(cells, options)
    except NoAnswerError as error:
        return str(error)
    scheme, labels = _scheme(cells)
    drawn = bootstrap_surface(found, cells.draws(draws), seed, scheme=scheme, labels=labels)
    tokens = tokens_worth(cells.tokens, cells.unique_tokens, surface.repetition)
    a, b = surface.exponents(reference, cost)
    adequacy = examine_surface(surface, cells.params, tokens, cells.loss, cells.weights)
    values: dict[str, Any] = {field.name: getattr(surface, field.name) for field in fields(surface)}
    parametric = Parametric(
        **values,
        a=a,
        b=b,
        reference=reference,
        intervals=drawn.intervals(reference, cost),
        clusters=None if cells.clusters is None else Clustering(cells.clusters.column, cells.clusters.number),
        floor=profile_floor(found) if surface.trusted and not cells.averaged else None,
        repetition_low=None if repetition is None else repetition.low,
        repetition_high=None if repetition is None else repetition.high,
        adequacy=adequacy,
        misfit=unseen_misfit(surface, cells.params, tokens, cells.weights, adequacy.residual, reference, cost)
        if surface.trusted
        else None,
    )
    return FittedSurface(parametric, drawn)


def _search(cells: Cells, options: SurfaceOptions) -> tuple[Surface, Search, Repetition | None]:
    """Fit the surface, with R* where some run sees its data again."""
    asked = options.on(cells)
    if cells.unique_tokens is not None and (cells.tokens > (1 + _REPEATED) * cells.unique_tokens).any():
        repeated = fit_repetition(cells.params, cells.tokens, cells.unique_tokens, cells.loss, **asked)
        return repeated.surface, repeated.found, repeated
    found = search(cells.params, cells.tokens, cells.loss, **asked)
    return report(found), found, None


def _scheme(cells: Cells) -> tuple[Scheme, Any]:
    """Clusters where points share their noise; within budgets where there are profiles; else pairs."""
    if cells.clusters is not None:
        return "clustered", cells.clusters.label
    # In a stratum of one, a point comes once in every resample: that is no resampling.
    if len(cells.stratum) >= 3 * (int(cells.stratum.max()) + 1):
        return "stratified", cells.stratum
    return "pairs", None


def why_not_leading(surface: Parametric, a: Estimate, b: Estimate) -> str:
    """Why the minima, with exponents `a` and `b`, stay the headline; empty where the surface leads."""
    if not surface.trusted:
        return f"its fit is not sound ({surface.status.replace('_', ' ')})"
    if surface.adequacy is not None and surface.adequacy.p_value < SIGNIFICANT:
        return "it does not fit: its residuals hold a form of their own"
    for name, found, minima in (("a", surface.a, a), ("b", surface.b, b)):
        if abs(found - minima.value) > SAME_EXPONENT and not minima.low <= found <= minima.high:
            return f"it does not agree with the minima: its {name} is {found:.3f}, theirs {minima.value:.3f}"
    return ""


def surface_estimate(value: float, ends: tuple[float, float], unseen: float) -> Estimate:
    """An exponent of the leading surface; `ends` are the bootstrap's, which knows the noise alone.

    `unseen` is the sd by which a lack of fit that no test sees would move it (`isoflop.fitting.misfit`): added in
    squares.
    """
    low, high = min(ends[0], value), max(ends[1], value)
    extra = NORMAL * unseen
    return Estimate(
        value, value - math.hypot(value - low, extra), value + math.hypot(high - value, extra), "bootstrap", ends, ends
    )
