"""What a plan costs to make and whether what it promises is kept, by brute force.

    python benchmarks/plan.py [--json] [--studies 500]

Forecasts are made by simulating thousands of studies through the vectorised half of the fit. Here studies are made
one by one and go through the fit of minima, as a user's would: 500 of grids/soda-64.yaml under both of its priors, 200
of the grid that is suggested in its place, laid out anew with real shapes. A ratio is forecast over brute force, or
for the suggestion brute force over what was asked; within 0.8 to 1.2 is the aim. Some minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
from machine import machine
from numpy.typing import NDArray

from isoflop import workflow
from isoflop.errors import NoAnswerError
from isoflop.fitting.intervals import percentiles
from isoflop.fitting.lines import lines_through
from isoflop.fitting.minima import find_minimum, profiles
from isoflop.fitting.points import judge
from isoflop.fitting.sharing import models_of
from isoflop.planning.forecast import forecast
from isoflop.planning.outlook import Forecast
from isoflop.planning.plan import Plan
from isoflop.planning.prior import Prior, published
from isoflop.planning.simulation import Cells, tables
from isoflop.planning.suggest import suggest
from isoflop.study import Study

GRID = Path(__file__).parents[1] / "grids" / "soda-64.yaml"
PRIORS = ("soda-anchor", "soda-surface")
NAMES = ("a", "b", "ratio", "params")
#: Seconds: a plan with its forecast, 10,000 cells without one, a suggestion.
LIMITS = {"plan": 5.0, "cells": 3.0, "suggest": 60.0}


def by_brute_force(
    planned: Plan, prior: Prior, window: int, noise: float, target: float, studies: int
) -> tuple[dict[str, float], dict[str, float], NDArray[np.float64]]:
    """Half-widths of the estimates, medians of the reported ones, and how often each budget's minimum is interior."""
    cells = Cells.of(planned)
    values: list[list[float]] = []
    reported: list[list[float]] = []
    inside = np.zeros(len(np.unique(cells.budget)))
    for number, table in enumerate(tables(cells, prior, cells.cost, noise=noise, studies=studies, seed=12345)):
        if number % 20 == 0:
            sys.stderr.write(f"\r{prior.name}: {number} of {studies} studies ")
        points = judge(table)
        found = profiles(points)
        minima = [find_minimum(profile, window) for profile in found]
        models = models_of(points, found)
        try:
            lines = lines_through(found, minima, width=window, bootstrap=200, seed=0, models=models)
        except NoAnswerError:
            continue
        inside += [minimum.status == "interior" for minimum in minima]
        params = lines.law("params")
        estimates = (params.exponent, lines.law("tokens").exponent, lines.ratio)
        size = lines.band("params", np.log([target]))
        values.append([*(each.value for each in estimates), math.log(params.at(target))])
        halves = ((each.high - each.low) / 2 for each in estimates)
        reported.append([*halves, math.log(size.high[0] / size.low[0]) / 2])
    ends = [percentiles(column) for column in np.array(values).T]
    half_widths = {name: (high - low) / 2 for name, (low, high) in zip(NAMES, ends, strict=True)}
    medians = dict(zip(NAMES, np.median(reported, axis=0).tolist(), strict=True))
    return half_widths, medians, inside / studies


def many_cells() -> float:
    """Seconds to plan 10,000 cells."""
    study = Study.parse(
        {
            "name": "many",
            "data": {"abstract": {"vocabulary": 256, "unique_tokens": 10**12}},
            "grid": {"budgets": np.geomspace(1e11, 1e13, 100).tolist(), "sizes": list(range(8, 408, 4))},
        }
    )
    began = time.perf_counter()
    planned = workflow.plan(study)
    spent = time.perf_counter() - began
    if len(planned.runs) + len(planned.dropped) != 10_000:
        sys.exit(f"10,000 cells must be planned, but got {len(planned.runs)} runs and {len(planned.dropped)} dropped")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    parser.add_argument("--studies", type=int, default=500, help="studies of the grid by brute force")
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    off: dict[str, float] = {}

    began = time.perf_counter()
    study = Study.load(GRID)
    planned = workflow.plan(study)
    made: dict[str, Forecast] = {
        name: forecast(planned, published(name), noise=study.grid.noise, window=study.fit.window) for name in PRIORS
    }
    seconds["plan"] = time.perf_counter() - began
    for name, ours in made.items():
        half, medians, inside = by_brute_force(
            planned, published(name), ours.window, ours.noise, ours.target, arguments.studies
        )
        for quantity in NAMES:
            expected = getattr(ours, quantity)
            ratios[f"{name}: {quantity}"] = expected.half_width / half[quantity]
            ratios[f"{name}: {quantity} reported"] = expected.reported / medians[quantity]
        off[name] = float(np.abs(inside - [budget.interior for budget in ours.budgets]).max())

    began = time.perf_counter()
    prior = published(PRIORS[0])
    suggestion = suggest(planned, prior, noise=study.grid.noise, window=study.fit.window)
    seconds["suggest"] = time.perf_counter() - began
    cheaper = Study.load(GRID, suggestion.overrides)
    laid = workflow.plan(cheaper)
    half, medians, _ = by_brute_force(
        laid, prior, suggestion.forecast.window, study.grid.noise, suggestion.forecast.target, 200
    )
    for quantity in NAMES:
        ratios[f"suggested: {quantity}"] = half[quantity] / getattr(suggestion.instead_of, quantity).half_width
        ratios[f"suggested: {quantity} reported"] = medians[quantity] / suggestion.asked[quantity]
    ratios["suggested: FLOPs"] = laid.flops / planned.flops
    seconds["cells"] = many_cells()
    sys.stderr.write("\n")

    if arguments.json:
        rounded = {name: round(value, 3) for name, value in ratios.items()}
        print(json.dumps({"ratios": rounded, "seconds": seconds, "interior_off": off, "machine": machine("numpy")}))
        return
    print(f"{'':<34} {'ratio':>6}")
    for name, value in ratios.items():
        print(f"{name:<34} {value:>6.2f}")
    for name, value in off.items():
        print(f"{name}: the interior probabilities are off by at most {value:.3f}")
    for name, value in seconds.items():
        print(f"{name}: {value:.1f} s (at most {LIMITS[name]:.0f})")
    print(suggestion)


if __name__ == "__main__":
    main()
