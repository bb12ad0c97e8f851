"""A commented study file, written from the models: every key with its meaning, unit and default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from isoflop.study import Study
from isoflop.study_data import Data
from isoflop.study_grid import Grid, PriorChoice

#: FLOPs are written as 2.5e10, fractions and rates as they are.
_SCIENTIFIC_FROM = 1e6


def starter(name: str) -> str:
    """A study to start from: small models on the embedded corpus. `InputError` unless `name` is a plain name."""
    grid = Grid(
        budgets=(2.4e10, 5e10, 1.05e11, 2.2e11, 4.6e11),
        sizes=(8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96),
        runs_per_budget=6,
        prior=PriorChoice(budget=1.05e11, params=2.8e4, exponent=0.58, curvature=0.09),
        noise=0.01,
    )
    return commented(Study.parse({"name": name, "grid": grid.model_dump()}))


def commented(study: Study) -> str:
    """`study` as YAML that loads back equal, with a comment on every key; keys at None stand commented out."""
    heading = f"# {_first_line(Study)}\n# Plan it: isoflop plan FILE    Run it, and carry on: isoflop run FILE\n\n"
    return heading + "\n".join(_lines(study, indent="")) + "\n"


def _lines(section: BaseModel, indent: str) -> list[str]:
    lines: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Data) and value.embedded:
            value = "embedded"
        comment = f"{indent}# {field.description}"
        if isinstance(value, BaseModel):
            lines += ["", comment] if not indent else [comment]
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        elif value is None:
            lines += [*([] if indent else [""]), comment, f"{indent}# {name}:"]
        else:
            lines += [comment, f"{indent}{name}: {_scalar(value)}"]
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields if name in value.model_fields_set}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_scalar(item)}" for name, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value >= _SCIENTIFIC_FROM:
        mantissa, exponent = f"{value:.12e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, int | Path):
        return str(value)
    # A name like 1.5 or null is text, and must be read back as such.
    return value if yaml.safe_load(value) == value else json.dumps(value)


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]
