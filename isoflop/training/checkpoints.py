"""Checkpoints: what a run, or another of its trunk, needs to carry on as if it had never stopped.

A checkpoint is one file, ``step-<steps done>-<digest>.pt``, written beside its place and renamed into it; the
digest in its name is that of its bytes, so a file that changed since is known before anything in it is read. Of a
run the newest two are kept: where the newest turns out corrupt, it carries on from the one before. Of a trunk all are.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from isoflop.errors import CorruptFileError
from isoflop.store import replacing

logger = logging.getLogger(__name__)

#: Checkpoints kept: the newest, and one to fall back to.
KEPT = 2

_SET_ASIDE = "corrupt-"
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
    metrics, made_by
        Of a trunk's: the metrics up to here (a run's own stand in its file), and the run that took these steps.
    """

    run: str
    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    seconds: float
    resumed: int
    shared: int = 0
    row: tuple[int, float, float] = (0, 0.0, 0.0)
    metrics: str = ""
    made_by: str = ""


def save(directory: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoint` whole or not at all, then remove all but the newest `KEPT`; returns its path."""
    buffer = io.BytesIO()
    torch.save(vars(checkpoint), buffer)
    content = buffer.getbuffer()
    path = directory / f"step-{checkpoint.step:08d}-{_digest(content)}.pt"
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    for old in _newest_first(directory)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load_newest(
    directory: Path, run_id: str, *, after: int = 0, last: int | None = None, aside: Path | None = None
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
            checkpoint = _load(path)
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
    try:
        return Checkpoint(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
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


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
