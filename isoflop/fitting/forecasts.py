"""The loss of a run that nobody has trained yet: a fit made for extrapolation, and an interval that means it.

A plain fit of L = E + A/N^α + B/D^β counts every point alike, so it bends to the small runs that nobody asks about,
and its bootstrap knows noise but not that the form is wrong: rolled forward over public studies, nominal 90 %
intervals hold a third of the runs with 3 to 10 times more compute. So a forecast has a fit of its own:

- *Centre*: runs near the best loss at their compute, weighted by C, Huber on ln loss, weak priors on α, β and E that
  the data overrule where they can.
- *Width*: the bootstrap's and one run's residual; and how wrong the same procedure was wherever it was fitted below
  one of the table's budgets and asked about those above (the inner roll-forward), which grows with the distance in
  log C.

The constants below were chosen by rolling forward over public tables (Gadre's by validation set, Porian's
experiments, datablations' unrepeated runs: 3 to 10 times the compute, runs within 5 % of the best at theirs), where
90 % intervals then hold 91 % of 1,543 losses, at the least 82 % in a family, with a median half-width of 3.4 % of the
loss. `benchmarks/intervals.py` repeats that on any folder of tables. With only the scale of the widths (`OVERLAP`)
chosen anew on the other families, each counting alike, 86 % of those left out are held, at the least 80 % in a
family: what to expect of a study unlike these. Beyond ten times the largest C nothing has been tested.

>>> forecaster = fit_forecaster(Runs.sorted(flops, params, tokens, loss))           # doctest: +SKIP
>>> forecaster.predict(2e9, 4e10, 4.8e20)                                           # doctest: +SKIP
Prediction(value=2.71, low=2.64, high=2.78, level=0.9, decades=0.43)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.columns import Floats
from isoflop.fitting.parametric_search import MEDIAN_TO_SD, TUNING
from isoflop.fitting.surface import Surfaces
from isoflop.fitting.surface_newton import descend
from isoflop.fitting.surface_objective import (
    DATA,
    FLOOR,
    MODEL,
    Penalty,
    Prior,
    Problem,
    constrain,
    penalise,
    pose,
    residuals,
)

#: Runs that count are within this share of the best loss at their compute. With 15 % forecasts are off by 1.4 instead
#: of 1.3 % (median), with an interval a seventh wider; what is far from the best follows the form less.
NEAR_BEST = 0.10
#: The best at a run's compute is that of the runs which cost at most this times as much.
_SAME_COMPUTE = 1.05
#: Weights go with C: the runs nearest to what is asked know the most of it.
WEIGHT_EXPONENT = 1.0
#: Priors of ln α, ln β and of ln(E / lowest loss). Without them forecasts are off by twice as much; yet on SODA's
#: surface, whose E is 0.93 of the lowest loss and so three sd off, a study of seven budgets with noise 0.003 forecasts
#: ×10 within 0.5 %.
EXPONENT_PRIOR = Prior(math.log(0.35), 0.3)
FLOOR_PRIOR = Prior(math.log(0.6), 0.15)
#: The relative error that the roll-forward starts from, per unit of (0.2 + decades), and its weight in cuts.
ROLL_PRIOR = 0.03
ROLL_PRIOR_CUTS = 3.0
#: The decades at which the roll-forward's error would vanish, negative: a forecast of no distance has one as well.
ROLL_OFFSET = 0.2
#: The two parts of the width overlap, since what the bootstrap sees of misfit shows in the roll-forward too; chosen
#: last, so that 90 % are held.
OVERLAP = 0.65
#: Inner forecasts nearer than this say nothing of distance (×1.6 in C).
NEAREST = 0.2
#: They are asked about runs this near to the best, those that a recommendation is about.
ASKED_ABOUT = 0.05

#: What a forecast asks for: rows near the best, and decades of C.
FEWEST_ROWS = 14
FEWEST_DECADES = 1.0
#: Budgets are met to a few per cent.
_SLACK = 0.02
#: Runs within this factor of the cheapest among them are one budget when a table is cut into below and above.
_ONE_BUDGET = 1.3
#: More rows than this are thinned evenly: what a forecast does not know is then the form, and not the noise.
_MOST_ROWS = 2_000

LEVEL = 0.90
DRAWS = 100
#: The noise to begin with, the rounds that it may take to settle, and the relative move that is settled.
_FIRST_NOISE, _ROUNDS, _SETTLED = 0.02, 12, 0.01
#: No run is reproduced better than this.
_LEAST_NOISE = 1e-5


@dataclass(frozen=True)
class Prediction:
    """The loss to expect of one run, and the ends between which it lies with probability `level`.

    `decades` is log10 of its C over the largest fitted one (0 if not above it).
    """

    value: float
    low: float
    high: float
    level: float
    decades: float


@dataclass(frozen=True)
class Forecaster:
    """A surface L = `E` + `A`/N^`alpha` + `B`/D^`beta` fitted for extrapolation, with what its intervals need.

    Parameters
    ----------
    E, A, B, alpha, beta
        The centre.
    log_params, log_tokens
        Mean ln N and ln D of the rows, about which the covariance was taken.
    covariance
        Of (ln E, ln A − α·`log_params`, ln B − β·`log_tokens`, α, β) over bootstrap resamples of the rows.
    scatter
        The sd of a run's ln loss about the surface, weighted as the fit was.
    roll_error, cuts
        Relative error per (0.2 + decades) found by rolling forward, and over how many cuts (0: the prior alone).
    largest
        The largest C fitted, FLOPs.
    rows
        How many rows the centre rests on, those near the best loss at their compute.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    log_params: float
    log_tokens: float
    covariance: tuple[tuple[float, ...], ...]
    scatter: float
    roll_error: float
    cuts: int
    largest: float
    rows: int

    def predict(self, params: float, tokens: float, flops: float, level: float = LEVEL) -> Prediction:
        """Forecast one run of `params` parameters on `tokens` tokens that costs `flops`.

        Raises
        ------
        InputError
            Unless all three are positive and finite and 0 < `level` < 1.
        """
        asked = np.array([params, tokens, flops], dtype=np.float64)
        if not (np.isfinite(asked).all() and (asked > 0).all()):
            raise InputError(
                f"params, tokens and flops must be positive and finite, but got {params}, {tokens}, {flops}"
            )
        if not 0 < level < 1:
            raise InputError(f"0 < level < 1 must hold, but got {level}")
        log_loss, sd = self.log_loss(*asked[:, None])
        half = normal_quantile(level) * float(sd[0])
        centre = float(log_loss[0])
        return Prediction(
            math.exp(centre), math.exp(centre - half), math.exp(centre + half), level, float(self.decades(flops))
        )

    def log_loss(self, params: Floats, tokens: Floats, flops: Floats) -> tuple[Floats, Floats]:
        """Ln loss of many runs and the sd of its forecast, shape (n,) each."""
        x, z = np.log(params) - self.log_params, np.log(tokens) - self.log_tokens
        model = self.A * np.exp(-self.alpha * np.log(params))
        data = self.B * np.exp(-self.beta * np.log(tokens))
        loss = self.E + model + data
        slopes = np.stack([np.full(len(loss), self.E), model, data, -x * model, -z * data], axis=1) / loss[:, None]
        drawn = np.einsum("ni,ij,nj->n", slopes, np.array(self.covariance), slopes)
        rolled = self.roll_error * (ROLL_OFFSET + self.decades(flops))
        return np.log(loss), OVERLAP * np.sqrt(drawn + self.scatter**2 + rolled**2)

    def decades(self, flops: float | Floats) -> Floats:
        """How far `flops` lies above the largest fitted C, in log10."""
        return np.maximum(np.log10(flops / self.largest), 0.0)


