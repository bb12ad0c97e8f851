"""How long a rehearsal of grids/soda-64.yaml takes, and how often the truth is recovered.

    python benchmarks/rehearse.py [--json] [--seeds 50] [--studies 400] [--grid grids/soda-64.yaml] [--surface soda]

Rehearsals go through the local launcher, one seed each, without faults and with faults at one attempt in ten; the runs
take no time, so that what is timed is the launcher, the fit and the report (and in the last row the pretended training
of a rehearsal as a user calls it). Then the same is asked of many more studies on paper: losses straight into
`isoflop.fit`, with noise that the branches of a trunk share, and with each run's own. *Recovered* is a, b and b/a at
once; each alone is nominally 95 %.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from machine import machine

from isoflop import workflow
from isoflop.errors import NoAnswerError
from isoflop.fitting import fit
from isoflop.planning.plan import Plan
from isoflop.planning.prior import Prior
from isoflop.planning.simulation import Cells, tables
from isoflop.rehearsal import SECONDS, compare, conditions, rehearse, surface
from isoflop.study import Study

GRID = Path(__file__).parents[1] / "grids" / "soda-64.yaml"
NAMES = ("recovered", "a", "b", "ratio")
FAIL = 0.1
#: Seconds that a rehearsal of 64 runs may take on two quiet cores.
LIMIT = 20.0


def launched(planned: Plan, truth: Prior, fail: float, seeds: int, seconds: float) -> tuple[dict[str, float], float]:
    """Rates over `seeds` rehearsals, and the median of the seconds that one takes."""
    held: dict[str, list[bool]] = {name: [] for name in NAMES}
    spent, done = [], []
    for seed in range(seeds):
        sys.stderr.write(f"\rrehearsal {seed + 1} of {seeds} with faults at {fail:.0%} ")
        folder = Path(tempfile.mkdtemp(prefix="rehearsal-"))
        try:
            began = time.perf_counter()
            found = rehearse(planned, folder, conditions(planned, truth, fail=fail, seed=seed, seconds=seconds))
            spent.append(time.perf_counter() - began)
        finally:
            shutil.rmtree(folder)
        if found.runs["done"] + found.runs["failed"] != len(planned.runs):
            sys.exit(f"every run must be accounted for, but got {found.runs}")
        done.append(found.runs["done"])
        held["recovered"].append(found.recovered)
        for name, each in found.exponents.items():
            held[name].append(each.held)
    rates = {name: sum(each) / seeds for name, each in held.items()}
    return {**rates, "done": statistics.mean(done)}, statistics.median(spent)


def on_paper(planned: Plan, truth: Prior, studies: int, lost: float, *, trunks: bool = True) -> dict[str, float]:
    """The same of `studies` points tables, each without a share `lost` of its runs; noise by trunk, or by run."""
    cells, noise, window = Cells.of(planned), planned.settings.grid.noise, planned.settings.fit.window
    if not trunks:
        cells = replace(cells, trunk=np.arange(len(cells.trunk)))
    expected = truth.exponents(np.array(planned.budgets), cells.cost)
    generator = np.random.default_rng(0)
    held = dict.fromkeys(NAMES, 0)
    errors: dict[str, list[float]] = {name: [] for name in NAMES[1:]}
    half_widths: dict[str, list[float]] = {name: [] for name in NAMES[1:]}
    for number, table in enumerate(tables(cells, truth, cells.cost, noise=noise, studies=studies, seed=1)):
        if number % 20 == 0:
            sys.stderr.write(f"\r{number} of {studies} studies on paper ")
        try:
            law = fit(table[generator.random(len(table)) >= lost], window=window)
        except NoAnswerError:
            continue
        found = compare(expected, law)
        held["recovered"] += all(each.held for each in found.values())
        for name, each in found.items():
            held[name] += each.held
            errors[name].append(each.value - each.truth)
            half_widths[name].append((each.high - each.low) / 2)
    rates = {name: count / studies for name, count in held.items()}
    return {
        **rates,
        **{f"{name} bias": statistics.median(each) for name, each in errors.items()},
        **{f"{name} error sd": statistics.stdev(each) for name, each in errors.items()},
        **{f"{name} half-width": statistics.median(each) for name, each in half_widths.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    parser.add_argument("--seeds", type=int, default=50, help="rehearsals through the launcher, each way")
    parser.add_argument("--studies", type=int, default=400, help="studies on paper, each way")
    parser.add_argument("--grid", type=Path, default=GRID, help="the study")
    parser.add_argument("--surface", default="soda", help="the truth")
    arguments = parser.parse_args()
    study = Study.load(arguments.grid)
    planned, truth = workflow.plan(study), surface(arguments.surface, study)
    # What a divergence at one in four of the faults takes away for good, retries of the others included.
    lost = (FAIL / 4) / (1 - FAIL * 3 / 4)
    rows: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    if arguments.seeds:
        for name, fail in (("launched", 0.0), ("launched, faults", FAIL)):
            rows[name], seconds[name] = launched(planned, truth, fail, arguments.seeds, 0.0)
        _, seconds["as called"] = launched(planned, truth, FAIL, 3, SECONDS)
    if arguments.studies:
        rows["on paper"] = on_paper(planned, truth, arguments.studies, 0.0)
        rows["on paper, no trunks"] = on_paper(planned, truth, arguments.studies, 0.0, trunks=False)
        rows["on paper, faults"] = on_paper(planned, truth, arguments.studies, lost)
    here = machine("numpy")
    sys.stderr.write("\r")
    if arguments.json:
        ratios = {f"{row}: {name}": value for row, values in rows.items() for name, value in values.items()}
        ratios["seconds over the limit"] = seconds.get("as called", 0.0) / LIMIT
        print(json.dumps({"ratios": ratios, "seconds": seconds, "machine": here}))
        return
    print(f"{arguments.grid.stem} under {truth.name}: {arguments.seeds} seeds, {arguments.studies} studies on paper")
    for row, values in rows.items():
        rates = ", ".join(f"{name} {values[name]:.1%}" for name in NAMES)
        print(f"{row:19} {rates}" + (f"; {values['done']:.1f} runs done" if "done" in values else ""))
        if "a bias" in values:
            for name in NAMES[1:]:
                print(
                    f"{'':19} {name}: bias {values[f'{name} bias']:+.4f}, errors' sd {values[f'{name} error sd']:.4f}, "
                    f"median half-width {values[f'{name} half-width']:.4f}"
                )
    for row, value in seconds.items():
        print(f"{row:19} {value:.1f} s (median)")
    print(f"load at the end {here['load']:.2f}")


if __name__ == "__main__":
    main()
