"""What can go wrong, as a tree.

::

    IsoflopError                 everything isoflop raises on purpose
    ├── InputError (ValueError)  the caller's mistake: the rule, then the value that broke it      exit code 2
    ├── NoAnswerError            the input was fine, but it holds no usable answer; names the budget   exit code 1
    ├── CorruptFileError         a file on disk is not what was written; names the file                exit code 1
    ├── MissingExtraError        an optional dependency is absent; says what to install                exit code 1
    └── RunError                 runs of a study could not be executed; names them                     exit code 1
        ├── Diverged             the loss of one run is no number, or rose and stayed high
        └── Interrupted          one run was asked to stop; called again, it carries on

Usable-but-suspect results are no exceptions: they carry a status (see `isoflop.fitting`).
"""

from __future__ import annotations


class IsoflopError(Exception):
    """Base of everything isoflop raises on purpose; `exit_code` is what the command line exits with."""

    exit_code = 1


class InputError(IsoflopError, ValueError):
    """The caller's mistake. The message states the rule, then the value: ``"X must hold, but got Y"``."""

    exit_code = 2


class NoAnswerError(IsoflopError):
    """The input is well formed but holds no usable answer; the message names the budget and the reason."""


class CorruptFileError(IsoflopError):
    """A file on disk is not what was written there; the message names the file and how to replace it."""


class MissingExtraError(IsoflopError):
    """An optional dependency is absent; the message says which extra to install."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'isoflop[{extra}]'")


class RunError(IsoflopError):
    """Runs of a study could not be executed; the message names them and their causes."""


class Diverged(RunError):  # noqa: N818 - an outcome, in the words of the status
    """The loss of a run is no number, or rose and stayed high; the message names the run and the last good step."""


class Interrupted(RunError):  # noqa: N818 - an outcome too
    """A run was asked to stop and did, at a checkpoint; the message says why."""
