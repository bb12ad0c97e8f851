"""One law a group: experiments, data sets or seeds that stand in one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from isoflop.errors import NoAnswerError
from isoflop.fitting import fit
from isoflop.fitting.evidence import CheckStatus
from isoflop.fitting.law import Law
from isoflop.fitting.words import bound


@dataclass(frozen=True)
class Laws(Mapping[str, Law]):
    """Laws by the names of their groups, and the groups that hold none, each with the sentence that says why."""

    laws: Mapping[str, Law]
    failed: Mapping[str, str]

    def __getitem__(self, name: str) -> Law:
        return self.laws[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.laws)

    def __len__(self) -> int:
        return len(self.laws)

    def to_json(self) -> dict[str, Any]:
        """``{"groups": {name: law}, "failed": {name: reason}}``, plain values for `json.dumps`."""
        return {"groups": {name: law.to_json() for name, law in self.laws.items()}, "failed": dict(self.failed)}

    def __str__(self) -> str:
        width = max(map(len, (*self.laws, *self.failed)))
        lines = [f"{'':<{width}}  {'a':>6} {'95 %':<16}  {'b':>6} {'95 %':<16}  method"]
        for name, law in self.laws.items():
            a, b = law.exponents.a, law.exponents.b
            lines.append(
                f"{name:<{width}}  {a.value:6.3f} [{bound(a.low)}, {bound(a.high)}]    {b.value:6.3f} "
                f"[{bound(b.low)}, {bound(b.high)}]    {law.method}"
            )
            refused = [f"{minimum.budget:.3g} ({minimum.status})" for minimum in law.minima if minimum.cure]
            if refused and law.interior:
                lines.append(f"{'':<{width}}  look at C = {', '.join(refused)}")
            lines += [f"{'':<{width}}  {line}" for line in _suspicions(law)]
            if len(law.conventions) > 1:
                told = [f"{each.convention} {each.a:.3f}" for each in law.conventions if each.a is not None]
                lines.append(f"{'':<{width}}  a by what N counts: {', '.join(told)}")
        return "\n".join(lines + [f"{name:<{width}}  no law: {reason}" for name, reason in self.failed.items()])


def _suspicions(law: Law) -> list[str]:
    """The checks that do not pass: warnings by name, failures with their sentence."""
    warned = [check.name for check in law.checks if check.status is CheckStatus.WARN]
    failed = [check for check in law.checks if check.status is CheckStatus.FAIL]
    lines = [f"warn  {', '.join(warned)}"] if warned else []
    return lines + [f"fail  {check.name}: {check.message}" for check in failed]


def fit_groups(tables: Mapping[str, pd.DataFrame], **options: Any) -> Laws:
    """Fit the law of each of `tables`; `options` are `isoflop.fitting.fit`'s.

    Raises
    ------
    InputError
        If a table is none or an option is wrong.
    NoAnswerError
        If no group has a law, with every group's reason.
    """
    laws: dict[str, Law] = {}
    failed: dict[str, str] = {}
    for name, table in tables.items():
        try:
            laws[name] = fit(table, **options)
        except NoAnswerError as error:
            failed[name] = str(error)
    if not laws:
        raise NoAnswerError("\n".join(f"{name}: {reason}" for name, reason in failed.items()))
    return Laws(laws, failed)
