"""What the parametric fit costs beside the procedures that others use, and whether it ever ends higher than they do.

    python benchmarks/fit.py [--quick] [--only NAME] [--json] [--data DIR] [--reference PYTHON]

Each data set has 240 points: published surfaces with heavy-tailed noise, and public tables where ``--data`` (by
default ``../shared/data``) has them. On each, one fit of the sum of Huber(1e-3) of the log residual, and 4,000
bootstrap fits of it, against

``lbfgs``       scipy's L-BFGS from the grid of 4,500 starts of the Chinchilla paper (arXiv 2203.15556, D.3)
``bfgs``        scipy's BFGS from the full fit on each resample, as Besiroglu et al. do (arXiv 2404.10102)
``chinchilla``  the PyPI package, version 0.2.0, on a grid of the same size

The first two run twice: with gradients written here by hand, and (``published_…``) with those of autograd, as the
replication was published. The latter and the package want an environment of their own:

    python -m venv ../reference && ../reference/bin/pip install chinchilla==0.2.0 autograd
    python benchmarks/fit.py --reference ../reference/bin/python

Ratios are CPU seconds of theirs over ours in this run, on one thread. Where a procedure is only sampled (starts with
``--quick`` and of the published one, resamples always) its time is extrapolated to 4,500 starts or 4,000 resamples,
and its objective is that of the sample: ``…_of_4500`` and ``…_of_4000`` say how many were made. ``excess`` is how far
ours ends above theirs, relatively: never above 0, but for rounding. Without ``--quick`` about half an hour. ``shell``
is the wall time of ``isoflop fit`` on a CSV of 240 points with everything, the quickest of three calls: seconds of
this machine, no ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402 - threads are counted when numpy is imported
import pandas as pd  # noqa: E402
from machine import machine  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.optimize import minimize  # noqa: E402

from isoflop.fitting.parametric import fit_surface, search  # noqa: E402
from isoflop.fitting.parametric_bootstrap import bootstrap_surface, fit_surfaces  # noqa: E402

Floats = NDArray[np.float64]

DELTA = 1e-3
DRAWS = 4000
POINTS = 240
#: E, A, B, alpha, beta as published: Hoffmann et al., its replication by Besiroglu et al., CS336's public points.
SURFACES = {
    "hoffmann": (1.69, 406.4, 410.7, 0.34, 0.28),
    "besiroglu": (1.8172, 482.01, 2085.43, 0.3478, 0.3658),
    "cs336": (2.69, 1606.4, 3210.7, 0.34, 0.36),
}
#: The Chinchilla paper's starts for ln A, ln B, ln E, alpha, beta.
GRID = ((0, 5, 10, 15, 20, 25), (0, 5, 10, 15, 20, 25), (-1, -0.5, 0, 0.5, 1), (0, 0.5, 1, 1.5, 2), (0, 0.5, 1, 1.5, 2))
STARTS = 4500
#: As many of the starts and resamples are made with autograd.
PUBLISHED_STARTS, PUBLISHED_RESAMPLES = 40, 20


@dataclass(frozen=True)
class Points:
    """A data set."""

    params: Floats
    tokens: Floats
    loss: Floats


def data_sets(folder: Path) -> dict[str, Points]:
    """Noisy published surfaces, and of public tables what is there."""
    found = {name: _sampled(surface) for name, surface in SURFACES.items()}
    cs336, porian = folder / "cs336_isoflops.json", folder / "porian" / "isoflops.csv"
    if cs336.is_file():
        table = pd.read_json(cs336)
        params = table["parameters"].to_numpy(float)
        found["cs336_table"] = Points(
            params, table["compute_budget"].to_numpy(float) / 6 / params, table["final_loss"].to_numpy(float)
        )
    if porian.is_file():
        groups = pd.read_csv(porian).groupby("exp")
        for name, table in itertools.islice(groups, 2, None, 6):
            columns = (table[column].to_numpy(float) for column in ("params", "tokens", "loss"))
            found["porian_" + str(name).replace("|", "_")] = Points(*columns)
    return found


def _sampled(surface: tuple[float, float, float, float, float]) -> Points:
    generator = np.random.default_rng(0)
    params = np.exp(generator.uniform(np.log(44e6), np.log(16e9), POINTS))
    tokens = np.exp(generator.uniform(np.log(6e18), np.log(3e21), POINTS)) / 6 / params
    E, A, B, alpha, beta = surface
    noise = np.exp(0.003 * generator.standard_t(3, POINTS))
    return Points(params, tokens, (E + A / params**alpha + B / tokens**beta) * noise)


def objective(theta: Floats, x: Floats, z: Floats, y: Floats, weights: Floats) -> tuple[float, Floats]:
    """The sum of Huber(1e-3) of the log residual and its gradient, by (ln A, ln B, ln E, alpha, beta)."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * x, b - beta * z, np.full_like(x, e)])
    top = terms.max(axis=0)
    shares = np.exp(terms - top)
    total = shares.sum(axis=0)
    shares /= total
    residual = y - top - np.log(total)
    pull = np.clip(residual, -DELTA, DELTA)
    force = weights * pull
    gradient = [-(force @ shares[0]), -(force @ shares[1]), -(force @ shares[2])]
    gradient += [(force * x) @ shares[0], (force * z) @ shares[1]]
    return float(force @ (residual - pull / 2)), np.array(gradient)


