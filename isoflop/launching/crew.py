"""A crew at work: worker processes on one machine, each with a run that was claimed for it.

The crew hands runs to its workers over their standard input and hears from them on their standard output. It owns no
truth: claims, statuses and results are in the study directory, so a crew killed at any moment is replaced by another.
It looks after what a worker cannot: a worker that is killed, a claim that was lost to a successor, a run that somebody
cancelled, a disk that is full, hours that are spent, and being told to stop.
"""

from __future__ import annotations

import selectors
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from isoflop.claims import BEATS_IN_A_LEASE, Claim, Claims, Crew, crews, device_hours, replaced
from isoflop.errors import RunError
from isoflop.launching.base import Event
from isoflop.launching.causes import DONE, FAILED, GIVEN_BACK, Cause, may_go_on, spent
from isoflop.launching.process import Worker, death
from isoflop.launching.selection import Selection
from isoflop.store import StudyDirectory

#: Seconds between two looks at claims, cancellations and hours.
_LOOK = 2.0
#: Seconds between two sums over all crews' hours.
_COUNT = 30.0
#: Seconds in which runs stop where the hours are spent.
_STOPPING = 10.0
#: Seconds for which a crew waits for room on a full disk.
_PATIENCE = 300.0


@dataclass(frozen=True)
class Work:
    """What a crew is to do.

    Parameters
    ----------
    order
        Ids of the runs that it may take, the first first.
    workers
        Processes at once.
    accelerator
        Lightning's name: ``cpu``, ``gpu``.
    devices
        Names of the GPUs that this machine gave us, shared out among the workers; empty: not ours to say.
    devices_per_run
        GPUs, or processes where there are none, that train a run together.
    threads
        Of each worker, and of each process of a run.
    steps
        Stop every run after so many, to see whether it works; None: go on to the end.
    max_hours
        Device-hours that all crews of the study may hold; None: any.
    """

    order: tuple[str, ...]
    workers: int = 1
    accelerator: str = "cpu"
    devices: tuple[str, ...] = ()
    devices_per_run: int = 1
    threads: int = 1
    steps: int | None = None
    max_hours: float | None = None


