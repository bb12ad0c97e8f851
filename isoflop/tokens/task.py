"""What a task of a SLURM array executes to make a corpus: its share of a job that has begun.

    python -m isoflop.tokens.task CORPUS WORKERS

A task that is killed, whenever that is, leaves its unmade shards to the others, and to whoever submits again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from isoflop.errors import IsoflopError
from isoflop.tokens.tokenization import carry_on

#: Seconds between two lines of the log.
_EVERY = 10.0


def main(directory: str, workers: str) -> None:
    """Work on the corpus at `directory` in so many processes; its log says how far it is."""
    told = float("-inf")

    def progress(done: float, total: float, message: str) -> None:
        nonlocal told
        if time.monotonic() - told > _EVERY:
            told = time.monotonic()
            sys.stdout.write(f"{time.strftime('%F %T')} {message}: {done:.0f} of {total:.0f} clips\n")
            sys.stdout.flush()

    outcome = carry_on(Path(directory), int(workers), progress=progress)
    sys.stdout.write(f"{outcome.left} shards are left\n")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except IsoflopError as error:
        sys.exit(f"error: {error}")
