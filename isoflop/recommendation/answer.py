"""From a law and what somebody has to the model to train.

>>> answer = recommend("hoffmann2022", flops=5.76e23)
>>> f"{answer.params.value:.3g} {answer.tokens.value:.3g}", answer.status.value
('3.22e+10 2.98e+12', 'uncalibrated')
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from isoflop.errors import NoAnswerError
from isoflop.fitting.intervals import Interval
from isoflop.flops import AnyShape
from isoflop.plain import plain
from isoflop.recommendation import text
from isoflop.recommendation.ladder import Ladder, ShapeChoice, machine_use, snap
from isoflop.recommendation.optima import (
    REPETITION,
    Overtrained,
    Within,
    overtrained,
    within,
)
from isoflop.recommendation.request import Model, Request, Serving, at, choose, resolve
from isoflop.recommendation.resources import Machine, positive
from isoflop.recommendation.source import Place, Source, by_name, fitted

if TYPE_CHECKING:
    from isoflop.fitting.law import Law, Provenance

#: A model this many times larger or smaller than N* is another model; the status and the warning say so.
FAR = 1.25
#: Beyond this many decades above the largest budget nothing has been calibrated (`isoflop.fitting.law`).
_CALIBRATED = 1.001


class Status(StrEnum):
    """What is to be said of a recommendation, gravest first; the members' comments say what to do."""

    NOT_IDENTIFIABLE = "not_identifiable"  #: The points do not hold the law that this rests on: add points.
    UNCALIBRATED = "uncalibrated"  #: More than ×10 beyond the largest budget: an interval is a lower bound.
    EXTRAPOLATED = "extrapolated"  #: Up to ×10 beyond the largest budget: the interval is meant to hold.
    BELOW = "below"  #: Below the smallest budget: train a few sizes instead, they are cheap.
    UNSTATED = "unstated"  #: The law does not say which budgets it rests on: it may be an extrapolation.
    OFF_LADDER = "off_ladder"  #: The recipe cannot build or train a model of about that size: extend its ladder.
    NO_INTERVALS = "no_intervals"  #: A published law, without intervals: low and high are null.
    INSIDE = "inside"  #: Nothing: within the law's budgets.


@dataclass(frozen=True)
class Data:
    """How often the unique tokens are seen.

    Parameters
    ----------
    unique_tokens, epochs
        U and D/U.
    effective_tokens
        Fresh tokens that D are worth.
    repetition, own
        R*, and whether it is the law's own (else Muennighoff et al.'s, of text).
    """

    unique_tokens: float
    epochs: float
    effective_tokens: float
    repetition: float
    own: bool


