"""How honest forecasts of the loss are: nominal 90 % intervals, rolled forward over real tables of points.

    python benchmarks/intervals.py [DIR] [--mapping FILE.json] [--json] [--draws 100]

Every table under DIR (../shared/data beside the repository, unless told) is cut below each of its budgets; the fit is
made of what lies below, and asked about the runs with 3 to 10 times more compute that are within 5 % of the best loss
at theirs. Printed by family: how many of these losses our intervals hold, how many the percentile bootstrap of the
plain parametric fit holds, and the median half-widths. *Left out* is our coverage with the width's scale chosen
anew, to hold 90 %, on all the other families alike.

Files with the columns `flops, params, tokens, loss` are read as they are, one table and one family each. Others are
told by a mapping, {"file under DIR": {"columns": {"params": "Model Size", …}, "table": [columns that tell tables
apart], "family": column, "unrepeated": true}}: without `flops` C is 6ND, without `family` the file is one, and
`unrepeated` keeps runs that saw no token twice. The mapping of the default folder is built in.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from machine import machine
from numpy.typing import NDArray

from isoflop.errors import NoAnswerError
from isoflop.fitting.forecasts import ASKED_ABOUT, OVERLAP, Runs, make_forecaster, normal_quantile
from isoflop.fitting.parametric import search
from isoflop.fitting.parametric_bootstrap import bootstrap_surface

Floats = NDArray[np.float64]

DEFAULT = Path(__file__).resolve().parents[1] / "../shared/data"
COLUMNS = ("flops", "params", "tokens", "loss")
MAPPING: dict[str, dict[str, Any]] = {
    "gadre/losses.csv": {"table": ["dataset", "val"], "family": "val"},
    "porian/isoflops.csv": {"table": ["exp"]},
    "datablations/val_losses.csv": {"unrepeated": True},
}
LEVEL, NEAREST, FARTHEST, SLACK = 0.90, 3.0, 10.0, 1.02


@dataclass(frozen=True)
class Forecast:
    """One run asked about: ln(forecast/loss), the half-width of our interval and of the bootstrap's, and if it held."""

    family: str
    table: str
    error: float
    half_width: float
    plain_half_width: float
    plain_held: bool


