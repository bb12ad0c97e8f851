"""Reading results: `fit`, `check`, `report`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from isoflop.cli.options import STOPPED, DirOption, JsonOption, StudyArgument, print_json, require_place, say
from isoflop.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.law import Law
    from isoflop.results import Format, Outcome
    from isoflop.store import StudyDirectory
    from isoflop.study import Study

SourceArgument = Annotated[Path, typer.Argument(metavar="POINTS|STUDY", help="A points table or a study directory.")]
ColumnsOption = Annotated[
    str | None,
    typer.Option("--columns", metavar="NAME=COLUMN,…", help='Name foreign columns: params="Model Size",loss=nll.'),
]
TokensFromOption = Annotated[
    str | None,
    typer.Option("--tokens-from", metavar="6nd", help="C = 6ND holds: compute the tokens, or else FLOPs, that lack."),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="COLUMN=VALUE", help="Read only these rows; may be given again."),
]
LawArgument = Annotated[Path, typer.Argument(metavar="LAW", help="A fitted law: law.json.")]


def register(app: typer.Typer) -> None:
    """Add this module's verbs to `app`."""
    app.command(epilog="Example: isoflop fit studies/demo --json")(fit)
    app.command(epilog="Example: isoflop check law.json later.csv")(check)
    app.command(epilog="Example: isoflop report studies/demo --watch")(report)


