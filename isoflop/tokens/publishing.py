"""Making a folder whole or not at all: it is filled beside its place and renamed to it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isoflop.errors import InputError

LOCK = "lock"
#: A building place that has no lock was left by a build killed in its first or last instant.
_UNLOCKED_SECONDS = 3600.0


@contextmanager
def publishing(directory: Path) -> Iterator[Path]:
    """Yield an empty directory beside `directory`; on success it is renamed to that, on an error removed.

    What a killed process leaves of this is removed by the next one: each place is locked while its maker lives.

    Raises
    ------
    InputError
        If something other than an empty directory stands at `directory`, before or after.
    """
    _refuse_occupied(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{directory.name}.making-"
    for stale in directory.parent.glob(f"{prefix}*"):
        _remove_abandoned(stale)
    place = Path(tempfile.mkdtemp(prefix=prefix, dir=directory.parent))
    try:
        with (place / f"{LOCK}.new").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Under its own name only once it is held: a lock that can be taken means that its maker is dead.
            (place / f"{LOCK}.new").rename(place / LOCK)
            yield place
            place.chmod(0o755)
            (place / LOCK).unlink()
            try:
                place.rename(directory)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    _refuse_occupied(directory)
                raise
            _flush_directory(directory.parent)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _refuse_occupied(directory: Path) -> None:
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise InputError(
            f"a corpus must be made where nothing is, but {directory} exists; delete {directory} and run again"
        )


def _remove_abandoned(place: Path) -> None:
    try:
        with (place / LOCK).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(place, ignore_errors=True)
    except BlockingIOError:
        return
    except FileNotFoundError:
        if place.is_dir() and time.time() - place.stat().st_mtime > _UNLOCKED_SECONDS:
            shutil.rmtree(place, ignore_errors=True)


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
