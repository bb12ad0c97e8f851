"""A law as a person reads it in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isoflop.fitting.intervals import Estimate
from isoflop.fitting.minima import Status
from isoflop.fitting.words import bound, count, percent, power

if TYPE_CHECKING:
    from isoflop.fitting.law import Law

#: Excluded rows that are named.
_LISTED = 5


def law_lines(law: Law) -> list[str]:
    """The lines of `str(law)`: exponents, methods, minima, checks."""
    lowest, highest = law.budgets
    used, excluded = law.points.used, len(law.points.excluded)
    kind = "SIMULATED points" if law.provenance.simulated else "points"
    lines = [
        f"law from {used} {kind} ({excluded} excluded), {len(law.interior)} of {len(law.minima)} budgets with a "
        f"minimum, {power(lowest)} to {power(highest)} FLOPs",
        *_excluded(law),
        f"N is {law.provenance.params_convention} parameters; C is {law.provenance.flops_convention}",
        "",
        _exponent(law, "N* ∝ C^a", "a", law.exponents.a),
        _exponent(law, "D* ∝ C^b", "b", law.exponents.b),
        _exponent(law, "", "b/a", law.exponents.ratio),
        "",
        *_methods(law),
        *_conventions(law),
        *(f"  {each.sentence}" for each in law.types),
        "",
        f"{'C':>9}  {'N*':>7}  {'95 %':<17}  {'D*':>7}  {'95 %':<17}  {'loss':>7}  {'N within 1 %':<17}",
    ]
    listed = law.minima if law.has_profiles else law.interior
    if not law.has_profiles:
        lines.insert(-1, "no IsoFLOP profiles: most points stand at a C of fewer than three sizes")
    if not listed:
        lines.pop()
    for minimum in listed:
        if minimum.status is Status.INTERIOR:
            lines.append(
                f"{power(minimum.budget):>9}  {_count(minimum.params):>7}  "
                f"{_span(minimum.params_low, minimum.params_high):<17}  {_count(minimum.tokens):>7}  "
                f"{_span(minimum.tokens_low, minimum.tokens_high):<17}  {minimum.loss:7.4f}  "
                f"{_within(minimum.one_percent)}"
            )
        else:
            lines.append(f"{power(minimum.budget):>9}  {minimum.status}: {minimum.reason}; {minimum.cure}")
    lines += ["", f"noise of a run: {percent(law.noise)} of its loss"]
    return lines + [f"{check.status:>4}  {check.name}: {check.message}" for check in law.checks]


def _excluded(law: Law) -> list[str]:
    """The first rows that were not used, and why."""
    rows = law.points.excluded
    lines = [f"  excluded: {each.run or f'row {each.row}'}: {each.reason}" for each in rows[:_LISTED]]
    return lines if len(rows) <= _LISTED else [*lines, f"  excluded: {len(rows) - _LISTED} more, all in the JSON"]


def _exponent(law: Law, relation: str, name: str, estimate: Estimate) -> str:
    t, bootstrap = (f"[{bound(low)}, {bound(high)}]" for low, high in (estimate.t, estimate.bootstrap))
    behind = (
        f"(bootstrap of the surface {bootstrap})" if law.method == "parametric" else f"(t {t}, bootstrap {bootstrap})"
    )
    return f"{relation:<9}  {name:>3} = {estimate.value:.3f} [{bound(estimate.low)}, {bound(estimate.high)}]  {behind}"


def _methods(law: Law) -> list[str]:
    """Each method's exponents, the leading one marked."""
    lines = []
    for name in ("parabola", "akima", "parametric"):
        found = getattr(law.methods, name)
        lead = "*" if name == law.method else " "
        if found.a is None or found.b is None:
            lines.append(f" {lead}{name:<11} no exponents")
            continue
        bias = "" if found.bias_a is None else f"  (its own bias on the surface: {found.bias_a:+.4f})"
        lines.append(f" {lead}{name:<11} a = {found.a:.3f}  b = {found.b:.3f}{bias}")
    surface = law.parametric
    if surface is not None:
        lines.append(
            f"  L = {surface.E:.4g} + {surface.A:.4g}/N^{surface.alpha:.4f} + {surface.B:.4g}/D^{surface.beta:.4f}  "
            f"({surface.status.replace('_', ' ')})"
        )
    return lines


def _conventions(law: Law) -> list[str]:
    if len(law.conventions) < 2:
        return []
    told = [f"{each.convention} a = " + ("none" if each.a is None else f"{each.a:.3f}") for each in law.conventions]
    return [f"  by what N counts: {', '.join(told)}"]


def _count(value: float | None) -> str:
    return "" if value is None else count(value)


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{count(low)}, {count(high)}]"


def _within(ends: tuple[float | None, float | None] | None) -> str:
    if ends is None:
        return ""
    low, high = ("…" if end is None else count(end) for end in ends)
    return f"[{low}, {high}]"
