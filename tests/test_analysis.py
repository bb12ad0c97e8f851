"""Every script of `analysis/` runs on points in its study's format, made here from laws that are known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
BUDGETS = np.array([6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20])


def profiles(alpha, beta, level=2.69, scale=1606.4, data=3210.7):
    """C, N, D and loss of seven budgets of seven sizes about the optimum."""
    rows = []
    for flops in BUDGETS:
        best = (alpha * scale / (beta * data)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
        for params in best * np.geomspace(1 / 3, 3, 7):
            tokens = flops / 6 / params
            rows.append((flops, params, tokens, level + scale / params**alpha + data / tokens**beta))
    return pd.DataFrame(rows, columns=["flops", "params", "tokens", "loss"])


def printed(script, path):
    done = subprocess.run(
        [sys.executable, ROOT / "analysis" / script, path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cs336(tmp_path):
    points = profiles(0.34, 0.36)
    names = {"flops": "compute_budget", "params": "parameters", "loss": "final_loss"}
    record = points.rename(columns=names)[list(names.values())].to_dict("records")
    (tmp_path / "points.json").write_text(json.dumps(record))
    lines = printed("cs336.py", tmp_path / "points.json").splitlines()
    assert [line.split()[0] for line in lines[1:7]] == ["E", "A", "B", "alpha", "beta", "a"]
    assert all(abs(float(line.split()[-1])) < 1e-6 for line in lines[1:7])


def test_porian(tmp_path):
    truths = {"one": (0.34, 0.36), "two": (0.5, 0.4)}
    tables = [profiles(*exponents).assign(exp=name) for name, exponents in truths.items()]
    pd.concat(tables).to_csv(tmp_path / "isoflops.csv", index=False)
    published = [(name, beta / (alpha + beta), alpha / (alpha + beta)) for name, (alpha, beta) in truths.items()]
    frame = pd.DataFrame(published, columns=["exp", "a_basic", "b_basic"])
    frame.to_csv(tmp_path / "published_fits.csv", index=False)
    lines = printed("porian.py", tmp_path).splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["one", "two"]
    assert all(abs(float(line.split()[place])) < 0.005 for line in lines for place in (3, 6))


def test_gadre(tmp_path):
    tables = []
    for name, exponents in {"c4_original": (0.34, 0.36), "rpj": (0.4, 0.38), "rw_original": (0.5, 0.4)}.items():
        points = profiles(*exponents)
        body = points["params"] * (1 - (points["params"] / 1e6) ** -0.3)
        tables.append(
            pd.DataFrame(
                {
                    "params": points["params"],
                    "params_no_embed": body,
                    "tokens": points["tokens"],
                    "loss": points["loss"],
                    "dataset": name,
                    "val": "c4_val/shard-{0000000..0000010}.tar",
                }
            )
        )
    pd.concat(tables).to_csv(tmp_path / "losses.csv", index=False)
    found = re.findall(r"(\w+) +(total|non_embedding) +[\d.]+ +([\d.]+)", printed("gadre.py", tmp_path / "losses.csv"))
    assert [row[:2] for row in found] == [
        (name, convention)
        for name in ("c4_original", "rpj", "rw_original")
        for convention in ("total", "non_embedding")
    ]
    # By the total the surface that made the points comes back; without embeddings models grow more slowly.
    totals = [float(a) for _, convention, a in found if convention == "total"]
    assert totals == pytest.approx([0.36 / 0.7, 0.38 / 0.78, 0.4 / 0.9], abs=0.002)
