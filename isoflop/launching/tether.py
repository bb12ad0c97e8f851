"""Becomes a command that dies with the process that started it.

python -m isoflop.launching.tether COMMAND ARGUMENTS…
"""

from __future__ import annotations

import os
import signal
import sys

from isoflop.machine import die_with_the_parent


def main(words: list[str]) -> None:
    """Execute the command in this process's place."""
    die_with_the_parent()
    # A worker leaves these to its crew; a command decides for itself.
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(words[0], words)  # noqa: S606 (a list of words, no shell)


if __name__ == "__main__":
    main(sys.argv[1:])
