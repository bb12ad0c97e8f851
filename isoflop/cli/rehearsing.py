"""Trying a study before it costs anything: `rehearse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isoflop.cli.options import STOPPED, JsonOption, SetOption, StudyArgument, print_json, say


def register(app: typer.Typer) -> None:
    """Add this module's verb to `app`."""
    app.command(epilog="Example: isoflop rehearse grids/soda-64.yaml --surface soda --fail 0.1")(rehearse)


def rehearse(
    study: StudyArgument,
    surface: Annotated[
        str | None,
        typer.Option(
            "--surface",
            metavar="LAW",
            help="The truth: soda, chinchilla, a published law, or a law.json.  [default: the study's prior, or soda]",
        ),
    ] = None,
    noise: Annotated[
        float | None, typer.Option("--noise", help="Sd of one run's ln loss.  [default: the study's grid.noise]")
    ] = None,
    fail: Annotated[
        float, typer.Option("--fail", metavar="P", help="Probability that an attempt at a run meets a fault.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the noise and the faults.")] = 0,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="What all runs pretend to take together.")
    ] = 5.0,
    overrides: SetOption = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="A directory of its own.  [default: studies/<name>-rehearsal]"),
    ] = None,
    launcher: Annotated[
        Path | None, typer.Option("--launcher", metavar="FILE", help="A launcher profile.  [default: this machine]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Rehearse a whole study on simulated losses of a known law: launch, fit, recommend, and say if it was recovered.

    No model is trained and no torch is needed. Injected faults are crashes, errors, divergences and preemptions in
    equal parts; they are retried as those of real runs are, divergences never.
    """
    from isoflop import rehearsal, workflow
    from isoflop.cli.progress import Display
    from isoflop.launching.profiles import load_profile

    profile = load_profile(launcher)
    loaded, place = workflow.open_study(study, tuple(overrides or ()))
    planned = workflow.plan(loaded, place.root)
    pretended = rehearsal.conditions(
        planned, rehearsal.surface(surface, loaded), noise=noise, fail=fail, seed=seed, seconds=seconds
    )
    own = directory or rehearsal.home(place).root
    try:
        with Display() as display:
            found = rehearsal.rehearse(planned, own, pretended, profile=profile, watcher=display.watcher)
    except KeyboardInterrupt:
        say("stopped; call it again to carry on")
        raise typer.Exit(STOPPED) from None
    for run_id, cause in found.failures.items():
        say(f"failed: {run_id}: {cause}")
    if as_json:
        print_json(found.to_json())
        return
    typer.echo(str(found))
    if found.outcome.recommendation:
        typer.echo(f"\n{found.outcome.recommendation}")
    typer.echo(f"\nreport: {found.outcome.report}")
