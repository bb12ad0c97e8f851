"""Who works on what: claims on a shared file system that need no lock, no clock and no queue.

::

    crews/<crew>.json   who: host, process, job, how many devices          crews/<crew>.beat   seconds it has lived
    claims/<name>/<token>.json   which crew took it                        claims/<name>/<token>.end.json   how it ended

A *crew* is a process that works, with the workers that die with it. It *beats*: it writes how long it has lived, every
few seconds, into its own file. A claim is a file made by a link, so of all who try one gets it, on NFS too; its number
is the fencing token: who comes after a dead crew takes the next number, and whoever finds a number above its own knows
that it has been replaced. The files are also the record of every attempt at a run and of what became of it.

Whether a crew is dead is never told by comparing two machines' clocks. On the machine that it lives on, the kernel says
so. From elsewhere, an `Observer` watches its beat and measures the silence on its own clock.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from isoflop.errors import CorruptFileError, RunError
from isoflop.files import publish_json, read_json, write_json
from isoflop.names import validated_name

#: Seconds of silence after which a crew on another machine is taken for dead; it beats six times in them.
LEASE = 60.0
BEATS_IN_A_LEASE = 6

Verdict = Literal["alive", "dead", "silent"]


@dataclass(frozen=True)
class Crew:
    """A process that works on a study.

    Parameters
    ----------
    id
        Its name.
    host, boot, namespace, pid, started
        Where it lives: equal `boot` and `namespace` mean that its process can be looked up.
    lease
        Seconds of silence after which it may be taken for dead.
    devices
        GPUs that it holds (workers, where there are none), for the account of hours.
    job, part
        Its SLURM job and the part of the submission that this is; empty elsewhere.
    """

    id: str
    host: str
    boot: str
    namespace: str
    pid: int
    started: int
    lease: float
    devices: int = 0
    job: str = ""
    part: str = ""


@dataclass(frozen=True)
class Claim:
    """`name`, taken by `crew` under a `token` (1, 2, …); `end` is how that ended, None while it goes on."""

    name: str
    token: int
    crew: Crew
    end: dict[str, Any] | None = None


@contextmanager
def joined(study: Path, lease: float = LEASE, devices: int = 0, job: str = "", part: str = "") -> Iterator[Crew]:
    """Work on the study directory `study` as a crew that beats in the background until the context ends.

    Raises
    ------
    OSError
        If the study directory cannot be written.
    """
    here = _here()
    crew = Crew(
        f"{int(time.time()):x}-{secrets.token_hex(4)}", **here, lease=lease, devices=devices, job=job, part=part
    )
    write_json(study / "crews" / f"{crew.id}.json", asdict(crew))
    born, over = time.monotonic(), threading.Event()

    def beat() -> None:
        # A disk that is full or away for a moment is no reason to die: the file is there, its bytes only change.
        with suppress(OSError):
            _write_beat(study, crew.id, time.monotonic() - born)

    def go_on() -> None:
        while not over.wait(lease / BEATS_IN_A_LEASE):
            beat()

    beat()
    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield crew
    finally:
        over.set()
        thread.join()
        beat()
        with suppress(OSError):
            publish_json(_end_of(study, crew), {"seconds": time.monotonic() - born})


def crews(study: Path) -> list[Crew]:
    """Every crew that has worked on the study, oldest first."""
    paths = sorted(path for path in (study / "crews").glob("*.json") if not path.name.endswith(".end.json"))
    return [_crew(read_json(path), path) for path in paths]


def ended(study: Path, crew: Crew) -> bool:
    """Whether a crew has said that it ended: it takes nothing any more, though its process may go on for a moment."""
    return _end_of(study, crew).exists()


def seconds_lived(study: Path, crew: str) -> float:
    """How long a crew has lived, by its last beat; 0 before the first."""
    try:
        return float(_beat_file(study, crew).read_text())
    except (FileNotFoundError, ValueError):
        return 0.0


def device_hours(study: Path) -> float:
    """Device-hours that all crews have held, by their beats."""
    return sum(crew.devices * seconds_lived(study, crew.id) for crew in crews(study) if crew.devices) / 3600


class Observer:
    """Tells the living from the dead, by the kernel or by the change of a beat on this process's own clock.

    Parameters
    ----------
    study
        The study directory.
    clock
        Seconds of this process.
    """

    def __init__(self, study: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._study = study
        self._clock = clock
        self._here = _here()
        #: By crew: the beat last seen, when it was first seen, and whether it has ever changed.
        self._seen: dict[str, tuple[str, float, bool]] = {}

    def verdict(self, crew: Crew) -> Verdict:
        """``alive`` if its process lives or its beat changed lately, ``dead``, or ``silent``: not known yet."""
        if ended(self._study, crew):
            return "dead"
        if self.neighbour(crew):
            return "alive" if _process_started(crew.pid) == crew.started else "dead"
        try:
            beat = _beat_file(self._study, crew.id).read_text()
        except OSError:
            beat = ""
        now = self._clock()
        last, since, changed = self._seen.get(crew.id, (beat, now, False))
        if beat != last:
            last, since, changed = beat, now, True
        self._seen[crew.id] = (last, since, changed)
        if now - since > crew.lease:
            return "dead"
        return "alive" if changed else "silent"

    def neighbour(self, crew: Crew) -> bool:
        """Whether the crew's process can be looked up from here."""
        return crew.boot != "" and (crew.boot, crew.namespace) == (self._here["boot"], self._here["namespace"])

    def seems_alive(self, crew: Crew) -> bool:
        """A guess at a glance, for showing and for nothing else: a beat on another machine is dated by its file."""
        if self.neighbour(crew) or ended(self._study, crew):
            return self.verdict(crew) == "alive"
        try:
            age = time.time() - _beat_file(self._study, crew.id).stat().st_mtime
        except OSError:
            return False
        return age < crew.lease


