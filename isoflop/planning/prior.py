"""What is believed of a law before the study: where the optimum lies, and how the loss rises away from it.

A prior centres a grid and lets a forecast simulate it. It is a published law by name (`isoflop/data/laws/`), a power
law written in the study file, or a law that an earlier study fitted.

>>> round(published("soda-surface").surface.ratio_under_6nd, 3)
1.558

A surface says all: its minimum at a budget follows from the study's own cost model, because what C buys depends on
how FLOPs are counted. A line says only where the optimum lies; the loss about it is then a surface's, moved in ln N,
or where there is none that of a valley: a parabola in ln N about a curve along C.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml

from isoflop.errors import InputError
from isoflop.fitting.cost import CostModel

if TYPE_CHECKING:
    from isoflop.fitting.law import Law
    from isoflop.fitting.points import Floats
    from isoflop.study_grid import PriorChoice


#: d²ln L/d(ln N)² at an optimum where nothing is known: 0.02 to 0.04 for the published surfaces of text and audio at
#: 1e18 to 1e22 FLOPs. Small models have sharper ones: 0.06 to 0.14 in fits of the demo at 2.4e10 to 4.6e11.
CURVATURE = 0.03
#: An exponent needs this many budgets.
_FEWEST = 2
#: Sizes between which an optimum is searched, and how: a grid that is refined about its best place.
_SIZES = (1e2, 1e15)
_POINTS = 65
_ROUNDS = 7
#: Models with an exponent below this do not grow.
_FLAT = 1e-9
#: Ln of the most parameters or tokens that a line may speak of.
_MOST = math.log(1e24)


@dataclass(frozen=True)
class Surface:
    """L(N, D) = E + A/N^α + B/D^β, in nats per token."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"a surface's {name} must be positive and finite, but got {value}")

    def loss(self, params: Floats | float, tokens: Floats | float) -> Floats:
        """Loss of `params` parameters on `tokens` tokens; shapes broadcast."""
        n, d = np.asarray(params, dtype=float), np.asarray(tokens, dtype=float)
        loss: Floats = self.E + self.A * n**-self.alpha + self.B * d**-self.beta
        return loss

    @property
    def ratio_under_6nd(self) -> float:
        """b/a where C = 6·N·D: α/β."""
        return self.alpha / self.beta


@dataclass(frozen=True)
class Line:
    """The optimum's power law: `quantity` is `value` at `flops` and grows as C^`exponent`."""

    quantity: Literal["params", "tokens"]
    flops: float
    value: float
    exponent: float

    def at(self, flops: float) -> float:
        """The quantity at `flops` training FLOPs; `InputError` where that is none to speak of."""
        size = math.log(self.value) + self.exponent * (math.log(flops) - math.log(self.flops))
        if not 0 <= size <= _MOST:
            raise InputError(
                f"a prior's {self.quantity} must be from 1 to {math.exp(_MOST):.0e} at {flops:.3g} FLOPs, but its line "
                f"puts them at 10^{size / math.log(10):.3g}"
            )
        return math.exp(size)


@dataclass(frozen=True)
class Exponents:
    """N* ∝ C^a, D* ∝ C^b, and b/a, as a prior has them."""

    a: float
    b: float
    ratio: float


@dataclass(frozen=True)
class Valley:
    """The loss about a line: L = L*(C)·exp(`curvature`/2·(ln N − ln N*)²), L* = `floor` + `scale`·C^−`exponent`."""

    floor: float
    scale: float
    exponent: float
    curvature: float

    def loss(self, log_ratio: Floats, flops: float) -> Floats:
        """Loss of models that are ln(N/N*) = `log_ratio` off the optimum of `flops` training FLOPs."""
        best = self.floor + self.scale * math.pow(flops, -self.exponent)
        loss: Floats = best * np.exp(self.curvature / 2 * log_ratio**2)
        return loss


#: The loss about a line of which nothing else is known: relative, 1 at the optimum of every budget.
RELATIVE = Valley(floor=1.0, scale=0.0, exponent=0.0, curvature=CURVATURE)


@dataclass(frozen=True)
class Prior:
    """A law believed in before the study, of which a surface or a line is known, or both.

    Where both are, the line says where the optimum lies.

    Parameters
    ----------
    name, source
        As people know it, and where it comes from.
    surface, line
        See the module.
    valley
        The loss about the line where there is no surface.
    counts
        How the line's C is counted; None: as the study counts.
    """

    name: str
    source: str
    surface: Surface | None = None
    line: Line | None = None
    valley: Valley = RELATIVE
    counts: Literal["6nd", "counted"] | None = None

    def __post_init__(self) -> None:
        if self.surface is None and self.line is None:
            raise InputError(f"a prior must have a surface or a line, but {self.name!r} has neither")

    def optimum(self, flops: float, cost: CostModel) -> float:
        """N*(C): the size of least loss among those that cost `flops` under `cost`."""
        if self.line is None:
            assert self.surface is not None  # noqa: S101 - held by __post_init__
            return _minimum(self.surface, flops, cost)
        if self.line.quantity == "params":
            return self.line.at(flops)
        return _size_that_costs(flops, self.line.at(flops), cost)

    def notes(self, cost: CostModel) -> list[str]:
        """What a reader of a plan whose C is `cost` should know."""
        said = []
        own = "6nd" if cost.form == "6nd" else "counted"
        if self.line is not None and self.counts not in (None, own):
            # On SODA's surface 8 to 10 %.
            said.append(
                f"{self.name} counts C by another convention, {self.counts}, than this grid, {own}: its N* is taken at "
                "the same C, which may be a tenth off."
            )
        if self.surface is None and self.valley == RELATIVE:
            said.append(
                f"How fast the loss rises away from N* is assumed: d²ln L/d(ln N)² = {CURVATURE:g} "
                "(grid.prior.curvature)."
            )
        return said

    def exponents(self, budgets: Floats, cost: CostModel) -> Exponents:
        """a, b and b/a of the optimum's line through `budgets`, training FLOPs, shape (n,); NaN of a single one."""
        if len(budgets) < _FEWEST:
            return Exponents(math.nan, math.nan, math.nan)
        params = np.array([self.optimum(float(flops), cost) for flops in budgets])
        a, b = (_slope(np.log(budgets), np.log(each)) for each in (params, cost.tokens(params, budgets)))
        return Exponents(a, b, growth(a, b))

    def loss(self, params: Floats, flops: float, cost: CostModel) -> Floats:
        """Loss of models of `params` parameters, each trained for `flops` training FLOPs under `cost`; (n,) → (n,).

        Without a surface it is the valley's.
        """
        sizes = np.asarray(params, dtype=float)
        if self.surface is None:
            return self.valley.loss(np.log(sizes / self.optimum(flops, cost)), flops)
        if self.line is not None:
            sizes = sizes * (_minimum(self.surface, flops, cost) / self.optimum(flops, cost))
        return self.surface.loss(sizes, cost.tokens(sizes, np.full_like(sizes, flops)))


