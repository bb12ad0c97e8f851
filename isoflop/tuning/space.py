"""What is searched over: hyperparameters, each on a logarithmic axis of its own.

The rate and the batch are factors of what the recipe's rules say at a cell, so that one range suits every cell, and an
optimum that is the same factor at all of them says that the rules' form is right. β2 is searched by 1 − β2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from isoflop.errors import InputError

Name = Literal["lr", "batch", "beta2", "weight_decay"]

#: Where a range that holds no optimum is extended: by this factor, once on each side.
EXTENSION = 4.0


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter and its range.

    Parameters
    ----------
    name
        ``lr`` and ``batch`` are factors of the recipe's (no unit), ``beta2`` is 1 − β2, ``weight_decay`` itself.
    low, high
        The range, in the same.
    """

    name: Name
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high and math.isfinite(self.high)):
            raise InputError(f"0 < low < high must hold of {self.name}, but got {self.low:g} and {self.high:g}")
        if self.name == "beta2" and self.high >= 1:
            raise InputError(f"0 <= beta2 < 1 must hold, but got a beta2 down to {1 - self.high:g}")

    @property
    def reach(self) -> float:
        """How far from an optimum ln loss is a parabola, as a distance of logarithms (see `isoflop.tuning.optimum`)."""
        return _REACH[self.name]

    @property
    def extended(self) -> tuple[float, float]:
        """The ends of the range that may be searched at most."""
        high = self.high * EXTENSION
        return self.low / EXTENSION, min(high, math.sqrt(self.high)) if self.name == "beta2" else high

    def at(self, fraction: float) -> float:
        """The value at a fraction of the range."""
        return self.low * math.pow(self.high / self.low, fraction)

    def shown(self, value: float) -> str:
        """A value as people write it."""
        return f"{1 - value:.4g}" if self.name == "beta2" else f"{value:.3g}"


_DEFAULTS: dict[Name, tuple[float, float]] = {
    "lr": (1 / 8, 8.0),
    "batch": (1 / 4, 4.0),
    "beta2": (0.001, 0.1),
    "weight_decay": (0.01, 1.0),
}
#: A factor of four in rate or batch; a decade where the loss hardly feels less.
_REACH: dict[Name, float] = {
    "lr": math.log(4),
    "batch": math.log(4),
    "beta2": math.log(10),
    "weight_decay": math.log(10),
}


def parsed(text: str) -> tuple[Dimension, ...]:
    """Read ``lr,batch=0.5:4,beta2=0.9:0.999``: names, each with its range or a default.

    Raises
    ------
    InputError
        If a name is not known or comes twice, or a range is none.
    """
    found: dict[str, Dimension] = {}
    for part in text.split(","):
        name, given, bounds = part.strip().partition("=")
        if name not in get_args(Name):
            raise InputError(f"what is searched over must be some of {', '.join(get_args(Name))}, but got {name!r}")
        if name in found:
            raise InputError(f"what is searched over must be distinct, but got {name!r} twice")
        found[name] = _dimension(name, bounds if given else None)  # type: ignore[arg-type]
    return tuple(found.values())


def _dimension(name: Name, bounds: str | None) -> Dimension:
    if bounds is None:
        return Dimension(name, *_DEFAULTS[name])
    try:
        low, high = map(float, bounds.split(":"))
    except ValueError:
        raise InputError(f"a range must be LOW:HIGH, but got {bounds!r} for {name}") from None
    return Dimension(name, 1 - high, 1 - low) if name == "beta2" else Dimension(name, low, high)


def distance(dimensions: tuple[Dimension, ...], one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """How far apart two places are in the dimension in which they are farthest, in units of its reach."""
    return max(abs(math.log(one[each.name] / other[each.name])) / each.reach for each in dimensions)
