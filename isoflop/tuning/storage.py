"""The record of a search: Optuna's journal in the tuning directory, one of its studies for each cell.

The journal is JSON, a line for each thing that happened. It is read at any time and written only by who holds the
tuning directory (`isoflop.claims.hold`), so that processes which search at once write one after the other.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from isoflop.errors import CorruptFileError, MissingExtraError
from isoflop.tuning.cells import Cell
from isoflop.tuning.optimum import Sample
from isoflop.tuning.space import Dimension

if TYPE_CHECKING:
    import optuna

#: Of a trial's attributes, the one that says how it ended.
_END = "end"
#: What is said where that is missing.
_FOREIGN = {"state": "failed", "losses": (), "reason": "ended by another program than isoflop"}
#: How a trial ended: with a loss; stopped by its loss curve; without a number for a loss; or not at all.
Ended = Literal["done", "pruned", "diverged", "failed"]


@dataclass(frozen=True)
class Trial:
    """One choice of hyperparameters at one cell.

    Parameters
    ----------
    cell, number
        Its place.
    values
        The hyperparameters, as `isoflop.tuning.cells.Cell.snapped` gives them.
    state
        ``open``, or how it ended.
    losses
        Of each seed's run, in nats per token; empty unless it is ``done``.
    reason
        Why it ended otherwise.
    """

    cell: str
    number: int
    values: dict[str, float]
    state: Literal["open"] | Ended
    losses: tuple[float, ...] = ()
    reason: str = ""

    @property
    def sample(self) -> Sample:
        """The trial as the fit of an optimum sees it."""
        return Sample(self.values, tuple(map(math.log, self.losses)))


class Journal:
    """The trials of every cell; make one with `opened`."""

    def __init__(self, storage: optuna.storages.BaseStorage, names: Collection[str]) -> None:
        self._storage = storage
        self._names = set(names)
        self._studies: dict[str, optuna.Study] = {}

    def trials(self, cell: Cell) -> list[Trial]:
        """Those of a cell so far, by number."""
        return [_trial(cell, each) for each in self._study(cell).get_trials(deepcopy=False) if self._whole(each)]

    def add(self, cell: Cell, dimensions: Sequence[Dimension], values: Mapping[str, float] | None, seed: int) -> None:
        """Begin the next trial: at `values`, or where Optuna's TPE says.

        TPE draws by `seed`, the cell and the trial's number and from the trials that have ended and, as bad ones, those
        that are open. So a search that was killed between two trials goes on as if it had not been.
        """
        import optuna

        study = self._study(cell)
        trials = study.get_trials(deepcopy=False)
        # What was begun by a process that was killed over it is gone on with: it is the last, and it is the same.
        begun = trials[-1] if trials and not self._whole(trials[-1]) else None
        number = len(trials) if begun is None else begun.number
        study.sampler = optuna.samplers.TPESampler(seed=_seed(seed, cell.name, number), n_startup_trials=1)
        if begun is None and values is not None:
            study.enqueue_trial(dict(values))
        if begun is None or begun.state == optuna.trial.TrialState.WAITING:
            trial = study.ask()
        else:
            trial = optuna.Trial(study, begun._trial_id)
        for each in dimensions:
            trial.suggest_float(each.name, each.low, each.high, log=True)

    def end(self, cell: Cell, trial: Trial) -> None:
        """Record how `trial` ended."""
        import optuna

        states = optuna.trial.TrialState
        study = self._study(cell)
        known = study.get_trials(deepcopy=False)[trial.number]
        record = {"state": trial.state, "losses": list(trial.losses), "reason": trial.reason}
        self._storage.set_trial_user_attr(known._trial_id, _END, record)
        if trial.state == "done":
            study.tell(trial.number, trial.sample.mean)
        else:
            # To TPE one that diverged is as bad as one that was pruned, and one that failed tells nothing.
            study.tell(trial.number, state=states.FAIL if trial.state == "failed" else states.PRUNED)

    def _whole(self, known: optuna.trial.FrozenTrial) -> bool:
        return self._names <= set(known.params)

    def _study(self, cell: Cell) -> optuna.Study:
        import optuna

        # Once: even to find that there is one would be another line.
        if cell.name not in self._studies:
            known = {
                each.study_name for each in optuna.get_all_study_summaries(self._storage, include_best_trial=False)
            }
            begin = optuna.load_study if cell.name in known else optuna.create_study
            self._studies[cell.name] = begin(storage=self._storage, study_name=cell.name)
        return self._studies[cell.name]


def _trial(cell: Cell, known: Any) -> Trial:
    values = cell.snapped(known.params)
    if not known.state.is_finished():
        # What a process said of its end that was killed before it ended it is said again.
        return Trial(cell.name, known.number, values, "open")
    record = known.user_attrs.get(_END, _FOREIGN)
    return Trial(cell.name, known.number, values, record["state"], tuple(record["losses"]), record["reason"])


def _seed(seed: int, cell: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{cell}:{number}".encode()).digest()[:4], "big")


@contextmanager
def opened(path: Path, names: Collection[str]) -> Iterator[Journal]:
    """Open the journal at `path`, or a new one, of a search over the hyperparameters `names`.

    Call it while holding the tuning directory.

    Raises
    ------
    MissingExtraError
        If Optuna is not installed.
    CorruptFileError
        If the file is not what was written.
    """
    try:
        import optuna
        from optuna.storages import journal
    except ImportError:
        raise MissingExtraError("optuna", "tune") from None
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    _mend(path)
    try:
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(path)))
    except (ValueError, KeyError) as error:
        raise CorruptFileError(
            f"{path} must be the journal of a search, but: {error!r}; delete it to begin anew (runs stay)"
        ) from error
    try:
        yield Journal(storage, names)
    finally:
        optuna.logging.set_verbosity(before)


def _mend(path: Path) -> None:
    """Cut off a last line that a power cut left half-written: what it said is said again."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
