"""A study's own uncertainty: `audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isoflop.cli.options import STOPPED, DirOption, JsonOption, StudyArgument, print_json, say
from isoflop.errors import InputError


def register(app: typer.Typer) -> None:
    """Add this module's verb to `app`."""
    app.command(epilog="Example: isoflop audit studies/demo --plan")(audit)


def audit(
    study: StudyArgument,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be run and what that costs.")] = False,
    batch: Annotated[float, typer.Option("--batch", metavar="FACTOR", help="The other batch over the study's.")] = 2.0,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="K", help="Seeds of every variation: more of them hide less.")
    ] = 1,
    flops: Annotated[
        float | None,
        typer.Option("--flops", metavar="C", help="Ask for N* at so many FLOPs.  [default: ten times the largest]"),
    ] = None,
    directory: DirOption = None,
    launcher: Annotated[
        Path | None, typer.Option("--launcher", metavar="FILE", help="A launcher profile.  [default: this machine]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a study's minima again with other rates, batch and seed, and say how far its law would move.

    Each minimum and its neighbours are run at half and at twice the rate, with another batch and with another seed, in
    STUDY/audit, apart from the study's runs; the law is refitted with each, and under every convention of N and C.
    Called again, it carries on.
    """
    from isoflop import auditing, workflow
    from isoflop.cli.progress import Display
    from isoflop.launching.profiles import load_profile
    from isoflop.launching.states import failures

    profile = load_profile(launcher)
    loaded, place = workflow.open_study(study, (), directory)
    if flops is not None and not flops > 0:
        raise InputError(f"--flops must be training FLOPs above 0, but got {flops:g}")
    prepared = auditing.prepare(loaded, place, batch, seeds)
    if plan:
        print_json(prepared.to_json()) if as_json else typer.echo(str(prepared))
        return
    say(str(prepared))
    try:
        with Display() as display:
            found = auditing.audit(prepared, profile, display.watcher, flops)
    except KeyboardInterrupt:
        say("stopped; call it again to carry on")
        raise typer.Exit(STOPPED) from None
    for run_id, cause in failures(prepared.part).items():
        say(f"failed: {run_id}: {cause}")
    if as_json:
        print_json({**found.to_json(), "file": place.audit_file, "report": place.report_file})
        return
    typer.echo(str(found))
    typer.echo(f"\nwritten: {place.audit_file}, and a section of {place.report_file}")
