"""The report as one HTML page that a person can open, send, print and keep.

It holds everything it shows and asks nothing of any network: its content security policy forbids it, and names the
digests of the only style and scripts that run. Every text that comes from a study passes through jinja2's escaping, or
reaches the page as JSON that ``report.js`` sets as text. What is said and drawn is decided in Python; how it looks, in
``template.html.j2`` and ``report.css``. Where scripts are off, the plots are pictures.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

import isoflop
from isoflop.fitting.words import power
from isoflop.reporting import sentences
from isoflop.reporting.ablation import ablation_panels, ablation_tables
from isoflop.reporting.content import Content
from isoflop.reporting.figures import PAGE_NAMES, Drawings, draw, svg
from isoflop.reporting.findings import hold_out_panels, influence_panel, law_panels
from isoflop.reporting.profiles import minima_of, profiles_panel
from isoflop.reporting.runs import Row, rows
from isoflop.reporting.style import DARK, LIGHT, hex_ramp
from isoflop.reporting.tables import audit_table, minima_table, progress_table, runs_table, types_table
from isoflop.store import write_text

if TYPE_CHECKING:
    from isoflop.fitting.law import Law

#: The plots' library, which is embedded as it is (MIT; its licence lies beside it).
_LIBRARY = "chart-4.6.1.min.js"
#: Longer tables are folded at first.
_FOLDED_ROWS = 100
#: Rows of the table of runs beyond which a page is no place for them.
_MOST_ROWS = 1000
#: A page that was to be written anew and was not for so many turns says so.
_STALE_TURNS = 6

_PROFILES = (
    "Filled points lie in the window of the parabola, hollow ones outside it; diamonds are the minima, level bars "
    "their 95 % intervals. A dashed profile has no minimum that counts. Point at a run, or go to it by arrow keys."
)
_POINTS = "The losses that are there so far, by budget; the minima are provisional."
_LAWS = (
    "Diamonds are the minima with their 95 % intervals, lines the laws through them, dashed where they extrapolate, "
    "and shaded their 95 % bands."
)
_ARMS = (
    "What each arm's loss is less the baseline's, as a mean over paired seeds, with 95 % intervals of each alone. "
    "Crosses are certainly worse, all comparisons of the same loss considered."
)
_MARK = " The orange mark is the recommendation: its tokens are what its parameters leave of the budget."
_HELD_OUT = {
    "hold-out": "Fitted to the runs of small budgets alone, how far off were forecasts of those above? Crosses mark "
    "cuts where an interval missed.",
    "drift": "An exponent that keeps moving as budgets come will not stop at the last.",
}
_INFLUENCE = (
    "Each run is left out in turn. Crosses lie outside the 95 % interval: such a law is that run's, not the study's."
)


def write_report(path: Path, content: Content, drawings: Drawings | None = None) -> None:
    """Write the report to `path`, whole or not at all.

    `drawings` are the static figures, where they are drawn already.

    Raises
    ------
    InputError
        If the points are no points table, or mix simulated points with real ones.
    """
    write_text(path, render_report(content, drawings))


def render_report(content: Content, drawings: Drawings | None = None) -> str:
    """Return the report as HTML text; see `write_report`."""
    runs = rows(content)
    shown = draw(content, PAGE_NAMES) if drawings is None else drawings
    sections = _sections(content, runs, shown)
    progress, recommendation = content.progress, content.recommendation
    refresh = None if progress is None else progress.refresh
    data = {
        "panels": [panel for section in sections for panel in section["panels"]],
        "ramp": {
            name: hex_ramp(theme, len(content.judged.budgets)) for name, theme in (("light", LIGHT), ("dark", DARK))
        },
        "refresh": refresh,
        "written": 0.0 if progress is None else progress.written,
        "stale": _STALE_TURNS * (refresh or 0.0),
    }
    law, ablation = content.law, content.ablation
    return _template().render(
        **_embedded(),
        study=content.title,
        question=sentences.question(content),
        summary=sentences.summary(content),
        verdict=sentences.verdict(content),
        notes=sentences.notes(content),
        warnings=() if recommendation is None else recommendation.warnings,
        version=isoflop.__version__,
        law=law is not None,
        exponents=[] if law is None else sentences.exponents(law),
        recommendation=None
        if recommendation is None
        else {
            "flops": power(recommendation.flops),
            "tiles": sentences.answer(recommendation),
            "train": sentences.to_train(recommendation),
        },
        refresh=refresh,
        progress=None if progress is None else progress_table(content, runs, progress),
        sections=sections,
        minima=[] if ablation is not None else minima_table(minima_of(content)),
        ablation=None
        if ablation is None
        else {"tables": ablation_tables(ablation), "findings": ablation.findings, "notes": ablation.notes},
        types=[] if law is None else types_table(law.types),
        audit=None
        if content.audit is None
        else {
            "told": sentences.audited(content),
            "size": content.audit.said("params"),
            "choices": audit_table(content.audit),
        },
        checks=[] if law is None else _checks(law),
        intervals=[] if law is None else _intervals(law),
        runs=runs_table(content, runs[:_MOST_ROWS]),
        fold_runs=len(runs) > _FOLDED_ROWS,
        more_runs=max(len(runs) - _MOST_ROWS, 0),
        excluded=[
            {"row": each.row, "run": each.run or "", "reason": each.reason}
            for each in content.judged.excluded[: sentences.LISTED]
        ],
        more_excluded=max(len(content.judged.excluded) - sentences.LISTED, 0),
        method=[] if law is None else [*sentences.method(law), *content.foretold],
        provenance=sentences.provenance(content),
        study_text=content.study_text,
        data=_json(data),
    )


def _sections(content: Content, runs: list[Row], drawings: Drawings) -> list[dict[str, Any]]:
    """The plots, each under its heading, with a picture for readers without scripts."""
    if not len(content.judged.row):
        return []
    if content.ablation is not None:
        panels = ablation_panels(content.ablation)
        return [_section("Arm by arm", _ARMS, panels, _picture(drawings, "ablation"))]
    law = content.law
    caption = _POINTS if law is None else _PROFILES
    picture = _picture(drawings, "profiles")
    found = [_section("IsoFLOP profiles", caption, [profiles_panel(content, runs)], picture)]
    if law is None or drawings.course is None:
        return found
    laws = law_panels(law, drawings.course, content.recommendation)
    star = "" if content.recommendation is None else _MARK
    found.append(_section("Power laws", _LAWS + star, laws, _picture(drawings, "optimum")))
    hold_out, influence = hold_out_panels(law), influence_panel(law)
    if hold_out:
        found.append(
            _section("Held out: was it right before?", " ".join(_HELD_OUT[each["name"]] for each in hold_out), hold_out)
        )
    if influence is not None:
        found.append(_section("Influence", _INFLUENCE, [influence]))
    return found


def _section(title: str, caption: str, panels: list[dict[str, Any]], image: str = "") -> dict[str, Any]:
    return {"title": title, "caption": caption, "panels": panels, "image": image}


def _picture(drawings: Drawings, name: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg(drawings.figures[name]).encode()).decode()


def _checks(law: Law) -> list[dict[str, str]]:
    return [
        {"name": check.name.replace("_", " "), "status": str(check.status), "message": check.message}
        for check in law.checks
    ]


def _intervals(law: Law) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "value": f"{each.value:.3f}",
            "t": sentences.ends(*each.t),
            "bootstrap": sentences.ends(*each.bootstrap),
        }
        for name, each in (("a", law.exponents.a), ("b", law.exponents.b), ("b/a", law.exponents.ratio))
    ]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("template.html.j2"))


@cache
def _embedded() -> Mapping[str, str]:
    """Style and scripts, and the policy that lets nothing else in."""
    # Who opens the tools of a browser would see it ask for the map.
    library = re.sub(r"\n//# sourceMappingURL=.*", "", _resource(_LIBRARY))
    texts = {"style": _resource("report.css"), "library": library, "script": _resource("report.js")}
    digest = {name: _digest(text) for name, text in texts.items()}
    policy = (
        f"default-src 'none'; img-src data:; style-src {digest['style']}; "
        f"script-src {digest['library']} {digest['script']}; base-uri 'none'; form-action 'none'"
    )
    return {**texts, "policy": policy}


def _resource(name: str) -> str:
    return files("isoflop.reporting").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """JSON that cannot end the element which holds it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