def growth(a: float, b: float) -> float:
    """b/a; infinite of models that do not grow."""
    return b / a if a > _FLAT else math.inf


def _slope(x: Floats, y: Floats) -> float:
    return float(np.polyfit(x - x.mean(), y, 1)[0])


def _minimum(surface: Surface, flops: float, cost: CostModel) -> float:
    low, high = map(math.log, _SIZES)
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _POINTS)
        sizes = np.exp(grid)
        best = int(np.argmin(surface.loss(sizes, cost.tokens(sizes, np.full_like(sizes, flops)))))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, _POINTS - 1)]
    return math.exp((low + high) / 2)


def _size_that_costs(flops: float, tokens: float, cost: CostModel) -> float:
    low, high = map(math.log, _SIZES)
    for _ in range(60):
        middle = (low + high) / 2
        if cost.flops(math.exp(middle), tokens) > flops:
            high = middle
        else:
            low = middle
    return math.exp((low + high) / 2)


def names() -> list[str]:
    """Names of the published laws, sorted."""
    return sorted(path.name.removesuffix(".yaml") for path in _laws().iterdir() if path.name.endswith(".yaml"))


@cache
def record(name: str) -> dict[str, Any]:
    """What the file of that published law says; `InputError` names the nearest known one."""
    if name not in names():
        nearest = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)
        raise InputError(f"a law by name must be a published law, but got {name!r}; did you mean {nearest[0]!r}?")
    content: dict[str, Any] = yaml.safe_load(_laws().joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    return content


@cache
def published(name: str) -> Prior:
    """The published law of that name; `InputError` names the nearest known one."""
    content = record(name)
    surface, line = content.get("surface"), content.get("line")
    shape = published(content["profile"]).surface if "profile" in content else None
    return Prior(
        name=name,
        source=content["source"],
        surface=shape if surface is None else Surface(**{key: float(value) for key, value in surface.items()}),
        line=None
        if line is None
        else Line(line["quantity"], float(line["flops"]), float(line["value"]), float(line["exponent"])),
    )


def _laws() -> Any:
    return files("isoflop") / "data" / "laws"


def from_law(law: Law, name: str) -> Prior:
    """A fitted law as a prior: its surface where that leads, else its N* and the loss along and about its minima.

    Raises
    ------
    InputError
        If the law's N is not the total: centring would then compare different sizes.
    """
    if law.provenance.params_convention != "total":
        raise InputError(
            f"a prior's N must be total parameters, but the law {name} counts {law.provenance.params_convention}"
        )
    params, curve, origin = law.power_laws.params, law.loss_curve, law.provenance
    points = f"{'simulated ' if origin.simulated else ''}points {origin.points_digest}"
    source = f"fitted by isoflop {origin.isoflop} to {points}"
    if law.method == "parametric" and law.parametric is not None:
        return Prior(name=name, source=source, surface=Surface(*law.parametric.values))
    curvatures = [2 * minimum.curvature for minimum in law.interior if minimum.curvature is not None]
    return Prior(
        name=name,
        source=source,
        line=Line("params", params.reference, params.scale, params.exponent.value),
        valley=Valley(
            floor=curve.floor,
            scale=curve.scale * math.pow(curve.reference, curve.exponent),
            exponent=curve.exponent,
            curvature=median(curvatures) if curvatures else CURVATURE,
        ),
        counts=law.provenance.flops_convention,
    )


def chosen(choice: PriorChoice | None, law: Law | None = None) -> Prior | None:
    """The prior that a study file names; `law` is what it refers to by a path, read by the caller.

    Raises
    ------
    InputError
        If the published law is unknown, or the choice is a law that was not read.
    """
    if choice is None:
        return None
    if choice.published is not None:
        return published(choice.published)
    if choice.law is not None:
        if law is None:
            raise InputError(f"grid.prior.law must be read before the grid is planned, but got only {choice.law}")
        return from_law(law, choice.law.name)
    assert choice.params is not None  # noqa: S101 - held by PriorChoice
    assert choice.budget is not None  # noqa: S101 - held by PriorChoice
    line = Line("params", choice.budget, choice.params, choice.exponent)
    valley = RELATIVE if choice.curvature is None else replace(RELATIVE, curvature=choice.curvature)
    return Prior("the study's own prior", "the study file", line=line, valley=valley)
