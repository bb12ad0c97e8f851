"""What the runs of an audit say: the effect of every variation at its cells, and C by other conventions."""

from __future__ import annotations

import math

import numpy as np

from isoflop.auditing.preparation import Prepared
from isoflop.fitting.conventions import params_by
from isoflop.fitting.effects import Effect
from isoflop.fitting.shifts import Counted, Rerun
from isoflop.flops import Attention, FlopsConvention, ParamsConvention
from isoflop.launching.states import failures
from isoflop.planning.feasibility import Dropped

#: Conventions of C: as people say them, by name, attention, and what N counts with them.
_CONVENTIONS: tuple[tuple[str, FlopsConvention, Attention, ParamsConvention], ...] = (
    ("counted", "counted", "full", "total"),
    ("counted, causal attention", "counted", "causal", "total"),
    ("by levanter's formula", "levanter", "full", "total"),
    ("6ND", "6nd", "full", "total"),
    ("6ND", "6nd_non_embedding", "full", "non_embedding"),
    ("6ND", "6nd_body_and_head", "full", "body_and_head"),
)


def reruns(prepared: Prepared) -> list[Rerun]:
    """What every variation did at the cells where it is done."""
    place, part = prepared.place, prepared.part
    why = failures(part) if part.plan_file.exists() else {}
    losses: dict[str, float] = {}
    for run_id in (each.id for each in (*(cell.base for cell in prepared.cells), *prepared.plan.runs)):
        result = place.run(run_id).result() or part.run(run_id).result()
        if result is not None:
            losses[run_id] = float(result["loss"])
    found = []
    for variation, row in zip(prepared.variations, prepared.runs, strict=True):
        effects, missing = [], []
        for cell, run in zip(prepared.cells, row, strict=True):
            if isinstance(run, Dropped):
                missing.append(f"{cell}: {run.reason}")
            elif run.id not in losses or cell.base.id not in losses:
                lacking = run.id if run.id not in losses else cell.base.id
                missing.append(f"{cell}: {why.get(lacking, 'not done')}")
            else:
                change = math.log(losses[run.id] / losses[cell.base.id])
                effects.append(Effect(cell.budget, cell.flops, cell.params, change, cell.base.seed))
        found.append(Rerun(variation.name, variation.kind, tuple(effects), variation.factor, tuple(missing)))
    return found


def conventions(prepared: Prepared) -> list[Counted]:
    """The conventions of C that differ from the study's, by the shapes of its runs or, of 6ND, by the table's N."""
    points, judged, grid = prepared.points, prepared.judged, prepared.study.grid
    tokens = points["tokens"].to_numpy(dtype=float)
    adopted = points["adopted"].astype(bool) if "adopted" in points else np.zeros(len(points), dtype=bool)
    shapes = [
        None if foreign else prepared.place.load_run(str(run)).shape
        for run, foreign in zip(points["run"], adopted, strict=True)
    ]
    found: list[Counted] = []
    for name, convention, attention, params in _CONVENTIONS:
        if (convention, attention) == (grid.convention, grid.attention) or params not in judged.conventions:
            continue
        if convention.startswith("6nd"):
            per_token = 6 * params_by(points, params)
        else:
            each = [math.nan if shape is None else shape.flops_per_token(convention, attention) for shape in shapes]
            per_token = np.array(each)
        flops = per_token * tokens
        if not np.allclose(flops[judged.row], judged.flops, rtol=1e-9):
            found.append(Counted(name, flops, params))
    return found
