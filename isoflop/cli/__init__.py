"""The command line: thin verbs over `isoflop.workflow` and the pure rooms.

Results go to standard output (with ``--json``, one JSON document), messages and progress to standard error. Exit
codes: 0 done, or done but for things it names; 1 it tried and could not, and says why; 2 the call was wrong; 130
stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from isoflop import __version__
from isoflop.cli import (
    auditing,
    checking,
    choosing,
    corpus,
    exporting,
    planning,
    probing,
    reading,
    recommending,
    rehearsing,
    running,
    tokenizing,
    tuning,
    watching,
)
from isoflop.errors import IsoflopError

app = typer.Typer(
    name="isoflop",
    help="Plan, run and read IsoFLOP scaling studies: from a compute budget to the model to train.",
    epilog="Example: isoflop run grids/demo.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


planning.register(app)
probing.register(app)
rehearsing.register(app)
running.register(app)
checking.register(app)
tuning.register(app)
watching.register(app)
reading.register(app)
choosing.register(app)
auditing.register(app)
recommending.register(app)
exporting.register(app)
tokenizing.register(app)
app.add_typer(corpus.app, name="corpus")


def main() -> None:
    """Run the command line; known errors become one message and an exit code."""
    try:
        app()
    except IsoflopError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
