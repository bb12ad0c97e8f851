"""Trying a trainer of one's own before a sweep does: `check-trainer`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from isoflop.cli.counting import counting
from isoflop.cli.options import JsonOption, SetOption, StudyArgument, print_json
from isoflop.errors import InputError


def register(app: typer.Typer) -> None:
    """Add this module's verb to `app`."""
    app.command(name="check-trainer", epilog="Example: isoflop check-trainer grids/digits.yaml")(check_trainer)


def check_trainer(
    study: StudyArgument,
    overrides: SetOption = None,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Leave what it wrote, logs too, here.  [default: removed]"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try a study's own trainer on its cheapest run: loss, counts, progress, stopping, and resuming after SIGKILL.

    The run is trained twice by a real worker, without a break and with two; exit code 1 where a check fails.
    """
    from isoflop import workflow
    from isoflop.launching.checking import apart, cheapest, check

    loaded, place = workflow.open_study(study, tuple(overrides or ()))
    if loaded.trainer is None:
        raise InputError(f"a study must name a trainer of its own to be checked, but {study} names none (trainer:)")
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise InputError(f"--keep must name a folder that is new or empty, but got {keep}")
    with tempfile.TemporaryDirectory(prefix="isoflop-check-") as scratch, counting("steps") as progress:
        places = apart(keep or Path(scratch))
        shared = place.corpus
        for each in places:
            workflow.admit(loaded, each)
            if shared.exists():
                each.corpus.symlink_to(shared.resolve(), target_is_directory=True)
            planned = workflow.prepare(loaded, each, workflow.Watcher())
            shared = each.corpus
        found = check(*places, cheapest(planned.runs), progress)
    print_json(found.to_json()) if as_json else typer.echo(str(found))
    if not found.passed:
        raise typer.Exit(1)
