"""Before a sweep is launched: `probe`, real steps of each model on the device that is to train it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isoflop.cli.counting import counting
from isoflop.cli.options import DirOption, JsonOption, SetOption, StudyArgument, print_json, say
from isoflop.errors import RunError

if TYPE_CHECKING:
    from isoflop.launching.probing import Outcome
    from isoflop.planning.probes import Probe

#: Columns where no terminal says how wide it is.
_WIDTH = 120


def register(app: typer.Typer) -> None:
    """Add this module's verb to `app`."""
    app.command(epilog="Example: isoflop probe grids/demo.yaml --sizes 24,32")(probe)


def probe(
    study: StudyArgument,
    overrides: SetOption = None,
    directory: DirOption = None,
    sizes: Annotated[
        str | None, typer.Option("--sizes", metavar="SIZE,…", help="Widths or names.  [default: every model]")
    ] = None,
    launcher: Annotated[
        Path | None,
        typer.Option(
            "--launcher", metavar="FILE", help="A local profile: GPUs, devices of a run.  [default: one core]"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take 20 real steps of each model on this machine: time of a step, memory, MFU, the micro-batch that fits.

    Unless training.compile says it, each is tried compiled too. What is measured goes to probes.json of the study
    directory, where plan takes its hours and memory from and runs whether to compile, and their micro-batch. For a
    cluster's device call it there: srun … isoflop probe STUDY --launcher FILE.
    """
    from isoflop import workflow
    from isoflop.launching import probing
    from isoflop.launching.profiles import LocalProfile
    from isoflop.planning.probes import of_sizes

    loaded, place = workflow.open_study(study, tuple(overrides or ()), directory)
    wanted = [size.strip() for size in sizes.split(",")] if sizes is not None else []
    profile = LocalProfile.load(launcher)
    runs = probing.models(loaded, of_sizes(workflow.plan(loaded, place.root).runs, wanted), profile)
    workflow.create(place)
    with counting("models probed") as progress:
        outcome = probing.probe(loaded, place, runs, profile, progress)
    for run, reason in outcome.failed.items():
        say(f"could not be probed: {run}: {reason}")
    for run, reason in outcome.uncompiled.items():
        say(f"could not be compiled: {run}: {reason}")
    if not outcome.probes:
        raise RunError(f"a model must fit to be probed, but none of {len(outcome.failed)} did")
    if as_json:
        probes, slower = ([each.to_json() for each in found.values()] for found in (outcome.probes, outcome.slower))
        reasons = {"failed": outcome.failed, "uncompiled": outcome.uncompiled}
        print_json({"probes": probes, "slower": slower, **reasons, "file": place.probes_file})
        return
    _print(outcome)
    typer.echo(f"written to {place.probes_file}; isoflop plan {study} takes its hours and memory from there")


def _print(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.table import Table

    first = next(iter(outcome.probes.values()))
    table = Table(title=f"{first.device}, {first.devices} a run")
    names = "size", "batch", "at once", "strategy", "compiled", "ms a step", "tokens/s", "memory, GiB", "MFU", "causal"
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for run, each in outcome.probes.items():
        shares = ["?" if share is None else f"{share:.1%}" for share in (each.mfu(), each.mfu(causal=True))]
        table.add_row(
            each.size,
            f"{each.batch_size}",
            f"{each.micro_batch}",
            each.strategy,
            _compiled(each, outcome.slower.get(run)),
            f"{each.step_seconds * 1e3:,.4g}",
            f"{each.tokens_per_second:,.0f}",
            f"{each.peak_bytes / 2**30:.3g}",
            *shares,
        )
    console = Console(markup=False)
    console.print(table) if console.is_terminal else Console(width=_WIDTH, markup=False).print(table)


def _compiled(probe: Probe, other: Probe | None) -> str:
    """Whether the model is compiled, and where both ways were tried how many times as fast a step of it then is."""
    word = "yes" if probe.compiled else "no"
    if other is None:
        return word
    compiled, eager = (probe, other) if probe.compiled else (other, probe)
    return f"{word}, ×{eager.step_seconds / compiled.step_seconds:.2f}"