@dataclass(frozen=True, eq=False)
class Centre:
    """The centre's fit to the rows up to one budget: what a `Forecaster` is made of, before its width.

    `theta` is the surface in the `problem`'s coordinates, `weights` are those of the rows, shape (n,), `noise` is the
    robust sd of their ln loss.
    """

    problem: Problem
    theta: Floats
    weights: Floats
    penalty: Penalty | None
    noise: float

    @property
    def surface(self) -> Surfaces:
        """The surface, one of one."""
        return Surfaces(*self.problem.to_natural(self.theta[None]).T)

    @property
    def scatter(self) -> float:
        """The sd of a run's ln loss about the surface, weighted as the fit was."""
        residual = residuals(self.problem, self.theta[None])[0]
        return math.sqrt(float(self.weights @ residual**2 / self.weights.sum()))


def fit_forecaster(runs: Runs, *, draws: int = DRAWS, seed: int = 0) -> Forecaster:
    """Fit the forecaster of `runs`.

    Raises
    ------
    NoAnswerError
        If fewer than 14 runs are near the best loss at their compute, or they span less than a decade of C.
    """
    if not runs.centres:
        near = runs.near_best(NEAR_BEST)
        raise NoAnswerError(
            f"a forecast of the loss needs {FEWEST_ROWS} runs within {NEAR_BEST:.0%} of the best at their compute over "
            f"{FEWEST_DECADES:g} decade of C, but got {len(near.flops)} over {near.decades:.2f}: add budgets"
        )
    return make_forecaster(runs, max(runs.centres), draws=draws, seed=seed)


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs ascending by C, shape (n,) each."""

    flops: Floats
    params: Floats
    tokens: Floats
    loss: Floats

    @classmethod
    def sorted(cls, flops: Floats, params: Floats, tokens: Floats, loss: Floats) -> Runs:
        """Sort runs, so that the order of a table's rows changes nothing, and thin very many of them evenly."""
        for name, values in (("flops", flops), ("params", params), ("tokens", tokens), ("loss", loss)):
            if not (np.isfinite(values).all() and (values > 0).all()):
                raise InputError(f"{name} must be positive and finite in every run of a forecast")
        if not len(flops):
            raise InputError("a forecast must rest on runs, but got none")
        order = np.lexsort((loss, tokens, params, flops))
        step = -(-len(order) // _MOST_ROWS)
        order = order[::-1][::step][::-1]
        return cls(flops[order], params[order], tokens[order], loss[order])

    def only(self, chosen: NDArray[np.bool_]) -> Runs:
        """Return the `chosen` of them."""
        return Runs(self.flops[chosen], self.params[chosen], self.tokens[chosen], self.loss[chosen])

    def up_to(self, flops: float) -> Runs:
        """Return those of at most `flops`."""
        return self.only(self.flops <= flops)

    @property
    def best(self) -> Floats:
        """The lowest loss among the runs that cost no more than each, or hardly more."""
        lowest = np.minimum.accumulate(self.loss)
        lowest_so_far: Floats = lowest[np.searchsorted(self.flops, self.flops * _SAME_COMPUTE, side="right") - 1]
        return lowest_so_far

    def near_best(self, margin: float) -> Runs:
        """Return those whose loss is within the share `margin` of the best at their compute."""
        return self.only(self.loss <= (1 + margin) * self.best)

    @property
    def decades(self) -> float:
        """How far the C of these runs spread, in log10."""
        return math.log10(self.flops[-1] / self.flops[0])

    @property
    def cuts(self) -> list[float]:
        """Where the runs can be cut into below and above: the largest C of each budget, ascending."""
        cuts, start = [], 0
        for stop in range(1, len(self.flops) + 1):
            if stop == len(self.flops) or self.flops[stop] > _ONE_BUDGET * self.flops[start]:
                cuts.append(float(self.flops[stop - 1]))
                start = stop
        return cuts

    @cached_property
    def centres(self) -> dict[float, Centre]:
        """The centre below every cut that leaves runs enough, by cut, ascending."""
        near, centres = self.near_best(NEAR_BEST), {}
        for cut in near.cuts:
            below = near.up_to(cut)
            if len(below.flops) >= FEWEST_ROWS and below.decades > FEWEST_DECADES - _SLACK:
                centres[cut] = _fit_centre(below)
        return centres


def make_forecaster(runs: Runs, cut: float, *, draws: int = DRAWS, seed: int = 0) -> Forecaster:
    """Give the centre at `cut` its width, from the `runs` up to there and the centres of lower cuts."""
    centres = runs.centres
    centre = centres[cut]
    roll_error, cuts = _roll_error(runs.up_to(cut).near_best(ASKED_ABOUT), centres, cut)
    E, A, B, alpha, beta = centre.problem.to_natural(centre.theta).tolist()
    return Forecaster(
        E=E,
        A=A,
        B=B,
        alpha=alpha,
        beta=beta,
        log_params=centre.problem.x_mean,
        log_tokens=centre.problem.z_mean,
        covariance=tuple(map(tuple, _covariance(centre, draws, seed).tolist())),
        scatter=centre.scatter,
        roll_error=roll_error,
        cuts=cuts,
        largest=cut,
        rows=len(centre.weights),
    )


def _fit_centre(runs: Runs) -> Centre:
    """Fit the surface and its noise together: δ and the weight of the priors go with the residuals that it leaves."""
    problem = pose(runs.params, runs.tokens, runs.loss, None, log=True)
    weights = (runs.flops / runs.flops[-1]) ** WEIGHT_EXPONENT
    lowest = float(runs.loss.min())
    priors = {
        "E": Prior(math.log(lowest) + FLOOR_PRIOR.mean, FLOOR_PRIOR.sd),
        "alpha": EXPONENT_PRIOR,
        "beta": EXPONENT_PRIOR,
    }
    centre = Centre(problem, _start(problem, lowest), weights, penalise(problem, priors, _FIRST_NOISE), _FIRST_NOISE)
    for _ in range(_ROUNDS):
        theta = _descend(centre, weights[None])[0]
        noise = max(_robust_sd(residuals(problem, theta[None])[0], weights), _LEAST_NOISE)
        settled = abs(math.log(noise / centre.noise)) < _SETTLED
        centre = Centre(problem, theta, weights, penalise(problem, priors, noise), noise)
        if settled:
            break
    return centre


def _start(problem: Problem, lowest: float) -> Floats:
    """The priors' means, and what the typical loss has above the floor in equal parts."""
    floor = math.exp(FLOOR_PRIOR.mean) * lowest / problem.unit
    theta = np.full(5, math.exp(EXPONENT_PRIOR.mean))
    theta[FLOOR] = floor
    theta[[MODEL, DATA]] = math.log((1 - floor) / 2)
    return theta


def _descend(centre: Centre, weights: Floats) -> Floats:
    """The surfaces under each row of `weights`, from that of the centre; the priors leave one basin."""
    start = np.repeat(centre.theta[None], len(weights), axis=0)
    freedom = constrain(centre.problem, {}, ())
    return descend(centre.problem, freedom, start, weights, TUNING * centre.noise, centre.penalty).theta


def _robust_sd(residual: Floats, weights: Floats) -> float:
    """The weighted median of |residual|, as the sd of a normal sample."""
    sizes = np.abs(residual)
    order = np.argsort(sizes)
    mass = np.cumsum(weights[order])
    return MEDIAN_TO_SD * float(sizes[order][np.searchsorted(mass, mass[-1] / 2)])


def _covariance(centre: Centre, draws: int, seed: int) -> Floats:
    """Covariance of (ln E, ln A', ln B', α, β) over resamples of the rows, in the problem's coordinates but for E."""
    count = len(centre.weights)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    drawn = _descend(centre, times * centre.weights)
    drawn[:, FLOOR] = np.log(drawn[:, FLOOR])
    covariance: Floats = np.cov(drawn, rowvar=False)
    return covariance


def _roll_error(asked: Runs, centres: Mapping[float, Centre], cut: float) -> tuple[float, int]:
    """The roll-forward's relative error per (0.2 + decades), and the cuts below `cut` that it was measured at."""
    squares = []
    for below, centre in centres.items():
        if below >= cut:
            break
        above = asked.only(asked.flops > below * 10**NEAREST)
        if not len(above.flops):
            continue
        error = np.log(centre.surface.at(above.params, above.tokens)[0] / above.loss)
        squares.append(float(np.mean((error / (ROLL_OFFSET + np.log10(above.flops / below))) ** 2)))
    total = ROLL_PRIOR_CUTS * ROLL_PRIOR**2 + sum(squares)
    return math.sqrt(total / (ROLL_PRIOR_CUTS + len(squares))), len(squares)


def normal_quantile(level: float) -> float:
    """How many sd from its mean a normal value stays with probability `level`."""
    return NormalDist().inv_cdf((1 + level) / 2)
