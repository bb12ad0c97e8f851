"""Where a run takes up its trunk, and what it leaves there for the others that share it.

Up to its decay a run is what every longer run of its trunk is, bit for bit (see `isoflop.planning.trunks`). So the
first to come keeps a checkpoint in ``<study>/trunks/<id>/`` at each step where one of them branches off, and those that
follow start there, with the metrics up to there, and take the steps of their decay alone. Where the checkpoint of its
branch is lost or corrupt, a run starts from the nearest before, or from its seed, and keeps what was missing.

That no two train one trunk at once is its launcher's care (`isoflop.launching.selection`). Here it would be lost work
and no more: a checkpoint is whole or absent, and where one stands none is put beside it.
"""

from __future__ import annotations

from dataclasses import replace

from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory
from isoflop.training import checkpoints
from isoflop.training.checkpoints import Checkpoint

#: Where a run writes what it keeps for its trunk, before that is renamed to its place there.
KEPT = "trunk"


class Trunk:
    """The trunk of `run` in the directory of its study.

    Attributes
    ----------
    cuts
        Steps of the run after which a checkpoint is kept for a run that branches off, ascending.
    """

    def __init__(self, study: StudyDirectory, run: Run) -> None:
        self._run = run
        self._place = study.trunk(run.trunk)
        self._own = study.run(run.id)
        self.cuts = tuple(sorted({step for step in self._place.branches().values() if step <= run.branch_step}))

    def newest(self, after: int) -> Checkpoint | None:
        """What the run can start from: the newest whole checkpoint up to its branch, if that is beyond `after` steps.

        Corrupt ones are set aside beside the run's own.
        """
        found = checkpoints.load_newest(
            self._place.checkpoints,
            self._run.trunk,
            after=after,
            last=self._run.branch_step,
            aside=self._own.checkpoints,
        )
        return found if found is None or found.made_by == self._run.id else replace(found, shared=found.step)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint of the run, taken at one of the `cuts`, unless one stands there."""
        if checkpoint.step in self._place.stored():
            return
        metrics = self._own.metrics_file.read_text(encoding="utf-8")
        # Where the run itself sweeps up what a kill leaves half-written.
        kept = replace(checkpoint, run=self._run.trunk, metrics=metrics, made_by=self._run.id)
        path = checkpoints.save(self._own.checkpoints / KEPT, kept)
        self._place.checkpoints.mkdir(parents=True, exist_ok=True)
        path.rename(self._place.checkpoints / path.name)
