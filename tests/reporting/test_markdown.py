from __future__ import annotations

from dataclasses import replace

from isoflop.fitting.sensitivity import signed
from isoflop.fitting.words import count
from isoflop.reporting.content import Content
from isoflop.reporting.markdown import plain, render_markdown, write_markdown


def test_the_answer_the_verdict_and_every_check_are_told(content, law, recommendation):
    text = render_markdown(content, ["figures/profiles.png"])
    assert text.startswith("# demo &lt;b&gt;: With 1e21 training FLOPs")
    assert "**Suspect**: " in text
    interval = recommendation.params
    assert f"| parameters | {count(interval.value)} | {count(interval.low)} to {count(interval.high)} |" in text
    for check in law.checks:
        assert plain(check.message) in text
    assert "![IsoFLOP profiles](figures/profiles.png)" in text
    assert f"- digest of the points: {law.provenance.points_digest}" in text
    assert "take a smaller micro\\_batch" in text


def test_texts_of_a_study_stay_text_and_cells_stay_cells(content):
    assert plain("<b>|`x`\n# *y*") == "&lt;b&gt;\\|\\`x\\` \\# \\*y\\*"
    hostile = replace(content, study_name="a | b\n\n# c <script>")
    lines = render_markdown(hostile).splitlines()
    assert lines[0].startswith("# a \\| b \\# c &lt;script&gt;: With")
    tables = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {4, 6, 7, 8}


def test_without_a_law_it_says_why(points, tmp_path):
    content = Content("early", points.head(3), reason="too few")
    write_markdown(tmp_path / "report.md", content, [tmp_path / "figures" / "profiles.png"])
    text = (tmp_path / "report.md").read_text()
    assert "**Refused**: too few" in text
    assert "(figures/profiles.png)" in text
    assert "| 1e18 | " in text


def test_an_audit_and_what_was_forecast_are_told(content, audit):
    assert "How far the design moves it" not in render_markdown(content)
    text = render_markdown(replace(content, audit=audit, foretold=("Forecast of the grid: a ±0.1, came ±0.2.",)))
    assert f"- {plain(audit.headlines()[0])}." in text
    assert "Take care" not in text
    assert f"| batch ×2 | {plain(signed(audit.shifts[0].loss))} at 12 cells |" in text
    assert "| rate ×2 | – | – | – | – | – | a \\| b &lt;i&gt;failed&lt;/i&gt; |" in text
    assert "- Forecast of the grid: a ±0.1, came ±0.2." in text
    earlier = replace(content, audit=replace(audit, points_digest="another"))
    assert "Take care: this was found of earlier points" in render_markdown(earlier)
