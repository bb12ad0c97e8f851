"""The public surface is frozen by golden files: names, verbs and flags.

After a deliberate change: `.venv/bin/python tests/test_public.py` rewrites them; the commit says why.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer.main

import isoflop
from isoflop.cli import app

GOLDEN = Path(__file__).parent / "golden"


def surface(command: Any) -> Any:
    """Verbs, each with its parameters and flags, as plain values."""
    if hasattr(command, "commands"):
        return {name: surface(inner) for name, inner in sorted(command.commands.items())}
    return sorted("/".join(parameter.opts) for parameter in command.params)


def current() -> dict[str, Any]:
    return {
        "names.json": sorted(isoflop.__all__),
        "cli.json": surface(typer.main.get_command(app)),
    }


def test_names_verbs_and_flags_are_the_frozen_ones():
    for name, value in current().items():
        assert json.loads((GOLDEN / name).read_text()) == value, f"{name} changed: see this module's docstring"


def test_every_public_name_resolves_and_is_documented():
    for name in isoflop.__all__:
        value = getattr(isoflop, name)
        assert isinstance(value, str) or value.__doc__


def test_the_version_is_told():
    done = subprocess.run([sys.executable, "-m", "isoflop", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == isoflop.__version__


def test_every_verb_has_an_example_and_json():
    for group in (app, *(group.typer_instance for group in app.registered_groups)):
        for command in group.registered_commands:
            assert command.epilog is not None
            assert command.epilog.startswith("Example: isoflop ")
    for verb, flags in current()["cli.json"].items():
        for inner in flags.values() if isinstance(flags, dict) else [flags]:
            assert "--json" in inner, verb


if __name__ == "__main__":
    for file, content in current().items():
        (GOLDEN / file).write_text(json.dumps(content, indent=1) + "\n")
