"""The report as Markdown, for a pull request or a wiki: the answer, the verdict, tables, pictures by relative path.

Texts of a study are escaped, so that none of them becomes markup or ends a cell.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

import isoflop
from isoflop.fitting.words import power
from isoflop.reporting import sentences
from isoflop.reporting.ablation import ablation_tables
from isoflop.reporting.content import Content
from isoflop.reporting.profiles import minima_of
from isoflop.reporting.runs import rows
from isoflop.reporting.tables import audit_table, minima_table, progress_table, types_table
from isoflop.store import write_text

_MARKS = re.compile(r"([\\`*_\[\]|~#])")
_PICTURES = {
    "profiles": "IsoFLOP profiles",
    "ablation": "Arm by arm",
    "optimum": "Power laws",
    "hold_out": "Held out",
    "influence": "Influence",
    "residuals": "Residuals",
}


def write_markdown(path: Path, content: Content, pictures: Sequence[Path] = ()) -> None:
    """Write the report to `path`, whole or not at all; `pictures` are figures beside or below it."""
    write_text(path, render_markdown(content, [each.relative_to(path.parent).as_posix() for each in pictures]))


def render_markdown(content: Content, pictures: Sequence[str] = ()) -> str:
    """Return the report as Markdown text, with `pictures` by their relative paths."""
    told = sentences.verdict(content)
    checks = f": {', '.join(told.checks)}" if told.checks else ""
    lines = [
        f"# {plain(content.title)}: {sentences.question(content)}",
        "",
        f"**{told.word.capitalize()}**: {plain(told.sentence + checks)}",
        "",
        plain(sentences.summary(content)),
        "",
        *(f"> {plain(note)}\n" for note in sentences.notes(content)),
        *_answer(content),
        *_ablation(content),
        *_progress(content),
        *(f"![{_PICTURES.get(Path(each).stem, '')}]({each})\n" for each in pictures),
        *_minima(content),
        *_types(content),
        *_checks(content),
        *_audit(content),
        "## How this was made",
        "",
        *(f"- {plain(each)}" for each in content.foretold),
        *(f"- {plain(name)}: {plain(value)}" for name, value in sentences.provenance(content)),
        f"- report: isoflop {isoflop.__version__}",
    ]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """`text` as Markdown that shows just that, in one line."""
    return _MARKS.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *([plain(each) for each in row] for row in body)]
    return [*(f"| {' | '.join(each)} |" for each in lines), ""]


def _answer(content: Content) -> list[str]:
    law, recommendation = content.law, content.recommendation
    if law is None:
        return []
    figures = sentences.exponents(law)
    lines = []
    if recommendation is not None:
        lines += [f"## With {power(recommendation.flops)} training FLOPs, train", ""]
        figures = [*sentences.answer(recommendation), *figures]
    lines += _table(["", "value", "95 %"], [[each.name, each.value, each.interval] for each in figures])
    if recommendation is not None:
        lines += [f"- {plain(each)}" for each in sentences.to_train(recommendation)]
        lines += ["", *(f"> {plain(warning)}\n" for warning in recommendation.warnings)]
    return lines


def _ablation(content: Content) -> list[str]:
    if content.ablation is None:
        return []
    lines = ["## What was found", "", *(f"- {plain(each)}" for each in content.ablation.findings), ""]
    header = ["arm", "mean", "less the baseline (95 %)", "p, Holm", "seeds", "verdict"]
    names = ("arm", "mean", "change", "p", "seeds", "verdict")
    for table in ablation_tables(content.ablation):
        body = [[row[name] for name in names] for row in table["rows"]]
        lines += [f"### {plain(table['title'])}", "", *_table(header, body)]
    return lines + [f"> {plain(note)}\n" for note in content.ablation.notes]


def _progress(content: Content) -> list[str]:
    if content.progress is None:
        return []
    table = progress_table(content, rows(content), content.progress)
    body = [[row["budget"], row["percent"], *row["states"], row["best"]] for row in table["budgets"]]
    lines = ["## How far it is", "", plain(table["sentence"]), ""]
    lines += _table(["C", "steps done", *table["states"], "best loss"], body)
    failures = [[each["run"], each["reason"], each["advice"]] for each in table["failures"]]
    return lines + (_table(["failed", "why", "what to do"], failures) if failures else [])


def _minima(content: Content) -> list[str]:
    minima = [] if content.ablation is not None else minima_table(minima_of(content))
    if not minima:
        return []
    body = [
        [
            each["budget"],
            each["status"],
            *(
                " ".join(part for part in (each[name], _interval(each[f"{name}_interval"])) if part)
                for name in ("params", "tokens")
            ),
            each["loss"],
            each["words"],
        ]
        for each in minima
    ]
    return ["## Minima", "", *_table(["C, FLOPs", "status", "N*", "D*", "loss", "why not, and what would help"], body)]


def _types(content: Content) -> list[str]:
    if content.law is None or not content.law.types:
        return []
    header = ["type", "a", "b", "b/a", "N* over the total's", "a less the total's", "against the total"]
    names = ("name", "a", "b", "ratio", "size", "turned", "verdict")
    body = [[each[name] for name in names] for each in types_table(content.law.types)]
    return ["## Token types", "", *_table(header, body)]


def _audit(content: Content) -> list[str]:
    if content.audit is None:
        return []
    header = ["another choice", "losses", "a", "b", "b/a", content.audit.said("params"), "what to know"]
    names = ("name", "loss", "a", "b", "ratio", "params", "note")
    body = [[each[name] for name in names] for each in audit_table(content.audit)]
    told = [f"- {plain(each)}" for each in sentences.audited(content)]
    return ["## How far the design moves it", "", *told, "", *_table(header, body)]


def _interval(text: str) -> str:
    return f"({text})" if text else ""


def _checks(content: Content) -> list[str]:
    if content.law is None:
        return []
    body = [[str(check.status), check.name.replace("_", " "), check.message] for check in content.law.checks]
    return ["## Checks", "", *_table(["", "check", "found"], body)]
