"""How often the 95 % intervals of the exponent a hold the truth, over simulated studies.

    python benchmarks/coverage.py [--studies 500] [--quick] [--surface soda] [--convention 6nd] [--json]

A study is seven budgets from 3e18 to 3e20 FLOPs × 9 sizes, centred on the optimum, on Chinchilla's surface (Besiroglu
et al. 2024) or SODA's, under C = 6·N·D or FLOPs counted along a ladder of shapes. The truth is the slope of ln N* over
the budgets, which under 6·N·D is β/(α + β). Noise is normal in ln loss. *Misfit* adds a smooth random surface of
sd 0.0015 in ln loss, with a correlation length of 1.5 in ln N and ln D: a form that is a little wrong. For each cell
the coverage of the headline (`law.exponents.a`), of t and of the bootstrap, with the headline's half-width.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import dataclass
from itertools import product

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from machine import machine
from numpy.typing import NDArray

from isoflop.errors import NoAnswerError
from isoflop.fitting import fit
from isoflop.fitting.intervals import Estimate

Floats = NDArray[np.float64]

#: E, A, B, α, β; vocabulary and sequence length of the ladder under which its FLOPs are counted.
SURFACES = {
    "chinchilla": ((1.8172, 482.01, 2085.43, 0.3478, 0.3658), 32_000, 2_048),
    "soda": ((3.169, 215_886.0, 4_750.0, 0.684, 0.439), 144_644, 4_096),
}
CONVENTIONS = ("6nd", "counted")
BUDGETS = np.array([3e18, 9e18, 1.8e19, 3e19, 9e19, 1.8e20, 3e20])
SIZES, WIDTHS = 9, (8.0, 16.0)
NOISES = (0.002, 0.004)
MISFIT, LENGTH = 0.0015, 1.5


@dataclass(frozen=True, eq=False)
class Truth:
    """A grid of cells and their noise-free losses, in logarithms, and the exponent a over its budgets."""

    flops: Floats
    params: Floats
    tokens: Floats
    loss: Floats
    a: float


def log_cost(surface: str, convention: str) -> tuple[Floats, Floats]:
    """Ln N and ln(C/D) along a ladder; depth goes with width as in the authors' grid (d/(57 + 4·log2 d))."""
    if convention == "6nd":
        log_params = np.linspace(math.log(1e6), math.log(1e12), 200_001)
        return log_params, math.log(6) + log_params
    _, vocabulary, length = SURFACES[surface]
    d = np.geomspace(32, 16_384, 200_001)
    layers = d / (57 + 4 * np.log2(d))
    params = layers * (16 * d**2 + 2 * d) + 2 * vocabulary * d
    heads = np.maximum(d / 128, 1)
    forward = layers * (32 * d**2 + 4 * length * d + 3 * length * heads) + 2 * d * vocabulary
    return np.log(params), np.log(3 * forward)


def truth(surface: str, convention: str, width: float) -> Truth:
    """The grid of `SIZES` sizes a budget, spread by ×`width` about the optimum."""
    E, A, B, alpha, beta = SURFACES[surface][0]
    ladder, cost = log_cost(surface, convention)

    def log_loss(params: Floats, tokens: Floats) -> Floats:
        return np.log(E + A * np.exp(-alpha * params) + B * np.exp(-beta * tokens))

    best = np.array([ladder[log_loss(ladder, math.log(flops) - cost).argmin()] for flops in BUDGETS])
    params = np.add.outer(best, np.linspace(-0.5, 0.5, SIZES) * math.log(width)).ravel()
    flops = np.repeat(np.log(BUDGETS), SIZES)
    tokens = flops - np.interp(params, ladder, cost)
    a = beta / (alpha + beta) if convention == "6nd" else float(np.polyfit(np.log(BUDGETS), best, 1)[0])
    return Truth(flops, params, tokens, log_loss(params, tokens), a)


