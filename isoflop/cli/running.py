"""Running a study and watching it: `run`, `status`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isoflop.cli.options import DirOption, JsonOption, SetOption, StudyArgument, print_json, say

if TYPE_CHECKING:
    from isoflop.workflow import Outcome

#: What shells expect of a command that Ctrl-C ended.
STOPPED = 130


def register(app: typer.Typer) -> None:
    """Add this module's verbs to `app`."""
    app.command(epilog="Example: isoflop run grids/demo.yaml --launcher launchers/local.yaml")(run)
    app.command(epilog="Example: isoflop status studies/demo")(status)


def run(
    study: StudyArgument,
    overrides: SetOption = None,
    directory: DirOption = None,
    launcher: Annotated[
        Path | None, typer.Option("--launcher", metavar="FILE", help="A launcher profile.  [default: this machine]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole study: plan, make the corpus, train, fit, recommend, report. Called again, it carries on."""
    from isoflop import workflow
    from isoflop.cli.progress import Display
    from isoflop.launching.base import LocalProfile

    profile = LocalProfile.load(launcher)
    loaded, place = workflow.open_study(study, tuple(overrides or ()), directory)
    try:
        with Display() as display:
            outcome = workflow.run(loaded, place.root, profile, display.watcher)
    except KeyboardInterrupt:
        say("stopped; call it again to carry on")
        raise typer.Exit(STOPPED) from None
    for run_id, cause in workflow.failures(place).items():
        say(f"failed: {run_id}: {cause}")
    if as_json:
        print_json(_document(outcome))
        return
    typer.echo(str(outcome.law) if outcome.law else f"no law: {outcome.reason}")
    if outcome.recommendation:
        typer.echo(f"\n{outcome.recommendation}")
    typer.echo(f"\nreport: {outcome.report}")


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "directory": outcome.directory,
        "runs": dict(Counter(outcome.points["state"])),
        "failed": outcome.failed,
        "law": outcome.law.to_json() if outcome.law else None,
        "reason": outcome.reason,
        "recommendation": outcome.recommendation.to_json() if outcome.recommendation else None,
        "report": outcome.report,
    }


def status(study: StudyArgument, directory: DirOption = None, as_json: JsonOption = False) -> None:
    """Show every run of a study with its state."""
    from rich.console import Console
    from rich.table import Table

    from isoflop import workflow

    loaded, place = workflow.open_study(study, (), directory)
    rows = workflow.status(place.root)
    states = dict(Counter(row["state"] for row in rows))
    if as_json:
        print_json(
            {
                "study": loaded.name,
                "simulated": place.rehearsed,
                "directory": place.root,
                "states": states,
                "runs": rows,
            }
        )
        return
    name = f"{loaded.name} (simulated)" if place.rehearsed else loaded.name
    table = Table(title=f"{name}: " + ", ".join(f"{count} {state}" for state, count in states.items()))
    for name in ("run", "state", "budget", "N total", "D tokens", "step", "loss", "cause"):
        table.add_column(name, justify="left" if name in {"run", "state", "cause"} else "right")
    for row in rows:
        loss = row["loss"]
        table.add_row(
            row["run"],
            row["state"] if row["in_grid"] else f"{row['state']}, not in the grid",
            f"{row['budget']:.3g}",
            f"{row['params']:,}",
            f"{row['tokens']:,}",
            f"{row['step']:,}/{row['steps']:,}",
            f"{loss:.4f}" if loss == loss else "",
            row["cause"] or "",
        )
    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)
