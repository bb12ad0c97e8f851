"""Before anything runs: `init`, `plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isoflop.cli.counting import counting
from isoflop.cli.options import DirOption, JsonOption, SetOption, StudyArgument, print_json, say
from isoflop.errors import InputError

if TYPE_CHECKING:
    from isoflop.planning.plan import Plan


#: Runs, and dropped cells, that people are shown; more would take longer to draw than to plan, and nobody reads them.
_ROWS = 300


def register(app: typer.Typer) -> None:
    """Add this module's verbs to `app`."""
    app.command(epilog="Example: isoflop init my-study")(init)
    app.command(epilog="Example: isoflop plan grids/demo.yaml --set limits.epochs=2")(plan)


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write study.yaml; its name names the study.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Write a commented study file to start from."""
    from isoflop.store import write_text
    from isoflop.study_template import starter

    path = directory / "study.yaml"
    if path.exists():
        raise InputError(f"init must not overwrite a study, but {path} exists")
    content = starter(directory.resolve().name)
    try:
        write_text(path, content)
    except OSError as error:
        raise InputError(f"DIR must be a folder that can be written, but got {directory}: {error.strerror}") from None
    if as_json:
        print_json({"study": path})
    else:
        say(f"wrote {path}; next: isoflop plan {path}")


def plan(
    study: StudyArgument,
    overrides: SetOption = None,
    directory: DirOption = None,
    no_forecast: Annotated[
        bool, typer.Option("--no-forecast", help="Leave out what the grid is expected to tell.")
    ] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Search for the cheapest grid that tells as much, and print it instead.")
    ] = False,
    gpu_hours: Annotated[
        float | None,
        typer.Option("--gpu-hours", metavar="H", help="With --suggest: the grid that tells most for so many hours."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the runs of a study, what they cost and what they can be expected to tell. Writes nothing.

    A grid that cannot tell is refused, with the shift that would cure it; --no-forecast shows it all the same.
    """
    from isoflop import workflow
    from isoflop.planning.findings import forecasts
    from isoflop.planning.tuned import tuning_findings

    loaded, place = workflow.open_study(study, tuple(overrides or ()), directory)
    planned = workflow.plan(loaded, place.root)
    if gpu_hours is not None and not suggest:
        raise InputError(f"--gpu-hours must be given with --suggest, but got {gpu_hours:g} alone")
    if suggest:
        with counting("grids tried") as progress:
            found = workflow.suggestion(planned, gpu_hours, progress)
        print_json(found.to_json()) if as_json else typer.echo(str(found))
        return
    outlook = [] if no_forecast or loaded.axes else forecasts(planned)
    refused = [finding for _, findings in outlook for finding in findings if finding.severity == "refuse"]
    if refused:
        raise InputError(f"{loaded.name}: {'; '.join(dict.fromkeys(map(str, refused)))}")
    if as_json:
        document = planned.to_json()
        document["findings"] = [finding.to_json() for finding in tuning_findings(planned)]
        if not no_forecast:
            document["forecast"] = [
                {**forecast.to_json(), "findings": [finding.to_json() for finding in findings]}
                for forecast, findings in outlook
            ]
        print_json(document)
        return
    _print_plan(planned)
    for sentence in planned.notes():
        typer.echo(f"- {sentence}")
    for finding in tuning_findings(planned):
        typer.echo(f"! {finding}")
    if not (outlook or no_forecast or loaded.axes):
        typer.echo("- No forecast of what this grid will tell: the study names no prior (grid.prior).")
    for forecast, findings in outlook:
        typer.echo(f"- {forecast}")
        for finding in findings:
            typer.echo(f"! {finding}")


def _print_plan(planned: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    from isoflop.planning.ablation import AblationPlan
    from isoflop.planning.tuned import beyond_tuning

    saved = f", {planned.saved_flops / planned.flops:.0%} of them saved by trunks" if planned.trunks else ""
    table = Table(title=f"{planned.study}: {len(planned.runs)} runs, {planned.flops:.3g} training FLOPs{saved}")
    parts = planned.part_of if isinstance(planned, AblationPlan) else {}
    if parts:
        table.add_column("arm", no_wrap=True)
    for name in ("budget", "FLOPs", "size", "N total", "D tokens", "epochs", "batch", "steps", "rate", "run"):
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    before, untuned = None, beyond_tuning(planned)
    for run in planned.runs[:_ROWS]:
        epochs = planned.epochs(run)
        table.add_row(
            *([parts[run.id].arm.name] if parts else []),
            f"{run.budget:.3g}" if run.budget != before else "",
            f"{run.flops:.4g}",
            run.shape.label,
            f"{run.shape.parameters.total:,}",
            f"{run.tokens:,}",
            "?" if epochs is None else f"{epochs:.3g}",
            f"{run.batch_size}",
            f"{run.steps:,}",
            f"{run.learning_rate:.3g}{'!' if run in untuned else ''}",
            run.id,
            end_section=False,
        )
        before = run.budget
    console = Console(markup=False)
    console.print(table) if console.is_terminal else Console(width=160, markup=False).print(table)
    if len(planned.runs) > _ROWS:
        typer.echo(f"the first {_ROWS} of {len(planned.runs)} runs; --json has them all")
    for cell in planned.dropped[:_ROWS]:
        typer.echo(f"dropped: {cell.budget:.3g} FLOPs, {cell.size}: {cell.reason}")
    if len(planned.dropped) > _ROWS:
        typer.echo(f"the first {_ROWS} of {len(planned.dropped)} dropped cells; --json has them all")
