"""Tuning: rate, batch, β2 and weight decay at a few small cells, and the rules that follow from their optima."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isoflop.launching.profiles import Profile
    from isoflop.store import StudyDirectory
    from isoflop.tuning.cells import Cell
    from isoflop.tuning.result import Tuning
    from isoflop.tuning.search import Search
    from isoflop.tuning.tuner import Watcher


def tune(
    place: StudyDirectory, cells: Sequence[Cell], search: Search, profile: Profile, watcher: Watcher | None = None
) -> Tuning:
    """Search at `cells` of the study at `place`, write what came of it and return it; called again, it carries on.

    Parameters
    ----------
    place
        The study's directory, with its corpus (or that of a rehearsal: then the trials are pretended too).
    cells, search
        Where, and what.
    profile
        Where the trials' runs execute.
    watcher
        Who is told how the search goes on.

    Raises
    ------
    InputError
        If the study was tuned in another way before.
    RunError
        If runs cannot be executed.
    MissingExtraError
        If Optuna is not installed.
    """
    from isoflop.tuning import result, tuner

    work = tuner.Tuner(place, tuple(cells), search, profile, watcher or tuner.Watcher())
    trials = work.work()
    tuned = result.concluded(cells[0].planner.study.name, work.search, cells, trials)
    result.write(tuner.home(place), tuned)
    return tuned
