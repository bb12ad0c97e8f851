"""The arms of a study with axes: the study that each combination of their values makes of it.

Every arm is a study of its own without axes, planned on the same budgets, sizes and seeds. Arms on the same corpus are
validated on the same held-out tokens, whatever they train on.

>>> study = Study.parse({
...     "name": "x", "grid": {"budgets": [1e9], "sizes": [8]},
...     "axes": {"decay": {"key": "recipe.weight_decay", "values": [0, 0.1]}},
... })
>>> [arm.name for arm in arms(study)]
['decay=0', 'decay=0.1']
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from isoflop.errors import InputError
from isoflop.study import Study, place_value

#: Arms of one study: beyond, somebody crossed more axes than was meant.
_MOST_ARMS = 1000


@dataclass(frozen=True)
class Arm:
    """One combination of the axes' values.

    Parameters
    ----------
    levels
        The label of each axis's value, by the axis's name.
    study
        The study with these values, and without axes.
    """

    levels: dict[str, str]
    study: Study

    @property
    def name(self) -> str:
        """``text_share=0.05, order=text-first``."""
        return arm_name(self.levels)


def arm_name(levels: dict[str, str]) -> str:
    """An arm as people read it."""
    return ", ".join(f"{axis}={label}" for axis, label in levels.items())


def baselines(study: Study) -> dict[str, str]:
    """The label of each axis's baseline: the one that is named, else the study's own value, else the first."""
    plain = _plain(study)
    found = {}
    for name, axis in study.axes.items():
        own = axis.label_of(_value_at(plain, axis.key))
        found[name] = axis.baseline or own or next(iter(axis.values))
    return found


def arms(study: Study) -> tuple[Arm, ...]:
    """Every arm of `study`, in the order of its axes and their values; none where it has no axes.

    Raises
    ------
    InputError
        If a key is unknown, a value breaks a rule, or there are more than a thousand; the message names the arm.
    """
    if not study.axes:
        return ()
    plain = _plain(study)
    chosen = list(_combinations(study))
    if len(chosen) > _MOST_ARMS:
        raise InputError(f"axes must make at most {_MOST_ARMS} arms, but these make {len(chosen)} (arms: one_by_one)")
    return tuple(Arm(levels, _with(study, plain, levels)) for levels in chosen)


def studies(study: Study) -> tuple[Study, ...]:
    """Those of all arms; `study` itself where it has no axes."""
    return tuple(arm.study for arm in arms(study)) or (study,)


def refuse_axes(study: Study, what: str) -> None:
    """Raise `InputError` for a study with axes: `what` is about exponents, which arms at one place do not tell."""
    if study.axes:
        raise InputError(
            f"{what} must be of a study without axes, but {study.name} varies {', '.join(study.axes)}: it compares "
            "arms and fits no law (isoflop run, fit and report show the comparison)"
        )


def _combinations(study: Study) -> Iterator[dict[str, str]]:
    names = list(study.axes)
    if study.arms == "crossed":
        for labels in product(*(axis.values for axis in study.axes.values())):
            yield dict(zip(names, labels, strict=True))
        return
    base = baselines(study)
    yield base
    for name in names:
        yield from ({**base, name: label} for label in study.axes[name].values if label != base[name])


def _with(study: Study, plain: dict[str, Any], levels: dict[str, str]) -> Study:
    content = copy.deepcopy(plain)
    for name, label in levels.items():
        axis = study.axes[name]
        place_value(content, axis.key.split("."), copy.deepcopy(axis.values[label]), f"the key of axes.{name}")
    data = content.get("data")
    if isinstance(data, dict) and data.get("corpus") is not None:
        data.setdefault("held_out", "corpus")
    made = Study.parse(content, source=f"axes: {arm_name(levels)}")
    # How many sizes there are is for profiles, which arms have not.
    return made.model_copy(update={"grid": made.grid.model_copy(update={"min_cells": 1})})


def _plain(study: Study) -> dict[str, Any]:
    """The study as plain values, without its axes."""
    return study.model_dump(mode="json", exclude_none=True, exclude={"axes", "arms"})


def _value_at(plain: dict[str, Any], key: str) -> Any:
    value: Any = plain
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
