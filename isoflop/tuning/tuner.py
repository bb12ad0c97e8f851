"""A search at work: trials become runs, launchers execute them, results end them, until every cell has its optimum.

::

    <study>/tuning/   a study directory of its own: study.yaml, plan, corpus (the study's), runs/<id>/, claims/ …
                      search.json   what is searched, at which cells       journal.log   Optuna's journal: the trials
                      recipe.yaml   what came of it                        tuning.json   the same with every trial

Any number of processes may call `tune` for a study at once. Each holds the directory for the moments in which trials
begin and end (`isoflop.claims.hold`), and works on their runs as one crew among several. Nothing is in memory that is
not on disk: one that is killed is replaced by calling it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isoflop import store, table_files
from isoflop.claims import Claims, hold, joined
from isoflop.errors import InputError, RunError
from isoflop.files import read_json
from isoflop.launching.base import Event
from isoflop.launching.causes import Cause
from isoflop.launching.local import Local
from isoflop.launching.parts import open_part, take_over
from isoflop.launching.profiles import LocalProfile, Profile
from isoflop.launching.selection import is_open
from isoflop.launching.states import cancel
from isoflop.launching.tending import Slurm
from isoflop.planning.feasibility import Dropped
from isoflop.planning.runs import Run
from isoflop.store import RunDirectory, StudyDirectory
from isoflop.tuning import search as choosing
from isoflop.tuning.cells import Cell
from isoflop.tuning.pruning import Curve, verdict, worthwhile
from isoflop.tuning.search import Search
from isoflop.tuning.storage import Ended, Journal, Trial, opened

#: Seconds to wait for another process that begins or ends trials.
_PATIENCE = 120.0
#: Seconds between two looks at runs that another process works on.
_POLL = 0.5
#: Times that a launcher may return without having come any further.
_FRUITLESS = 3


@dataclass(frozen=True)
class Watcher:
    """Who is told how the search goes on: the runs of a generation, of them those to do, and what happens to them."""

    begun: Callable[[int, list[Run]], None] = lambda total, unfinished: None
    event: Callable[[Event], None] = lambda event: None


def home(study: StudyDirectory) -> StudyDirectory:
    """Where the study at `study` is tuned."""
    return StudyDirectory(study.root / "tuning")


def together(profile: Profile, cells: int, seeds: int) -> int:
    """Trials of a cell that a launcher of `profile` runs at once."""
    width = profile.processes if isinstance(profile, LocalProfile) else profile.max_parallel
    return max(1, width // (cells * seeds))


@dataclass
class Tuner:
    """One process's part in a search; `work` returns when every trial of every cell has ended.

    Parameters
    ----------
    study
        The directory of the study that is tuned, with its corpus.
    cells, search
        Where, and what.
    profile
        Where runs execute.
    watcher
        Who is told.
    """

    study: StudyDirectory
    cells: tuple[Cell, ...]
    search: Search
    profile: Profile
    watcher: Watcher = field(default_factory=Watcher)

    def __post_init__(self) -> None:
        self._place = home(self.study)

    @property
    def journal_file(self) -> Path:
        """Optuna's journal."""
        return self._place.root / "journal.log"

    def work(self) -> dict[str, list[Trial]]:
        """Search; returns the trials by cell.

        Raises
        ------
        InputError
            If the directory holds another search.
        RunError
            If runs cannot be executed.
        """
        names = [each.name for each in self.search.dimensions]
        while True:
            with hold(self._place.root, _PATIENCE), opened(self.journal_file, names) as journal:
                self._begin()
                trials = {cell.name: self._advance(journal, cell) for cell in self.cells}
                self._write(trials)
            unfinished = [trial for known in trials.values() for trial in known if trial.state == "open"]
            if not unfinished:
                return trials
            self._execute(unfinished, trials)

    def _begin(self) -> None:
        """Write what workers need, and keep another search from being mixed with this one."""
        path = self._place.search_file
        asked = {**self.search.to_json(), "cells": {cell.name: cell.base.id for cell in self.cells}}
        # As it will be read back: tuples are lists there.
        asked["dimensions"] = list(asked["dimensions"])
        if path.exists():
            before = read_json(path)
            # How many run at once is what it was when the search was begun, whoever carries it on.
            self.search = Search(**{**vars(self.search), "together": int(before.get("together", 1))})
            changed = [name for name, value in asked.items() if before.get(name) != value and name != "together"]
            if changed:
                raise InputError(
                    f"a search must be carried on as it was begun, but {self._place.root} has another "
                    f"{' and '.join(changed)}; delete its search.json and journal.log to begin anew (runs stay)"
                )
        else:
            store.write_json(path, asked)
        open_part(self.study, self._place, self.cells[0].planner.study)

    def _advance(self, journal: Journal, cell: Cell) -> list[Trial]:
        """End the trials of `cell` that can be, begin those that are due; returns all of them."""
        while True:
            trials = journal.trials(cell)
            # First what a process that was killed left undone: the draws of a generation know nothing of its results.
            while len(trials) < choosing.begun(self.search, trials):
                trials = self._add(journal, cell, trials)
            for trial in trials:
                if trial.state == "open" and (end := self._end_of(cell, trial, trials)) is not None:
                    journal.end(cell, end)
            trials = journal.trials(cell)
            due = choosing.due(self.search, trials)
            if due == len(trials):
                return trials
            while len(trials) < due:
                trials = self._add(journal, cell, trials)

    def _add(self, journal: Journal, cell: Cell, trials: Sequence[Trial]) -> list[Trial]:
        proposed = choosing.proposal(self.search, trials)
        journal.add(cell, proposed.dimensions, proposed.values, self.search.seed)
        return journal.trials(cell)

    def _end_of(self, cell: Cell, trial: Trial, trials: Sequence[Trial]) -> Trial | None:
        """The trial as it ended; None while it goes on."""
        runs = cell.runs(trial.values, self.search.seeds)
        if isinstance(runs, Dropped):
            return _ended(trial, "failed", runs.reason)
        earlier = self._earlier(cell, trial, trials)
        for run in runs:
            why = verdict(Curve.read(self._place.run(run.id), run), earlier) if worthwhile(run) else ""
            if why:
                self._cancel(runs)
                return _ended(trial, "pruned", why)
        for run in runs:
            place = self._place.run(run.id)
            if place.result() is None and not is_open(place):
                self._cancel(runs)
                return _ended(trial, *_why(place))
        results = [self._place.run(run.id).result() for run in runs]
        if None in results:
            return None
        losses = tuple(float(result["loss"]) for result in results if result is not None)
        return Trial(trial.cell, trial.number, trial.values, "done", losses)

    def _earlier(self, cell: Cell, trial: Trial, trials: Sequence[Trial]) -> list[Curve]:
        """Loss curves of the runs of the cell's finished trials of earlier generations."""
        first = choosing.first_of(self.search, trials, trial.number)
        done = [each for each in trials[:first] if each.state == "done"]
        runs = [run for each in done for run in self._runs(cell, each)]
        return [Curve.read(self._place.run(run.id), run) for run in runs if worthwhile(run)]

    def _runs(self, cell: Cell, trial: Trial) -> tuple[Run, ...]:
        runs = cell.runs(trial.values, self.search.seeds)
        return () if isinstance(runs, Dropped) else runs

    def _cancel(self, runs: Sequence[Run]) -> None:
        cancel(self._place, [run.id for run in runs if self._place.run(run.id).result() is None])

    def _write(self, trials: Mapping[str, Sequence[Trial]]) -> None:
        """Write the runs of all trials and their table; what the study itself has done need not be done again."""
        rows: dict[str, dict[str, str | int | float]] = {}
        for cell in self.cells:
            for trial in trials[cell.name]:
                for run in self._runs(cell, trial):
                    take_over(self.study, self._place, run)
                    rows[run.id] = _row(run, trial)
        table_files.write_rows(self._place.plan_file, list(rows.values()))

    def _execute(self, unfinished: Sequence[Trial], trials: Mapping[str, Sequence[Trial]]) -> None:
        """See that the runs of the `unfinished` trials end, by this process's crew or by others'."""
        cells = {cell.name: cell for cell in self.cells}
        watched: dict[str, tuple[Run, tuple[Run, ...], list[Curve]]] = {}
        every: list[Run] = []
        for trial in unfinished:
            runs = self._runs(cells[trial.cell], trial)
            earlier = self._earlier(cells[trial.cell], trial, trials[trial.cell])
            watched |= {run.id: (run, runs, earlier) for run in runs if worthwhile(run)}
            every += runs

        def on_event(event: Event) -> None:
            self.watcher.event(event)
            if event.kind == "progress" and event.run in watched:
                run, runs, earlier = watched[event.run]
                if verdict(Curve.read(self._place.run(run.id), run), earlier):
                    self._cancel(runs)

        self.watcher.begun(len(every), [run for run in every if self._undecided(run)])
        fruitless, before = 0, (0, -1)
        while left := [run for run in every if self._undecided(run)]:
            if not self._free(left):
                time.sleep(_POLL)
                continue
            now = (len(every) - len(left), sum(self._place.run(run.id).status().get("step", 0) for run in left))
            fruitless, before = (0, now) if now > before else (fruitless + 1, before)
            if fruitless >= _FRUITLESS:
                raise RunError(f"the runs of trials must end, but {', '.join(run.id for run in left)} did not")
            self._launch(left, on_event)

    def _launch(self, runs: Sequence[Run], on_event: Callable[[Event], None]) -> None:
        if isinstance(self.profile, LocalProfile):
            with joined(self._place.root, devices=self.profile.processes) as crew:
                Local(self.profile.processes, crew).launch(self._place, runs, on_event)
        else:
            Slurm(self.profile).launch(self._place, runs, on_event)

    def _undecided(self, run: Run) -> bool:
        place = self._place.run(run.id)
        return not place.result_file.exists() and is_open(place)

    def _free(self, runs: Sequence[Run]) -> bool:
        """Whether one of `runs` is in the hands of nobody who is known to live."""
        claims = Claims(self._place.root)
        latest = (claims.latest(run.id) for run in runs)
        return any(
            claim is None or claim.end is not None or claims.observer.verdict(claim.crew) != "alive" for claim in latest
        )


def _ended(trial: Trial, state: Ended, reason: str) -> Trial:
    return Trial(trial.cell, trial.number, trial.values, state, (), reason)


def _why(place: RunDirectory) -> tuple[Ended, str]:
    """How a run ended that has no result and is not open."""
    status = place.status()
    if status.get("cause") == Cause.DIVERGED:
        return "diverged", str(status.get("message", ""))
    if place.cancelled_file.exists():
        return "failed", "cancelled"
    return "failed", ": ".join(str(status[name]) for name in ("cause", "message") if status.get(name))


def _row(run: Run, trial: Trial) -> dict[str, str | int | float]:
    """The run in the table of the plan, as `isoflop.launching.states` reads it."""
    return {
        "id": run.id,
        "budget": run.budget,
        "flops": run.flops,
        "size": run.shape.label,
        "params_total": run.shape.parameters.total,
        "tokens": run.tokens,
        "steps": run.steps,
        "batch_size": run.batch_size,
        "learning_rate": run.learning_rate,
        "beta2": run.beta2,
        "weight_decay": run.weight_decay,
        "seed": run.seed,
        "trial": trial.number,
        "dropped": "",
    }
