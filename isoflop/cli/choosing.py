"""Choosing the next cells, and taking in runs that exist already: `next`, `adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from isoflop.cli.options import DirOption, JsonOption, SetOption, StudyArgument, print_json, say
from isoflop.cli.reading import ColumnsOption, TokensFromOption, WhereOption

if TYPE_CHECKING:
    from isoflop.choosing import Proposed
    from isoflop.planning.information import Goal

#: Half-width that is aimed at where nobody says which.
_WITHIN = 0.05
_CONVENTIONS = {"6nd": "C = 6ND", "counted": "counted FLOPs"}


def register(app: typer.Typer) -> None:
    """Add this module's verbs to `app`."""
    app.command("next", epilog="Example: isoflop next studies/demo --target params --flops 6e12 --within 0.1")(
        next_cells
    )
    app.command(epilog='Example: isoflop adopt studies/demo runs.csv --columns params="Model Size"')(adopt)


def next_cells(
    study: StudyArgument,
    overrides: SetOption = None,
    directory: DirOption = None,
    points: Annotated[
        Path | None, typer.Option("--points", metavar="FILE", help="Go by this points table, not the study's own.")
    ] = None,
    columns: ColumnsOption = None,
    tokens_from: TokensFromOption = None,
    where: WhereOption = None,
    target: Annotated[
        str, typer.Option("--target", metavar="ratio|a|params|loss", help="What is wanted: b/a, a, ln N* or ln L*.")
    ] = "ratio",
    flops: Annotated[
        float | None, typer.Option("--flops", metavar="C", help="With params and loss: at so many training FLOPs.")
    ] = None,
    within: Annotated[
        float | None,
        typer.Option("--within", metavar="X", help="To ±X (95 %).  [default: grid.ratio_within, else 0.05]"),
    ] = None,
    count: Annotated[int, typer.Option("--count", metavar="K", help="How many cells to choose.")] = 4,
    cap: Annotated[
        float | None, typer.Option("--cap", metavar="FLOPS", help="All runs together may take so many training FLOPs.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add them to the study file of the directory; isoflop run DIR runs them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose the cells that make what is wanted surest per FLOP, or say that it is sure enough.

    Each comes with its reason; what is proposed is recorded in the study directory.
    """
    from isoflop import choosing, workflow
    from isoflop.planning.information import Goal, Quantity
    from isoflop.tables import parse_columns, read_points

    loaded, place = workflow.open_study(study, tuple(overrides or ()), directory)
    own = loaded.grid.ratio_within if target == "ratio" else None
    goal = Goal(cast("Quantity", target), within if within is not None else own or _WITHIN, flops)
    table = None
    if points is not None:
        table = read_points(
            points,
            parse_columns(columns),
            tokens_from=cast("Literal['6nd'] | None", tokens_from),
            where=where or (),
        )
    found = choosing.propose(loaded, place, (goal,), table=table, count=count, cap=cap)
    if add and found.proposal.action == "run":
        choosing.add(loaded, place, found)
        say(f"added to {place.study_file}; next: isoflop run {place.root}")
    if as_json:
        print_json(found.to_json())
    else:
        typer.echo(_told(found, goal))


def adopt(
    study: StudyArgument,
    points: Annotated[Path, typer.Argument(metavar="POINTS", help="A points table: CSV, Parquet or JSON.")],
    directory: DirOption = None,
    columns: ColumnsOption = None,
    tokens_from: TokensFromOption = None,
    where: WhereOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register runs that exist already as finished cells of a study: fit, next and report carry on from them.

    N is taken as the total. The same table again changes nothing.
    """
    from isoflop import choosing, workflow
    from isoflop.tables import parse_columns, read_points

    loaded, place = workflow.open_study(study, (), directory)
    table = read_points(
        points, parse_columns(columns), tokens_from=cast("Literal['6nd'] | None", tokens_from), where=where or ()
    )
    adopted = choosing.adopt_points(loaded, place, table, points.name)
    for row, reason in adopted.left_out:
        say(f"left out: row {row}: {reason}")
    counted = "6nd" if loaded.grid.convention == "6nd" else "counted"
    if adopted.flops_convention != counted:
        say(
            f"take care: these points tell C by {_CONVENTIONS[adopted.flops_convention]}, and the study by "
            f"{_CONVENTIONS[counted]} (grid.convention)"
        )
    if as_json:
        print_json({**adopted.to_json(), "directory": place.adopted})
    elif adopted.again:
        typer.echo(f"{adopted.rows} points of {adopted.source} were adopted before, as {adopted.digest}")
    else:
        typer.echo(f"adopted {adopted.rows} points of {adopted.source} as {adopted.digest}")


def _told(found: Proposed, goal: Goal) -> str:
    from isoflop.fitting.words import power

    proposal = found.proposal
    head = {
        "run": f"{len(proposal.cells)} of {found.feasible} feasible cells for {power(proposal.price)} FLOPs",
        "stop": "sure enough",
        "cap": "the cap is reached",
        "exhausted": "no cell left to choose",
    }[proposal.action]
    lines = [f"{head}: {proposal.reason}", *(f"- {cell}" for cell in proposal.cells)]
    for each in proposal.progress:
        lines.append(f"{each.goal.name}: ±{each.now:.3g} now, ±{each.expected:.3g} expected after them; wanted {goal}")
    return "\n".join([*lines, f"spent so far: {power(found.spent)} FLOPs"])