def fit(
    source: SourceArgument,
    columns: ColumnsOption = None,
    tokens_from: TokensFromOption = None,
    where: WhereOption = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="COLUMN", help="One law for each value of this column.")
    ] = None,
    params_convention: Annotated[
        str,
        typer.Option(
            "--params-convention",
            metavar="NAME",
            help="What N counts: total, non_embedding or body_and_head; picked from the table where it tells several.",
        ),
    ] = "total",
    minimum: Annotated[
        str, typer.Option("--minimum", metavar="parabola|akima", help="How a budget's minimum is found.")
    ] = "parabola",
    window: Annotated[
        str, typer.Option("--window", metavar="K|all", help="Sizes per parabola, those nearest its vertex.")
    ] = "5",
    huber_delta: Annotated[
        str,
        typer.Option(
            "--huber-delta", metavar="auto|none|VALUE", help="δ of the surface's fit on log loss; none: least squares."
        ),
    ] = "auto",
    bootstrap: Annotated[int, typer.Option("--bootstrap", help="Resamples behind the intervals.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Of the resamples.")] = 0,
    pin: Annotated[
        list[str] | None,
        typer.Option("--pin", metavar="E=VALUE", help="Hold E, alpha or beta of the surface; may be given again."),
    ] = None,
    tie: Annotated[str | None, typer.Option("--tie", metavar="alpha=beta", help="Fit one exponent for both.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the law as JSON.")] = None,
    figures: Annotated[Path | None, typer.Option("--figures", metavar="DIR", help="Write the figures as PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the IsoFLOP minima, the power laws through them and the loss surface, and say how far to trust them.

    Of a study with axes it compares the arms instead: --where, --out and --figures are then of the comparison.
    """
    from isoflop import store
    from isoflop.fitting import fit as fit_points
    from isoflop.fitting.groups import fit_groups
    from isoflop.tables import by_group, parse_delta, parse_pins, parse_ties, parse_window

    arms = _study_with_axes(source)
    if arms is not None:
        for name, value in (("--group", group), ("--pin", pin), ("--tie", tie), ("--columns", columns)):
            if value is not None:
                raise InputError(f"{name} must be of a law, but {source} is a study with axes, which fits none")
        _fit_arms(arms, where or [], out, figures, as_json)
        return
    options: dict[str, Any] = {
        "minimum": minimum,
        "window": parse_window(window),
        "huber_delta": parse_delta(huber_delta),
        "pins": parse_pins(pin or []),
        "ties": ["alpha=beta"] if parse_ties(tie) else [],
        "bootstrap": bootstrap,
        "seed": seed,
        "params_convention": params_convention,
    }
    if out is not None:
        require_place(out, "--out", directory=False)
    points = _points(source, columns, tokens_from, where, params_convention)
    tables = {"": points} if group is None else by_group(points, group)
    for table in tables.values():
        _of_one_arm(table)
    folders = {} if figures is None else _folders(figures, list(tables))
    result = fit_points(points, **options) if group is None else fit_groups(tables, **options)
    if out is not None:
        store.write_json(out, result.to_json())
        say(f"wrote {out}")
    laws = {"": cast("Law", result)} if group is None else cast("dict[str, Law]", result)
    for name, folder in folders.items():
        if name in laws:
            _write_figures(folder, tables[name], laws[name])
    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(str(result))


def check(
    law: LawArgument,
    source: SourceArgument,
    columns: ColumnsOption = None,
    tokens_from: TokensFromOption = None,
    where: WhereOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a law on runs that came later: how far off it was, and whether its intervals held."""
    from isoflop.fitting.scoring import check as check_law

    fitted = _law(law)
    convention = fitted.provenance.params_convention
    points = _points(source, columns, tokens_from, where, convention)
    _of_one_arm(points)
    card = check_law(fitted, points)
    if as_json:
        print_json(card.to_json())
    else:
        typer.echo(str(card))


def report(
    study: StudyArgument,
    directory: DirOption = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="html|md|png",
            help="Page, Markdown with its pictures, or figures; may be given again.  [default: html]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write the report there, and nothing into the study directory."),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Write it anew every few seconds until all is done; the page reloads itself."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit what is done and write the report, the law and the points table into the study directory."""
    from isoflop import results, workflow

    chosen = _formats(formats)
    if watch and as_json:
        raise InputError("--watch must be given without --json, but got both")
    if out is not None:
        require_place(out, "--out", directory=True)
    _, place = workflow.open_study(study, (), directory)
    if watch:
        try:
            outcome = results.watch(place.root, chosen, out, tell=_tell_watched)
        except KeyboardInterrupt:
            raise typer.Exit(STOPPED) from None
    else:
        outcome = results.read(place.root, chosen, out)
    if as_json:
        files = [str(path) for path in outcome.written]
        print_json({"report": outcome.report, "figures": outcome.figures, "reason": outcome.reason, "files": files})
    else:
        for path in outcome.written:
            if path.suffix != ".png" or chosen == ["png"]:
                typer.echo(f"report: {path}")


def _formats(asked: list[str] | None) -> list[Format]:
    """The formats asked for, each once; several may stand in one option, with commas."""
    from isoflop.results import Format

    names = list(dict.fromkeys(name.strip() for each in asked or ["html"] for name in each.split(",")))
    wrong = [name for name in names if name not in get_args(Format)]
    if wrong:
        raise InputError(f"--format must be one of {', '.join(get_args(Format))}, but got {wrong[0]!r}")
    return cast("list[Format]", names)


def _tell_watched(outcome: Outcome) -> None:
    states = outcome.points.loc[outcome.points["in_grid"], "state"].value_counts(sort=False)
    told = ", ".join(f"{number} {state}" for state, number in states.items())
    say(f"{time.strftime('%H:%M:%S')}  {told}  {outcome.report.parent}")


def _law(path: Path) -> Law:
    from isoflop import store
    from isoflop.fitting.law import Law

    if not path.is_file():
        raise InputError(f"a law must be a law file, but {path} is none (write one: isoflop fit … --out law.json)")
    return Law.from_json(store.read_json(path))


def _points(
    source: Path, columns: str | None, tokens_from: str | None, where: list[str] | None, convention: str
) -> pd.DataFrame:
    """The points of a table, or of a study directory."""
    from isoflop.tables import choose_rows, parse_columns, read_points

    if not source.is_dir() and source.suffix not in {".yaml", ".yml"}:
        return read_points(
            source,
            parse_columns(columns),
            tokens_from=cast(Literal["6nd"] | None, tokens_from),
            where=where or (),
            params_convention=cast(Literal["total", "non_embedding", "body_and_head"], convention),
        )
    for name, value in (("--columns", columns), ("--tokens-from", tokens_from)):
        if value is not None:
            raise InputError(f"{name} must go with a points table, but {source} is a study")
    from isoflop import store, workflow

    return choose_rows(store.points(workflow.open_study(source)[1].root), where or ())


def _of_one_arm(points: pd.DataFrame) -> None:
    """Raise `InputError` where points are of several arms of a study with axes: one law is not of all of them."""
    from isoflop.fitting.ablation import PREFIX

    several = [
        str(name) for name in points.columns if str(name).startswith(PREFIX) and len(set(points[name].dropna())) > 1
    ]
    if several:
        raise InputError(
            f"a law must be of one arm, but the points have several values of {', '.join(several)} "
            f"(--where {several[0]}=VALUE, or --group {several[0]})"
        )


def _study_with_axes(source: Path) -> tuple[Study, StudyDirectory] | None:
    """The study at `source`, if that is one and has axes."""
    from isoflop.workflow import open_study

    if source.suffix not in {".yaml", ".yml"} and not (source / "study.yaml").is_file():
        return None
    study, place = open_study(source)
    return (study, place) if study.axes else None


def _fit_arms(
    arms: tuple[Study, StudyDirectory], where: list[str], out: Path | None, figures: Path | None, as_json: bool
) -> None:
    """Compare the arms of a study with axes, and say that no law is fitted."""
    from isoflop import interpretation, store
    from isoflop.reporting.content import Content
    from isoflop.reporting.figures import draw, write_figures
    from isoflop.tables import choose_rows

    study, place = arms
    points = choose_rows(store.points(place.root), where)
    found = interpretation.compared(study, points)
    say(f"no law: {interpretation.NO_LAW}")
    if out is not None:
        store.write_json(out, found.to_json())
        say(f"wrote {out}")
    if figures is not None:
        require_place(figures, "--figures", directory=True)
        for path in write_figures(figures, draw(Content(study.name, points, ablation=found))):
            say(f"wrote {path}")
    print_json(found.to_json()) if as_json else typer.echo(str(found))


def _folders(directory: Path, names: list[str]) -> dict[str, Path]:
    """Where the figures of each law go: a group's into a folder of its own."""
    from isoflop.names import path_name

    folders = {name: directory / path_name(name) if name else directory for name in names}
    if len(set(folders.values())) < len(folders):
        raise InputError(f"the groups' names must differ as names of folders, but got {', '.join(folders)}")
    for folder in folders.values():
        require_place(folder, "--figures", directory=True)
    return folders


def _write_figures(folder: Path, points: pd.DataFrame, law: Law) -> None:
    from isoflop.reporting.content import Content
    from isoflop.reporting.figures import draw, write_figures

    for path in write_figures(folder, draw(Content(folder.name, points, law))):
        say(f"wrote {path}")
