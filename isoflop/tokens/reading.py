"""Reading tokens: the parts of many files as one long sequence, memory-mapped.

A file is mapped when it is first read from. What is kept in memory is a few numbers for each file; the tokens
themselves are the page cache's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError


@dataclass(frozen=True)
class Piece:
    """`count` tokens of a file, from the token `first` on."""

    path: Path
    first: int
    count: int


class TokenStream:
    """The tokens of `pieces` one after the other.

    Parameters
    ----------
    pieces
        In order; empty ones are left out.
    dtype
        Of the ids in the files.
    """

    def __init__(self, pieces: Sequence[Piece], dtype: np.dtype[np.unsignedinteger]) -> None:
        self._pieces = [piece for piece in pieces if piece.count]
        self._dtype = dtype
        self._mapped: list[NDArray[np.unsignedinteger] | None] = [None] * len(self._pieces)
        self._ends = np.cumsum([piece.count for piece in self._pieces], dtype=np.int64)
        self._begins = self._ends - np.array([piece.count for piece in self._pieces], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, starts: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """The piece in which each of `starts` lies, and the place in it: what `fill` reads from."""
        numbers = np.searchsorted(self._ends, starts, side="right")
        return numbers.tolist(), (starts - self._begins[numbers]).tolist()

    def fill(self, windows: NDArray[np.int64], numbers: Sequence[int], places: Sequence[int]) -> None:
        """Read as many ids as `windows` has columns from each of the located places on, into its rows in turn."""
        length = windows.shape[1]
        for row, (number, place) in enumerate(zip(numbers, places, strict=True)):
            ids = self._mapped[number]
            if ids is None:
                ids = self._map(number)
            part = ids[place : place + length]
            if len(part) == length:
                windows[row] = part
            else:
                self._fill_across(windows[row], number, place)

    def windows(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """`length` ids from each of `starts` on, shape (starts, length)."""
        found = np.empty((len(starts), length), dtype=np.int64)
        self.fill(found, *self.locate(starts))
        return found

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """The ids from `start` to `stop`; `InputError` unless they are there."""
        if not 0 <= start <= stop <= len(self):
            raise InputError(f"0 <= start <= stop <= {len(self)} must hold, but got {start} and {stop}")
        return self.windows(np.array([start] if stop > start else [], dtype=np.int64), stop - start).reshape(-1)

    def _fill_across(self, window: NDArray[np.int64], number: int, place: int) -> None:
        """A window that begins in piece `number` and ends in a later one."""
        done = 0
        while done < len(window):
            ids = self._map(number)[place : place + len(window) - done]
            window[done : done + len(ids)] = ids
            done, number, place = done + len(ids), number + 1, 0

    def _map(self, number: int) -> NDArray[np.unsignedinteger]:
        ids = self._mapped[number]
        if ids is None:
            piece = self._pieces[number]
            offset = piece.first * self._dtype.itemsize
            # A plain view: slicing numpy's own subclass takes five times as long.
            ids = np.asarray(np.memmap(piece.path, self._dtype, mode="r", offset=offset, shape=(piece.count,)))
            self._mapped[number] = ids
        return ids
