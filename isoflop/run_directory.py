"""What one run, and what the trunk of several, leaves in a study directory (`isoflop.store` has the whole)."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from isoflop.errors import CorruptFileError, InputError
from isoflop.files import publish_json, read_json, write_json

State = Literal["planned", "running", "done", "failed"]


@dataclass(frozen=True)
class RunDirectory:
    """What one run leaves on disk."""

    root: Path

    @property
    def run_file(self) -> Path:
        """The run itself, as planned."""
        return self.root / "run.json"

    @property
    def status_file(self) -> Path:
        """State, step and current loss, rewritten while the run goes on."""
        return self.root / "status.json"

    @property
    def metrics_file(self) -> Path:
        """Step, tokens, training loss, gradient norm, rate, spikes and losses by type, a row every few steps."""
        return self.root / "metrics.csv"

    @property
    def validation_file(self) -> Path:
        """Step, tokens and the held-out losses, a row for each validation: the run's loss curve."""
        return self.root / "validation.csv"

    @property
    def checkpoints(self) -> Path:
        """The newest checkpoints."""
        return self.root / "checkpoints"

    @property
    def weights(self) -> Path:
        """The final weights, where the study keeps them: one checkpoint without the optimiser's state."""
        return self.root / "weights"

    @property
    def outputs(self) -> Path:
        """What a trainer of the study's own keeps."""
        return self.root / "outputs"

    @property
    def exchange(self) -> Path:
        """The files through which a command that trains the run is spoken with."""
        return self.root / "exchange"

    @property
    def result_file(self) -> Path:
        """The loss and what it cost; its presence is what "done" means."""
        return self.root / "result.json"

    @property
    def log(self) -> Path:
        """The worker's output while it ran this run."""
        return self.root / "log"

    @property
    def cancelled_file(self) -> Path:
        """Stands where somebody asked that the run be left alone."""
        return self.root / "cancelled.json"

    def write_status(self, state: State, **details: Any) -> None:
        """Replace the status; `details` are plain values (step, loss, cause…)."""
        if state not in get_args(State):
            raise InputError(f"a state must be one of {', '.join(get_args(State))}, but got {state!r}")
        # Rewritten every second, and not believed where it cannot be read.
        write_json(self.status_file, {"state": state, "time": time.time(), **details}, durable=False)

    def status(self) -> dict[str, Any]:
        """The run's state: ``done`` if its result stands, else what was last written, else ``planned``.

        A status that cannot be read is no more than that: the run is taken as planned, and `cause` says so.
        """
        try:
            written: dict[str, Any] = read_json(self.status_file) if self.status_file.exists() else {}
        except CorruptFileError as error:
            written = {"cause": str(error)}
        if self.result_file.exists():
            return {"state": "done"}
        return {"state": "planned", **written}

    def publish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write the result, unless one stands; returns the one that does. So no writer can undo another's."""
        if publish_json(self.result_file, result):
            return result
        standing = self.result()
        return result if standing is None else standing

    def result(self) -> dict[str, Any] | None:
        """The result, or None while there is none; `CorruptFileError` if the file is not this run's result."""
        if not self.result_file.exists():
            return None
        result = read_json(self.result_file)
        loss = result.get("loss")
        if result.get("run") != self.root.name or not _is_finite(loss):
            raise CorruptFileError(
                f"{self.result_file} must hold the run {self.root.name} and a finite loss, but holds "
                f"{result.get('run')!r} and {loss!r}; delete it to train the run again"
            )
        return result


@dataclass(frozen=True)
class TrunkDirectory:
    """What runs that share their stable part leave on disk for each other; checkpoints stay when the runs are done."""

    root: Path

    @property
    def trunk_file(self) -> Path:
        """The runs that share it, as planned."""
        return self.root / "trunk.json"

    @property
    def checkpoints(self) -> Path:
        """One for each step at which a run branches off."""
        return self.root / "checkpoints"

    def branches(self) -> dict[str, int]:
        """The step at which each of its runs branches off, by run id; empty where no two runs share it.

        Raises
        ------
        CorruptFileError
            If the file is not what was written.
        """
        if not self.trunk_file.exists():
            return {}
        branches = read_json(self.trunk_file).get("branches")
        if not isinstance(branches, dict) or not all(type(step) is int for step in branches.values()):
            raise CorruptFileError(
                f"{self.trunk_file} must hold the steps of branches by run, but holds {branches!r}; "
                "`isoflop run` writes it anew"
            )
        return branches

    def stored(self) -> frozenset[int]:
        """Steps of the checkpoints that stand, by their names alone."""
        names = (_STORED.match(path.name) for path in self.checkpoints.glob("step-*"))
        return frozenset(int(name[1]) for name in names if name)


#: How the name of a checkpoint begins.
_STORED = re.compile(r"step-(\d{8,})[-.]")


@dataclass(frozen=True)
class Branch:
    """Where a run branches off: the id of its trunk, and the step."""

    trunk: str
    step: int


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
