"""The code that a job will run, kept in the study directory: edits while it waits do not reach it.

``<study>/code/<digest>/isoflop/`` is a copy of the package as it was when it was submitted, ``<digest>.json`` beside it
says which version and which state of the repository that was.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import isoflop
from isoflop.store import write_json

_LEFT_OUT = ("__pycache__", ".", "~")


def take(shelf: Path) -> Path:
    """Copy the package into a folder under `shelf`, once for each content; returns the folder to import it from."""
    package = Path(isoflop.__file__).parent
    files = sorted(path for path in package.rglob("*") if path.is_file() and _wanted(path.relative_to(package)))
    content = {path: path.read_bytes() for path in files}
    digest = hashlib.sha256()
    for path, data in content.items():
        digest.update(f"{path.relative_to(package)}\0{len(data)}\0".encode() + data)
    folder = shelf / digest.hexdigest()[:16]
    if not folder.exists():
        shelf.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".", dir=shelf))
        try:
            for path, data in content.items():
                copy = beside / "isoflop" / path.relative_to(package)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(data)
                # With its date, so that what Python compiled of it is valid for the copy too: else every worker of a
                # sweep would compile the package again at its start.
                shutil.copystat(path, copy)
                _copy_compiled(path, copy)
            beside.chmod(0o755)
            write_json(folder.with_suffix(".json"), _origin(package))
            # Two who submit at once copy the same: whoever comes second finds it there.
            with suppress(OSError):
                beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def _copy_compiled(path: Path, copy: Path) -> None:
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.{sys.implementation.cache_tag}.pyc"):
        place = copy.parent / "__pycache__" / compiled.name
        place.parent.mkdir(exist_ok=True)
        shutil.copy2(compiled, place)


def _wanted(path: Path) -> bool:
    return not any(part.startswith(_LEFT_OUT[:2]) or part.endswith(_LEFT_OUT[2]) for part in path.parts)


def _origin(package: Path) -> dict[str, Any]:
    """Version and state of the repository; `commit` is None where the package is not in one."""
    commit = _git(package, "rev-parse", "HEAD")
    changed = _git(package, "status", "--porcelain", "--", ".")
    return {"version": isoflop.__version__, "commit": commit, "changed": (changed or "").splitlines()}


def _git(package: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(package), *arguments],  # noqa: S607 (whichever git the user has)
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
