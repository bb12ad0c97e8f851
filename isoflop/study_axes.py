"""The axes section of a study file: what is varied, one thing or several, while budgets and sizes stay.

::

    axes:
      text_share: {key: data.text_share, values: [0, 0.05, 0.1, 0.25, 0.5]}
      order: {key: data.corpus, values: {text-first: corpora/ta, audio-first: corpora/at}, baseline: text-first}

A value is what ``--set KEY=VALUE`` would take. Each has a label: its own text, or the one that stands before it. What a
combination of values makes of a study is `isoflop.arms`' business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from isoflop.settings import Section, with_powers
from isoflop.study_recipe import from_file

#: Sections whose keys may vary. The others say where arms are compared (grid), which of them fit there (limits), or
#: change no run.
_SECTIONS = ("data", "model", "recipe", "training", "trainer.options")
#: Keys of these that may not, and why.
_FIXED = {
    "training.seed": "seeds are replicates of every arm: grid.seeds",
    "training.validation_tokens": "arms are compared on the same held-out tokens",
    "data.held_out": "arms are compared on the same held-out tokens",
    "recipe.ladder": "sizes are the same in every arm",
    "recipe.published_ladder": "sizes are the same in every arm",
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_LONGEST = 48


class Axis(Section):
    """One thing that varies: its key, and its values by label."""

    key: str = Field(
        description="what varies: a key of data, model, recipe, training or trainer.options, as --set names it"
    )
    values: dict[str, Any] = Field(description="what it takes: a list, or a section with a label before each value")
    baseline: str | None = Field(
        None, description="label of the value that others are held against; default: the study's own, else the first"
    )

    @field_validator("key")
    @classmethod
    def _may_vary(cls, key: str) -> str:
        if not all(key.split(".")) or not any(_within(key, section) for section in _SECTIONS):
            raise ValueError(f"must be a key of {', '.join(_SECTIONS)}, as data.text_share is, but got {key!r}")
        fixed = next((each for each in _FIXED if _within(key, each)), None)
        if fixed is not None:
            raise ValueError(f"must be a key that may vary, but got {key!r} ({_FIXED[fixed]})")
        return key

    @field_validator("values", mode="before")
    @classmethod
    def _by_label(cls, values: Any, info: ValidationInfo) -> Any:
        if isinstance(values, Mapping):
            pairs = [(_label(label), _read(value)) for label, value in values.items()]
        elif isinstance(values, list | tuple):
            pairs = [(_label(_short(read, info)), read) for read in map(_read, values)]
        else:
            raise ValueError(f"must be a list, or a section with labels, but got {values!r}")
        _refuse_same([value for _, value in pairs], "values")
        _refuse_same([label for label, _ in pairs], "labels (write them before the values: {LABEL: VALUE})")
        if len(pairs) < 2:
            raise ValueError(f"must have two or more, but got {len(pairs)}")
        return dict(pairs)

    @field_validator("baseline", mode="before")
    @classmethod
    def _as_label(cls, baseline: Any, info: ValidationInfo) -> Any:
        return None if baseline is None else _label(_short(_read(baseline), info))

    @model_validator(mode="after")
    def _baseline_is_one(self) -> Self:
        if self.baseline is not None and self.baseline not in self.values:
            raise ValueError(f"baseline must be one of {', '.join(self.values)}, but got {self.baseline!r}")
        return self

    @model_validator(mode="after")
    def _nothing_fixed_within(self) -> Self:
        for fixed, why in _FIXED.items():
            section, _, name = fixed.rpartition(".")
            if section == self.key and any(isinstance(value, dict) and name in value for value in self.values.values()):
                raise ValueError(f"must have values without {fixed}, but got one with it ({why})")
        return self

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """The values where all are numbers, else None."""
        given = list(self.values.values())
        plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
        return tuple(map(float, given)) if plain else None

    def label_of(self, value: Any) -> str | None:
        """The label of the value that equals `value`; None where none does."""
        return next((label for label, own in self.values.items() if _same(own, value)), None)


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def axis_name(name: str) -> str:
    """`name`, if it can name a column of tables; else a `ValueError`."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"names must be letters, digits and '_', 32 at most, a letter first, but got {name!r}")
    return name


def resolve_axes(content: dict[str, Any], folder: Path) -> None:
    """Let the paths in the axes of a study file, as plain values, start at its `folder`; recipe files are read."""
    axes = content.get("axes")
    for axis in axes.values() if isinstance(axes, dict) else ():
        if isinstance(axis, dict):
            key, values = axis.get("key"), axis.get("values")
            if isinstance(values, dict):
                axis["values"] = {label: _found(key, value, folder) for label, value in values.items()}
            elif isinstance(values, list):
                axis["values"] = [_found(key, value, folder) for value in values]


def _found(key: Any, value: Any, folder: Path) -> Any:
    if key == "data.corpus" and isinstance(value, str):
        return str((folder / value).resolve())
    if key == "data" and isinstance(value, dict) and isinstance(value.get("corpus"), str):
        return {**value, "corpus": str((folder / value["corpus"]).resolve())}
    return from_file(value, folder) if key == "recipe" else value


def _read(value: Any) -> Any:
    if value is None:
        raise ValueError("must be numbers, text, true, false, lists or sections, but got null")
    return with_powers(value)


def _short(value: Any, info: ValidationInfo) -> Any:
    """A path by its name."""
    return Path(value).name if info.data.get("key") == "data.corpus" and isinstance(value, str) else value


def _label(value: Any) -> str:
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int | float):
        text = f"{value:g}"
    elif isinstance(value, str):
        text = value
    else:
        text = json.dumps(value, default=str).replace('"', "")
    if not text.strip() or len(text) > _LONGEST or not text.isprintable():
        raise ValueError(
            f"must have labels of 1 to {_LONGEST} printable characters (write them before the values: "
            f"{{LABEL: VALUE}}), but got {text!r}"
        )
    return text


def _refuse_same(values: list[Any], what: str) -> None:
    for number, value in enumerate(values):
        if any(_same(value, other) for other in values[:number]):
            raise ValueError(f"must have distinct {what}, but got {value!r} twice")


def _same(one: Any, other: Any) -> bool:
    # True is 1 to Python.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
