"""The law: what a study found, as one value that can be stored, read back equal, printed, and asked.

A law is frozen and holds no arrays and no paths. Its JSON schema is numbered; whatever is added to it later keeps
the names that are here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting.accounting import ConventionExponents
from isoflop.fitting.bands import Bands
from isoflop.fitting.checks import Check
from isoflop.fitting.cost import CostModel
from isoflop.fitting.forecasts import NEAREST, Forecaster, Prediction
from isoflop.fitting.influence import Influence
from isoflop.fitting.intervals import LEVEL, Interval
from isoflop.fitting.losscurve import LossCurve
from isoflop.fitting.methods import Methods, Parametric
from isoflop.fitting.minima import Method, Minimum, Status
from isoflop.fitting.points import Excluded
from isoflop.fitting.powerlaw import Exponents, PowerLaw
from isoflop.fitting.repetition import effective_tokens
from isoflop.fitting.rollforward import RollForward
from isoflop.fitting.sharing import Shared
from isoflop.fitting.text import law_lines
from isoflop.fitting.token_types import TypeLaw
from isoflop.flops import ParamsConvention

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: 2: the surface, the methods side by side, the forecaster, what each check found.
SCHEMA = 2

#: Beyond this many decades above the largest budget nothing has been calibrated (design figures: ×10).
CALIBRATED_DECADES = 1.0

#: Decades above the largest budget over which the loss goes over from the curve along the minima to the forecaster,
#: which is calibrated from there on.
HANDED_OVER = NEAREST


class Reach(StrEnum):
    """Where a budget lies in relation to those that a law was fitted to."""

    INSIDE = "inside"  #: Between the smallest and the largest.
    BELOW = "below"  #: Below the smallest: train it, it is cheap.
    EXTRAPOLATED = "extrapolated"  #: Up to ×10 beyond the largest: the interval is meant to hold.
    UNCALIBRATED = "uncalibrated"  #: Farther: the interval is a lower bound on what is not known.


@dataclass(frozen=True)
class PowerLaws:
    """N*(C), D*(C), and L*(C) as a pure power law (forecasts of the loss use the law's `loss_curve`).

    `shared` is what the points of several budgets have in common, so far as the bootstrap heeds it; None where each
    stands alone.
    """

    params: PowerLaw
    tokens: PowerLaw
    loss: PowerLaw
    shared: Shared | None = None


@dataclass(frozen=True)
class PointsUsed:
    """How many rows the fit used, and those it did not, with reasons."""

    used: int
    excluded: tuple[Excluded, ...]


@dataclass(frozen=True)
class Options:
    """What the fit was asked for; `window` is None for all sizes, `huber_delta` None for least squares."""

    window: int | None
    bootstrap: int
    seed: int
    minimum: Method = "parabola"
    huber_delta: float | Literal["auto"] | None = "auto"
    pins: tuple[tuple[str, float], ...] = ()
    ties: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """Where a law comes from: the version that fitted it, the used points, the options, what N and C mean.

    `simulated` points are a rehearsal's: no model was trained for them.
    """

    isoflop: str
    points_digest: str
    params_convention: ParamsConvention
    flops_convention: Literal["6nd", "counted"]
    options: Options
    simulated: bool = False


@dataclass(frozen=True)
class Optimum:
    """What a law says of one budget: a model of `params` on `tokens` costs `flops` under the law's cost model.

    `decades` is how far the budget lies outside those fitted, in log10 C (0 inside), and `reach` what that means.
    `method` and `loss_from` say which of the law's parts N* (hence D*) and the loss are from.
    """

    flops: float
    params: Interval
    tokens: Interval
    loss: Interval
    decades: float
    reach: Reach
    method: Literal["parabola", "akima", "parametric"]
    loss_from: Literal["loss_curve", "parametric", "forecast"]


@dataclass(frozen=True)
class Law:
    """A fitted law; `isoflop.fit` makes it.

    Parameters
    ----------
    schema
        Number of the JSON schema.
    method
        What the headline exponents come from: minima by ``parabola`` or ``akima``, or the ``parametric`` surface.
    exponents
        The answer.
    methods
        What each method says of the exponents.
    power_laws
        The lines through the minima; for a table without IsoFLOP profiles what the surface says in their place.
    loss_curve
        The loss along the optimum.
    minima
        One per budget, ascending, interior or refused by name.
    bands
        Intervals of N*, D* and L* against C.
    cost_model
        C(N, D) as the points counted it.
    flops_range
        The smallest and the largest C that the law rests on, FLOPs.
    noise
        The sd of one run's ln loss about the local parabolas (or about the surface, where there are none); 0 where
        nothing was left over to tell it.
    parametric
        L = E + A/N^α + B/D^β as everybody fits it, or None where it could not be.
    forecast
        The same form fitted for extrapolation: what `predict` uses. None where the points are too few for it.
    conventions
        The exponents under every convention of N that the table allows.
    influence
        The runs that move the exponents most when they are left out.
    hold_out
        How right the law's forecasts were, fitted below each budget and asked about those above.
    checks
        What was examined, each with its verdict in a sentence.
    points, provenance
        What it rests on.
    types
        The same for the loss of each token type, where the points carry them.
    """

    schema: int
    method: Literal["parabola", "akima", "parametric"]
    exponents: Exponents
    methods: Methods
    power_laws: PowerLaws
    loss_curve: LossCurve
    minima: tuple[Minimum, ...]
    bands: Bands
    cost_model: CostModel
    flops_range: tuple[float, float]
    noise: float
    parametric: Parametric | None
    forecast: Forecaster | None
    conventions: tuple[ConventionExponents, ...]
    influence: tuple[Influence, ...]
    hold_out: RollForward
    checks: tuple[Check, ...]
    points: PointsUsed
    provenance: Provenance
    types: tuple[TypeLaw, ...] = ()

    @property
    def interior(self) -> tuple[Minimum, ...]:
        """The minima that the power laws rest on."""
        return tuple(minimum for minimum in self.minima if minimum.status is Status.INTERIOR)

    @property
    def has_profiles(self) -> bool:
        """Whether the power laws are lines through minima; else they are the surface's, for want of profiles."""
        return bool(self.power_laws.params.residuals)

    @property
    def budgets(self) -> tuple[float, float]:
        """The smallest and the largest C that the law rests on, in FLOPs."""
        return self.flops_range

    def optimum(self, flops: float) -> Optimum:
        """N*, D* and the loss to expect at `flops` training FLOPs.

        N* is that of the method that leads; D* is what N* leaves of the budget, so that the pair costs C (the power
        law of D*, fitted on its own, differs by what the check ``accounting`` says). The loss is the curve's along the
        minima within the budgets, and the forecaster's from ×1.6 beyond them; from one to the other it goes over evenly
        in ln C. Intervals hold the values.

        Raises
        ------
        InputError
            Unless `flops` is positive and finite.
        """
        if not (math.isfinite(flops) and flops > 0):
            raise InputError(f"flops must be positive and finite, but got {flops}")
        params = self.optimal_params(flops)
        tokens = self.cost_model.tokens(params, flops)
        lowest, highest = self.budgets
        above, below = math.log10(flops / highest), math.log10(lowest / flops)
        # A budget that rounds to the largest is inside.
        decades = max(above, below, 0.0) if max(above, below) > 1e-3 else 0.0
        if decades == 0:
            reach = Reach.INSIDE
        elif below > 0:
            reach = Reach.BELOW
        else:
            reach = Reach.EXTRAPOLATED if decades <= CALIBRATED_DECADES * (1 + 1e-3) else Reach.UNCALIBRATED
        loss_from: Literal["loss_curve", "parametric", "forecast"] = "loss_curve" if self.has_profiles else "parametric"
        loss = _holding(self.loss_curve.at(flops), self.bands.at(flops, self.bands.loss))
        if self.forecast is not None and above > 0:
            loss_from = loss_from if reach is Reach.INSIDE else "forecast"
            told = self.forecast.predict(params, tokens, flops, LEVEL)
            loss = _between(loss, Interval(told.value, told.low, told.high), above / HANDED_OVER)
        return Optimum(
            flops=flops,
            params=_holding(params, self.bands.at(flops, self.bands.params)),
            tokens=_holding(tokens, self.bands.at(flops, self.bands.tokens)),
            loss=loss,
            decades=decades,
            reach=reach,
            method=self.method,
            loss_from=loss_from,
        )

    def optimal_params(self, flops: float) -> float:
        """N* at `flops` training FLOPs by the method that leads."""
        if self.method == "parametric" and self.parametric is not None:
            return self.parametric.optimum(flops, self.cost_model)[0]
        return self.power_laws.params.at(flops)

    def excess(self, params: float, flops: float) -> float:
        """The loss of a model of `params` parameters at `flops` training FLOPs, over that of the optimum there.

        By the surface where it leads, else along the curve of the largest budget with a minimum.
        """
        if self.method == "parametric" and self.parametric is not None:
            lowest = self.parametric.optimum(flops, self.cost_model)[2]
            return self.parametric.at(params, self.cost_model.tokens(params, flops)) / lowest
        offset = math.log(params / self.optimal_params(flops))
        return math.exp(self.interior[-1].bend * offset**2)

    def predict(
        self, params: float, tokens: float, level: float = 0.9, *, unique_tokens: float | None = None
    ) -> Prediction:
        """The loss of a run of `params` parameters on `tokens` tokens, with the interval that holds it at `level`.

        It comes from the law's own forecaster (`isoflop.fitting.forecasts`), not from `parametric`. `unique_tokens` is
        how many of the tokens are distinct (None: all): a law of repeated data takes the others for what they are
        worth.

        Raises
        ------
        InputError
            Unless all are positive and finite and `level` lies between 0 and 1.
        NoAnswerError
            If the points were too few for a forecast.
        """
        distinct = tokens if unique_tokens is None else unique_tokens
        if not all(math.isfinite(each) and each > 0 for each in (params, tokens, distinct)):
            raise InputError(
                f"params, tokens and unique_tokens must be positive and finite, but got {params}, {tokens} and "
                f"{unique_tokens}"
            )
        if self.forecast is None:
            reason = next((check.message for check in self.checks if check.name == "forecast"), "")
            raise NoAnswerError(f"this law has no forecast of single runs. {reason}")
        worth = tokens
        if self.parametric is not None and self.parametric.repetition is not None:
            worth = float(effective_tokens(np.array(tokens), np.array(distinct), self.parametric.repetition))
        return self.forecast.predict(params, worth, self.cost_model.flops(params, tokens), level)

    def to_json(self) -> dict[str, Any]:
        """Plain values at full precision, for `json.dumps`; unbounded ends of intervals are None."""
        record: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Law:
        """Read what `to_json` gave: an equal law.

        Raises
        ------
        InputError
            If `record` is of another schema, lacks a field, or holds a wrong one.
        """
        from pydantic import ValidationError

        if "groups" in record and "schema" not in record:
            raise InputError(
                f"a law must be one, but these are laws of groups: {', '.join(record['groups'])}; take one"
            )
        schema = record.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise InputError(
                f"a law must have the schema {SCHEMA}, which this version of isoflop reads, but got {schema}: a newer "
                "isoflop wrote it, install that"
            )
        if schema != SCHEMA:
            raise InputError(
                f"a law must have the schema {SCHEMA}, which this version of isoflop reads, but got {schema!r}: fit "
                "its points again"
            )
        try:
            return _adapter().validate_python(record)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"a law's {'.'.join(map(str, first['loc']))} must be valid, but: {first['msg']}"
            ) from error

    def __str__(self) -> str:
        return "\n".join(law_lines(self))


def _holding(value: float, ends: tuple[float, float]) -> Interval:
    return Interval(value, min(ends[0], value), max(ends[1], value))


def _between(first: Interval, second: Interval, share: float) -> Interval:
    """`share` of the way from the first to the second, in logarithms; the second from 1 on."""
    share = min(share, 1.0)
    ends = ((first.value, second.value), (first.low, second.low), (first.high, second.high))
    return Interval(*(one ** (1 - share) * other**share for one, other in ends))


@cache
def _adapter() -> TypeAdapter[Law]:
    from pydantic import TypeAdapter

    return TypeAdapter(Law)
