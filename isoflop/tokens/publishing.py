"""Making a folder whole or not at all: it is filled beside its place and renamed to it. And the locks for that."""

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
from typing import IO

from isoflop.errors import InputError, RunError

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
            locked(lock)
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


def locked(file: IO[bytes], *, wait: bool = False) -> bool:
    """Whether this process now holds the lock of a file, until that is closed or the process ends.

    The lock is `flock`'s: processes on several machines see each other's where their file system keeps such locks for
    all (NFS does; Lustre when it is mounted with ``flock``).

    Parameters
    ----------
    file
        Open for writing.
    wait
        Whether to wait for who holds it now; the result is then true.

    Raises
    ------
    RunError
        If the file system keeps no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise RunError(
            f"a corpus must be made on a file system that keeps locks, but {file.name} cannot be locked: "
            f"{error.strerror}; make it elsewhere and move it"
        ) from error
    return True


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether this process is now the only one that holds `path`; a dead one holds nothing.

    The file must be there for another reason and is never made here: it would be left behind by who comes too late.
    """
    try:
        lock = path.open("rb+")
    except FileNotFoundError:  # what it was locked for is done
        yield False
        return
    with lock:
        yield locked(lock, wait=wait)


def _refuse_occupied(directory: Path) -> None:
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise InputError(
            f"a corpus must be made where nothing is, but {directory} exists; give another folder, or delete "
            "this one if nothing in it is wanted"
        )


def _remove_abandoned(place: Path) -> None:
    try:
        with (place / LOCK).open("rb+") as lock:
            if locked(lock):
                shutil.rmtree(place, ignore_errors=True)
    except FileNotFoundError:
        if place.is_dir() and time.time() - place.stat().st_mtime > _UNLOCKED_SECONDS:
            shutil.rmtree(place, ignore_errors=True)


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
