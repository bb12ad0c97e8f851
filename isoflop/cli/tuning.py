"""Tuning a study's recipe: `tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isoflop.cli.options import STOPPED, DirOption, JsonOption, SetOption, StudyArgument, print_json, say

if TYPE_CHECKING:
    from isoflop.tuning.result import Tuning


def register(app: typer.Typer) -> None:
    """Add this module's verb to `app`."""
    app.command(epilog="Example: isoflop tune grids/demo.yaml --over lr --trials 8 --seeds 2")(tune)


def tune(
    study: StudyArgument,
    over: Annotated[
        str,
        typer.Option(
            "--over",
            metavar="NAME[=LOW:HIGH],…",
            help="What to search: lr and batch (factors of the recipe's), beta2, weight_decay.",
        ),
    ] = "lr",
    cells: Annotated[
        list[str] | None,
        typer.Option(
            "--cells",
            metavar="BUDGET:SIZE",
            help="Where; may be given again.  [default: the middle sizes of the three cheapest budgets]",
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="Choices at each cell.  [default: 8 of lr alone, more of more]")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each trial.")] = 2,
    seed: Annotated[int, typer.Option("--seed", help="Of the choices.")] = 0,
    overrides: SetOption = None,
    directory: DirOption = None,
    launcher: Annotated[
        Path | None, typer.Option("--launcher", metavar="FILE", help="A launcher profile.  [default: this machine]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tune the recipe at a few small cells and write the recipe that follows. Called again, it carries on.

    Trials are runs in STUDY/tuning, apart from the study's. The rules come with intervals; recipe: {file: …} in a study
    file uses them, and isoflop plan then marks the cells beyond what was tuned.
    """
    from isoflop import workflow
    from isoflop.claims import hold
    from isoflop.cli.progress import Display
    from isoflop.launching.profiles import load_profile
    from isoflop.tuning import tune as search_at
    from isoflop.tuning import tuner
    from isoflop.tuning.cells import chosen
    from isoflop.tuning.result import recipe_file
    from isoflop.tuning.search import Search
    from isoflop.tuning.space import parsed

    profile = load_profile(launcher)
    dimensions = parsed(over)
    loaded, place = workflow.open_study(study, tuple(overrides or ()), directory)
    places = chosen(workflow.plan(loaded, place.root), cells or ())
    search = Search(
        dimensions,
        Search.usual_trials(dimensions) if trials is None else trials,
        seeds,
        seed,
        tuner.together(profile, len(places), seeds),
    )
    workflow.admit(loaded, place)
    try:
        with Display() as display:
            if not place.rehearsed and loaded.data.external is None:
                with hold(place.root, patience=60.0):
                    workflow.make_corpus(loaded, place, display.watcher, verify=False)
            places = chosen(workflow.plan(loaded, place.root), cells or ())
            tuned = search_at(place, places, search, profile, tuner.Watcher(display.begun, display.event))
    except KeyboardInterrupt:
        say("stopped; call it again to carry on")
        raise typer.Exit(STOPPED) from None
    written = recipe_file(tuner.home(place))
    if as_json:
        print_json({**tuned.to_json(), "file": written if tuned.recipe else None})
        return
    _print_trials(tuned)
    typer.echo(str(tuned))
    if tuned.recipe:
        typer.echo(f"\nrecipe: {written}  (in a study file: recipe: {{file: {written}}})")


def _print_trials(tuned: Tuning) -> None:
    from rich.console import Console
    from rich.table import Table

    dimensions = tuned.search.dimensions
    table = Table(title=f"{tuned.study}: trials")
    for name in ("cell", "trial", *(each.name for each in dimensions), "peak rate", "loss", "state"):
        table.add_column(name, justify="right", no_wrap=name != "state")
    for record in tuned.to_json()["trials"]:
        losses = record["losses"]
        spread = f" ± {(max(losses) - min(losses)) / 2:.3f}" if len(losses) > 1 else ""
        table.add_row(
            record["cell"],
            f"{record['number']}",
            *(each.shown(record["values"][each.name]) for each in dimensions),
            "" if record["learning_rate"] is None else f"{record['learning_rate']:.3g}",
            f"{sum(losses) / len(losses):.4f}{spread}" if losses else "",
            f"{record['state']}: {record['reason']}" if record["reason"] else record["state"],
        )
    console = Console(markup=False)
    console.print(table) if console.is_terminal else Console(width=160, markup=False).print(table)
