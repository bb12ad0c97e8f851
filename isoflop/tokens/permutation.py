"""A random order of any number of things, computed place by place: no table, no state.

A generalised Feistel network (Black & Rogaway 2002, "Ciphers with arbitrary finite domains", section 5) permutes the
pairs (x, y) with x < a and y < b, where a·b is the first such product at or above the size, by adding to one half a
hash of the other. What falls beyond the size goes round again until it does not, which is rare: a·b − size < √size.

Integers only, so it is the same on every machine and with every version of numpy.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

#: Four are proven enough to hide all structure from whoever sees few places; the rest are for small sizes.
_ROUNDS = 8
_GAMMA = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def key(*parts: object) -> int:
    """A key in [0, 2^64) that depends on the `parts` as they print, and on nothing else."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def permuted(places: NDArray[np.integer], size: int, secret: int) -> NDArray[np.int64]:
    """Where each of `places` goes in the permutation of ``range(size)`` that the key `secret` chooses.

    ``permuted(np.arange(size), size, secret)`` is the whole of it.

    Parameters
    ----------
    places
        Any places in [0, size), in any order; the result has their shape.
    size
        Of the permutation, below 2^62.
    secret
        Any integer; see `key`.
    """
    a = math.isqrt(size - 1) + 1 if size > 1 else 1
    b = -(-size // a)
    result = np.asarray(places, dtype=np.uint64)
    result = _shuffled(result, a, b, secret)
    while (beyond := result >= size).any():
        result[beyond] = _shuffled(result[beyond], a, b, secret)
    return result.astype(np.int64)


def _shuffled(values: NDArray[np.uint64], a: int, b: int, secret: int) -> NDArray[np.uint64]:
    """The Feistel network on ``range(a * b)``."""
    columns, rows = np.uint64(b), np.uint64(a)
    x, y = values // columns, values % columns
    for number in range(_ROUNDS):
        # Scalars are Python's until here: numpy would warn of the overflow that is meant.
        salt = np.uint64((secret + number * _GAMMA) & _MASK)
        if number % 2:
            y = (y + _mixed(x + salt) % columns) % columns
        else:
            x = (x + _mixed(y + salt) % rows) % rows
    return x * columns + y


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea & Flood 2014): a bijection whose output looks random."""
    values = values * np.uint64(_GAMMA)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
