"""What processes may use of the machine and of what is installed, and how one ends with its parent."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
from contextlib import suppress

from isoflop.errors import MissingExtraError

_PR_SET_PDEATHSIG = 1


def cores() -> int:
    """Processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(count: int) -> dict[str, str]:
    """What the environment of a process says that is to compute with so many threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count))


def require(extra: str, *packages: str) -> None:
    """Raise `MissingExtraError`, which names the `extra`, unless the packages are installed; none is imported."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra)


def die_with_the_parent() -> None:
    """Ask the kernel, where it is Linux's, to kill this process when its parent dies; elsewhere its input ends."""
    parent = os.getppid()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
