"""From a law and a budget to the model to train.

>>> print(recommend(law, flops=1e22))                                                        # doctest: +SKIP
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from isoflop.errors import InputError
from isoflop.fitting.checks import CheckStatus
from isoflop.fitting.intervals import Interval
from isoflop.fitting.law import Law, Optimum, Provenance, Reach
from isoflop.fitting.words import count, percent, power
from isoflop.flops import Shape

#: A model this many times larger or smaller than N* is another model; the warning says so.
_FAR = 1.25
#: A shape whose FLOPs per token differ from the law's cost model by more (in ln) is not of the law's ladder.
_OTHER_ACCOUNTING = 0.05


@dataclass(frozen=True)
class ShapeChoice:
    """The shape of a ladder that lies nearest to N* in ln N, trained for the whole budget.

    Parameters
    ----------
    shape
        The model.
    params
        Its size, by the law's convention.
    tokens
        What the budget buys it under its own FLOPs, counted or 6ND as the law's points were.
    size_ratio
        `params` over N*.
    loss_ratio
        The loss to expect over that of the optimum (`Law.excess`). It grows with the square of ln `size_ratio`;
        within a factor of two in N it is a matter of a per cent.
    """

    shape: Shape
    params: int
    tokens: float
    size_ratio: float
    loss_ratio: float


@dataclass(frozen=True)
class Recommendation:
    """The model to train with `flops` training FLOPs, and what to expect of it.

    Parameters
    ----------
    flops
        The budget.
    params, tokens
        N* and D* with 95 % intervals; the pair costs `flops` under the law's cost model.
    loss
        The loss that one run there would have, with its 95 % interval.
    shape
        The nearest shape of a ladder, if one was given.
    status
        Where the budget lies in relation to the law's (`isoflop.fitting.law.Reach`).
    decades
        How far it lies outside them, in log10 C.
    warnings
        What to know before spending it, in sentences.
    provenance
        The law's.
    """

    flops: float
    params: Interval
    tokens: Interval
    loss: Interval
    shape: ShapeChoice | None
    status: Reach
    decades: float
    warnings: tuple[str, ...]
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `json.dumps`."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"with {power(self.flops)} FLOPs, train",
            f"  {count(self.params.value):>7} parameters  [{count(self.params.low)}, {count(self.params.high)}]",
            f"  {count(self.tokens.value):>7} tokens      [{count(self.tokens.low)}, {count(self.tokens.high)}]",
            f"  {self.loss.value:7.4f} loss        [{self.loss.low:.4f}, {self.loss.high:.4f}]",
        ]
        if self.shape is not None:
            model = self.shape.shape
            lines.append(
                f"  nearest shape: {model.n_layers} layers of width {model.d_model}, {count(self.shape.params)} "
                f"parameters, {count(self.shape.tokens)} tokens"
            )
        return "\n".join(lines + [f"! {warning}" for warning in self.warnings])


def recommend(law: Law, *, flops: float, ladder: Sequence[Shape] | None = None) -> Recommendation:
    """Recommend the model to train with `flops` training FLOPs.

    Parameters
    ----------
    law
        As `isoflop.fit` made it.
    flops
        The budget, by the law's convention of FLOPs.
    ladder
        Shapes that could be trained; the nearest to N* in ln N is picked, and its tokens are solved from the budget
        under its own FLOPs.

    Raises
    ------
    InputError
        Unless `flops` is positive and finite, or if the ladder is empty.
    """
    optimum = law.optimum(flops)
    warnings = _warnings(law, optimum)
    choice = None
    if ladder is not None:
        choice = _nearest(law, optimum, ladder)
        warnings += _ladder_warnings(law, optimum, choice)
    return Recommendation(
        flops=flops,
        params=optimum.params,
        tokens=optimum.tokens,
        loss=optimum.loss,
        shape=choice,
        status=optimum.reach,
        decades=optimum.decades,
        warnings=tuple(warnings),
        provenance=law.provenance,
    )


def _warnings(law: Law, optimum: Optimum) -> list[str]:
    lowest, highest = law.budgets
    span = math.log10(highest / lowest)
    times = count(10**optimum.decades)
    found = []
    if law.provenance.simulated:
        found.append("The law is a rehearsal's: its points are simulated, and no model was trained.")
    if optimum.reach is Reach.BELOW:
        found.append(
            f"{power(optimum.flops)} FLOPs are {times} times less than the law's smallest budget, {power(lowest)}: "
            "train a few sizes instead, they are cheap."
        )
    elif optimum.reach is not Reach.INSIDE:
        found.append(
            f"This is an extrapolation: {power(optimum.flops)} FLOPs are {times} times the largest budget of the law, "
            f"{power(highest)}, from budgets that span {span:.2f} decades. The intervals hold if the power laws go on "
            "unchanged and the larger runs are tuned as well as the smaller ones were."
        )
    if optimum.reach is Reach.UNCALIBRATED:
        found.append("Beyond ×10 of the largest budget the intervals are uncalibrated: expect more than they say.")
    suspect = [check.name for check in law.checks if check.status is not CheckStatus.PASS]
    if suspect:
        found.append(f"The law is suspect in: {', '.join(suspect)}. Read its checks before you rely on it.")
    return found


def _nearest(law: Law, optimum: Optimum, ladder: Sequence[Shape]) -> ShapeChoice:
    if not ladder:
        raise InputError("a ladder must hold at least one shape, but got none")
    sizes = [shape.parameters.by(law.provenance.params_convention) for shape in ladder]
    offsets = [math.log(size / optimum.params.value) for size in sizes]
    place = min(range(len(ladder)), key=lambda each: abs(offsets[each]))
    # Under 6ND the N is the law's own, whatever it counts.
    counted = law.cost_model.form != "6nd"
    per_token = ladder[place].training_flops(1) if counted else 6.0 * sizes[place]
    return ShapeChoice(
        shape=ladder[place],
        params=sizes[place],
        tokens=optimum.flops / per_token,
        size_ratio=math.exp(offsets[place]),
        loss_ratio=law.excess(float(sizes[place]), optimum.flops),
    )


def _ladder_warnings(law: Law, optimum: Optimum, choice: ShapeChoice) -> list[str]:
    ratio, found = choice.size_ratio, []
    expected = law.cost_model.tokens(float(choice.params), optimum.flops)
    if abs(math.log(choice.tokens / expected)) > _OTHER_ACCOUNTING:
        found.append(
            f"The shape's own FLOPs buy it {count(choice.tokens)} tokens, and those that the law's points counted "
            f"{count(expected)}: their C or N follow another convention, or their shapes another ladder."
        )
    if max(ratio, 1 / ratio) > _FAR:
        inside = "inside" if optimum.params.low <= choice.params <= optimum.params.high else "outside"
        side = f"{ratio:.2f} times larger" if ratio > 1 else f"{1 / ratio:.2f} times smaller"
        found.append(
            f"The nearest shape of the ladder is {side} than N* ({inside} its interval), which costs about "
            f"{percent(choice.loss_ratio - 1)} of the loss."
        )
    return found
