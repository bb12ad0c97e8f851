"""Checkpoints: what a run, or another of its trunk, needs to carry on as if it had never stopped.

A checkpoint is one file, ``step-<steps done>-<digest>.pt``, written beside its place and renamed into it; the
digest in its name is that of its bytes, so a file that changed since is known before anything in it is read. Of a
run the newest two are kept: where the newest turns out corrupt, it carries on from the one before. Of a trunk all are.
A large one is copied, and written while the training goes on (`Writer`).
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

import torch

from isoflop.errors import CorruptFileError
from isoflop.store import replacing

logger = logging.getLogger(__name__)

#: Checkpoints kept: the newest, and one to fall back to.
KEPT = 2
#: From this size on a checkpoint is written in the background. On one core, writing 16 MiB takes 42 ms, copying them 5;
#: 256 MiB take 700 ms and 41. Below 4 MiB (9 ms), a thread would be no gain that could be measured.
BACKGROUND_BYTES = 2**24

_SET_ASIDE = "corrupt-"
_DIGITS = 16
_NAME = re.compile(r"step-(\d{8,})-([0-9a-f]{16})\.pt")


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` optimiser steps.

    Parameters
    ----------
    run
        The run's id, or that of the trunk for which it is kept.
    step
        Steps done.
    model, optimizer
        State dicts.
    seconds
        Spent on these steps, over all the starts that led here.
    resumed
        How often they were resumed.
    shared
        The first of these steps, which the run found in a checkpoint of its trunk.
    row
        Steps since the last row of metrics, and the sums of their losses and gradient norms.
    row_types
        The sums of these steps' losses by type of token, and how many of each there were.
    row_spikes
        Spikes counted before the last row of metrics.
    health
        `isoflop.training.health.Health` as plain numbers.
    metrics, validation, made_by
        Of a trunk's: the metrics and the validations up to here (a run's own stand in its files), and the run that
        took these steps.
    """

    run: str
    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    seconds: float
    resumed: int
    shared: int = 0
    row: tuple[int, float, float] = (0, 0.0, 0.0)
    row_types: tuple[tuple[float, ...], tuple[int, ...]] = ((), ())
    row_spikes: int = 0
    health: dict[str, Any] = field(default_factory=dict)
    metrics: str = ""
    validation: str = ""
    made_by: str = ""


def save(directory: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoint` whole or not at all, then remove all but the newest `KEPT`; returns its path."""
    # Hidden, as everything half-written is, until its digest is known.
    whole = directory / f".step-{checkpoint.step:08d}.pt"
    with replacing(whole) as temporary, temporary.open("wb") as file:
        hashing = _Hashing(file)
        torch.save(vars(checkpoint), cast("IO[bytes]", hashing))
        file.flush()
    path = whole.rename(directory / f"step-{checkpoint.step:08d}-{hashing.digest}.pt")
    for old in _newest_first(directory)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


class _Hashing:
    """A file that is only written to, from its start to its end, and the digest of what was."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write `data`."""
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Write what is held back."""
        self._file.flush()

    @property
    def digest(self) -> str:
        """As `_digest` gives it for the whole content."""
        return self._hash.hexdigest()[:_DIGITS]


class Writer:
    """Writes checkpoints: small ones at once, large ones in a thread, from a copy, while the training goes on.

    One at a time is written, so that there is never more than one copy. An error of a write (a full disk) is raised
    where the next checkpoint is to be written, or at `finish`.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(self, checkpoint: Checkpoint, save: Callable[[Checkpoint], object]) -> None:
        """Let `save` write `checkpoint`."""
        self.finish()
        if sum(tensor.nbytes for tensor in _tensors((checkpoint.model, checkpoint.optimizer))) < BACKGROUND_BYTES:
            save(checkpoint)
            return
        model, optimizer = _copied((checkpoint.model, checkpoint.optimizer), {})
        copied = replace(checkpoint, model=model, optimizer=optimizer)
        self._thread = threading.Thread(target=self._save, args=(copied, save), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until what was begun is written, or has failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def finish(self) -> None:
        """Wait, and raise what went wrong."""
        self.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _save(self, checkpoint: Checkpoint, save: Callable[[Checkpoint], object]) -> None:
        try:
            save(checkpoint)
        except BaseException as error:  # raised in the training's thread
            self._error = error


def _tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _tensors(value)


def _copied(state: Any, made: dict[int, torch.Tensor]) -> Any:
    """`state`, its tensors copied into the machine's memory: those of one matrix into one."""
    if isinstance(state, torch.Tensor):
        place = state.data_ptr()
        if place not in made or made[place].shape != state.shape:
            made[place] = state.detach().to("cpu", copy=True)
        return made[place]
    if isinstance(state, dict):
        return {key: _copied(value, made) for key, value in state.items()}
    return type(state)(_copied(value, made) for value in state) if isinstance(state, list | tuple) else state


def load_newest(
    directory: Path,
    run_id: str,
    *,
    after: int = 0,
    last: int | None = None,
    aside: Path | None = None,
    checked: bool = False,
) -> Checkpoint | None:
    """The newest whole checkpoint of the run (or trunk), or None where there is none.

    A corrupt one is reported by name (a warning of this module's logger) and set aside as ``corrupt-<name>``.

    Parameters
    ----------
    directory, run_id
        Where, and whose.
    after, last
        Of those after more than so many steps, and (None: any) no more than so many.
    aside
        The directory for corrupt ones; None: that in which they are.
    checked
        Whether another process has just found them whole: then they are mapped into memory, for all such processes
        once.

    Raises
    ------
    CorruptFileError
        If a whole checkpoint is another run's.
    """
    for path in _newest_first(directory):
        step = _step(path)
        if step <= after or (last is not None and step > last):
            continue
        try:
            checkpoint = _map(path) if checked else _load(path)
        except FileNotFoundError:
            # Another run of the trunk has just set it aside.
            continue
        except CorruptFileError as error:
            logger.warning("%s", error)
            place = directory if aside is None else aside
            place.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                path.rename(place / f"{_SET_ASIDE}{path.name}")
            continue
        if checkpoint.run != run_id:
            raise CorruptFileError(
                f"{path} must be a checkpoint of the run {run_id}, but is one of {checkpoint.run}; "
                "delete it to train the run from its start"
            )
        return checkpoint
    return None


def corrupt(directory: Path) -> list[str]:
    """Names of the checkpoints that `load_newest` found corrupt and set aside, sorted."""
    return sorted(path.name.removeprefix(_SET_ASIDE) for path in directory.glob(f"{_SET_ASIDE}*"))


def _load(path: Path) -> Checkpoint:
    content = path.read_bytes()
    match = _NAME.fullmatch(path.name)
    if match is None or match[2] != _digest(content):
        raise CorruptFileError(f"{path} is corrupt: its content must have the digest in its name; it is not used")
    return _read(path, io.BytesIO(content))


def _map(path: Path) -> Checkpoint:
    return _read(path, path, mmap=True)


def _read(path: Path, content: io.BytesIO | Path, **how: bool) -> Checkpoint:
    try:
        return Checkpoint(**torch.load(content, map_location="cpu", weights_only=True, **how))
    except (pickle.UnpicklingError, RuntimeError, TypeError) as error:
        raise CorruptFileError(
            f"{path} is no checkpoint of this version of isoflop; it is not used: {error}"
        ) from error


def _newest_first(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    named = [path for path in directory.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(named, key=lambda path: (_step(path), path.name), reverse=True)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None  # noqa: S101 - chosen by its name
    return int(match[1])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
