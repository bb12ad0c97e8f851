"""Studies that choose their cells and stop by themselves, against a fixed grid of 64 runs and other ways to choose.

    python benchmarks/next.py [--quick] [--json] [--repetitions 200] [--only soda_x8]

The truth is SODA's or Chinchilla's published surface under C = 6ND, on SODA's seven budgets; what is believed of N* is
off by ×2 (half of the studies ×½); a run's ln loss has a noise of 0.003 or 0.0015, half of the repetitions each. The
fixed grid has 64 runs on sizes ×8 or ×4 wide, and the adaptive study may run the same width about its own belief. It
shall reach the 95 % half-widths of b/a and of ln N*(1e22) that `isoflop.fit` reports of the grid (the median of those
grids at which the surface leads), and stops by its own rule: intervals, lack of fit, two held-out runs, which its
FLOPs include. Printed: its FLOPs over the grid's (median), and how many of its intervals hold the truth.

Beside it, with the two held-out runs in their FLOPs, until they have the information (under the true surface) of the
grid that was centred by the same belief: random choice, cheapest first (nine sizes a budget, three runs each, budget by
budget), and the best plan without feedback, chosen under the wrong belief. They know when to stop, which no real study
does; infinite where all their runs do not get there.

Then a surface of another form, L = E + ((A/N^α)^(1/g) + (B/D^β)^(1/g))^g with g = 0.6: how many studies stop on the
wrong form (`early_stops_interaction`).

Last, Porian's 15 published pools (porian/isoflops.csv under --data, where it stands) replayed: each study sees only the
rows that it chooses, from a belief that is Chinchilla's. How many exponents a, by Akima's minima, come within 0.02 of
the full table's: at a cap of a fifth of the FLOPs, and by its own stop at a ±0.07 (a goal chosen on these pools).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from machine import machine
from numpy.typing import NDArray

from isoflop.errors import NoAnswerError
from isoflop.fitting import fit
from isoflop.fitting.cost import six_nd
from isoflop.fitting.points import judge
from isoflop.planning.adaptive import conduct, ladder, of_table
from isoflop.planning.choice import Choice, Feasible, Finished, most_telling
from isoflop.planning.decision import half_width_of, law_of
from isoflop.planning.information import Aim, Frame, Goal, Information
from isoflop.planning.prior import Prior, Surface, published
from isoflop.planning.question import Question
from isoflop.planning.simulation import Cells

Floats = NDArray[np.float64]

DATA = Path(__file__).resolve().parents[1] / "../shared/data"
BUDGETS = np.array([3e18, 9e18, 1.8e19, 3e19, 9e19, 1.8e20, 3e20])
RUNS = (10, 9, 9, 9, 9, 9, 9)
TARGET = 1e22
SIZES = np.exp(np.arange(math.log(1e7), math.log(3e11), math.log(1.12)))
COST = six_nd(1e6, 1e13)
SURFACES = {"soda": "soda-surface", "chinchilla": "besiroglu2024"}
NOISES = (0.003, 0.0015)
OFF = (0.5, 2.0)
GRIDS = 20
#: The other form's exponent.
BENT = 0.6


@dataclass(frozen=True)
class Study:
    """One adaptive study: how it ended, its FLOPs over the grid's, and whether both intervals hold the truth."""

    ended: str
    form: str
    fraction: float
    runs: int
    held: tuple[bool, bool] | None


def fixed_grid(truth: Prior, off: float, width: float) -> Cells:
    parts = [
        Cells.spaced([budget], [off * truth.optimum(budget, COST)], COST, sizes=sizes, width=width)
        for budget, sizes in zip(BUDGETS.tolist(), RUNS, strict=True)
    ]
    return Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in Cells.__dataclass_fields__))