@dataclass
class Supervisor:
    """One crew's work; `work` returns when there is nothing left to take, or the crew was told to stop.

    Parameters
    ----------
    study
        The study directory.
    crew
        Who works.
    todo
        What.
    on_event
        Told what happens to the runs.
    warning
        Asked twice a second whether to stop: why, and within how many seconds.

    Attributes
    ----------
    stopped
        Why the crew was told to stop, or stopped by itself; None while it was not.
    failed
        Runs of this crew that failed for good.
    """

    study: StudyDirectory
    crew: Crew
    todo: Work
    on_event: Callable[[Event], None] = lambda event: None
    warning: Callable[[], tuple[Cause, float] | None] = lambda: None
    stopped: Cause | None = None
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._claims = Claims(self.study.root, self.crew)
        self._selection = Selection(self.study, self._claims, self.todo.order)
        self._selector = selectors.DefaultSelector()
        self._workers: list[Worker] = []
        self._unwritten: list[Callable[[], object]] = []
        self._stop_by = self._full_since = self._hours_end = float("inf")
        self._looked = self._counted = float("-inf")

    def work(self) -> None:
        """Work.

        Raises
        ------
        RunError
            If workers cannot start.
        """
        try:
            for slot in range(min(self.todo.workers, len(self.todo.order))):
                self._hire(slot)
            while self._workers or self._unwritten:
                for key, _ in self._selector.select(0.5):
                    self._listen(key.data)
                self._look()
        finally:
            self._abandon()

    def stop(self, cause: Cause, seconds: float) -> None:
        """Take no more runs, and let those that go on stop at a checkpoint within `seconds`."""
        if self.stopped is None:
            self.stopped = cause
        self._stop_by = min(self._stop_by, time.monotonic() + seconds)
        for worker in self._workers:
            if worker.claim is not None:
                worker.send({"stop": cause})
            elif worker.ready:
                worker.dismiss()

    def _hire(self, slot: int) -> None:
        todo, names, count = self.todo, self.todo.devices, self.todo.devices_per_run
        own = [names[place % len(names)] for place in range(slot * count, (slot + 1) * count)] if names else []
        gpus = ",".join(own) or None
        worker = Worker.start(self.study.root, todo.accelerator, slot, todo.threads, gpus, count)
        self._workers.append(worker)
        self._selector.register(worker.output, selectors.EVENT_READ, worker)

    def _listen(self, worker: Worker) -> None:
        messages = worker.messages()
        if messages is None:
            self._bury(worker)
            return
        for message in messages:
            self._hear(worker, message)

    def _hear(self, worker: Worker, message: dict[str, Any]) -> None:
        kind, run_id = message.pop("event"), message.pop("run", "")
        if kind == "ready":
            worker.ready = True
            self._assign(worker)
            return
        if worker.claim is None:
            # It was replaced, and killed for it.
            return
        if kind in {"started", "progress", "finished"}:
            self.on_event(Event(kind, run_id, message))
        if kind == "progress":
            worker.step = message["step"]
        elif kind == "finished":
            self._end(worker, DONE)
        elif kind == "stopped":
            # The signal that stopped it may have come to us too, and we know what it meant.
            self._heed()
            self._end(worker, GIVEN_BACK, self.stopped or Cause(message["cause"]))
        elif kind == "failed":
            self._end(worker, FAILED, Cause(message["cause"]), message["message"])
        if kind in {"finished", "stopped", "failed"}:
            self._assign(worker)

    def _assign(self, worker: Worker) -> None:
        """Give an idle worker a run, or let it go; it stays while some run's crew may still turn out to be dead."""
        if self.stopped is not None or self._full_since != float("inf"):
            if self.stopped is not None:
                worker.dismiss()
            return
        claim = self._take()
        if claim is not None:
            worker.claim, worker.step = claim, 0
            halved = 2 ** spent(self._claims.history(claim.name), Cause.OUT_OF_MEMORY)
            worker.send({"run": claim.name, "token": claim.token, "steps": self.todo.steps, "micro_batches": halved})
        elif not self._selection.waiting:
            worker.dismiss()

    def _take(self) -> Claim | None:
        try:
            return self._selection.take()
        except OSError as error:
            self._trouble(error)
            return None

    def _end(self, worker: Worker, outcome: str, cause: Cause | None = None, message: str = "") -> None:
        """Record how a worker's run ended, and tell."""
        claim, step = worker.claim, worker.step
        assert claim is not None  # noqa: S101
        worker.claim = None
        if self.todo.steps is not None:
            self._selection.forget(claim.name)
        if cause is Cause.DISK_FULL:
            outcome = GIVEN_BACK
            self._full_since = min(self._full_since, time.monotonic())
        details = {"cause": cause, "message": message, "step": step} if cause is not None else {"step": step}
        self._write(lambda: self._claims.end(claim, outcome, **details))
        self._write(lambda: self._selection.release(claim.name, outcome, **details))
        if outcome == DONE or replaced(self.study.root, claim.name, claim.token):
            return
        goes_on = not self._recorded or may_go_on(self._claims.history(claim.name))
        place = self.study.run(claim.name)
        state = "planned" if goes_on else "failed"
        self._write(lambda: place.write_status(state, **details))  # type: ignore[arg-type]
        if not goes_on:
            self.failed.append(claim.name)
        kind = "failed" if not goes_on else "retried" if outcome == FAILED else "stopped"
        self.on_event(Event(kind, claim.name, {"cause": str(cause), "message": message}))  # type: ignore[arg-type]

    @property
    def _recorded(self) -> bool:
        """Whether everything that was to be written has been."""
        return not self._unwritten

    def _write(self, action: Callable[[], object]) -> None:
        """Do `action` now, or, where the disk does not let us, later and in order."""
        self._unwritten.append(action)
        self._catch_up()

    def _catch_up(self) -> None:
        try:
            while self._unwritten:
                self._unwritten[0]()
                self._unwritten.pop(0)
        except OSError as error:
            self._trouble(error)

    def _trouble(self, error: OSError) -> None:
        self._full_since = min(self._full_since, time.monotonic())
        with suppress(OSError):
            sys.stderr.write(f"the study directory cannot be written, trying again: {error}\n")

    def _heed(self) -> None:
        if self.stopped is None and (warned := self.warning()) is not None:
            self.stop(*warned)

    def _look(self) -> None:
        """What is to be looked at from time to time."""
        self._heed()
        now = time.monotonic()
        if now > self._stop_by:
            for worker in self._workers:
                worker.kill(self.stopped or Cause.STOPPED)
            self._stop_by = float("inf")
        if now - self._looked < _LOOK:
            return
        self._looked = now
        for worker in self._workers:
            if worker.claim is not None:
                self._look_at(worker, worker.claim)
        if self._full_since != float("inf"):
            self._wait_for_room(now)
        if self.todo.max_hours is not None and now - self._counted > _COUNT:
            self._counted = now
            self._hours_end = now + self._seconds_to(self.todo.max_hours)
        if now > self._hours_end:
            self.stop(Cause.HOURS, _STOPPING)
        if self._selection.due:
            for worker in self._workers:
                if worker.ready and worker.claim is None:
                    self._assign(worker)

    def _look_at(self, worker: Worker, claim: Claim) -> None:
        if replaced(self.study.root, claim.name, claim.token):
            # We were thought dead. What the worker writes from now on would be beside its successor's.
            worker.claim = None
            worker.kill(Cause.STOPPED)
            self._write(lambda: self._selection.release(claim.name, GIVEN_BACK, cause=Cause.STOPPED))
        elif self._selection.lost_trunk(claim.name):
            # The same, but another of the trunk's runs was taken up: ours waits for it, or follows.
            worker.kill(Cause.STOPPED)
        elif self.study.run(claim.name).cancelled_file.exists():
            worker.kill(Cause.CANCELLED)

    def _wait_for_room(self, now: float) -> None:
        """See whether the disk has room again; after a while stop, and leave the rest to who comes when it has."""
        self._catch_up()
        try:
            probe = self.study.root / "crews" / f".{self.crew.id}.room"
            probe.write_bytes(bytes(2**20))
            probe.unlink()
        except OSError:
            if now - self._full_since > _PATIENCE:
                self._unwritten.clear()
                self.stop(Cause.DISK_FULL, 0)
            return
        if self._recorded:
            self._full_since = float("inf")

    def _seconds_to(self, most: float) -> float:
        """Seconds until this crew must stop for `most` device-hours to hold, if all who work now go on."""
        observer = self._claims.observer
        devices = sum(crew.devices for crew in crews(self.study.root) if crew.devices and observer.seems_alive(crew))
        # What the others have held since their last beats is not in the sum yet.
        unseen = self.crew.lease / BEATS_IN_A_LEASE
        return 3600 * (most - device_hours(self.study.root)) / max(1, devices) - unseen - _STOPPING

    def _bury(self, worker: Worker) -> None:
        """Let go of a worker whose output ended; if it left a run, see that the run goes on or is failed."""
        self._workers.remove(worker)
        self._selector.unregister(worker.output)
        code, last_words = worker.process.wait(), worker.last_words()
        worker.close()
        if not worker.ready and worker.killed is None and self.stopped is None:
            raise RunError(f"a worker must start, but it exited with {code}: {last_words or 'no message'}")
        left = worker.claim is not None
        if left:
            outcome = GIVEN_BACK if worker.killed is not None else FAILED
            cause, message = death(code, last_words) if worker.killed is None else (worker.killed, "")
            self._end(worker, outcome, cause, message)
        if self.stopped is None and (left or code != 0):
            self._hire(worker.slot)

    def _abandon(self) -> None:
        """End every worker at once: with the crew's end, whatever ended it, none is left."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()
            worker.close()
            if worker.claim is not None and self._claims.holds(worker.claim):
                ending = {"cause": self.stopped or Cause.STOPPED, "step": worker.step}
                with suppress(OSError):
                    self._claims.end(worker.claim, GIVEN_BACK, **ending)
                    self._selection.release(worker.claim.name, GIVEN_BACK, **ending)
                    self.study.run(worker.claim.name).write_status("planned", step=worker.step)
        self._workers.clear()
        self._selector.close()
