"""The page in a real browser, from disk, with the network away: Debian's Chromium (`make chromium`), by Playwright."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from isoflop.reporting.page import write_report

CHROMIUM = "/usr/bin/chromium"
#: Chromium asks its maker for news unless it is told not to.
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
INTERACTIVE = 10_000  # milliseconds; how fast it is, benchmarks/report.py measures


@pytest.fixture(scope="module")
def chromium():
    """A browser; skips where there is none, but not in CI."""
    words = "Chromium and Playwright must be installed: make chromium"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if sync_playwright is None or shutil.which(CHROMIUM) is None:
        assert "CI" not in os.environ, words
        pytest.skip(words)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, content)
    return path


@pytest.fixture
def visit(chromium):
    """Open a page offline; when the test is over, nothing may have been said on the console or asked of a network."""
    contexts, heard = [], []

    def opened(file, fragment="", **settings):
        context = chromium.new_context(offline=True, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or heard.append(request.url))
        page.goto(f"{file.as_uri()}{fragment}")
        if settings.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]", timeout=INTERACTIVE)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert heard == []


def point_at(page, row):
    """Move the mouse over the point of the table's `row` in the profiles."""
    place = page.evaluate(
        """row => {
          const chart = Chart.getChart(document.querySelector('[data-panel=profiles] canvas'));
          const box = chart.canvas.getBoundingClientRect();
          for (const [index, dataset] of chart.data.datasets.entries()) {
            const at = dataset.data.findIndex(point => point.tip === row);
            const mark = chart.getDatasetMeta(index).data[at];
            if (mark) return [box.left + mark.x, box.top + mark.y];
          }
        }""",
        row,
    )
    page.mouse.move(0, 0)
    page.mouse.move(*place)


def shown(page):
    """Names of what the profiles show: the title of the axis, and how many lines and points there are."""
    return page.evaluate(
        """() => {
          const chart = Chart.getChart(document.querySelector('[data-panel=profiles] canvas'));
          const { datasets } = chart.data;
          return [chart.options.scales.x.title.text, datasets.filter(each => each.showLine).length,
                  datasets.filter(each => !each.showLine).flatMap(each => each.data).length];
        }"""
    )


def test_hovering_tells_a_run_and_a_hostile_name_is_text(visit, file, points):
    page = visit(file)
    page.locator("[data-panel=profiles]").scroll_into_view_if_needed()
    point_at(page, 0)
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    lines = tip.locator("div").all_text_contents()
    assert lines[0] == "<script>alert('run')</script>"
    assert lines[1] == "done; used by the fit"
    assert lines[4].startswith(f"total {points.loc[0, 'loss']:.4f} · text ")
    point_at(page, 12)
    assert tip.locator("div").first.text_content() == points.loc[12, "run"]


def test_switches_work_by_mouse_and_by_keyboard_and_survive_a_reload(visit, file, law):
    page = visit(file)
    axis, lines, dots = shown(page)
    assert (axis, lines, dots) == ("parameters N", len(law.minima), law.points.used + len(law.minima))
    page.get_by_text("parabola", exact=True).click()
    assert shown(page)[1:] == [len(law.minima), law.points.used + len(law.interior)]
    page.get_by_role("radio", name="parameters N").focus()
    page.keyboard.press("ArrowRight")
    assert shown(page)[0] == "training tokens D"
    page.get_by_role("radio", name="total").focus()
    page.keyboard.press("ArrowRight")
    text = next(each for each in law.types if each.name == "text")
    of_text = [len(text.minima), text.runs + sum(each.status == "interior" for each in text.minima)]
    assert shown(page)[1:] == of_text
    assert page.get_by_role("radio", name="Akima spline").is_disabled()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert shown(page) == ["training tokens D", *of_text]
    assert page.get_by_role("radio", name="text", exact=True).is_checked()


def test_arrow_keys_go_from_run_to_run(visit, file):
    page = visit(file)
    page.locator("[data-panel=profiles] canvas").focus()
    told = set()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        page.locator("#tip").wait_for(state="visible")
        told.add(page.locator("#tip div").first.text_content())
    assert len(told) == 5
    page.keyboard.press("Escape")
    page.locator("#tip").wait_for(state="hidden")


def test_the_table_of_runs_sorts_and_filters_by_keyboard(visit, file, points):
    page = visit(file)
    rows = page.locator("#runs tbody tr:visible")
    assert rows.count() == len(points)
    page.get_by_role("searchbox").fill("the run is failed")
    assert rows.count() == 1
    assert page.locator("#runs-count").text_content() == f"1 of {len(points)} shown"
    page.get_by_role("searchbox").fill("")
    page.get_by_role("combobox").select_option("failed")
    assert rows.count() == 1
    page.get_by_role("combobox").select_option("")
    page.get_by_role("button", name="loss", exact=True).focus()
    page.keyboard.press("Enter")
    losses = [float(text) for text in rows.locator("td:nth-child(7)").all_text_contents() if text != "–"]
    assert losses == sorted(losses)
    assert len(losses) == len(points) - 1
    page.keyboard.press("Enter")
    assert page.locator("th[aria-sort=descending]").text_content() == "loss"


def test_light_and_dark_by_the_system_and_by_the_button(visit, file, tmp_path):
    paper = "getComputedStyle(document.body).backgroundColor"
    colors = {}
    for scheme in ("light", "dark"):
        page = visit(file, color_scheme=scheme, viewport={"width": 1280, "height": 900})
        colors[scheme] = page.evaluate(paper)
        page.screenshot(path=tmp_path / f"report-{scheme}.png", full_page=True)
    assert colors["light"] != colors["dark"]
    button = page.locator("#theme")
    button.click()
    assert button.text_content() == "Theme: light"
    assert page.evaluate(paper) == colors["light"]
    page.keyboard.press("Enter")
    assert page.evaluate(paper) == colors["dark"]
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) == colors["dark"]


def test_it_can_be_read_on_a_phone(visit, file, tmp_path):
    page = visit(file, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page.screenshot(path=tmp_path / "report-phone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    plot = page.locator("[data-panel=profiles] canvas").bounding_box()
    assert plot["width"] > 300


def test_without_scripts_there_are_pictures(visit, file):
    page = visit(file, java_script_enabled=False)
    images = page.locator("noscript img")
    assert images.count() == 2
    assert images.first.bounding_box()["height"] > 300
    assert page.locator("canvas:visible").count() == 0


def test_a_live_page_reloads_itself_keeps_its_switches_and_can_be_paused(visit, content, progress, tmp_path):
    path = tmp_path / "report.html"
    live = replace(content, progress=replace(progress, refresh=2.0, written=0.0))
    write_report(path, live)
    page = visit(path, "#x=tokens")
    page.get_by_text("Nobody rewrites this page any more").wait_for()
    write_report(path, replace(live, study_name="rewritten"))
    page.get_by_text("rewritten").first.wait_for()
    page.locator("#pause").click()
    page.get_by_role("button", name="Go on refreshing", pressed=True).wait_for()
    # From here on nothing moves.
    assert shown(page)[0] == "training tokens D"
    write_report(path, replace(live, study_name="once more"))
    page.wait_for_timeout(2500)
    assert page.get_by_text("once more").count() == 0
    page.locator("#pause").click()
    page.get_by_text("once more").first.wait_for()