def study(cell: Truth, noise: float, misfit: float, generator: np.random.Generator) -> pd.DataFrame:
    """Points of one simulated study."""
    loss = cell.loss + noise * generator.standard_normal(len(cell.loss))
    if misfit:
        apart = np.subtract.outer(cell.params, cell.params) ** 2 + np.subtract.outer(cell.tokens, cell.tokens) ** 2
        smooth = np.exp(-apart / (2 * LENGTH**2)) + 1e-9 * np.eye(len(loss))
        loss = loss + misfit * np.linalg.cholesky(smooth) @ generator.standard_normal(len(loss))
    return pd.DataFrame(
        {
            "flops": np.exp(cell.flops),
            "params": np.exp(cell.params),
            "tokens": np.exp(cell.tokens),
            "loss": np.exp(loss),
        }
    )


def exponents(cell: Truth, noise: float, misfit: float, studies: int) -> list[Estimate]:
    """The exponent a of each study that has a law; the studies of a cell are the same every time."""
    generator = np.random.default_rng(1)
    found = []
    for seed in range(studies):
        points = study(cell, noise, misfit, generator)
        try:
            found.append(fit(points, bootstrap=300, seed=seed).exponents.a)
        except NoAnswerError:
            continue
    return found


def score(a: float, found: list[Estimate]) -> dict[str, float]:
    """Share of the studies whose intervals hold `a`, and the headline's median half-width."""

    def held(ends: list[tuple[float, float]]) -> float:
        return float(np.mean([low <= a <= high for low, high in ends]))

    headline = [(each.low, each.high) for each in found]
    return {
        "headline": held(headline),
        "t": held([each.t for each in found]),
        "bootstrap": held([each.bootstrap for each in found]),
        "half_width": float(np.median([(high - low) / 2 for low, high in headline])),
        "bias": float(np.mean([each.value for each in found])) - a,
        "studies": len(found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="sizes spread by ×8 only")
    parser.add_argument("--surface", choices=SURFACES, action="append", help="this surface only; may be given again")
    parser.add_argument("--convention", choices=CONVENTIONS, action="append", help="these FLOPs only; likewise")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.studies < 1:
        parser.error(f"--studies must be at least 1, but got {asked.studies}")
    began, rows = time.perf_counter(), {}
    if not asked.json:
        print(f"{'surface':10} {'C':8} {'width':>5} {'noise':>6} {'misfit':>6}  headline      t  bootstrap  ± of a")
    widths = WIDTHS[:1] if asked.quick else WIDTHS
    for surface, convention, width in product(asked.surface or SURFACES, asked.convention or CONVENTIONS, widths):
        cell = truth(surface, convention, width)
        for noise, misfit in product(NOISES, (0.0, MISFIT)):
            row = score(cell.a, exponents(cell, noise, misfit, asked.studies))
            rows[f"{surface} {convention} x{width:g} noise {noise} misfit {misfit}"] = row
            if not asked.json:
                print(
                    f"{surface:10} {convention:8} {f'×{width:g}':>5} {noise:6} {misfit:6}  {row['headline']:8.1%} "
                    f"{row['t']:6.1%} {row['bootstrap']:10.1%} {row['half_width']:7.3f}",
                    flush=True,
                )
    clean = [row["headline"] for name, row in rows.items() if name.endswith("misfit 0.0")]
    wrong = [row["headline"] for name, row in rows.items() if not name.endswith("misfit 0.0")]
    ratios = {
        "coverage_clean_least": min(clean),
        "coverage_clean_most": max(clean),
        "coverage_misfit_least": min(wrong),
    }
    if asked.json:
        print(json.dumps({"ratios": ratios, "cells": rows, "machine": machine("numpy", "scipy")}))
    else:
        print(
            f"clean {min(clean):.1%} to {max(clean):.1%}, with misfit at least {min(wrong):.1%}; "
            f"{time.perf_counter() - began:.0f} s"
        )


if __name__ == "__main__":
    main()
