"""Running a study here or on a cluster: `run`, `submit`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isoflop.cli.options import STOPPED, DirOption, JsonOption, SetOption, StudyArgument, print_json, say
from isoflop.errors import InputError

if TYPE_CHECKING:
    from isoflop.launching.slurm import Submitted
    from isoflop.study import Study
    from isoflop.workflow import Outcome


def register(app: typer.Typer) -> None:
    """Add this module's verbs to `app`."""
    app.command(epilog="Example: isoflop run grids/demo.yaml --launcher launchers/local.yaml")(run)
    app.command(epilog="Example: isoflop submit grids/demo.yaml --launcher launchers/slurm-gpu.yaml --canary")(submit)


def run(
    study: StudyArgument,
    overrides: SetOption = None,
    directory: DirOption = None,
    launcher: Annotated[
        Path | None, typer.Option("--launcher", metavar="FILE", help="A launcher profile.  [default: this machine]")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="GOAL", help="Choose cells, run, fit, until it is so sure: ratio±0.05, params@1e22±0.1."
        ),
    ] = None,
    cap: Annotated[
        float | None, typer.Option("--cap", metavar="FLOPS", help="With --until: all runs may take so many FLOPs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole study: plan, make the corpus, train, fit, recommend, report. Called again, it carries on.

    With a cluster's profile it submits, watches until the runs are done, then fits; stopped, the jobs go on.
    """
    from isoflop import choosing, workflow
    from isoflop.cli.progress import Display
    from isoflop.launching.profiles import load_profile
    from isoflop.launching.states import failures
    from isoflop.planning.information import Goal

    if cap is not None and until is None:
        raise InputError(f"--cap must be given with --until, but got {cap:g} alone")
    profile = load_profile(launcher)
    loaded, place = workflow.open_study(study, tuple(overrides or ()), directory)
    found = None
    try:
        with Display() as display:

            def execute(study: Study) -> Outcome:
                return workflow.run(study, place.root, profile, display.watcher)

            if until is None:
                outcome = execute(loaded)
            else:
                done, found = choosing.run_until(loaded, place, (Goal.parse(until),), execute, cap=cap)
                say(f"{found.proposal.action}: {found.proposal.reason}")
                outcome = done or workflow.read(place.root)
    except KeyboardInterrupt:
        say("stopped; call it again to carry on")
        raise typer.Exit(STOPPED) from None
    for run_id, cause in failures(place).items():
        say(f"failed: {run_id}: {cause}")
    if as_json:
        print_json({**_document(outcome), "until": found.to_json() if found else None})
        return
    if outcome.provisional:
        typer.echo("provisional: not every run of the grid is done")
    if outcome.ablation:
        typer.echo(str(outcome.ablation))
    else:
        typer.echo(str(outcome.law) if outcome.law else f"no law: {outcome.reason}")
    if outcome.recommendation:
        typer.echo(f"\n{outcome.recommendation}")
    for sentence in outcome.foretold.sentences():
        typer.echo(sentence)
    typer.echo(f"\nreport: {outcome.report}")


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "directory": outcome.directory,
        "runs": dict(Counter(outcome.points["state"])),
        "failed": outcome.failed,
        "provisional": outcome.provisional,
        "law": outcome.law.to_json() if outcome.law else None,
        "reason": outcome.reason,
        "recommendation": outcome.recommendation.to_json() if outcome.recommendation else None,
        "ablation": outcome.ablation.to_json() if outcome.ablation else None,
        "report": outcome.report,
        "foretold": outcome.foretold.to_json(),
    }


def submit(
    study: StudyArgument,
    launcher: Annotated[Path, typer.Option("--launcher", metavar="FILE", help="A SLURM cluster's launcher profile.")],
    overrides: SetOption = None,
    directory: DirOption = None,
    canary: Annotated[
        bool,
        typer.Option("--canary", help="First try the cheapest, the largest and the longest run for some steps."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a study's open runs into a cluster's queue and leave. Called again, it adds only what is missing."""
    from isoflop import workflow
    from isoflop.cli.progress import Display
    from isoflop.launching.profiles import SlurmProfile, load_profile

    profile = load_profile(launcher)
    if not isinstance(profile, SlurmProfile):
        raise InputError(f"--launcher must be a profile with launcher: slurm, but got {profile.launcher!r}")
    loaded, place = workflow.open_study(study, tuple(overrides or ()), directory)
    if not study.is_dir():  # who names a rehearsal's directory carries that on
        workflow.refuse_rehearsal(place)
    with Display() as display:
        submitted = workflow.submit(loaded, profile, place.root, display.watcher, canary)
    tell_submitted(submitted, place.root, as_json)


def tell_submitted(submitted: Submitted, root: Path, as_json: bool) -> None:
    """Say what a submission did."""
    if as_json:
        print_json({**submitted.to_json(), "directory": root})
    elif not submitted.submission:
        typer.echo(f"nothing to submit: {submitted.waiting} tasks of the study are in the queue already")
    else:
        jobs = ", ".join(f"{part} {job}" for part, job in submitted.jobs.items())
        typer.echo(f"submitted {submitted.tasks} tasks for {len(submitted.runs)} runs: {jobs}")
        typer.echo(f"watch them: isoflop status {root} --watch")