def goals_of(truth: Prior, width: float, noise: float) -> tuple[Goal, Goal]:
    """What the fixed grid reaches: the median over grids whose law has a surface that leads."""
    wanted = Goal("ratio", 1.0), Goal("params", 1.0, TARGET)
    found = []
    for seed in range(GRIDS):
        grid = fixed_grid(truth, OFF[seed % 2], width)
        generator = np.random.default_rng([1, seed])
        loss = surface_of(truth).loss(grid.params, grid.tokens) * np.exp(noise * generator.standard_normal(64))
        try:
            law = law_of(Finished(grid.budget, grid.flops, grid.params, grid.tokens, loss))
        except NoAnswerError:
            continue
        if law.method == "parametric":
            found.append([half_width_of(law, goal) for goal in wanted])
    ratio, params = np.median(found, axis=0).tolist()
    return Goal("ratio", ratio), Goal("params", params, TARGET)


def surface_of(truth: Prior) -> Surface:
    assert truth.surface is not None
    return truth.surface


def question_of(truth: Prior, goals: tuple[Goal, ...], off: float, noise: float, width: float) -> Question:
    cap = float(fixed_grid(truth, 1.0, width).flops.sum())
    return Question(goals, lambda flops: off * truth.optimum(flops, COST), COST, noise, width=width, cap=cap)


def simulated(
    loss: Callable[[float, float], float], question: Question, noise: float, seed: int, truths: tuple[float, float]
) -> Study:
    generator = np.random.default_rng([2, seed])

    def measure(cell: Choice) -> float:
        return loss(cell.params, cell.tokens) * math.exp(noise * generator.standard_normal())

    done = conduct(question, ladder(BUDGETS, SIZES, COST.tokens), measure)
    held = None
    if done.end.action == "stop":
        law = law_of(done.finished)
        ratio, params = law.exponents.ratio, law.optimum(TARGET).params
        held = ratio.low <= truths[0] <= ratio.high, params.low <= truths[1] <= params.high
    assert question.cap is not None
    return Study(done.end.action, done.end.form, done.spent / question.cap, len(done.finished), held)


def informed(truth: Prior, budget: Floats, params: Floats, noise: float) -> list[float]:
    """Half-widths of b/a and ln N* that a law of these runs would have, by the information of the true surface."""
    tokens = COST.tokens(params, budget)
    frame = Frame.about(surface_of(truth), params, tokens, COST)
    reference = math.exp(float(np.log(budget).mean()))
    information = Information.of(frame, params, tokens, noise)
    wanted = Goal("ratio", 1.0), Goal("params", 1.0, TARGET)
    return [information.half_width(Aim.of(goal, frame, reference)) for goal in wanted]


