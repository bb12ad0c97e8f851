from __future__ import annotations

from dataclasses import replace

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
