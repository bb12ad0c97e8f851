"""Studies whose rates are off, audited: how often the statistical and the design-sensitivity interval hold the truth.

    python benchmarks/audit.py [--quick] [--json] [--repetitions 10]

The truth is SODA's published surface, at a best rate ∝ (batch)^½ · width^w; the recipe's goes by width^−1. A run's ln
loss rises by 0.02·ln²(rate/best), 1 % at a rate that is ×2 off, and has a noise of 0.001. Four budgets from 3e18 to
9e19 FLOPs of seven sizes each are trained (on paper, in this process), fitted, audited as `isoflop audit` does, and
read. Printed for each w: how often each interval of a holds the truth, their median half-widths, and the median bias
of a before and after the shift of the best rate. At w = −1 the rates are right.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from machine import machine

from isoflop import auditing, store, workflow
from isoflop.fitting.sensitivity import Quantity, Sensitivity
from isoflop.launching import synthetic
from isoflop.launching.parts import open_part, take_over
from isoflop.launching.synthetic import BestRate, Conditions
from isoflop.planning import prior
from isoflop.store import StudyDirectory
from isoflop.study import Study

WIDTHS = (-1.0, -0.5, -1.5, 0.0)
STUDY = {
    "name": "off",
    "data": {"abstract": {"vocabulary": 144644, "unique_tokens": 1e12}},
    "model": {"sequence_length": 4096, "tied_head": False},
    "recipe": {"base": "marin-2025", "width_step": 64, "head_size": 64},
    "grid": {
        "generator": "centred",
        "budgets": [3e18, 9e18, 3e19, 9e19],
        "runs_per_budget": 7,
        "width": 8,
        "prior": "soda-surface",
    },
}


def audited(exponent: float, seed: int, folder: Path) -> tuple[Sensitivity, float]:
    """One study with a best rate by width^`exponent`: what its audit finds, and the true a."""
    study = Study.parse(STUDY)
    planned = workflow.plan(study)
    middle = planned.runs[len(planned.runs) // 2]
    scale = middle.learning_rate / middle.shape.d_model**exponent / middle.batch_size**0.5
    rate = BestRate(scale, exponent, 0.5, 0.02)
    conditions = Conditions(prior.published("soda-surface"), planned.cost, 0.001, 0.0, seed, 0.0, rate)
    place = StudyDirectory(folder)
    store.write_json(place.rehearsal_file, conditions.to_json())
    workflow.write_plan(study, place, planned)
    for run in planned.runs:
        synthetic.run(run, place.root)
    prepared = auditing.prepare(study, place)
    store.write_json(prepared.part.variations_file, prepared.to_json())
    open_part(place, prepared.part, study)
    for run in prepared.plan.runs:
        take_over(place, prepared.part, run)
        synthetic.run(run, prepared.part.root)
    return auditing.read(prepared), conditions.prior.exponents(np.array(planned.budgets), conditions.cost).a


def holds(quantity: Quantity, truth: float) -> list[bool]:
    """Whether the statistical and the design-sensitivity interval hold the truth."""
    return [low <= truth <= high for low, high in (quantity.statistical, quantity.design)]


def set_up(exponent: float, repetitions: int) -> dict[str, Any]:
    """So many studies of one truth."""
    held, widths, before, after = [], [], [], []
    for seed in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            found, truth = audited(exponent, seed, Path(folder))
        held.append(holds(found.a, truth))
        widths.append([(ends[1] - ends[0]) / 2 for ends in (found.a.statistical, found.a.design)])
        best = next((shift.a for shift in found.shifts if shift.kind == "best rate"), None)
        before.append(found.a.value - truth)
        after.append(found.a.value + (0.0 if best is None else best.value) - truth)
    statistical, design = np.mean(held, axis=0)
    narrow, wide = np.median(widths, axis=0)
    return {
        "studies": repetitions,
        "held_statistical": float(statistical),
        "held_design": float(design),
        "half_width_statistical": float(narrow),
        "half_width_design": float(wide),
        "bias": float(np.median(before)),
        "bias_at_best_rate": float(np.median(after)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two repetitions")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repetitions", type=int, default=10)
    asked = parser.parse_args()
    began, rows = time.perf_counter(), {}
    for exponent in WIDTHS:
        row = rows[f"width^{exponent:g}"] = set_up(exponent, 2 if asked.quick else asked.repetitions)
        if not asked.json:
            print(f"width^{exponent:g}", json.dumps(row), flush=True)
    off = [row for name, row in rows.items() if name != "width^-1"]
    ratios = {
        "coverage_statistical_rates_off": float(np.mean([row["held_statistical"] for row in off])),
        "coverage_design_rates_off": float(np.mean([row["held_design"] for row in off])),
        "coverage_design_rates_right": rows["width^-1"]["held_design"],
        "widened_rates_right": rows["width^-1"]["half_width_design"] / rows["width^-1"]["half_width_statistical"],
    }
    if asked.json:
        print(json.dumps({"ratios": ratios, "set_ups": rows, "machine": machine("numpy", "scipy")}))
        return
    print(json.dumps(ratios, indent=1))
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
