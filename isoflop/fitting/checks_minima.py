"""What could be wrong with the minima and the power laws through them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from isoflop.fitting.bootstrap import Draws
from isoflop.fitting.evidence import Check, CheckStatus, MinimaEvidence, verdict
from isoflop.fitting.minima import Minimum, find_minimum
from isoflop.fitting.parabola import FEWEST
from isoflop.fitting.powerlaw import fit_lines
from isoflop.fitting.words import count, percent, power

#: A law over less than this many decades has exponents that say little about the next one.
_FEW_DECADES = 1.0
#: With fewer minima than this the t interval is several times wider than the scatter.
_FEW_BUDGETS = 4
#: Points of one budget may differ this much in ln C before the budget is a blur: twice what planners aim for.
_SPREAD = 0.02
#: More resamples than this without an interior minimum, and a budget's interval rests on the lucky ones.
_FAILED = 0.10
#: With fewer resamples than this that hold a law at all, this one is luck.
_USABLE = 0.5
#: Beyond this probability the scatter of the minima is not the noise of the losses.
_SURPRISING = 0.95
#: Minima's losses that scatter by more than this many times the noise of a run are not one curve.
_ROUGH = 2.0
#: A floor below this share of the lowest loss is as good as none.
_NO_FLOOR = 0.05
#: A window wider than this in N feels the profile's asymmetry: N* off by some 5 % (Chinchilla's surface) at ×16.
_WIDE = 10.0
#: A move of a by less than this matters to nobody.
_MOVE = 0.01
#: A minimum farther from the middle of its sizes than this share of their half-range is held from one side.
_OFF_CENTRE = 0.6
#: A grid whose minima wander by more than this, in half-ranges, follows another exponent than theirs.
_DRIFT = 0.8
#: The exponents of N* and D* may miss the cost model's relation by this much.
_ACCOUNTING = 0.02


def _budgets(evidence: MinimaEvidence) -> Check:
    count_, decades = len(evidence.interior), float(np.ptp(evidence.log_flops)) / math.log(10)
    suspicion = ""
    if count_ < _FEW_BUDGETS:
        suspicion = f": an exponent to be trusted wants {_FEW_BUDGETS} at the least; add budgets"
    elif decades < _FEW_DECADES:
        suspicion = f": spread the budgets over at least {_FEW_DECADES:g} decade"
    return verdict("budgets", f"{count_} minima over {decades:.2f} decades of C", suspicion)


def _spread(evidence: MinimaEvidence) -> Check:
    worst = max(evidence.profiles, key=lambda profile: profile.spread)
    found = f"within a budget the points' C differ from their mean by at most {percent(worst.spread)}"
    if worst.spread <= _SPREAD:
        return verdict("spread", found)
    return verdict(
        "spread",
        f"{found} (C = {power(worst.budget)})",
        "; they were moved to it along the slope of the best losses. Choose steps so that each run costs its budget",
    )


def _noise(evidence: MinimaEvidence) -> Check:
    noise, failed = evidence.draws.noise, evidence.draws.failed
    if noise.freedom == 0:
        return verdict(
            "noise",
            f"{FEWEST} sizes a budget leave nothing over to tell noise from shape",
            ", so intervals rest on the scatter of the budgets alone: add sizes, or repeat runs with other seeds",
        )
    found = f"a run's loss has a noise of {percent(noise.sd)} about its parabola ({noise.freedom} degrees of freedom)"
    usable = float(evidence.draws.usable.mean())
    if usable < _USABLE:
        message = f"{found}; with other noise {percent(1 - usable)} of such studies would have no law: repeat runs."
        return Check("noise", CheckStatus.FAIL, message)
    worst = int(failed.argmax())
    if failed[worst] <= _FAILED:
        return verdict("noise", f"{found}; {percent(failed.mean())} of the resampled minima are not interior")
    return verdict(
        "noise",
        f"{found}; with other noise C = {power(evidence.interior[worst].budget)} has no interior minimum in "
        f"{percent(failed[worst])} of the resamples",
        ", and its interval rests on the rest: add sizes or repeat runs there",
    )


def _scatter(evidence: MinimaEvidence) -> Check:
    from scipy.special import fdtr  # late: scipy.special is a third of this package's import time

    observed = float(evidence.params.scatter[0])
    expected = _drawn_scatter(evidence.draws)
    farthest = int(np.abs(evidence.params.residuals[0]).argmax())
    off = math.expm1(evidence.params.residuals[0, farthest])
    side = f"{percent(abs(off))} {'above' if off > 0 else 'below'} it"
    where = f"the farthest is C = {power(evidence.interior[farthest].budget)}, {side}"
    found = f"the minima scatter about N* ∝ C^a by {percent(observed)}"
    if expected == 0:
        return verdict("scatter", f"{found}; {where}")
    freedom = len(evidence.interior) - 2
    if fdtr(freedom, evidence.draws.noise.freedom, (observed / expected) ** 2) <= _SURPRISING:
        return verdict("scatter", f"{found} (the noise of the losses alone gives {percent(expected)}); {where}")
    return verdict(
        "scatter",
        f"{found}, more than the noise of the losses explains ({percent(expected)}); {where}",
        ". Something else differs from budget to budget: a rate or batch that suits one size better, or no power law; "
        "look at that budget's runs, and trust the t intervals",
    )


def _drawn_scatter(draws: Draws) -> float:
    """The sd of ln N* that the noise of the losses alone gives, over all budgets."""
    columns = zip(draws.log_params.T, draws.inside.T, strict=True)
    variances = [float(np.var(drawn[inside])) for drawn, inside in columns if inside.any()]
    return math.sqrt(float(np.mean(variances))) if variances else 0.0


def _loss(evidence: MinimaEvidence) -> Check:
    curve, noise = evidence.loss_curve, evidence.draws.noise.sd
    lowest = min(minimum.loss or math.inf for minimum in evidence.interior)
    form = f"L*(C) = {curve.floor:.3g} + …·C^−{curve.exponent:.3g}"
    found = f"{form} meets the losses of the minima within {percent(curve.scatter)}"
    suspicion = ""
    if curve.scatter > _ROUGH * noise > 0:
        suspicion = (
            f", far more than the noise of a run ({percent(noise)}): budgets differ by more than their C, or the curve "
            "has another form. Forecasts of the loss are as wide as that"
        )
    elif curve.floor < _NO_FLOOR * lowest:
        suspicion = ": no floor shows yet, so forecasts go on falling as a power law, and real losses may not follow"
    return verdict("loss", found, suspicion)


def _window(evidence: MinimaEvidence) -> Check:
    if evidence.method == "akima":
        return verdict("window", "splines go through every size, so no width is assumed")
    widest = max(evidence.interior, key=_width)
    found = f"parabolas span at most ×{_width(widest):.3g} in N (C = {power(widest.budget)})"
    sizes = max(len(profile.runs) for profile in evidence.profiles)
    wider = _exponent_of(evidence, min(evidence.window + 2, sizes)) if sizes > evidence.window else None
    half = (evidence.a.high - evidence.a.low) / 2
    suspicion = ""
    if wider is not None:
        found += f"; a = {evidence.a.value:.3f}, and {wider:.3f} with two more sizes a parabola"
    if wider is not None and abs(wider - evidence.a.value) > max(half, _MOVE):
        suspicion = (
            f": that moves a by more than its interval's half-width, {half:.3f}, so the profiles are no parabolas over "
            "such widths. Add sizes between those near the minima"
        )
    elif _width(widest) > _WIDE:
        suspicion = (
            f": over more than ×{_WIDE:g} the profiles' asymmetry shifts N* by 5 % and more (a by less). Add sizes "
            "between those near the minima"
        )
    return verdict("window", found, suspicion)


def _width(minimum: Minimum) -> float:
    low, high = minimum.window_params or (1.0, 1.0)
    return high / low


def _exponent_of(evidence: MinimaEvidence, window: int) -> float | None:
    """Exponent a with parabolas of `window` sizes, or None where these leave too few minima."""
    found = [find_minimum(profile, window) for profile in evidence.profiles]
    pairs = [(math.log(each.flops), math.log(each.params)) for each in found if each.params is not None]
    if len(pairs) < FEWEST:
        return None
    x, y = np.array(pairs).T
    return float(fit_lines(x, y[None], np.ones((1, len(x)), dtype=bool)).slope[0])


def _centring(evidence: MinimaEvidence) -> Check:
    # −1 is the smallest size, 0 the middle of the sizes in ln N, 1 the largest.
    places = [
        2 * (math.log(minimum.params or math.nan) - profile.log_params[0]) / float(np.ptp(profile.log_params)) - 1
        for minimum, profile in zip(evidence.interior, evidence.profiles, strict=True)
    ]
    found = (
        f"minima lie at {places[0]:+.2f} (smallest budget) to {places[-1]:+.2f} (largest) of their sizes' half-range"
    )
    far = [minimum for minimum, place in zip(evidence.interior, places, strict=True) if abs(place) > _OFF_CENTRE]
    if not far and abs(places[-1] - places[0]) > _DRIFT:
        return verdict(
            "centring",
            found,
            ": the grid drifts off its minima, and the next budgets' would have none. Let the sizes of larger budgets "
            f"follow N* ∝ C^{evidence.a.value:.2f}",
        )
    if not far:
        return verdict("centring", found)
    named = ", ".join(f"C = {power(each.budget)} at {count(each.params or math.nan)}" for each in far)
    return verdict(
        "centring",
        f"{found}; close to an end: {named}",
        ". A parabola held from one side is biased: add sizes beyond that end",
    )


def _accounting(evidence: MinimaEvidence) -> Check:
    cost, flops, a, b = evidence.cost_model, np.exp(evidence.log_flops), evidence.a.value, evidence.b.value
    params = np.array([minimum.params or math.nan for minimum in evidence.interior])
    tokens = np.array([minimum.tokens or math.nan for minimum in evidence.interior])
    bought = np.log(cost.tokens(params, flops))[None]
    expected = float(fit_lines(evidence.log_flops, bought, np.ones(bought.shape, dtype=bool)).slope[0])
    off = float(np.abs(np.log(cost.flops(params, tokens) / flops)).max())
    return verdict(
        "accounting",
        f"a + b = {a + b:.3f}, so C/(6·N*·D*) goes as C^{1 - a - b:+.3f}; what the points' FLOPs counted gives "
        f"C^{1 - a - expected:+.3f}. N* and D*, found separately, cost C within {percent(off)}",
        ": the two profiles of a budget disagree. Look for points whose N, D or C follow another convention"
        if abs(b - expected) > _ACCOUNTING
        else "",
    )


def _bias(evidence: MinimaEvidence) -> Check:
    bias = evidence.bias
    if bias is None:
        return verdict("bias", "there is no surface on which to see the method's own bias", ", so it is not known")
    sizes = [abs(move) for move in bias.log_params if move is not None]
    half = (evidence.a.high - evidence.a.low) / 2
    found = (
        f"on the fitted surface, without noise, the same grid gives an a that is off by {bias.a:+.4f} and an N* that "
        f"is off by at most {percent(math.expm1(max(sizes)))}"
    )
    suspicion = ""
    if abs(bias.a) > max(half / 2, _MOVE):
        suspicion = (
            ", more than half of its interval: sizes drift off centre, or parabolas are too wide. Use the corrected "
            "N*, or add sizes about the minima"
        )
    return verdict("bias", found, suspicion)


def _influence(evidence: MinimaEvidence) -> Check:
    if not evidence.influence:
        return verdict("influence", "there are too many sizes for one of them to matter")
    worst = evidence.influence[0]
    half = (evidence.a.high - evidence.a.low) / 2
    found = (
        f"without {worst.name} (C = {power(worst.budget)}, {count(worst.params)} parameters) a would be "
        f"{worst.a:.3f}, {worst.move:+.4f}"
    )
    if abs(worst.move) <= max(half, _MOVE):
        return verdict("influence", f"{found}, and no other run moves it farther")
    return verdict(
        "influence",
        found,
        f": more than the half-width of its interval, {half:.3f}. The law hangs on that run; repeat it with other "
        "seeds, or add sizes beside it",
    )


#: The checks of the minima, in the order in which a reader wants them.
EXAMINERS: tuple[Callable[[MinimaEvidence], Check], ...] = (
    _budgets,
    _spread,
    _noise,
    _scatter,
    _loss,
    _window,
    _centring,
    _bias,
    _influence,
    _accounting,
)
