"""Launching side by side: a sweep of pretended runs against a raw sbatch array and plain submitit, on a cluster here.

    .venv/bin/python benchmarks/launch.py [--json]

Starts a SLURM cluster of four nodes on this machine (`launchers/dev-slurm/cluster.sh`: needs root and Debian) and stops
it. Every run is a sleep of one second, so that what is measured is the launching:

- makespan of 64 runs on 8 slots, from the call that submits to the last result, over the ideal 8 seconds;
- `isoflop status` and `isoflop submit` of 1,000 runs, and `isoflop retry` of 10 of 64, each with its start-up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

from isoflop import store, workflow
from isoflop.launching.synthetic import Conditions
from isoflop.planning import prior
from isoflop.store import StudyDirectory
from isoflop.study import Study

CLUSTER = Path(__file__).parents[1] / "launchers" / "dev-slurm" / "cluster.sh"
RUNS, SLOTS, SWEEPS = 64, 8, 5
PROFILE = """
launcher: slurm
options: {time: "10", cpus_per_task: 2, mem: 400MB}
classes: [{workers: 2}]
fit: {cpus_per_task: 1}
max_parallel: 4
"""
SUBMITIT = """
import sys, time
import submitit
executor = submitit.SlurmExecutor(sys.argv[1])
executor.update_parameters(time=10, cpus_per_task=1, mem="200MB", array_parallelism=8, wckey=None)
for job in executor.map_array(time.sleep, [1.0] * 64):
    job.result()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    as_json = parser.parse_args().json
    folder = Path(tempfile.mkdtemp(prefix="isoflop-launch-"))
    folder.chmod(0o755)
    knobs = {"DIR": str(folder / "cluster"), "PORT": "20400"}
    subprocess.run([CLUSTER, "up"], env={**os.environ, **knobs}, check=True)
    os.environ["SLURM_CONF"] = str(folder / "cluster" / "etc" / "slurm.conf")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    try:
        found = measure(folder)
    finally:
        subprocess.run([CLUSTER, "down"], env={**os.environ, **knobs}, check=True)
        shutil.rmtree(folder)
    if as_json:
        print(json.dumps({"ratios": found, "machine": machine()}))
        return
    for name, value in found.items():
        print(f"{name:48} {value:8.3g}")


def measure(folder: Path) -> dict[str, float]:
    profile = folder / "profile.yaml"
    profile.write_text(PROFILE)
    ideal = RUNS / SLOTS
    found = {}
    sweeps = [pretend(folder / f"sweep-{number}", RUNS, seconds=1.0) for number in range(SWEEPS)]
    # SLURM starts an array within a second or at once, as it comes: medians, and their ranges beside them.
    ways = {
        "isoflop": [lambda sweep=sweep: run_sweep(sweep, profile) for sweep in sweeps],
        "raw sbatch array": [raw_array] * SWEEPS,
        "plain submitit": [lambda: plain_submitit(folder / "submitit")] * SWEEPS,
    }
    for way, actions in ways.items():
        spans = []
        for action in actions:
            spans.append(seconds(action) / ideal)
            idle()
        found[f"makespan / ideal, {way}"] = statistics.median(spans)
        found[f"makespan / ideal, {way}, least"] = min(spans)
        found[f"makespan / ideal, {way}, most"] = max(spans)
    sweep = sweeps[0]
    for run in sweep.run_ids()[:10]:
        sweep.run(run).result_file.unlink()
        sweep.run(run).write_status("failed", cause="error")
    found["retry of 10 of 64 runs, s"] = seconds(lambda: said(isoflop("retry", sweep.root), "for 10 runs"))
    idle()
    large = pretend(folder / "large", 1000, seconds=0.02)
    found["submit of 1,000 runs, s"] = seconds(
        lambda: said(isoflop("submit", large.root, "--launcher", profile), "1000 runs")
    )
    found["status of 1,000 runs, some at work, s"] = min(
        seconds(lambda: isoflop("status", large.root)) for _ in range(5)
    )
    calls = counted_calls(folder, large)
    found["SLURM calls of a status"] = calls
    wait(large)
    found["status of 1,000 runs, all done, s"] = min(seconds(lambda: isoflop("status", large.root)) for _ in range(5))
    return found


def pretend(root: Path, runs: int, seconds: float) -> StudyDirectory:
    """A study of so many runs that each sleep that long."""
    sizes = [8, 12, 16, 24] if runs % 4 == 0 and runs < 1000 else [8, 12, 16, 24, 32]
    study = Study.parse(
        {
            "name": root.name,
            "data": {"abstract": {"vocabulary": 40, "unique_tokens": 1e12}},
            "model": {"sequence_length": 16},
            "recipe": {"base": "tiny", "tokens_per_step": 32, "warmup_steps": 4},
            "grid": {
                "budgets": [1e9],
                "sizes": sizes,
                "seeds": runs // len(sizes),
                "tolerance": 0.05,
                "min_cells": 1,
            },
            "training": {"validation_tokens": 640},
        }
    )
    planned = workflow.plan(study)
    assert len(planned.runs) == runs
    place = StudyDirectory(root)
    per_flop = seconds / (planned.flops / len(planned.runs))
    conditions = Conditions(prior.published("soda-surface"), planned.cost, 0.003, 0.0, 0, per_flop)
    store.write_json(place.rehearsal_file, conditions.to_json())
    store.write_text(place.study_file, study.to_yaml())
    return place


def seconds(action: object) -> float:
    began = time.perf_counter()
    action()  # type: ignore[operator]
    return time.perf_counter() - began


def isoflop(*arguments: object) -> str:
    call = [sys.executable, "-P", "-m", "isoflop", *map(str, arguments)]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout


def said(text: str, words: str) -> None:
    assert words in text, text


def run_sweep(place: StudyDirectory, profile: Path) -> None:
    isoflop("submit", place.root, "--launcher", profile)
    wait(place)


def wait(place: StudyDirectory) -> None:
    count = len(place.run_ids())
    while len(list(place.root.glob("runs/*/result.json"))) < count:
        time.sleep(0.05)


def raw_array() -> None:
    script = "#!/bin/bash\n#SBATCH --array=0-63%8 --mem=200MB --output=/dev/null\nsleep 1\n"
    subprocess.run(["sbatch"], input=script, text=True, check=True, capture_output=True)
    idle()


def plain_submitit(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", SUBMITIT, folder], check=True)


def idle() -> None:
    while subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout.strip():
        time.sleep(0.1)


def counted_calls(folder: Path, place: StudyDirectory) -> int:
    """How many of SLURM's commands one status calls."""
    shims, log = folder / "shims", folder / "calls"
    shims.mkdir()
    for name in ("squeue", "sacct", "scontrol", "sbatch", "scancel", "sinfo"):
        shim = shims / name
        shim.write_text(f'#!/bin/sh\necho {name} >> {log}\nexec {shutil.which(name)} "$@"\n')
        shim.chmod(0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{shims}:{path}"
    isoflop("status", place.root)
    os.environ["PATH"] = path
    return len(log.read_text().split())


if __name__ == "__main__":
    main()
