from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from isoflop.fitting import fit
from isoflop.fitting.words import count
from isoflop.reporting.page import render_report, write_report


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self._style = [], [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag):
        self._style = False

    def handle_data(self, data):
        if not self._style:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def content(points, law, recommendation):
    return {
        "study_name": "demo <b>",
        "points": points,
        "law": law,
        "recommendation": recommendation,
        "notes": ["A smoke test & no more: <i>small</i> models."],
    }


@pytest.fixture(scope="module")
def html(content):
    return render_report(**content)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_texts_of_a_study_are_escaped(html, page):
    assert "<script" not in html.casefold()
    assert "&lt;script&gt;alert(&#39;run&#39;)&lt;/script&gt;" in html
    assert not {tag for tag, _ in page.tags} & {"script", "i"}
    assert "A smoke test &amp; no more: &lt;i&gt;small&lt;/i&gt; models." in html
    assert "demo &lt;b&gt;" in html


def test_no_request_leaves_the_page(html, page):
    links = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in {"src", "srcset", "href"}
    ]
    assert len(links) == 4
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links)
    assert "url(" not in html
    assert "@import" not in html
    policies = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_figures_are_embedded_for_light_and_dark(page):
    sources = [a["srcset"] for tag, a in page.tags if tag == "source"]
    images = [a["src"] for tag, a in page.tags if tag == "img"]
    assert len(sources) == len(images) == 2
    for uri in sources + images:
        assert b"<svg" in base64.b64decode(uri.split(",", 1)[1])
    assert set(sources).isdisjoint(images)


def test_the_answer_comes_first_with_its_intervals_and_warnings(page, law, recommendation):
    text = page.text
    first = text[: text.index("Profiles and laws")]
    assert "A smoke test & no more" in first
    assert "With 1e21 training FLOPs, train" in first
    for interval in (recommendation.params, recommendation.tokens):
        assert f"{count(interval.value)} 95 %: {count(interval.low)} to {count(interval.high)}" in first
    assert f"{recommendation.loss.value:.3f}" in first
    for name in ("a", "b", "ratio"):
        assert f"{getattr(law.exponents, name).value:.3f}" in first
    assert "This is an extrapolation" in first
    assert f"{recommendation.shape.shape.n_layers} layers of width {recommendation.shape.shape.d_model}" in first


def test_every_minimum_check_run_and_exclusion_is_told(page, law, points):
    text = page.text
    assert f"{len(points)} rows" in text
    for minimum in law.minima:
        assert minimum.status in text
    refused = next(minimum for minimum in law.minima if minimum.status != "interior")
    assert f"{refused.reason}; {refused.cure}" in text
    for check in law.checks:
        assert check.message in text
    for run in points["run"]:
        assert run in text
    assert "the run is failed" in text
    assert "1 failed" in text
    assert law.provenance.points_digest in text
    assert "acoustic 0" in text


def test_without_a_law_the_page_says_why_and_shows_what_is_there(points):
    reason = "a law needs 3 budgets with an interior minimum, but 1 of 2 budgets has one\n  C = 1e18: edge: <lowest>"
    few = points[points["budget"] < 5e18]
    page = Page(render_report(study_name="early", points=few, law=None, reason=reason))
    assert "No law yet a law needs 3 budgets" in page.text
    assert "C = 1e18: edge: <lowest>" in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 1
    assert "usable" in page.text


def test_without_any_loss_there_is_no_figure(points):
    planned = points.assign(state="planned", loss=float("nan"))
    page = Page(render_report(study_name="new", points=planned, law=None, reason="none has been run"))
    assert not any(tag == "img" for tag, _ in page.tags)
    assert f"{len(planned)} planned" in page.text


def test_a_plain_table_without_runs_or_states_will_do(points, law):
    plain = points[["flops", "params", "tokens", "loss"]]
    text = Page(render_report(study_name="plain", points=plain, law=law)).text
    assert "row 0" in text
    assert "The law" in text


def test_long_tables_are_folded_and_cut_and_say_so(points):
    many = pd.concat([points] * 40, ignore_index=True)
    html = render_report(study_name="many", points=many, law=None, reason="…")
    assert "<details >" in html
    assert f"and {len(many) - 1000} more, in the points table." in html
    # The first copy is used (but for its failed run), the others are excluded; the list of those is cut at 40.
    assert html.count("repeats row") == (1000 - 31 - 32) + 39


def test_the_page_is_written_whole_and_alone_and_the_same_every_time(content, html, tmp_path):
    path = tmp_path / "study" / "report.html"
    write_report(path, **content)
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == html
    assert html.rstrip().endswith("</html>")


def test_simulated_points_are_labelled_whoever_renders_them(content, points):
    rehearsed = points.assign(simulated=True)
    law = fit(rehearsed)
    page = Page(render_report(**{**content, "points": rehearsed, "law": law}))
    assert "demo <b> (simulated)" in page.text
    assert "Simulated: this is a rehearsal. No model was trained" in page.text
    assert content["notes"][0] in page.text
    assert "(simulated)" not in Page(render_report(**content)).text