@dataclass(frozen=True)
class Recommendation:
    """The model to train, and what to expect of it.

    Parameters
    ----------
    law, origin
        The law's name and where it comes from.
    flops
        The budget in training FLOPs; `training_flops` is what `params` on `tokens` cost: the same, but where tokens
        are to be served.
    params, tokens
        N and D under the law's own conventions and cost model, with 95 % intervals; a published law's are unbounded
        (null in JSON), as it has none.
    loss
        The loss that one run there would have, with its 95 % interval; NaN (null) where the law tells no loss.
    shape
        The nearest shape of a ladder, if one was given or the published law has its own.
    status, statuses
        The gravest of what is to be said, and all of it.
    decades
        How far it lies outside the law's budgets, in log10 C; None where the law does not say them.
    binds
        What fixes the answer: ``compute``, ``data``, the ``ladder``, or the ``size`` that was given.
    near
        Sizes that lose at most 0.1 % and 1 % of the optimal loss at the same C; empty where tokens are to be served.
    overtraining
        What more tokens per parameter cost; empty likewise.
    data, serving
        Where unique tokens, or tokens to serve, were given.
    audio_hours
        `tokens` as hours of audio, where a token rate was given.
    warnings
        What to know before spending it, in sentences.
    provenance
        A fitted law's.
    """

    law: str
    origin: str
    flops: float
    training_flops: float
    params: Interval
    tokens: Interval
    loss: Interval
    shape: ShapeChoice | None
    status: Status
    statuses: tuple[Status, ...]
    decades: float | None
    binds: Literal["compute", "data", "ladder", "size"]
    near: tuple[Within, ...]
    overtraining: tuple[Overtrained, ...]
    data: Data | None
    serving: Serving | None
    audio_hours: float | None
    warnings: tuple[str, ...]
    provenance: Provenance | None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`; what is unbounded or not known is None."""
        document: dict[str, Any] = plain(asdict(self))
        return document

    def __str__(self) -> str:
        return "\n".join(text.lines(self))


def recommend(
    law: Law | Source | str,
    *,
    flops: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
    unique_tokens: float | None = None,
    tokens_served: float | None = None,
    token_rate: float | None = None,
    ladder: Ladder | Sequence[AnyShape] | None = None,
    machine: Machine | None = None,
) -> Recommendation:
    """Recommend the model to train for a compute budget, or for a size or tokens in its place.

    Parameters
    ----------
    law
        As `isoflop.fit` made it, or the name of a published one.
    flops
        The budget, by the law's convention of FLOPs.
    params, tokens
        A model size N, tokens to train on D. Alone, each gives the C at which it is optimal; with `flops`, or both
        together, they fix the model.
    unique_tokens
        Distinct tokens there are: more training tokens are repetitions. Alone, the same as `tokens`.
    tokens_served
        Tokens to serve over the model's life: with `flops`, of all models of the loss that this C gives the one that
        costs least in training and serving together.
    token_rate
        Tokens a second of audio, to tell hours.
    ladder
        A recipe's shapes: the nearest to N in ln N is picked, and its tokens are solved from the budget under its own
        FLOPs. Of a published law its own ladder by default.
    machine
        To tell GPUs, memory, days and cost of that shape.

    Raises
    ------
    InputError
        Unless what is given is positive and finite and does not contradict itself, or if the ladder is empty.
    NoAnswerError
        If repeated data or serving is asked of a law without a loss surface, or no model reaches the loss.
    """
    source = law if isinstance(law, Source) else by_name(law) if isinstance(law, str) else fitted(law)
    asked = resolve(source, flops, params, tokens, unique_tokens, tokens_served)
    place = source.place(asked.flops)
    found = choose(source, place, asked, unique_tokens, tokens_served)
    seen = source.cost.tokens(found.size, found.spent)
    choice, off_ladder = _shape(source, place, found, source.ladder if ladder is None else ladder, machine)
    statuses = _statuses(source, place, choice, off_ladder, found)
    data = None
    if unique_tokens is not None:
        own = source.repetition is not None
        data = Data(unique_tokens, seen / unique_tokens, found.worth(seen), source.repetition or REPETITION, own)
    return Recommendation(
        law=source.name,
        origin=source.origin,
        flops=asked.flops,
        training_flops=found.spent,
        params=_carried(place.params, found.size),
        tokens=_carried(place.tokens, seen),
        loss=_carried(place.loss, place.loss.value * found.loss_ratio),
        shape=choice,
        status=statuses[0],
        statuses=statuses,
        decades=None if math.isnan(place.decades) else abs(place.decades),
        binds=_binding(asked, found, statuses),
        near=() if found.serving else within(found.profile, found.best),
        overtraining=()
        if found.serving
        else overtrained(found.profile, source.cost, found.best, asked.flops, found.repeated),
        data=data,
        serving=found.serving,
        audio_hours=None if token_rate is None else seen / positive("token_rate", token_rate) / 3600,
        warnings=tuple(
            text.warnings(
                source, place, choice, off_ladder, data, moved=not math.isclose(found.size, place.params.value)
            )
        ),
        provenance=source.provenance,
    )


def _shape(
    source: Source, place: Place, found: Model, ladder: Ladder | Sequence[AnyShape] | None, machine: Machine | None
) -> tuple[ShapeChoice | None, str]:
    """The nearest shape, and why there is none or none near; empty where it is near."""
    if ladder is None:
        return None, ""
    try:
        near = snap(ladder, found.size, found.spent, source.convention, source.params_convention)
    except NoAnswerError as error:
        return None, str(error)
    tokens = found.spent / near.shape.flops_per_token(source.convention)
    counted = near.shape.training_flops(tokens) if near.run is None else near.run.counted_flops
    ratio = near.params / found.size
    choice = ShapeChoice(
        shape=near.shape,
        params=near.params,
        tokens=tokens,
        size_ratio=ratio,
        loss_ratio=math.exp(at(found.profile, near.params) - at(found.profile, found.size)),
        refused=near.refused,
        run=near.run,
        machine=None if machine is None else machine_use(near.shape, counted, machine),
    )
    far = max(ratio, 1 / ratio) > FAR
    return choice, text.far_shape(choice, _carried(place.params, found.size)) if far else ""


def _statuses(
    source: Source, place: Place, choice: ShapeChoice | None, off_ladder: str, found: Model
) -> tuple[Status, ...]:
    """All that is to be said, gravest first."""
    on_surface = source.leads_by_surface or found.scarce or found.serving is not None
    unbounded = source.law is not None and not all(
        map(math.isfinite, (place.params.low, place.params.high, place.tokens.low, place.tokens.high))
    )
    said = {
        Status.NOT_IDENTIFIABLE: (on_surface and not source.sound) or unbounded,
        Status.UNCALIBRATED: place.decades > _CALIBRATED,
        Status.EXTRAPOLATED: 0 < place.decades <= _CALIBRATED,
        Status.BELOW: place.decades < 0,
        Status.UNSTATED: math.isnan(place.decades),
        Status.OFF_LADDER: bool(off_ladder),
        Status.NO_INTERVALS: source.law is None,
    }
    return tuple(status for status, holds in said.items() if holds) or (Status.INSIDE,)


def _binding(
    asked: Request, found: Model, statuses: tuple[Status, ...]
) -> Literal["compute", "data", "ladder", "size"]:
    if asked.size is not None and not asked.by_tokens:
        return "size"
    if found.scarce or asked.by_tokens:
        return "data"
    return "ladder" if Status.OFF_LADDER in statuses else "compute"


def _carried(interval: Interval, value: float) -> Interval:
    """The interval about another value: as wide, in ln."""
    if value == interval.value:
        return interval
    by = value / interval.value
    return Interval(value, interval.low * by, interval.high * by)
