"""Where a run takes up its trunk, and what it leaves there for the others that share it.

Up to its decay a run is what every longer run of its trunk is, bit for bit (see `isoflop.planning.trunks`). So the
first to come keeps a checkpoint in ``<study>/trunks/<id>/`` at each step where one of them branches off, and those that
follow start there, with the metrics up to there, and take the steps of their decay alone. Where the checkpoint of its
branch is lost or corrupt, a run starts from the nearest before, or from its seed, and keeps what was missing. The
nearest may be the own checkpoint of another run of the trunk that was cancelled between two branches: what it trained
is not lost to the others. A run that is added while the trunk is trained finds its branch there too: who trains it
looks again, once a second, at what branches off.

That no two train one trunk at once is its launcher's care (`isoflop.launching.selection`). Here it would be lost work
and no more: a checkpoint is whole or absent, and where one stands none is put beside it.
"""

from __future__ import annotations

import json
from dataclasses import replace

from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory
from isoflop.training import checkpoints, metrics
from isoflop.training.checkpoints import Checkpoint
from isoflop.training.parallel import Member

#: Where a run writes what it keeps for its trunk, before that is renamed to its place there.
KEPT = "trunk"


class Trunk:
    """The trunk of `run` in the directory of its study.

    Attributes
    ----------
    cuts
        Steps of the run after which a checkpoint is kept for a run that branches off, ascending; `share` adds some.
    """

    def __init__(self, study: StudyDirectory, run: Run) -> None:
        self._run = run
        self._study = study
        self._place = study.trunk(run.trunk)
        self._own = study.run(run.id)
        self.cuts: list[int] = []
        self.look()

    def look(self) -> bool:
        """See what branches off the trunk by now; returns whether that is news, to be shared."""
        self._seen = sorted({step for step in self._place.branches().values() if step <= self._run.branch_step})
        return self._seen != self.cuts

    def share(self, member: Member) -> None:
        """Take as cuts what the leader of the run's members has seen; every member must call it."""
        self.cuts[:] = json.loads(member.share(json.dumps(self._seen)))

    def newest(self, after: int, last: int | None = None, checked: bool = False) -> Checkpoint | None:
        """What the run can start from: the newest whole checkpoint up to its branch, if that is beyond `after` steps.

        Corrupt ones are set aside beside the run's own. `last` is the step up to which one will do (None: the branch);
        `checked` is as `checkpoints.load_newest` has it.
        """
        last = self._run.branch_step if last is None else last
        aside = self._own.checkpoints
        found = checkpoints.load_newest(
            self._place.checkpoints, self._run.trunk, after=after, last=last, aside=aside, checked=checked
        )
        for other, branch in self._place.branches().items():
            if other != self._run.id:
                found = self._left_by(other, found.step if found else after, min(branch, last), checked) or found
        return found if found is None or found.made_by == self._run.id else replace(found, shared=found.step)

    def _left_by(self, other: str, after: int, last: int, checked: bool) -> Checkpoint | None:
        """What another run left of the stable part in a checkpoint of its own, with the rows that lead there."""
        place = self._study.run(other)
        found = checkpoints.load_newest(
            place.checkpoints, other, after=after, last=last, aside=self._own.checkpoints, checked=checked
        )
        if found is None:
            return None
        rows, validation = (
            metrics.cut(path.read_text(encoding="utf-8"), found.step) if path.is_file() else ""
            for path in (place.metrics_file, place.validation_file)
        )
        if metrics.last_step(rows) != found.step - found.row[0]:
            # Its rows were lost: those who follow it would lack them.
            return None
        return replace(found, run=self._run.trunk, metrics=rows, validation=validation, made_by=other)

    def with_rows(self, checkpoint: Checkpoint) -> Checkpoint:
        """A checkpoint of the run as it is kept for others, with the rows that were written up to now."""
        rows, validation = (
            path.read_text(encoding="utf-8") if path.is_file() else ""
            for path in (self._own.metrics_file, self._own.validation_file)
        )
        return replace(checkpoint, run=self._run.trunk, metrics=rows, validation=validation, made_by=self._run.id)

    def wants(self, step: int, member: Member) -> bool:
        """Whether a checkpoint is to be kept after so many steps: at a cut, unless the leader sees that one stands."""
        return step in self.cuts and json.loads(member.share(json.dumps(step not in self._place.stored())))

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep what `with_rows` gave for a step that the trunk `wants`."""
        # Where the run itself sweeps up what a kill leaves half-written.
        path = checkpoints.save(self._own.checkpoints / KEPT, checkpoint)
        self._place.checkpoints.mkdir(parents=True, exist_ok=True)
        path.rename(self._place.checkpoints / path.name)