def without_feedback(truth: Prior, width: float, noise: float, how: str, seed: int) -> float:
    """FLOPs over the grid's at which one of the other ways knows as much as the grid."""
    off, generator = OFF[seed % 2], np.random.default_rng([3, seed])
    grid = fixed_grid(truth, off, width)
    enough = informed(truth, grid.budget, grid.params, noise)
    goals = Goal("ratio", enough[0]), Goal("params", enough[1], TARGET)
    cells = ladder(BUDGETS, SIZES, COST.tokens)
    centers = np.array([off * truth.optimum(budget, COST) for budget in cells.budget])
    cells = cells.only(np.abs(np.log(cells.params / centers)) <= math.log(width) / 2)
    top = np.flatnonzero(cells.budget == BUDGETS[-1])
    chosen = [int(top[len(top) // 4]), int(top[-1 - len(top) // 4])]
    order = iter(planned(truth, cells, goals, noise, off, how, generator, chosen))
    while True:
        now = informed(truth, cells.budget[chosen], cells.params[chosen], noise) if len(chosen) > 6 else [math.inf]
        if all(mine <= half for mine, half in zip(now, enough, strict=False)):
            return float(cells.flops[chosen].sum() / grid.flops.sum())
        place = next(order, None)
        if place is None:
            return math.inf
        chosen.append(place)


def planned(
    truth: Prior,
    cells: Feasible,
    goals: tuple[Goal, ...],
    noise: float,
    off: float,
    how: str,
    generator: np.random.Generator,
    begun: list[int],
) -> list[int]:
    """The order in which the cells are run."""
    if how == "random":
        return [int(place) for place in generator.permutation(np.repeat(np.arange(len(cells)), 3))]
    if how == "cheapest":
        found: list[int] = []
        for budget in BUDGETS:
            here = np.flatnonzero(cells.budget == budget)
            found += [int(place) for place in np.repeat(here[np.linspace(0, len(here) - 1, 9).round().astype(int)], 3)]
        return found
    # The believed surface has its optimum off by that factor: another A with the same exponents.
    known = surface_of(truth)
    believed = Surface(known.E, known.A * off ** (known.alpha + known.beta), known.B, known.alpha, known.beta)
    spread = [int(np.flatnonzero(cells.budget == budget)[place]) for budget in BUDGETS[:4] for place in (0, -1)]
    start = [*begun, *spread]
    frame = Frame.about(believed, cells.params[start], cells.tokens[start], COST)
    reference = math.exp(float(np.log(cells.flops[start]).mean()))
    information = Information.of(frame, cells.params[start], cells.tokens[start], noise)
    aims = [Aim.of(goal, frame, reference) for goal in goals]
    chosen, _ = most_telling(information, frame, aims, cells, 150, beyond=True)
    return [*spread, *(cell.cell for cell in chosen)]


def bent(truth: Prior) -> tuple[Callable[[float, float], float], tuple[float, float]]:
    """The loss of the other form, and its b/a and N* at the target."""
    s = surface_of(truth)

    def loss(params: float, tokens: float) -> float:
        model, data = s.A * params**-s.alpha, s.B * tokens**-s.beta
        return float(s.E + (model ** (1 / BENT) + data ** (1 / BENT)) ** BENT)

    # Along C = 6ND the two terms trade as powers, so N* is one too: the additive form's with other prefactors.
    grid = np.exp(np.linspace(math.log(1e8), math.log(1e13), 200_001))
    at_target = [loss(float(size), TARGET / 6 / float(size)) for size in grid]
    return loss, (s.alpha / s.beta, float(grid[int(np.argmin(at_target))]))


def set_up(name: str, width: float, repetitions: int) -> dict[str, Any]:
    """All studies of a surface and a width, over both noises."""
    truth = published(SURFACES[name])
    truths = surface_of(truth).ratio_under_6nd, truth.optimum(TARGET, COST)
    studies: list[Study] = []
    others: dict[str, list[float]] = {"random": [], "cheapest": [], "unfed": []}
    wanted = {}
    for noise in NOISES:
        goals = goals_of(truth, width, noise)
        wanted[str(noise)] = [goal.half_width for goal in goals]
        for seed in range(repetitions // 2):
            question = question_of(truth, goals, OFF[seed % 2], noise, width)
            studies.append(simulated(lambda n, d: float(surface_of(truth).loss(n, d)), question, noise, seed, truths))
        for how, found in others.items():
            found += [without_feedback(truth, width, noise, how, seed) for seed in range(10 if how == "random" else 2)]
    stopped = [study.held for study in studies if study.held is not None]
    return {
        "fraction": float(np.median([study.fraction for study in studies])),
        "fraction_90": float(np.quantile([study.fraction for study in studies], 0.9)),
        "by_noise": [
            float(np.median([study.fraction for study in studies[place * half : (place + 1) * half]]))
            for half in [repetitions // 2]
            for place in range(2)
        ],
        "runs": float(np.median([study.runs for study in studies])),
        "stopped": len(stopped) / len(studies),
        "ended": dict(Counter(f"{study.ended} {study.form}" for study in studies)),
        "coverage_ratio": float(np.mean([held[0] for held in stopped])),
        "coverage_params": float(np.mean([held[1] for held in stopped])),
        "half_widths": wanted,
        **{how: float(np.median(found)) for how, found in others.items()},
    }


def interaction(repetitions: int) -> dict[str, Any]:
    """Studies of another form than the fitted one, asked for what the grid reaches on the fitted one."""
    truth, noise = published(SURFACES["chinchilla"]), NOISES[0]
    loss, truths = bent(truth)
    goals = goals_of(truth, 8.0, noise)
    studies = [
        simulated(loss, question_of(truth, goals, OFF[seed % 2], noise, 8.0), noise, seed, truths)
        for seed in range(repetitions)
    ]
    early = [study for study in studies if study.ended == "stop" and study.form == "surface"]
    return {
        "early": len(early) / len(studies),
        "wrong": sum(study.held is not None and not all(study.held) for study in studies) / len(studies),
        "ended": dict(Counter(f"{study.ended} {study.form}" for study in studies)),
        "fraction": float(np.median([study.fraction for study in studies])),
    }


def replayed(table: pd.DataFrame, half_width: float, cap: float) -> tuple[float, float, str]:
    """A study that sees only the rows that it chooses: error of a, FLOPs over the table's, and how it ended."""
    points = judge(table)
    cells, total = of_table(points.budget, points.flops, points.params, points.tokens), float(points.flops.sum())
    belief = published(SURFACES["chinchilla"])
    goals = (Goal("a", half_width),)
    question = Question(goals, lambda flops: belief.optimum(flops, COST), COST, NOISES[0], cap=cap * total)
    done = conduct(question, cells, lambda cell: float(points.loss[cell.cell]))
    found, whole = (
        fit(each, minimum="akima", bootstrap=100).methods.akima.a for each in (pd.DataFrame(vars(done.finished)), table)
    )
    error = math.nan if found is None or whole is None else found - whole
    return error, done.spent / total, done.end.action


def replay(path: Path) -> dict[str, Any]:
    """All pools, once at the cap and once by their own stop."""
    pools = [pool.reset_index(drop=True) for _, pool in pd.read_csv(path).groupby("exp", sort=False)]
    capped = [replayed(pool, 0.001, 0.2) for pool in pools]
    own = [replayed(pool, 0.07, 1.0) for pool in pools]
    return {
        "pools": len(pools),
        "within_at_cap": sum(abs(error) <= 0.02 for error, _, _ in capped),
        "within_by_own_stop": sum(abs(error) <= 0.02 for error, _, _ in own),
        "cost_by_own_stop": float(np.median([spent for _, spent, _ in own])),
        "ended": dict(Counter(ended for _, _, ended in own)),
        "capped": capped,
        "own": own,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="ten repetitions")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--only", help="soda_x8, soda_x4, chinchilla_x8, chinchilla_x4, interaction or porian")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of public points")
    asked = parser.parse_args()
    repetitions = 10 if asked.quick else asked.repetitions
    began, rows, ratios = time.perf_counter(), {}, {}
    for name in SURFACES:
        for width in (8, 4):
            key = f"{name}_x{width}"
            if asked.only not in (None, key):
                continue
            row = rows[key] = set_up(name, float(width), repetitions)
            ratios[f"flops_fraction_adaptive_{key}"] = row["fraction"]
            ratios[f"coverage_{key}"] = min(row["coverage_ratio"], row["coverage_params"])
            for how in ("random", "cheapest", "unfed"):
                ratios[f"flops_fraction_{how}_{key}"] = row[how]
            if not asked.json:
                print(key, json.dumps(row), flush=True)
    if asked.only in (None, "interaction"):
        rows["interaction"] = interaction(max(repetitions // 4, 5))
        ratios["early_stops_interaction"] = rows["interaction"]["early"]
        if not asked.json:
            print("interaction", json.dumps(rows["interaction"]), flush=True)
    pools = asked.data / "porian" / "isoflops.csv"
    if asked.only in (None, "porian") and pools.is_file():
        rows["porian"] = replay(pools)
        for name in ("within_at_cap", "within_by_own_stop", "cost_by_own_stop"):
            ratios[f"porian_{name}"] = rows["porian"][name]
        if not asked.json:
            print("porian", json.dumps(rows["porian"]), flush=True)
    if asked.json:
        print(json.dumps({"ratios": ratios, "set_ups": rows, "machine": machine("numpy", "scipy")}))
        return
    print(json.dumps(ratios, indent=1))
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
