"""How long `isoflop report` takes from the shell, and how soon its page can be used in a browser.

    python benchmarks/report.py [--json] [--repeats 3] [--no-browser]

Studies of 64 and 1,000 runs (grids/soda-64.yaml, and the same with 200 cells of five seeds), with the losses of SODA's
surface and noise, are written to disk as finished runs leave them; then the command is called in a fresh process, and
its page opened from disk in Debian's Chromium, offline. *Ready* is when all plots are drawn and every switch works,
counted from the start of the navigation; *bare* is the same command as far as the fit alone (`isoflop fit`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from machine import machine

from isoflop import rehearsal, workflow
from isoflop.store import StudyDirectory
from isoflop.study import Study

GRID = Path(__file__).parents[1] / "grids" / "soda-64.yaml"
#: Runs, and how the grid gets them.
STUDIES: dict[int, tuple[str, ...]] = {64: (), 1000: ("grid.runs=1000", "grid.seeds=5")}
#: Seconds, from the shell, by runs; and for the page in a browser. Bytes of a page.
LIMITS, READY, BYTES = {64: 3.0, 1000: 8.0}, 1.0, 5e6
COMMAND = [sys.executable, "-m", "isoflop"]


def finished(folder: Path, overrides: tuple[str, ...]) -> StudyDirectory:
    """A study directory whose runs are all done."""
    planned = workflow.plan(Study.load(GRID, overrides))
    pretended = rehearsal.conditions(planned, rehearsal.surface("soda", planned.settings), seconds=0.0)
    place = StudyDirectory(folder)
    workflow.write_plan(planned.settings, place, planned)
    for run in planned.runs:
        place.run(run.id).publish(
            {"run": run.id, "simulated": True, "loss": pretended.loss(run), "tokens": run.tokens, "seconds": 3600.0}
        )
    return place


def called(repeats: int, *arguments: object) -> tuple[float, float]:
    """Median seconds of a command in a process of its own, and of the processor's time in it."""
    spent, worked = [], []
    for _ in range(repeats):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*COMMAND, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(time.perf_counter() - began)
        worked.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(spent), statistics.median(worked)


def ready(page: Path, repeats: int) -> float:
    """Median seconds until the page can be used."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    spent = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        for _ in range(repeats):
            context = browser.new_context(offline=True)
            tab = context.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]")
            spent.append(float(tab.evaluate("document.documentElement.dataset.ready")) / 1000)
            context.close()
        browser.close()
    return statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    parser.add_argument("--repeats", type=int, default=3, help="calls of each command, and visits")
    parser.add_argument("--no-browser", action="store_true", help="only from the shell")
    arguments = parser.parse_args()
    ratios: dict[str, float] = {}
    lines = []
    for runs, overrides in STUDIES.items():
        folder = Path(tempfile.mkdtemp(prefix="report-"))
        try:
            place = finished(folder, overrides)
            found = len(place.run_ids())
            report, busy = called(arguments.repeats, "report", folder)
            fit, _ = called(arguments.repeats, "fit", folder)
            size = place.report_file.stat().st_size
            line = (
                f"{found} runs: report {report:.2f} s (limit {LIMITS[runs]:.0f}), {busy:.2f} s of a processor; bare "
                f"{fit:.2f} s; {size / 1e6:.2f} MB"
            )
            ratios |= {
                f"{runs} runs: seconds over the limit": report / LIMITS[runs],
                f"{runs} runs: processor's seconds over the limit": busy / LIMITS[runs],
                f"{runs} runs: over the fit alone": report / fit,
                f"{runs} runs: bytes over the limit": size / BYTES,
            }
            if not arguments.no_browser:
                seconds = ready(place.report_file, arguments.repeats)
                ratios[f"{runs} runs: ready over the limit"] = seconds / READY
                line += f", ready in {seconds:.2f} s (limit {READY:.0f})"
            lines.append(line)
        finally:
            shutil.rmtree(folder)
    here = machine("matplotlib", "pandas")
    if arguments.json:
        print(json.dumps({"ratios": ratios, "machine": here}))
        return
    print("\n".join([*lines, f"load at the end {here['load']:.2f}"]))


if __name__ == "__main__":
    main()
