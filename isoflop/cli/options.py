"""Arguments and options that several verbs share, and how results are printed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isoflop.errors import InputError
from isoflop.plain import plain

if TYPE_CHECKING:
    from isoflop.store import StudyDirectory
#: What shells expect of a command that Ctrl-C ended.
STOPPED = 130

StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file or a study directory.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.KEY=VALUE", help="Change a value of the study file; may be given again."),
]
DirOption = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="The study directory.  [default: studies/<name>]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def study_directory(study: Path, directory: Path | None) -> StudyDirectory:
    """Where a study lives, as `isoflop.workflow.open_study` says it; quick where `study` is a directory."""
    from isoflop.store import StudyDirectory

    if study.is_dir() and directory is None:
        if not StudyDirectory(study).study_file.exists():
            raise InputError(f"a study directory must hold study.yaml, but {study} does not")
        return StudyDirectory(study)
    from isoflop.workflow import open_study

    return open_study(study, (), directory)[1]


def run_named(place: StudyDirectory, name: str) -> str:
    """The id of the study's one run that is called `name`, or whose id begins so."""
    known = place.run_ids()
    found = [run for run in known if run == name] or [run for run in known if run.startswith(name)]
    if len(found) != 1:
        raise InputError(f"RUN must be the id of one run of {place.root}, but got {name!r}, which {len(found)} have")
    return found[0]


def require_place(path: Path, option: str, *, directory: bool) -> None:
    """Raise `InputError` unless a file, or a `directory`, can stand at the `path` that `option` names."""
    if path.exists() and path.is_dir() is not directory:
        wanted, found = ("a directory", "a file") if directory else ("a file", "a directory")
        raise InputError(f"{option} must name {wanted}, but {path} is {found}")
    stands = next(each for each in path.absolute().parents if each.exists())
    if not stands.is_dir():
        raise InputError(f"{option} must lie in a directory, but {stands} is a file")


def print_json(value: Any) -> None:
    """Write one JSON document to standard output; NaN and infinities, which JSON does not have, become null."""
    sys.stdout.write(json.dumps(plain(value), indent=1, allow_nan=False, default=os.fspath) + "\n")


def say(message: str) -> None:
    """Write a message for a person to standard error."""
    sys.stderr.write(visible(message) + "\n")


def visible(text: str) -> str:
    """`text` with all but its line ends printable: names and transcripts are other people's, terminals obey."""
    return "".join(sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text)