class Claims:
    """The claims of a study directory, as `crew` makes and sees them; without one they are only read."""

    def __init__(self, study: Path, crew: Crew | None = None, observer: Observer | None = None) -> None:
        self.study = study
        self.crew = crew
        self.observer = observer or Observer(study)

    def latest(self, name: str) -> Claim | None:
        """The claim with the highest token, or None; `CorruptFileError` names a file that is none."""
        tokens = self._tokens(name)
        return self._read(name, tokens[-1]) if tokens else None

    def history(self, name: str) -> list[Claim]:
        """Every claim on `name`, oldest first."""
        return [self._read(name, token) for token in self._tokens(name)]

    def take(self, name: str) -> Claim | None:
        """Claim `name`, if it is free; None where another holds it, or was faster."""
        if self.crew is None:
            raise RunError(f"a crew must be joined to claim, but {name} was to be claimed by none")
        last = self.latest(name)
        if last is not None and last.end is None:
            return None
        token = 1 if last is None else last.token + 1
        record = {"token": token, "crew": asdict(self.crew)}
        return Claim(name, token, self.crew) if publish_json(self._file(name, token), record) else None

    def holds(self, claim: Claim) -> bool:
        """Whether nobody has replaced `claim`."""
        return not replaced(self.study, claim.name, claim.token) and not self._end_file(claim).exists()

    def end(self, claim: Claim, outcome: str, **details: Any) -> bool:
        """Write how `claim` ended, unless that stands already; returns whether this call did."""
        return publish_json(self._end_file(claim), {"outcome": outcome, "time": time.time(), **details})

    def _tokens(self, name: str) -> list[int]:
        try:
            names = [path.name for path in self._folder(name).iterdir()]
        except FileNotFoundError:
            return []
        stems = (entry.removesuffix(".json") for entry in names)
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def _read(self, name: str, token: int) -> Claim:
        path = self._file(name, token)
        record = read_json(path)
        claim = Claim(name, token, _crew(record.get("crew"), path))
        end = self._end_file(claim)
        return Claim(name, token, claim.crew, read_json(end)) if end.exists() else claim

    def _folder(self, name: str) -> Path:
        return self.study / "claims" / validated_name(name)

    def _file(self, name: str, token: int) -> Path:
        return self._folder(name) / f"{token:06d}.json"

    def _end_file(self, claim: Claim) -> Path:
        return self._folder(claim.name) / f"{claim.token:06d}.end.json"


def replaced(study: Path, name: str, token: int) -> bool:
    """Whether the claim of that token has a successor: then its owner must neither write nor publish."""
    return (study / "claims" / validated_name(name) / f"{token + 1:06d}.json").exists()


@contextmanager
def hold(study: Path, patience: float = 10.0, devices: int = 0) -> Iterator[Crew]:
    """Be the one launcher of the study directory `study`: the only one that plans it, and makes its corpus.

    Parameters
    ----------
    study
        The study directory.
    patience
        Seconds to wait for another launcher to end.
    devices
        What the launcher itself holds for its workers.

    Raises
    ------
    RunError
        If another still holds it after `patience` seconds.
    """
    with joined(study, devices=devices) as crew:
        claims = Claims(study, crew)
        deadline = time.monotonic() + patience
        while (claim := _take_from_the_dead(claims)) is None:
            holder = claims.latest(_LAUNCHER)
            if time.monotonic() > deadline and holder is not None:
                raise RunError(
                    f"one launcher at a time may work on {study}, but process {holder.crew.pid} on "
                    f"{holder.crew.host} does; wait for it or stop it"
                )
            time.sleep(0.1)
        try:
            yield crew
        finally:
            claims.end(claim, "done")


#: The claim that a launcher holds.
_LAUNCHER = "launcher"


def _take_from_the_dead(claims: Claims) -> Claim | None:
    last = claims.latest(_LAUNCHER)
    if last is not None and last.end is None and claims.observer.verdict(last.crew) == "dead":
        claims.end(last, "lost")
    return claims.take(_LAUNCHER)


def _crew(record: Any, path: Path) -> Crew:
    try:
        return Crew(**record)
    except TypeError as error:
        raise CorruptFileError(f"{path} must name a crew, but: {error}") from error


def _end_of(study: Path, crew: Crew) -> Path:
    return study / "crews" / f"{validated_name(crew.id)}.end.json"


def _beat_file(study: Path, crew: str) -> Path:
    return study / "crews" / f"{validated_name(crew)}.beat"


def _write_beat(study: Path, crew: str, seconds: float) -> None:
    """Overwrite the beat in place: the same file and size, so that a reader's cache is asked again when it opens it."""
    descriptor = os.open(_beat_file(study, crew), os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, f"{seconds:016.3f}\n".encode(), 0)
    finally:
        os.close(descriptor)


def _here() -> dict[str, Any]:
    """Where this process lives; `boot` is empty where processes cannot be looked up."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, namespace = "", ""
    pid = os.getpid()
    return {
        "host": platform.node(),
        "boot": boot,
        "namespace": namespace,
        "pid": pid,
        "started": _process_started(pid) or 0,
    }


def _process_started(pid: int) -> int | None:
    """When a living process started, in the kernel's ticks: tells it from another with its number; else None."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
