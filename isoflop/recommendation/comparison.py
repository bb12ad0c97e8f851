"""Several recommendations beside each other: for a ladder of budgets, for given models, by other laws.

>>> found = against("hoffmann2022", ["besiroglu2024"], flops=5.76e23)
>>> round(found.spread["params"], 2)
2.24
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from isoflop.errors import InputError
from isoflop.fitting.words import count, power
from isoflop.recommendation.answer import Recommendation, recommend
from isoflop.recommendation.source import Source

if TYPE_CHECKING:
    from isoflop.fitting.law import Law


@dataclass(frozen=True)
class Comparison:
    """Recommendations of one kind: a ``table`` of budgets, a ``suite`` of models, or one law ``against`` others."""

    kind: Literal["table", "suite", "against"]
    answers: tuple[Recommendation, ...]

    @property
    def spread(self) -> dict[str, float]:
        """The largest N and the largest D over the smallest."""
        values = {
            "params": [answer.params.value for answer in self.answers],
            "tokens": [answer.tokens.value for answer in self.answers],
        }
        return {name: max(each) / min(each) for name, each in values.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values: rows; of laws the first one's answer with the others' under ``against`` and the ``spread``."""
        first, *others = [answer.to_json() for answer in self.answers]
        if self.kind == "against":
            return {**first, "against": others, "spread": self.spread}
        return {"law": first["law"], self.kind: [first, *others]}

    def __str__(self) -> str:
        rows = [["law", "FLOPs", "parameters", "tokens", "per parameter", "loss", "shape", "status"]]
        rows += [_row(answer) for answer in self.answers]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        if self.kind == "against":
            spread = self.spread
            lines.append(f"between the laws: ×{spread['params']:.2f} in parameters, ×{spread['tokens']:.2f} in tokens")
        heard = dict.fromkeys(warning for answer in self.answers for warning in answer.warnings)
        return "\n".join(lines + [f"! {warning}" for warning in heard])


def against(law: Law | Source | str, others: Iterable[str], **asked: Any) -> Comparison:
    """The same question to `law` and to published laws; `asked` as `recommend`'s options."""
    return Comparison("against", tuple(recommend(each, **asked) for each in (law, *others)))


def table(law: Law | Source | str, budgets: Sequence[float], **asked: Any) -> Comparison:
    """One recommendation for each of the `budgets`, training FLOPs."""
    _some("a table", "budgets", budgets)
    return Comparison("table", tuple(recommend(law, flops=each, **asked) for each in budgets))


def suite(law: Law | Source | str, sizes: Sequence[float], **asked: Any) -> Comparison:
    """One recommendation for each of the given `sizes`, parameters: at the same budget, or each at its own optimum."""
    _some("a suite", "sizes", sizes)
    return Comparison("suite", tuple(recommend(law, params=each, **asked) for each in sizes))


def _some(what: str, of: str, values: Sequence[float]) -> None:
    if not values:
        raise InputError(f"{what} must have {of}, but got none")


def _row(answer: Recommendation) -> list[str]:
    loss = answer.loss.value
    shape = "" if answer.shape is None else answer.shape.shape.label
    return [
        answer.law,
        power(answer.training_flops),
        count(answer.params.value),
        count(answer.tokens.value),
        f"{answer.tokens.value / answer.params.value:.3g}",
        "" if loss != loss else f"{loss:.4f}",
        shape,
        ", ".join(answer.statuses),
    ]
