"""Where a run's metrics go beside its metrics.csv, by name: TensorBoard, Weights & Biases.

What they get is a copy of the rows of that file, and of validation.csv under ``validation/``. When a run is taken up,
whose last rows may be taken back, the copy is made anew from the rows that stand: so no row is there twice. Neither
changes a run, nor is part of its id.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from isoflop.machine import require
from isoflop.planning.runs import Run
from isoflop.store import RunDirectory

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: What a row is known by, not what it tells.
_STEP = "step"


class Logger(Protocol):
    """Where rows of metrics go."""

    def row(self, step: int, values: dict[str, float]) -> None:
        """Note the `values` after `step` steps."""

    def close(self) -> None:
        """Write what is not written yet."""


def check(names: Sequence[str]) -> None:
    """Raise `MissingExtraError` unless what these loggers need is installed."""
    require("loggers", *(name for name in names if name != "csv"))


class Copies:
    """The loggers of a run, which start as copies of its metrics and validations.

    Parameters
    ----------
    names
        ``csv`` (which is those files), ``tensorboard``, ``wandb``.
    run, directory
        Whose.
    """

    def __init__(self, names: Sequence[str], run: Run, directory: RunDirectory) -> None:
        self._prefixes = {directory.metrics_file: "", directory.validation_file: "validation/"}
        self._read = dict.fromkeys(self._prefixes, 0)
        makers: dict[str, Callable[[Run, Path], Logger]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
        self._loggers: list[Logger] = [
            makers[name](run, directory.root) for name in dict.fromkeys(names) if name != "csv"
        ]

    def update(self) -> None:
        """Pass on the rows that were written since, by their steps: W&B takes none that is before another's."""
        if not self._loggers:
            return
        rows = [row for path in self._prefixes for row in self._unread(path)]
        for step, values in sorted(rows, key=itemgetter(0)):
            for logger in self._loggers:
                logger.row(step, values)

    def _unread(self, path: Path) -> list[tuple[int, dict[str, float]]]:
        if not path.exists():
            return []
        prefix = self._prefixes[path]
        with path.open(encoding="utf-8", newline="") as file:
            header = file.readline()
            file.seek(self._read[path] or len(header))
            table = list(csv.DictReader(file, header.strip().split(",")))
        self._read[path] = path.stat().st_size
        # A later column may have no value in every row.
        return [
            (int(row[_STEP]), {prefix + name: float(value) for name, value in row.items() if name != _STEP and value})
            for row in table
        ]

    def close(self) -> None:
        """Close them."""
        for logger in self._loggers:
            logger.close()


class TensorBoard:
    """Event files in ``tensorboard/`` of the run's directory: ``tensorboard --logdir studies/<name>/runs``."""

    def __init__(self, run: Run, directory: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = directory / "tensorboard"
        shutil.rmtree(place, ignore_errors=True)
        self._writer: SummaryWriter = SummaryWriter(str(place))

    def row(self, step: int, values: dict[str, float]) -> None:
        """See `Logger`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Logger`."""
        self._writer.close()


class WeightsAndBiases:
    """A run of the same id at Weights & Biases, or, where its own environment says so, in ``wandb/`` of the directory.

    ``WANDB_MODE=offline`` keeps it there, ``WANDB_PROJECT`` and ``WANDB_ENTITY`` name the project (default: isoflop)
    and whose it is.
    """

    def __init__(self, run: Run, directory: Path) -> None:
        import wandb

        shutil.rmtree(directory / "wandb", ignore_errors=True)
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "isoflop"),
            id=run.id,
            name=run.id,
            group=run.trunk,
            config=run.to_dict(),
            dir=str(directory),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        #: The step that W&B takes next: rows before it are there, and are the same.
        self._next = self._run.step

    def row(self, step: int, values: dict[str, float]) -> None:
        """See `Logger`."""
        if step >= self._next:
            self._run.log(values, step=step)

    def close(self) -> None:
        """See `Logger`."""
        self._run.finish()
