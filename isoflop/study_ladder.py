"""A ladder from outside the study file: a CSV beside it, or a function that returns the rows.

``recipe.ladder`` may be ``sizes.csv`` or ``package.module:function``. Either becomes rows when the study is loaded, so
what is planned, and what stands in the study directory, is always a table. The function is called in a process of its
own, from the study file's folder and PYTHONPATH: whatever it imports stays out of this one.

    python -m isoflop.study_ladder FOLDER PACKAGE.MODULE:FUNCTION      prints the rows as JSON
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from isoflop.errors import InputError
from isoflop.study_trainer import validated_target

#: A CSV's columns of that beginning are the size's options.
_OPTION = "options."
#: Seconds that a ladder's function may take: it may import torch, it does not train.
_PATIENCE = 300


def resolve_ladder(content: dict[str, Any], folder: Path) -> None:
    """Replace the name of a ladder in a study file's `content` by its rows.

    Raises
    ------
    InputError
        If the file cannot be read, or the function cannot be called or returns no rows.
    """
    recipe = content.get("recipe")
    named = recipe.get("ladder") if isinstance(recipe, dict) else None
    if isinstance(recipe, dict) and isinstance(named, str):
        content["recipe"] = {
            **recipe,
            "ladder": _read(folder / named) if named.endswith(".csv") else _call(named, folder),
        }


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"recipe.ladder must be a CSV of sizes, but got {path}: {error}") from None
    if not rows:
        raise InputError(f"recipe.ladder must have sizes, but {path} has none")
    return [_row(row, path) for row in rows]


def _row(row: dict[str | None, Any], path: Path) -> dict[str, Any]:
    if None in row or None in row.values():
        raise InputError(f"rows of {path} must be as long as its header, but got {list(row.values())}")
    given = {str(name).strip(): str(value).strip() for name, value in row.items() if str(value).strip()}
    options = {name.removeprefix(_OPTION): _number(value) for name, value in given.items() if name.startswith(_OPTION)}
    plain: dict[str, Any] = {name: value for name, value in given.items() if not name.startswith(_OPTION)}
    return {**plain, "options": options} if options else plain


def _number(text: str) -> bool | int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.lower() == "true" if text.lower() in {"true", "false"} else text


def _call(named: str, folder: Path) -> Any:
    try:
        target = validated_target(named)
    except ValueError:
        raise InputError(
            f"recipe.ladder must be rows, a .csv file or package.module:function, but got {named!r}"
        ) from None
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "isoflop.study_ladder", str(folder.resolve()), target],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"recipe.ladder must be told within {_PATIENCE} s, but {target} took longer") from None
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise InputError(f"recipe.ladder must be a function that returns rows, but {target}: {why[0]}")
    return json.loads(done.stdout)


def load_target(target: str, folder: Path | None) -> Any:
    """What ``package.module:function`` names, looked for in `folder` first.

    Raises
    ------
    InputError
        If the module cannot be imported, or has no such callable.
    """
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    module, _, name = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise InputError(
            f"{target} must be importable (from {folder} and PYTHONPATH), but got {type(error).__name__}: {error}"
        ) from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise InputError(f"{target} must name a function, but got {type(found).__name__} in {module}")
    return found


def main(folder: str, target: str) -> None:
    """Print what the function returns as JSON; what it prints itself goes to standard error."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        rows = load_target(target, Path(folder))()
        if not isinstance(rows, list | tuple) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{target} must return a list of rows, but got {type(rows).__name__}")
        text = json.dumps(list(rows))
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
    output.write(text)
    output.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
