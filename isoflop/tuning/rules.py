"""From the cells' optima to the recipe's rules: power laws with intervals, and the recipe that has them.

Rates are searched as factors of what the recipe's rule says, so what is fitted is how far that rule is off: a factor,
and exponents of width and tokens where the cells tell them apart. Without enough cells the rule keeps its form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isoflop.errors import NoAnswerError
from isoflop.fitting.intervals import NORMAL, Interval, t_quantile
from isoflop.planning.recipe import Recipe
from isoflop.tuning.cells import Cell
from isoflop.tuning.optimum import Optimum, Status, standard_error

#: Cells that a line needs, and two predictors.
_LINE, _PLANE = 3, 4
#: A misfit that chance gives less often than this is the rule's, not the noise's.
_CHANCE = 0.05
#: Predictors that are correlated more than that cannot be told apart.
_CORRELATED = 0.9


@dataclass(frozen=True)
class Rule:
    """One rule of the recipe, tuned.

    Parameters
    ----------
    name
        ``rate``, ``batch``, ``beta2`` or ``weight_decay``.
    scale
        At the cells' geometric middle: of ``rate`` the factor over the recipe's rule, of ``batch`` tokens a step, else
        the constant itself; with its 95 % interval.
    exponents
        By ``width``, ``tokens``, ``batch`` (rate) or ``flops`` (batch); for a rate beside those that the recipe has,
        so that 0 says that its form holds. Those not told by the cells are left out.
    middle
        Where the scale holds: by the same names.
    cells
        How many stand behind it.
    """

    name: str
    scale: Interval
    exponents: dict[str, Interval]
    middle: dict[str, float]
    cells: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        unit = {"rate": " × the recipe's rule", "batch": " tokens a step"}.get(self.name, "")
        digits = 4 if self.name == "beta2" else 3
        said = [f"{self.name}: {_shown(self.scale, digits)}{unit}"]
        beside = "besides " if self.name == "rate" else ""
        for name, each in self.exponents.items():
            kept = "" if told(self, name) else ", which may be 0 and is left out"
            said.append(f"{beside}∝ {name}^{_shown(each, 2, '+')}{kept}")
        return ", ".join(said) + f" ({self.cells} {'cell' if self.cells == 1 else 'cells'})"


def _shown(each: Interval, digits: int, sign: str = "") -> str:
    form = f"{sign}.{digits}g"
    return f"{each.value:{form}} [{each.low:{form}}, {each.high:{form}}]"


def rules(cells: Sequence[Cell], optima: Mapping[str, Optimum]) -> tuple[Rule, ...]:
    """The rules that the cells with an interior optimum tell.

    Raises
    ------
    NoAnswerError
        If no cell has one; the message says why.
    """
    good = [cell for cell in cells if optima[cell.name].status is Status.INTERIOR]
    if not good:
        whys = "; ".join(f"{cell.name}: {optima[cell.name].status}" for cell in cells)
        raise NoAnswerError(f"a cell must have an optimum within what was tried, but none has: {whys}")
    searched = dict.fromkeys(name for cell in good for name in optima[cell.name].values)
    by_name = {name: [cell for cell in good if name in optima[cell.name].values] for name in searched}
    return tuple(_rule(name, known, optima) for name, known in by_name.items())


def _rule(name: str, cells: Sequence[Cell], optima: Mapping[str, Optimum]) -> Rule:
    found = [optima[cell.name].values[name] for cell in cells]
    errors = np.array([standard_error(each) for each in found])
    if name == "lr":
        y = np.log([each.value for each in found])
        known = {
            "width": [float(cell.base.shape.d_model) for cell in cells],
            "tokens": [float(cell.base.tokens) for cell in cells],
        }
        rule = _fitted("rate", y, errors, known)
        both = [(cell, slope) for cell in cells if (slope := optima[cell.name].rate_by_batch) is not None]
        if both:
            batches = [optima[cell.name].values["batch"].value * cell.base.batch_size for cell, _ in both]
            middle = math.exp(float(np.mean(np.log(batches))))
            rule = Rule(
                rule.name,
                rule.scale,
                {**rule.exponents, "batch": _average([slope for _, slope in both])},
                {**rule.middle, "batch": middle},
                rule.cells,
            )
        return rule
    if name == "batch":
        y = np.log([each.value * cell.base.tokens_per_step for each, cell in zip(found, cells, strict=True)])
        return _fitted("batch", y, errors, {"flops": [cell.base.budget for cell in cells]})
    if name == "beta2":
        y = np.log([each.value for each in found])
        gap = _fitted("beta2", y, errors, {}).scale
        return Rule("beta2", Interval(1 - gap.value, 1 - gap.high, 1 - gap.low), {}, {}, len(cells))
    return _fitted(name, np.log([each.value for each in found]), errors, {})


def _average(slopes: Sequence[Interval]) -> Interval:
    """Mean of slopes of several cells, weighted by what each knows."""
    errors = np.array([(each.high - each.low) / (2 * NORMAL) for each in slopes])
    weights = 1 / errors**2
    mean = float((weights @ [each.value for each in slopes]) / weights.sum())
    half = NORMAL / math.sqrt(float(weights.sum()))
    return Interval(mean, mean - half, mean + half)


def _fitted(name: str, y: Any, errors: Any, known: Mapping[str, Sequence[float]]) -> Rule:
    """Weighted least squares of ln y on the logarithms of those of `known` that the cells tell apart.

    Where the cells scatter by more than their own errors can explain, the errors are widened to that, and the interval
    is Student's.
    """
    from scipy.special import chdtrc

    used = _told_apart(known, len(y))
    logs = {each: np.log(known[each]) for each in used}
    middle = {each: float(np.mean(logs[each])) for each in used}
    design = np.stack([np.ones(len(y)), *(logs[each] - middle[each] for each in used)], axis=1)
    weights = 1 / errors**2
    covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
    solution = covariance @ design.T @ (weights * y)
    freedom = len(y) - design.shape[1]
    misfit = float(weights @ (y - design @ solution) ** 2)
    scattered = freedom > 0 and float(chdtrc(freedom, misfit)) < _CHANCE
    quantile, excess = (t_quantile(freedom), misfit / freedom) if scattered else (NORMAL, 1.0)
    half = quantile * np.sqrt(np.diag(covariance) * excess)
    at, spread = float(solution[0]), float(half[0])
    return Rule(
        name,
        Interval(math.exp(at), math.exp(at - spread), math.exp(at + spread)),
        {
            each: Interval(float(value), float(value - width), float(value + width))
            for each, value, width in zip(used, solution[1:], half[1:], strict=True)
        },
        {each: math.exp(value) for each, value in middle.items()},
        len(y),
    )


def _told_apart(known: Mapping[str, Sequence[float]], count: int) -> list[str]:
    """Predictors that vary, and not as one before them does."""
    varied = [name for name, values in known.items() if count >= _LINE and len(set(values)) >= _LINE]
    if len(varied) < 2:
        return varied
    one, other = (np.log(known[name]) for name in varied)
    apart = abs(float(np.corrcoef(one, other)[0, 1])) < _CORRELATED
    return varied if apart and count >= _PLANE else varied[:1]


def told(rule: Rule, name: str) -> bool:
    """Whether an exponent is told from 0; one that is not is no part of the recipe, which keeps its form."""
    found = rule.exponents.get(name)
    return found is not None and not found.low <= 0 <= found.high


def constants(tuned: Sequence[Rule], recipe: Recipe, cells: Sequence[Cell]) -> dict[str, float | int]:
    """The recipe's constants that say the `tuned` rules, by their names in a study file."""
    found: dict[str, float | int] = {}
    by_name = {rule.name: rule for rule in tuned}
    if "batch" in by_name:
        found |= _batch(by_name["batch"], cells[0].base.shape.sequence_length)
    if "rate" in by_name:
        found |= _rate(by_name["rate"], recipe)
    if "beta2" in by_name:
        found |= {"beta2": by_name["beta2"].scale.value, "beta2_batch": 0.0}
    if "weight_decay" in by_name:
        found["weight_decay"] = by_name["weight_decay"].scale.value
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in found.items()}


