"""Files that other processes read: whole or absent, whoever is killed, whenever.

`replacing` renames a finished file into its place: the last writer wins. `publish_json` links it there: the first
writer wins and no other can undo it, which claims and results need where two believe that they are alone. Both hold on
shared file systems: rename and link are done by the server, all at once or not.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isoflop.errors import CorruptFileError


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed to `path`, else removed.

    Unless it is to be `durable`, it is not flushed: a power cut (no mere kill) may then leave less than was written.
    """
    with _temporary(path) as temporary:
        yield temporary
        temporary.chmod(0o644)
        if durable:
            _flush(temporary)
        temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write `value` to `path` as JSON, whole or not at all; see `replacing`."""
    with replacing(path, durable) as temporary:
        temporary.write_text(_json(value), encoding="utf-8")


def publish_json(path: Path, value: Any) -> bool:
    """Write `value` to `path` as JSON unless a file stands there; returns whether `path` is now this call's.

    Of any number of callers on any number of machines one is told True.
    """
    with _temporary(path) as temporary:
        temporary.write_text(_json(value), encoding="utf-8")
        temporary.chmod(0o644)
        _flush(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A network file system may repeat a request whose answer was lost: then the link that stands is ours.
            return temporary.stat().st_nlink == 2
        return True


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object at `path`; `CorruptFileError` names the file where it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptFileError(f"{path} must hold a JSON object, but: {error}") from error
    if not isinstance(value, dict):
        raise CorruptFileError(f"{path} must hold a JSON object, but holds a {type(value).__name__}")
    return value


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