def best_time(call: Callable[[], Any], repeats: int) -> float:
    """CPU seconds of the quickest of some calls: what else the machine does only ever adds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def lbfgs(points: Points, starts: int) -> tuple[float, float]:
    """Seconds that 4,500 starts of L-BFGS take, and the best objective of the `starts` that were made."""
    x, z, y = np.log(points.params), np.log(points.tokens), np.log(points.loss)
    grid = list(itertools.product(*GRID))
    chosen = np.random.default_rng(0).permutation(len(grid))[:starts]
    start, best = time.process_time(), np.inf
    with np.errstate(all="ignore"):
        for place in chosen:
            end = minimize(
                objective, np.array(grid[place], dtype=float), (x, z, y, np.ones(len(x))), jac=True, method="L-BFGS-B"
            )
            best = min(best, float(end.fun))
    return (time.process_time() - start) * STARTS / starts, best


def bfgs(points: Points, theta: Sequence[float], weights: Floats) -> tuple[float, Floats]:
    """Seconds that 4,000 resamples take BFGS, and the objective on each of those in `weights`."""
    x, z, y = np.log(points.params), np.log(points.tokens), np.log(points.loss)
    start = time.process_time()
    with np.errstate(all="ignore"):
        ends = [minimize(objective, theta, (x, z, y, row), jac=True, method="BFGS").fun for row in weights]
    return (time.process_time() - start) * DRAWS / len(weights), np.array(ends)


_CHINCHILLA = """
import json, sys, tempfile, time
import numpy as np
from chinchilla import Chinchilla
from chinchilla._metrics import log_huber

points, steps = json.load(sys.stdin)
grid = {"e": np.linspace(-1, 1, steps[0]), "a": np.linspace(0, 25, steps[1]), "b": np.linspace(0, 25, steps[1]),
        "alpha": np.linspace(0, 2, steps[0]), "beta": np.linspace(0, 2, steps[0])}
with tempfile.TemporaryDirectory() as folder:
    model = Chinchilla(folder, param_grid=grid, log_level=40, loss_fn=lambda y, p: log_huber(y, p, 1e-3))
    for N, D, L in zip(*points):
        model.append(N=N, D=D, loss=L, C=6 * N * D)
    model.visualizer.optim = lambda *ignored, **also: None
    start = time.process_time()
    model.fit(parallel=False)
    seconds = time.process_time() - start