def tables(directory: Path, mapping: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Family, name and points of every table under `directory`; files that are none are named on stderr."""
    for path in sorted(each for each in directory.rglob("*") if each.suffix in (".csv", ".json", ".parquet")):
        name = path.relative_to(directory).as_posix()
        told = mapping.get(name, {})
        reader = {".csv": pd.read_csv, ".json": pd.read_json, ".parquet": pd.read_parquet}[path.suffix]
        frame = reader(path)
        if told.get("unrepeated"):
            frame = frame[frame["tokens"] <= 1.01 * frame["unique_tokens"]]
        frame = frame.rename(columns={theirs: ours for ours, theirs in told.get("columns", {}).items()})
        if told and "flops" not in frame:
            frame = frame.assign(flops=6.0 * frame["params"] * frame["tokens"])
        if not set(COLUMNS) <= set(frame.columns):
            print(f"not a points table, and not in the mapping: {name}", file=sys.stderr)
            continue
        for key, part in frame.groupby(told["table"]) if "table" in told else [((name,), frame)]:
            points = part.dropna(subset=list(COLUMNS))
            points = points[(points[list(COLUMNS)] > 0).all(axis=1)]
            family = (
                f"{name.split('/')[0]} {points[told['family']].iloc[0].split('/')[0]}" if "family" in told else name
            )
            yield family, " ".join(map(str, key)), points


def forecasts(family: str, table: str, points: pd.DataFrame, draws: int) -> list[Forecast]:
    """Roll forward over one table."""
    runs = Runs.sorted(*(points[name].to_numpy(dtype=np.float64) for name in COLUMNS))
    asked = runs.near_best(ASKED_ABOUT)
    quantile, found = normal_quantile(LEVEL), []
    for cut in runs.centres:
        above = asked.only((asked.flops >= NEAREST / SLACK * cut) & (asked.flops <= FARTHEST * SLACK * cut))
        if not len(above.flops):
            continue
        observed = np.log(above.loss)
        centre, sd = make_forecaster(runs, cut, draws=draws).log_loss(above.params, above.tokens, above.flops)
        low, high = plain_bootstrap(runs.up_to(cut), above, draws)
        found += [
            Forecast(family, table, off, quantile * width, half, held)
            for off, width, half, held in zip(
                (centre - observed).tolist(),
                sd.tolist(),
                ((high - low) / 2).tolist(),
                ((low <= observed) & (observed <= high)).tolist(),
                strict=True,
            )
        ]
    return found


def plain_bootstrap(below: Runs, above: Runs, draws: int) -> tuple[Floats, Floats]:
    """Ends of the percentile interval of ln loss by resampling the rows of the plain parametric fit."""
    try:
        found = search(below.params, below.tokens, below.loss)
        drawn = np.log(bootstrap_surface(found, draws, seed=0).surfaces.at(above.params, above.tokens))
    except NoAnswerError:
        nothing = np.full(len(above.flops), math.nan)
        return nothing, nothing
    if not len(drawn):
        nothing = np.full(len(above.flops), math.nan)
        return nothing, nothing
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def scale_without(family: str, found: list[Forecast]) -> float:
    """By what our widths would be multiplied to hold 90 % of the other families' losses, each family counting alike."""
    others = [each for each in found if each.family != family]
    if not others:
        return math.nan
    size = {name: sum(each.family == name for each in others) for name in {each.family for each in others}}
    needed = np.array([abs(each.error) / each.half_width for each in others])
    mass = np.array([1 / size[each.family] for each in others])
    order = np.argsort(needed)
    total = np.cumsum(mass[order])
    return float(needed[order][np.searchsorted(total, LEVEL * total[-1])])


def summarise(found: list[Forecast]) -> dict[str, float]:
    held = [abs(each.error) <= each.half_width for each in found]
    return {
        "forecasts": len(found),
        "tables": len({each.table for each in found}),
        "error": float(np.median([abs(each.error) for each in found])),
        "coverage": float(np.mean(held)),
        "half_width": float(np.median([each.half_width for each in found])),
        "plain_coverage": float(np.mean([each.plain_held for each in found])),
        "plain_half_width": float(np.nanmedian([each.plain_half_width for each in found])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--mapping", type=Path, help="JSON that says how foreign files are read")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--draws", type=int, default=100)
    asked = parser.parse_args()
    if not asked.directory.is_dir():
        sys.exit(f"DIR must be a folder of points tables, but got {asked.directory}")
    mapping = json.loads(asked.mapping.read_text()) if asked.mapping else MAPPING
    began = time.perf_counter()
    found = [
        each
        for family, table, points in tables(asked.directory, mapping)
        for each in forecasts(family, table, points, asked.draws)
    ]
    if not found:
        sys.exit("no table leaves runs enough below a budget to forecast those above")
    families = sorted({each.family for each in found})
    rows: dict[str, dict[str, float]] = {}
    left_out: list[Forecast] = []
    for family in families:
        mine = [each for each in found if each.family == family]
        scale = scale_without(family, found)
        rescaled = [replace(each, half_width=each.half_width * scale) for each in mine]
        left_out += rescaled
        rows[family] = {**summarise(mine), "left_out": summarise(rescaled)["coverage"], "overlap": OVERLAP * scale}
    rows["pooled"] = {**summarise(found), "left_out": summarise(left_out)["coverage"], "overlap": OVERLAP}
    ratios = {
        "coverage_pooled": rows["pooled"]["coverage"],
        "coverage_least_family": min(rows[family]["coverage"] for family in families),
        "coverage_left_out": rows["pooled"]["left_out"],
        "coverage_left_out_least_family": min(rows[family]["left_out"] for family in families),
        "half_width": rows["pooled"]["half_width"],
        "plain_coverage_pooled": rows["pooled"]["plain_coverage"],
    }
    if asked.json:
        print(json.dumps({"ratios": ratios, "families": rows, "machine": machine("numpy", "scipy")}))
        return
    print(f"{'family':44} {'n':>5} {'error':>6} {'held':>6} {'±':>6} {'left out':>8}   {'plain':>6} {'±':>6}")
    for name, row in rows.items():
        print(
            f"{name:44} {row['forecasts']:5.0f} {row['error']:6.2%} {row['coverage']:6.1%} {row['half_width']:6.2%} "
            f"{row['left_out']:8.1%}   {row['plain_coverage']:6.1%} {row['plain_half_width']:6.2%}"
        )
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
