"""What could be wrong with a law, each examined and answered in a sentence with its remedy.

A check never changes the law. ``pass`` means nothing was found, ``warn`` that the law is usable but suspect, ``fail``
that its headline should not be used as it stands. What concerns the minima alone is in `checks_minima`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import takewhile

from isoflop.fitting.checks_minima import EXAMINERS
from isoflop.fitting.evidence import Check, CheckStatus, Evidence, MinimaEvidence, verdict
from isoflop.fitting.methods import SIGNIFICANT, Parametric
from isoflop.fitting.minima import Status
from isoflop.fitting.words import count, percent, power

__all__ = ["Check", "CheckStatus", "Evidence", "MinimaEvidence", "examine"]

#: Residual of ln C beyond which sizes alone do not tell the cost.
_COST = 0.03
#: Decades beyond the largest budget that a forecast is asked for, and that the fitted ones should span for it.
_ASKED = 1.0
#: Less often than this by chance, and a lack of fit is certain.
_CERTAIN = 0.001
#: More resamples of the surface than this without an end, and its intervals rest on the lucky ones.
_FAILED = 0.05


def examine(evidence: Evidence) -> tuple[Check, ...]:
    """Run every check, in the order in which a reader wants them."""
    found = [_minima(evidence)]
    if evidence.minima is not None:
        found += [examiner(evidence.minima) for examiner in EXAMINERS]
    examiners: tuple[Callable[[Evidence], Check], ...] = (
        _cost,
        _surface,
        _lack_of_fit,
        _headline,
        _forecast,
        _extrapolation,
        _bootstrap,
    )
    return tuple(found + [examiner(evidence) for examiner in examiners])


def _minima(evidence: Evidence) -> Check:
    if evidence.minima is None:
        return verdict(
            "minima",
            f"the table has no IsoFLOP profiles (most of its points stand at one of {len(evidence.every)} values of C "
            "with fewer than three sizes)",
            ", so nothing but the surface's own form stands behind the exponents. Train several sizes at each of "
            "three budgets or more",
        )
    minima = evidence.minima.minima
    refused = [minimum for minimum in minima if minimum.status is not Status.INTERIOR]
    outermost = [minimum for minimum in minima if minimum.status is Status.INTERIOR and minimum.cure]
    if not refused and not outermost:
        return verdict("minima", f"all {len(minima)} budgets have an interior minimum")
    named = "; ".join(
        f"C = {power(each.budget)} ({each.status}: {each.reason}): {each.cure}" for each in (*refused, *outermost)
    )
    found = f"{len(refused)} of {len(minima)} budgets are left out"
    return verdict("minima", found, f". {named}")


def _cost(evidence: Evidence) -> Check:
    cost = evidence.cost_model
    if cost.form == "6nd":
        return verdict("cost_model", "C = 6·N·D holds for every point, to 0.1 %")
    return verdict(
        "cost_model",
        f"C = 3·f(N)·D with ln f smooth in ln N leaves {percent(cost.rms)} (at worst {percent(cost.worst)}) of C",
        ": models of one size cost differently, so a recommendation's D is that uncertain. Give it a ladder of shapes"
        if cost.worst > _COST
        else "",
    )


def _surface(evidence: Evidence) -> Check:
    surface = evidence.surface
    if not isinstance(surface, Parametric):
        return verdict("surface", "there is no fitted surface", f": {surface}")
    found = (
        f"L = {surface.E:.4g} + {surface.A:.4g}/N^{surface.alpha:.3f} + {surface.B:.4g}/D^{surface.beta:.3f} leaves "
        f"residuals of {percent(surface.noise)}"
    )
    if not surface.trusted:
        return verdict("surface", found, f", but is not sound ({surface.status.replace('_', ' ')}): {surface.reason}")
    failed = surface.intervals.failed if surface.intervals is not None else 0.0
    if failed > _FAILED:
        return verdict(
            "surface",
            f"{found}; {surface.reason}",
            f"; {percent(failed)} of the resamples ended in no certified minimum, and its intervals rest on the others",
        )
    return verdict("surface", f"{found}; {surface.reason}")


def _lack_of_fit(evidence: Evidence) -> Check:
    surface = evidence.surface
    adequacy = surface.adequacy if isinstance(surface, Parametric) else None
    if adequacy is None:
        return verdict("lack_of_fit", "there is no surface whose residuals could be examined", "")
    found = f"the surface leaves {percent(adequacy.residual)} of the loss"
    if adequacy.pure_freedom:
        found += f", repeats of one run differ by {percent(adequacy.pure)} ({adequacy.pure_freedom} degrees of freedom)"
    chance = f"so much form in noise alone has a probability of {percent(adequacy.p_value)}"
    if adequacy.p_value >= SIGNIFICANT:
        return verdict("lack_of_fit", f"{found}; {chance}")
    return verdict(
        "lack_of_fit",
        f"{found}, {percent(adequacy.smooth)} of it with a form of its own ({chance})",
        ": the loss is not E + A/N^α + B/D^β, or runs of some size are trained otherwise. Trust "
        f"{'the minima, and ' if evidence.minima is not None else ''}no interval of the surface",
    )


def _headline(evidence: Evidence) -> Check:
    methods, surface = evidence.methods, evidence.surface
    told = [
        f"{name} {found.a:.3f}"
        for name in ("parabola", "akima", "parametric")
        if (found := getattr(methods, name)).a is not None
    ]
    found = f"a by each method: {', '.join(told)}"
    if evidence.minima is None:
        return _unconfirmed(found, surface)
    if not evidence.held_back:
        return verdict("headline", f"{found}; the surface leads, because it fits, and the minima agree")
    reason = evidence.held_back if isinstance(surface, Parametric) else "there is none"
    return verdict("headline", f"{found}; the minima lead, not the surface: {reason}")


def _unconfirmed(found: str, surface: Parametric | str) -> Check:
    """A surface that leads because nothing else can."""
    found = f"{found}; the surface leads, because nothing else can: the table has no IsoFLOP profiles"
    adequacy = surface.adequacy if isinstance(surface, Parametric) else None
    remedy = "Train several sizes at each of three budgets or more"
    if adequacy is None or adequacy.p_value >= SIGNIFICANT:
        return verdict("headline", found, f". It fits, but no minima confirm it. {remedy}")
    if adequacy.p_value >= _CERTAIN:
        return verdict("headline", found, f", and it may not fit (lack_of_fit). {remedy}")
    message = f"{found}, and it does not fit (lack_of_fit): the exponents are those of another form. {remedy}."
    return Check("headline", CheckStatus.FAIL, message)


def _forecast(evidence: Evidence) -> Check:
    forecast = evidence.forecast
    if isinstance(forecast, str):
        return verdict("forecast", "single runs cannot be forecast", f": {forecast}")
    rolled = (
        f"fitted below {forecast.cuts} of the budgets and asked about those above, it was wrong by "
        if forecast.cuts
        else "no budget leaves enough below it to be fitted and asked about the rest, so its error is taken to be "
    )
    found = (
        f"forecasts of single runs rest on the {forecast.rows} near the best at their C; {rolled}"
        f"{percent(forecast.roll_error)} of the loss per unit of 0.2 + decades"
    )
    if forecast.cuts:
        return verdict("forecast", found)
    return verdict("forecast", found, ". Add a budget below or above")


def _extrapolation(evidence: Evidence) -> Check:
    lowest, highest = evidence.flops_range
    span = math.log10(highest / lowest)
    found = (
        f"the budgets span {span:.2f} decades, {power(lowest)} to {power(highest)}; what is asked of C = "
        f"{power(10 * highest)} lies {_ASKED:g} decade beyond them, and nothing is calibrated farther out"
    )
    if span < _ASKED:
        return verdict("extrapolation", found, ": that is farther than what was seen. Add cheap budgets below")
    return verdict("extrapolation", found)


def _bootstrap(evidence: Evidence) -> Check:
    surface, cells, points = evidence.surface, evidence.cells, evidence.points
    draws = surface.intervals if isinstance(surface, Parametric) else None
    found = "no surface was resampled" if draws is None else f"{draws.draws} resamples of the surface, {draws.scheme}"
    found += f" by the {cells.clusters.number} values of {cells.clusters.column}" if cells.clusters else ""
    shared = None if evidence.minima is None else evidence.minima.draws.shared
    if shared is not None:
        found += (
            f"; those of the minima keep together what the points of a {shared.column} share ({shared.number} models, "
            f"{percent(shared.share)} of a run's noise)"
        )
    if cells.averaged:
        return verdict(
            "bootstrap",
            f"{count(len(points.row))} points were averaged into {len(cells.params)} cells by budget and size for the "
            f"surface, and the bootstrap reduced: {found}",
            "" if points.sigma is None else ". The surface knows nothing of loss_sigma then: fit fewer points",
        )
    passed_over = [each for each in takewhile(lambda each: not each.enough, points.clusters) if each.number > 1]
    if not passed_over:
        return verdict("bootstrap", found)
    told = " and ".join(f"{each.number} of {each.column} ({each.effective:.1f} in effect)" for each in passed_over)
    found += f"; points share {told}, too few to be resampled whole, so what they have in common is in no interval"
    found += "" if shared is None else " of the surface"
    # Runs of one seed may have little in common; rows of one run, or branches of one trunk, are one model.
    certain = any(each.column != "seed" for each in passed_over)
    return verdict("bootstrap", found, ". Train more of them" if certain else "")
