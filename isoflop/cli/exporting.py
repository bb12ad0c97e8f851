"""Taking a model out of a study: `export`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from isoflop.cli.options import (
    DirOption,
    JsonOption,
    StudyArgument,
    print_json,
    require_place,
    run_named,
    say,
    study_directory,
)
from isoflop.errors import MissingExtraError


def register(app: typer.Typer) -> None:
    """Add this module's verb to `app`."""
    app.command(epilog="Example: isoflop export studies/speech d512-l15 --out speech-135m")(export)


def export(
    study: StudyArgument,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or how it begins.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write, without a model in it.")],
    directory: DirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's weights as a Hugging Face model: config.json and model.safetensors (Qwen3ForCausalLM).

    Of a finished run they are kept where the study says so (training.keep_weights).
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", "train")
    from isoflop.training import exporting

    require_place(out, "--out", directory=True)
    place = study_directory(study, directory)
    run_id = run_named(place, run)
    checkpoint = exporting.export(place, run_id, out)
    planned = place.load_run(run_id)
    params = planned.shape.parameters.total
    if as_json:
        print_json({"run": run_id, "step": checkpoint.step, "steps": planned.steps, "params": params, "directory": out})
        return
    say(f"wrote {out}: {run_id} after {checkpoint.step:,} of {planned.steps:,} steps, {params:,} parameters")