print(json.dumps([seconds, [float(getattr(model, name)) for name in ("E", "A", "B", "alpha", "beta")]]))
"""

_PUBLISHED = """
import json, sys, time
import autograd.numpy as np
from autograd import grad
from autograd.scipy.special import logsumexp
from scipy.optimize import minimize

points, method, starts, weights = json.load(sys.stdin)
x, z, y = (np.log(np.array(column)) for column in points)

def objective(theta, weights):
    a, b, e, alpha, beta = theta
    predicted = logsumexp(np.stack([a - alpha * x, b - beta * z, e + 0 * x]), axis=0)
    size = np.abs(y - predicted)
    return np.sum(weights * np.where(size < 1e-3, size**2 / 2, 1e-3 * (size - 5e-4)))

start = time.process_time()
ends = [float(minimize(objective, np.array(theta), (np.array(row),), jac=grad(objective), method=method).fun)
        for theta, row in zip(starts, weights)]
print(json.dumps([time.process_time() - start, ends]))
"""


def elsewhere(python: str, script: str, what: Any) -> Any:
    """What a script prints in the environment of the references."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-W", "ignore", "-c", script],
            input=json.dumps(what),
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
        )
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1]
        sys.exit(f"{python} must be able to import chinchilla 0.2.0 and autograd, but: {told}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def chinchilla(python: str, points: Points, quick: bool) -> tuple[float, float, int]:
    """Seconds that the package takes for 4,500 starts, the objective where it ends, and the starts that were made."""
    # Its own grid is the user's to choose; here the paper's, or (quick) 72 starts evenly over it.
    steps = (2, 3) if quick else (5, 6)
    starts = steps[0] ** 3 * steps[1] ** 2
    seconds, (E, A, B, alpha, beta) = elsewhere(python, _CHINCHILLA, [_columns(points), steps])
    theta = np.array([np.log(A), np.log(B), np.log(E), alpha, beta])
    x, z, y = np.log(points.params), np.log(points.tokens), np.log(points.loss)
    return seconds * STARTS / starts, objective(theta, x, z, y, np.ones(len(x)))[0], starts


def published(python: str, points: Points, theta: Sequence[float], weights: Floats) -> tuple[float, float]:
    """Seconds of 4,500 starts of L-BFGS and of 4,000 resamples by BFGS, both with autograd, from samples of them."""
    sampled = np.random.default_rng(0).permutation(STARTS)[:PUBLISHED_STARTS]
    grid = list(itertools.product(*GRID))
    starts = [[float(value) for value in grid[place]] for place in sampled]
    ones = [[1.0] * len(points.loss)] * len(starts)
    full, _ = elsewhere(python, _PUBLISHED, [_columns(points), "L-BFGS-B", starts, ones])
    rows = weights[:PUBLISHED_RESAMPLES].tolist()
    thetas = [[float(value) for value in theta]] * len(rows)
    drawn, _ = elsewhere(python, _PUBLISHED, [_columns(points), "BFGS", thetas, rows])
    return full * STARTS / len(starts), drawn * DRAWS / len(rows)


def _columns(points: Points) -> list[list[float]]:
    return [points.params.tolist(), points.tokens.tolist(), points.loss.tolist()]


def measure(name: str, points: Points, options: argparse.Namespace) -> dict[str, float]:
    """Every figure of one data set."""
    surface = fit_surface(points.params, points.tokens, points.loss, delta=DELTA)
    found = search(points.params, points.tokens, points.loss, delta=DELTA)
    fit = best_time(lambda: fit_surface(points.params, points.tokens, points.loss, delta=DELTA), 20)
    auto = best_time(lambda: fit_surface(points.params, points.tokens, points.loss), 20)
    draw = best_time(lambda: bootstrap_surface(found, DRAWS, 0), 3)
    resamples = 20 if options.quick else 200
    count = len(points.params)
    weights = np.random.default_rng(1).multinomial(count, np.ones(count) / count, resamples).astype(float)
    ours = fit_surfaces(found, weights)[1].value
    theta = [np.log(surface.A), np.log(surface.B), np.log(max(surface.E, 1e-9)), surface.alpha, surface.beta]
    bfgs_seconds, theirs = bfgs(points, theta, weights)
    starts = 100 if options.quick else STARTS
    lbfgs_seconds, lbfgs_objective = lbfgs(points, starts)
    figures = {
        "points": count,
        "fit_ms": 1e3 * fit,
        "fit_auto_ms": 1e3 * auto,
        "bootstrap_s": draw,
        "lbfgs_starts_of_4500": starts,
        "lbfgs_over_ours": lbfgs_seconds / fit,
        "bfgs_resamples_of_4000": resamples,
        "bfgs_bootstrap_over_ours": bfgs_seconds / draw,
        "excess_over_lbfgs": surface.objective / lbfgs_objective - 1,
        "worst_excess_over_bfgs": float((ours / theirs - 1).max()),
    }
    if options.reference:
        seconds, reached, made = chinchilla(options.reference, points, options.quick)
        figures |= {
            "chinchilla_starts_of_4500": made,
            "chinchilla_over_ours": seconds / fit,
            "excess_over_chinchilla": surface.objective / reached - 1,
        }
        full, drawn = published(options.reference, points, theta, weights)
        figures |= {
            "published_lbfgs_starts_of_4500": PUBLISHED_STARTS,
            "published_lbfgs_over_ours": full / fit,
            "published_bfgs_resamples_of_4000": PUBLISHED_RESAMPLES,
            "published_bfgs_bootstrap_over_ours": drawn / draw,
        }
    print(name, *(f"{key} {value:.4g}" for key, value in figures.items()), sep="\n  ", file=sys.stderr)
    return figures


def shell() -> dict[str, float]:
    """Wall seconds of `isoflop fit` on 12 budgets × 20 sizes, without and with figures."""
    E, A, B, alpha, beta = SURFACES["besiroglu"]
    flops = np.repeat(np.geomspace(6e18, 3e21, 12), 20)
    best = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (flops / 6) ** (beta / (alpha + beta))
    params = best * np.tile(np.geomspace(1 / 4, 4, 20), 12)
    tokens = flops / 6 / params
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(POINTS))
    loss = (E + A / params**alpha + B / tokens**beta) * noise
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "points.csv"
        pd.DataFrame({"flops": flops, "params": params, "tokens": tokens, "loss": loss}).to_csv(table, index=False)
        call = [sys.executable, "-m", "isoflop", "fit", str(table), "--json", "--out", str(Path(folder) / "law.json")]
        for name, more in (("shell.fit_s", []), ("shell.fit_with_figures_s", ["--figures", folder])):
            times = []
            for _ in range(3):
                start = time.perf_counter()
                subprocess.run([*call, *more], capture_output=True, check=True)
                times.append(time.perf_counter() - start)
            figures[name] = min(times)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sample the slow procedures; under a minute")
    parser.add_argument("--only", metavar="NAME", help="this data set alone")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--reference", metavar="PYTHON", help="a Python that has chinchilla 0.2.0 and autograd")
    options = parser.parse_args()
    sets = data_sets(options.data)
    if options.only is not None:
        if options.only not in sets:
            parser.error(f"--only must be one of {', '.join(sets)}, but got {options.only}")
        sets = {options.only: sets[options.only]}
    elif options.quick:
        sets = {name: sets[name] for name in list(sets)[1:3] + list(sets)[4:5]}
    ratios = shell()
    for name, points in sets.items():
        ratios |= {f"{name}.{key}": value for key, value in measure(name, points, options).items()}
    here = machine("numpy", "scipy")
    if options.json:
        print(json.dumps({"ratios": ratios, "machine": here}))
        return
    print(f"{here}, one thread")
    for name, value in ratios.items():
        print(f"{name:<90} {value:12.4g}")


if __name__ == "__main__":
    main()
