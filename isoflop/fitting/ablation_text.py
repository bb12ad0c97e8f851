"""An ablation as a person reads it: a table for each loss, and sentences of what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence

from isoflop.fitting.ablation import BITS, Ablation, Cell, Row, Trend
from isoflop.fitting.paired import Difference
from isoflop.fitting.words import power

#: Units of the measures.
NATS, BITS_UNIT = "nats per token", "bits per second of sound"


def measure_name(measure: str) -> str:
    """``loss_semantic`` as people say it: ``semantic loss``."""
    if measure == BITS:
        return "audio loss"
    return "loss of all tokens" if measure == "loss" else f"{measure.removeprefix('loss_')} loss"


def unit(measure: str) -> str:
    """What a measure is counted in."""
    return BITS_UNIT if measure == BITS else NATS


def shown(measure: str, value: float) -> str:
    """A value of a measure, with the digits that it deserves."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if measure == BITS else f"{value:.4f}"


def change(measure: str, each: Difference) -> str:
    """A difference with its interval, where there is one: ``+0.021 [+0.010, +0.032]``."""
    digits = 1 if measure == BITS else 4
    said = f"{each.value:+.{digits}f}"
    if not math.isfinite(each.high - each.low):
        return said
    return f"{said} [{each.low:+.{digits}f}, {each.high:+.{digits}f}]"


def p_value(each: Difference | None) -> str:
    """The adjusted p of a difference; empty where there is none."""
    if each is None or each.seeds < 2:
        return ""
    return f"{each.adjusted:.3f}" if each.adjusted >= 0.001 else "<0.001"


def place(cell: Cell) -> str:
    """A cell in words."""
    return f"{power(cell.budget)} FLOPs, {cell.size}"


def arm(levels: Sequence[str]) -> str:
    """An arm in a table: its labels."""
    return ", ".join(levels)


def verdict(row: Row, baseline: Sequence[str]) -> str:
    """A row's last word."""
    return "baseline" if row.levels == tuple(baseline) else row.verdict


def lines(found: Ablation) -> list[str]:
    """The lines of `str(ablation)`."""
    names = ", ".join(factor.name for factor in found.factors)
    arms = len({row.levels for row in found.rows})
    kind = "SIMULATED " if found.simulated else ""
    base = ", ".join(f"{factor.name}={factor.baseline}" for factor in found.factors)
    said = [f"{kind}ablation over {names}: {arms} arms, held against {base}"]
    width = max([len(names), *(len(arm(row.levels)) for row in found.rows)])
    for cell in found.cells:
        for measure in found.measures:
            said += ["", f"{measure_name(measure)}, {unit(measure)}, at {place(cell)}"]
            said.append(f"  {names:<{width}}  {'mean':>9}  {'less the baseline':<30}  {'p':>6}  seeds  verdict")
            said += [_line(row, found.baseline, width) for row in found.of(measure, cell)]
    said += ["", *(f"- {sentence}" for sentence in found.findings)]
    return said + [f"({note})" for note in found.notes]


def _line(row: Row, baseline: Sequence[str], width: int) -> str:
    against = row.against
    told = "" if against is None else change(row.measure, against)
    head = f"  {arm(row.levels):<{width}}  {shown(row.measure, row.mean):>9}  {told:<30}"
    return f"{head}  {p_value(against):>6}  {len(row.losses):>5}  {verdict(row, baseline)}"


def findings(found: Ablation) -> list[str]:
    """What each axis does: along numeric ones from where on it costs, for others which values differ."""
    several = len(found.cells) > 1
    said = [_trend(trend, several) for trend in found.trends]
    for number, factor in enumerate(found.factors):
        if factor.numbers is None:
            for cell in found.cells:
                for measure in found.measures:
                    said += _choice(found, number, measure, cell, several)
    return said


def _trend(trend: Trend, several: bool) -> str:
    where = f" at {place(trend.cell)}" if several else ""
    name = measure_name(trend.measure)
    head = f"{name}{where} is least at {trend.factor}={trend.best}"
    if not trend.told:
        return f"{head}; with one seed nobody knows whether that is certain"
    costs = []
    for word, onset in (("up", trend.above), ("down", trend.below)):
        if onset is not None:
            label, worse = onset
            there = f"{change(trend.measure, worse)} {unit(trend.measure)} there"
            costs.append(f"{trend.factor} from {label} {word} costs {name}: {there}")
    return f"{head}; {'; '.join(costs) or 'no other value is certainly worse all the way'}"


def _choice(found: Ablation, number: int, measure: str, cell: Cell, several: bool) -> list[str]:
    """The values of an axis that is no number against its baseline, other axes at theirs."""
    factor, base = found.factors[number], found.baseline
    by_verdict: dict[str, list[str]] = {}
    for row in found.of(measure, cell):
        others = (*row.levels[:number], base[number], *row.levels[number + 1 :])
        if row.levels != base and others == base and row.against is not None:
            word = row.verdict
            told = f"{row.levels[number]} ({change(measure, row.against)})"
            by_verdict.setdefault(word, []).append(told)
    if not by_verdict:
        return []
    where = f" at {place(cell)}" if several else ""
    said = "; ".join(f"{word}: {', '.join(labels)}" for word, labels in by_verdict.items())
    return [f"{measure_name(measure)}{where}, {unit(measure)}, against {factor.name}={factor.baseline}: {said}"]
