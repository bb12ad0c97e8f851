"""What a law says of each token type beside the whole loss (`isoflop.fitting.by_type` finds it)."""

from __future__ import annotations

from dataclasses import dataclass

from isoflop.fitting.intervals import Estimate
from isoflop.fitting.minima import Minimum
from isoflop.fitting.powerlaw import Exponents
from isoflop.fitting.words import bound, power


@dataclass(frozen=True)
class Against:
    """A type's minima against the total's, over the budgets where both have one.

    Parameters
    ----------
    a
        The type's exponent of N* less the total's.
    size
        The type's N* over the total's at `flops`, the largest budget where both have a minimum.
    flops
        Training FLOPs.
    """

    a: Estimate
    size: Estimate
    flops: float

    @property
    def differs(self) -> bool:
        """Whether the type wants another model than the total, by an interval that leaves equality out."""
        return not (self.a.low <= 0 <= self.a.high and self.size.low <= 1 <= self.size.high)


@dataclass(frozen=True)
class TypeLaw:
    """What the minima say of one token type's loss.

    Parameters
    ----------
    name
        ``text`` for the column ``loss_text``.
    runs
        How many of the points have this loss.
    minima
        One per budget, as the law's own.
    exponents
        N* ∝ C^a, D* ∝ C^b of this loss; None where its minima make no line, and `reason` says why.
    against
        How that differs from the total; None where `exponents` is, or too few budgets have both minima.
    reason
        Why there are no exponents; empty where there are.
    """

    name: str
    runs: int
    minima: tuple[Minimum, ...]
    exponents: Exponents | None
    against: Against | None
    reason: str

    @property
    def sentence(self) -> str:
        """What it says, in one sentence."""
        if self.exponents is None:
            return f"{self.name} has no law: {self.reason.splitlines()[0]}"
        a = self.exponents.a
        said = f"{self.name}: a = {a.value:.3f} [{bound(a.low)}, {bound(a.high)}]"
        if self.against is None:
            return f"{said}; too few budgets have a minimum of it and of the total to tell them apart"
        size, turned = self.against.size, self.against.a
        verdict = "wants another model than the total" if self.against.differs else "not told apart from the total"
        return (
            f"{said}; against the total's, a {turned.value:+.3f} [{turned.low:+.3f}, {turned.high:+.3f}] and N* "
            f"×{size.value:.2f} [{size.low:.2f}, {size.high:.2f}] at {power(self.against.flops)}: {verdict}"
        )
