"""Looking after a study's runs: `status`, `logs`, `cancel`, `retry`. Quick on a login node: no torch, no tables."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isoflop.cli.options import DirOption, JsonOption, StudyArgument, print_json, run_named, say, study_directory
from isoflop.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from isoflop.launching.states import RunState, State, Survey
    from isoflop.launching.tending import Glance
    from isoflop.store import StudyDirectory

RunsArgument = Annotated[list[str] | None, typer.Argument(metavar="[RUN]…", help="Ids of runs.  [default: all]")]

#: Seconds between two looks of one who watches.
_WATCH = 5.0
_STATES: tuple[State, ...] = ("done", "running", "queued", "planned", "failed", "cancelled")
_BAR = 20
#: Failed runs that are shown to people; --json has them all.
_FAILURES = 20


def register(app: typer.Typer) -> None:
    """Add this module's verbs to `app`."""
    app.command(epilog="Example: isoflop status studies/demo --watch")(status)
    app.command(epilog="Example: isoflop logs studies/demo d8-l2-t60-0123456789ab -f")(logs)
    app.command(epilog="Example: isoflop cancel studies/demo")(cancel)
    app.command(epilog="Example: isoflop retry studies/demo")(retry)


def status(
    study: StudyArgument,
    directory: DirOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds until all is done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how far a study is: runs by budget and state, what was spent, time left, failures with their cause.

    Runs that a cluster lost (preempted for good, a dead node) are submitted again.
    """
    from rich.console import Console
    from rich.live import Live

    if watch and as_json:
        raise InputError("--watch must be given without --json, but got both")
    place = study_directory(study, directory)
    # What runs say of their errors may hold brackets.
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(width=120, markup=False)
    if not watch:
        survey, glance = _look(place)
        if as_json:
            print_json(_document(place, survey, glance))
        else:
            console.print(_page(place, survey, glance))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            survey, glance = _look(place)
            live.update(_page(place, survey, glance), refresh=True)
            if not any(run.state in {"planned", "queued", "running"} for run in survey.grid):
                return
            time.sleep(_WATCH)


def _look(place: StudyDirectory) -> tuple[Survey, Glance]:
    from isoflop.launching.states import survey
    from isoflop.launching.tending import glance, replace_lost

    seen, queue = glance(place)
    found = survey(place, seen.covered)
    replaced = replace_lost(place, found.runs, queue)
    if replaced is not None and replaced.submission:
        say(f"submitted {replaced.tasks} tasks again for {len(replaced.runs)} runs that the cluster lost")
    return found, seen


def _document(place: StudyDirectory, survey: Survey, glance: Glance) -> dict[str, Any]:
    return {
        "study": place.root.resolve().name,
        "directory": place.root,
        "simulated": place.rehearsed,
        "states": dict(Counter(run.state for run in survey.runs)),
        "flops": {"planned": survey.planned_flops, "spent": survey.spent_flops},
        "device_hours": survey.hours,
        "devices": survey.devices,
        "seconds_left": survey.seconds_left,
        "queue": {
            "pending": glance.pending,
            "running": glance.running,
            "reasons": list(glance.reasons),
            "silent": glance.silent,
        },
        "foretold": _foretold(place) or None,
        "runs": [run.to_json() for run in survey.runs],
    }


def _page(place: StudyDirectory, survey: Survey, glance: Glance) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    states = Counter(run.state for run in survey.grid)
    title = f"{place.root.resolve().name}{' (simulated)' if place.rehearsed else ''}: " + ", ".join(
        f"{states[state]} {state}" for state in _STATES if states[state]
    )
    table = Table(title=title)
    for name in ("budget", "done", *_STATES[1:], "best loss"):
        table.add_column(name, justify="left" if name == "done" else "right")
    for budget in dict.fromkeys(run.budget for run in survey.grid):
        here = [run for run in survey.grid if run.budget == budget]
        count = Counter(run.state for run in here)
        losses = [run.loss for run in here if run.state == "done"]
        table.add_row(
            f"{budget:.3g}",
            f"{_bar(sum(run.step / run.steps for run in here) / len(here))} {count['done']}/{len(here)}",
            *(str(count[state] or "") for state in _STATES[1:]),
            f"{min(losses):.4f}" if losses else "",
        )
    return Group(table, *_sentences(survey, glance), *_foretold(place).get("sentences", []))


def _foretold(place: StudyDirectory) -> dict[str, Any]:
    """What was forecast of the study and what came, as its last report has it; empty before."""
    from isoflop.store import read_json

    came: dict[str, Any] = read_json(place.forecast_file).get("came", {}) if place.forecast_file.exists() else {}
    return came


def _bar(fraction: float) -> str:
    full = round(fraction * _BAR)
    return "█" * full + "·" * (_BAR - full)


def _sentences(survey: Survey, glance: Glance) -> list[str]:
    lines = [
        f"{survey.spent_flops:.3g} of {survey.planned_flops:.3g} training FLOPs, {survey.hours:.3g} device-hours held"
        + (f", {survey.devices} devices at work" if survey.devices else "")
        + (f", about {_duration(survey.seconds_left)} left" if survey.seconds_left else "")
    ]
    if glance.pending or glance.running:
        why = f" ({', '.join(glance.reasons)})" if glance.reasons else ""
        lines.append(f"in the queue: {glance.running} tasks running, {glance.pending} waiting{why}")
    if glance.silent:
        lines.append(f"the queue could not be asked: {glance.silent}")
    outside = sum(1 for run in survey.runs if not run.in_grid)
    if outside:
        lines.append(f"{outside} runs more are not in the grid any more")
    failed = [run for run in survey.runs if run.state == "failed"]
    lines += [f"failed: {_failure(run)}" for run in failed[:_FAILURES]]
    if len(failed) > _FAILURES:
        lines.append(f"and {len(failed) - _FAILURES} failed runs more; --json has them all")
    return lines


def _failure(run: RunState) -> str:
    from isoflop.launching.causes import Cause

    advice = Cause(run.cause).advice if run.cause in set(Cause) else ""
    return f"{run.run}: {run.reason}" + (f" [{advice}]" if advice else "")


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def logs(
    study: StudyArgument,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or how it begins.")],
    directory: DirOption = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run is done or failed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what a run printed."""
    place = study_directory(study, directory)
    run_id = run_named(place, run)
    path = place.run(run_id).log / "output.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if as_json:
        print_json({"run": run_id, "log": path, "text": text})
        return
    typer.echo(text, nl=False)
    while follow and place.run(run_id).status()["state"] not in {"done", "failed"}:
        time.sleep(1)
        now = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        typer.echo(now[len(text) :], nl=False)
        text = now


def cancel(
    study: StudyArgument, runs: RunsArgument = None, directory: DirOption = None, as_json: JsonOption = False
) -> None:
    """Stop runs and leave them alone; without RUN, all that are open, and the study's tasks leave the queue."""
    from isoflop.launching import slurm, states

    place = study_directory(study, directory)
    opened = [run.run for run in states.states(place) if run.state not in {"done", "failed", "cancelled"}]
    chosen = [run_named(place, name) for name in runs] if runs else opened
    states.cancel(place, [run for run in chosen if run in opened])
    tasks = slurm.cancel(place) if not runs and place.submissions.is_dir() else 0
    cancelled = [run for run in chosen if run in opened]
    if as_json:
        print_json({"cancelled": cancelled, "tasks": tasks})
    else:
        typer.echo(f"cancelled {len(cancelled)} runs, {tasks} tasks of the queue")


def retry(
    study: StudyArgument,
    runs: RunsArgument = None,
    directory: DirOption = None,
    launcher: Annotated[
        Path | None,
        typer.Option("--launcher", metavar="FILE", help="A launcher profile.  [default: the last submission's]"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try failed or cancelled runs again (default: all of them) and, on a cluster, submit them."""
    from isoflop.claims import Claims, hold
    from isoflop.cli.running import tell_submitted
    from isoflop.launching import slurm, states
    from isoflop.launching.profiles import SlurmProfile, load_profile

    place = study_directory(study, directory)
    profile = load_profile(launcher) if launcher is not None else slurm.last_profile(place)
    in_grid = [run.run for run in states.states(place) if run.in_grid]
    with hold(place.root, patience=60.0) as crew:
        pardoned = states.pardon(
            place, Claims(place.root, crew), [run_named(place, name) for name in runs] if runs else in_grid
        )
        submitted = None
        if isinstance(profile, SlurmProfile) and pardoned:
            submitted = slurm.submit(place, [place.load_run(run) for run in pardoned], profile)
    if submitted is not None:
        tell_submitted(submitted, place.root, as_json)
    elif as_json:
        print_json({"runs": pardoned, "directory": place.root})
    else:
        typer.echo(
            f"{len(pardoned)} runs may be tried again; next: isoflop run {place.root}" if pardoned else "none failed"
        )
