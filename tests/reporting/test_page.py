from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from isoflop.fitting import fit
from isoflop.fitting.checks import Check, CheckStatus
from isoflop.fitting.words import count
from isoflop.reporting.content import Content
from isoflop.reporting.page import render_report, write_report
from isoflop.reporting.tables import types_table


class Page(HTMLParser):
    """Tags with their attributes, the visible text, and what stands in scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words, self.code, self._inside = [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("style", "script") else None

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside is None:
            self.words.append(data)
        else:
            self.code.append((self._inside, data))

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def data(self):
        return json.loads(next(text for _, text in self.code if text.startswith("{")))


@pytest.fixture(scope="module")
def html(content):
    return render_report(content)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_texts_of_a_study_are_escaped_wherever_they_land(html, page):
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(&#39;run&#39;)&lt;/script&gt;" in html
    assert "A smoke test &amp; no more: &lt;i&gt;small&lt;/i&gt; models." in html
    assert "name: demo # &lt;/pre&gt;&lt;script&gt;" in html
    assert "out of memory: &lt;b&gt;no room&lt;/b&gt;" in html
    assert not any(tag == "i" for tag, _ in page.tags)
    # In the data, where a tag would end the element, none can stand; read back, the name is what it was.
    assert page.data["panels"][0]["tips"][0][0] == "<script>alert('run')</script>"


def test_no_request_leaves_the_page_and_only_its_own_code_runs(html, page):
    links = [value for _, a in page.tags for name, value in a.items() if name in {"src", "srcset", "href"}]
    assert all(link.startswith(("data:image/svg+xml;base64,", "#")) for link in links)
    assert "url(" not in html
    assert "@import" not in html
    assert "sourceMappingURL" not in html
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    code = [(kind, text) for kind, text in page.code if not text.startswith("{")]
    assert [kind for kind, _ in code] == ["style", "script", "script"]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for _, text in code]
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digests[0]}'; "
        f"script-src 'sha256-{digests[1]}' 'sha256-{digests[2]}'; base-uri 'none'; form-action 'none'"
    )
    # No style of an element: the policy would keep it out.
    assert not any("style" in a for _, a in page.tags)


def test_the_library_is_the_one_that_was_published(page):
    library = next(text for kind, text in page.code if "Chart.js v" in text)
    assert library.startswith("/*!\n * Chart.js v4.6.1")
    assert "MIT License" in library[:200]


def test_the_question_the_verdict_and_the_answer_come_first(page, law, recommendation):
    first = page.text[: page.text.index("IsoFLOP profiles")]
    assert "With 1e21 training FLOPs: how large a model, on how many tokens?" in first
    assert "A smoke test & no more" in first
    assert "! Suspect" in first
    for interval in (recommendation.params, recommendation.tokens):
        assert f"{count(interval.value)} 95 %: {count(interval.low)} to {count(interval.high)}" in first
    assert f"{recommendation.loss.value:.3f}" in first
    for name in ("a", "b", "ratio"):
        assert f"{getattr(law.exponents, name).value:.3f}" in first
    assert "This is an extrapolation" in first
    choice = recommendation.shape
    assert f"{choice.shape.n_layers} layers of width {choice.shape.d_model}" in first
    assert f"batches of {choice.run.batch_size:,} sequences, {choice.run.steps:,} steps" in first


def test_the_verdict_follows_the_checks_and_the_recommendation(content, law):
    def told(status, **changes):
        checks = tuple(Check(each.name, status, each.message) for each in law.checks)
        return Page(render_report(replace(content, law=replace(law, checks=checks), **changes))).text

    assert "✓ Sound All" in told(CheckStatus.PASS, recommendation=None)
    assert "! Suspect Usable with care: the recommendation lies farther out" in told(CheckStatus.PASS)
    assert "✗ Refused Do not use the headline" in told(CheckStatus.FAIL)


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
    assert "the run is failed: out of memory" in text
    assert "1 failed" in text
    assert law.provenance.points_digest in text
    assert "torch <9>" in text


def test_progress_names_what_failed_why_and_what_to_do(page):
    assert "1e20 of 4e20 training FLOPs, 2.5 device-hours held, cost so far 5.00, about 2 h 0 min left." in page.text
    assert "out of memory: <b>no room</b> take a smaller micro_batch" in page.text
    assert not any(a.get("http-equiv") == "refresh" for _, a in page.tags)


def test_a_page_that_is_being_rewritten_reloads_itself_with_and_without_scripts(content, progress):
    live = replace(content, progress=replace(progress, refresh=5.0, written=1e9))
    page = Page(render_report(live))
    assert [a["content"] for _, a in page.tags if a.get("http-equiv") == "refresh"] == ["5.0"]
    assert (page.data["refresh"], page.data["written"], page.data["stale"]) == (5.0, 1e9, 30.0)
    assert "Under way" in page.text


def test_pictures_stand_in_for_the_plots_where_scripts_are_off(page):
    images = [a["src"] for tag, a in page.tags if tag == "img"]
    assert len(images) == 2
    assert all(b"<svg" in base64.b64decode(each.split(",", 1)[1]) for each in images)


def test_without_a_law_the_page_says_why_and_shows_what_is_there(points):
    reason = "a law needs 3 budgets with an interior minimum, but 1 of 2 budgets has one\n  C = 1e18: edge: <lowest>"
    few = points[points["budget"] < 5e18]
    page = Page(render_report(Content("early", few, reason=reason)))
    assert "… No law yet a law needs 3 budgets" in page.text
    assert "C = 1e18: edge: <lowest>" in page.text
    assert "Minima so far" in page.text
    assert [panel["name"] for panel in page.data["panels"]] == ["profiles"]
    done = Page(render_report(Content("early", few[few["state"] == "done"], reason=reason)))
    assert "✗ Refused a law needs" in done.text


def test_without_any_loss_there_is_no_plot(points):
    planned = points.assign(state="planned", loss=float("nan"))
    page = Page(render_report(Content("new", planned, reason="none has been run")))
    assert page.data["panels"] == []
    assert f"{len(planned)} planned" in page.text


def test_a_plain_table_without_runs_or_states_will_do(points, law):
    plain = points[["flops", "params", "tokens", "loss"]]
    text = Page(render_report(Content("plain", plain, law))).text
    assert "row 0" in text
    assert "The law" in text


def test_long_tables_are_folded_and_cut_and_say_so(points):
    many = pd.concat([points] * 40, ignore_index=True)
    html = render_report(Content("many", many, reason="…"))
    assert "<details >" in html
    assert f"and {len(many) - 1000} more, in the points table." in html
    # Of 31 copies and a quarter, the first is fit for use; one run of each has failed.
    table = html[html.index('<table id="runs">') : html.index("Points that the fit")]
    assert table.count("repeats row") == 1000 - 31 - 31


def test_the_page_is_written_whole_and_alone_and_the_same_every_time(content, html, tmp_path):
    path = tmp_path / "study" / "report.html"
    write_report(path, content)
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == html
    assert html.rstrip().endswith("</html>")
    assert len(html.encode()) < 1e6


def test_simulated_points_are_labelled_whoever_renders_them(content, points):
    rehearsed = points.assign(simulated=True)
    page = Page(render_report(replace(content, points=rehearsed, law=fit(rehearsed))))
    assert "demo <b> (simulated)" in page.text
    assert "Simulated: this is a rehearsal. No model was trained" in page.text
    assert content.notes[0] in page.text
    assert "(simulated)" not in Page(render_report(content)).text


def test_token_types_stand_beside_the_total(content, law):
    told = types_table(law.types)
    assert [row["name"] for row in told] == ["text", "acoustic_0"]
    # Half the total's loss, so its minima.
    assert told[0]["size"].startswith("1.00 (1.00 to 1.00) at 3.16e19")
    assert told[0]["verdict"] == "not told apart"
    page = render_report(content)
    for row in told:
        assert row["a"] in page
        assert f"<td>{row['name']}</td>" in page


def test_an_audit_and_what_was_forecast_are_told_as_text(content, audit):
    assert "How far the design moves it" not in Page(render_report(content)).text
    page = Page(render_report(replace(content, audit=audit, foretold=("Forecast of the grid: a ±0.1, came ±0.2.",))))
    for told in (*audit.headlines(), "a | b <i>failed</i>", "Forecast of the grid: a ±0.1, came ±0.2."):
        assert told in page.text
    assert audit.moves("a", audit.shifts[0].a) in page.text