def _rate(rule: Rule, recipe: Recipe) -> dict[str, float | int]:
    factor, found = rule.scale.value, dict[str, float | int]()
    for name, before, anchor in (
        ("width", recipe.rate_width_exponent, recipe.rate_width),
        ("tokens", recipe.rate_tokens_exponent, recipe.rate_tokens),
    ):
        if told(rule, name):
            middle = rule.middle[name]
            # The law that the recipe has already is moved to the new anchor; then both are one.
            factor *= math.pow(middle / anchor, before)
            found[f"rate_{name}"] = middle
            found[f"rate_{name}_exponent"] = before + rule.exponents[name].value
    if told(rule, "batch") and not recipe.learning_rate:
        now = min(max(recipe.rate_batch_exponent + rule.exponents["batch"].value, 0.0), 1.0)
        factor *= math.pow(rule.middle["batch"], recipe.rate_batch_exponent - now)
        found["rate_batch_exponent"] = now
    if recipe.learning_rate:
        return {**found, "learning_rate": recipe.learning_rate * factor}
    return {**found, "rate_times_width": recipe.rate_times_width * factor}


def _batch(rule: Rule, length: int) -> dict[str, float | int]:
    tokens = max(1, round(rule.scale.value / length)) * length
    if not told(rule, "flops"):
        return {"tokens_per_step": tokens, "batch_exponent": 0.0}
    exponent = min(max(rule.exponents["flops"].value, 0.0), 1.0)
    return {"tokens_per_step": tokens, "batch_budget": rule.middle["flops"], "batch_exponent": exponent}
