"""What the neural codecs have in common: batches in and out of a torch model, and a record of which weights it has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError
from isoflop.store import read_json, write_json
from isoflop.tokens.codecs import RECORD
from isoflop.tokens.codecs.weights import Floats, checked_codes, checked_waves, padded


class NeuralCodec(ABC):
    """A torch model that turns waves into codes and back; whoever loads one sets the attributes below.

    Attributes
    ----------
    weights
        The folder or file that they were loaded from; None where the package's own were downloaded.
    device
        Where it computes.
    rate, frame_rate
        Samples and frames per second.
    codebook_sizes, semantic
        Entries of each codebook, and how many of the codebooks, the first, are semantic.
    digest
        Of the weights and of what else decides the codes.
    """

    name: ClassVar[str]
    weights: str | None
    device: str
    rate: int
    frame_rate: float
    codebook_sizes: tuple[int, ...]
    semantic: int
    digest: str
    #: torch itself, and samples per frame.
    _torch: Any
    _frame: int

    @abstractmethod
    def __init__(self, *, weights: str | Path, codebooks: int, device: str) -> None: ...

    @abstractmethod
    def _codes(self, batch: Any) -> Any:
        """Codes of a batch of waves, tensors of shape (waves, 1, samples) to (waves, codebooks or more, frames)."""

    @abstractmethod
    def _wave(self, codes: Any) -> Any:
        """Waves of codes, tensors of shape (waves, codebooks, frames) to (waves, 1, samples)."""

    def encode(self, waves: Sequence[Floats], rate: int) -> list[NDArray[np.int64]]:
        """Codes of mono waves in [-1, 1] as one batch, shape (frames, codebooks) each; last frames end in silence.

        Raises
        ------
        InputError
            If a wave is empty, not mono, holds NaN or infinity, or the rate is not the codec's.
        """
        if not waves:
            return []
        batch, frames = padded(checked_waves(waves, rate, self.rate), self._frame)
        with self._torch.inference_mode():
            codes = self._codes(self._torch.from_numpy(batch).to(self.device)).cpu().numpy()
        books = len(self.codebook_sizes)
        return [row[:books, :count].T.astype(np.int64) for row, count in zip(codes, frames, strict=True)]

    def decode(self, codes: NDArray[np.integer]) -> Floats:
        """A wave at `rate`, a frame's samples for each frame; `InputError` if the codes are not this codec's."""
        codes = checked_codes(codes, self.codebook_sizes)
        with self._torch.inference_mode():
            wave = self._wave(self._torch.from_numpy(codes.T[None].copy()).to(self.device))[0, 0]
        return np.asarray(wave.cpu().numpy()[: len(codes) * self._frame], dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write which weights these are into `folder`, not the weights."""
        record = {"name": self.name, "weights": self.weights, "codebooks": len(self.codebook_sizes)}
        write_json(folder / RECORD, {**record, "digest": self.digest})

    @classmethod
    def load(cls, folder: Path, *, weights: str | Path | None = None, device: str = "auto") -> Self:
        """Read what `save` wrote; `weights` say where they lie now."""
        record = read_json(folder / RECORD)
        return cls(weights=weights or record["weights"], codebooks=int(record["codebooks"]), device=device)


def checked_codebooks(asked: int, most: int) -> int:
    """How many codebooks to use; `InputError` if a codec does not have that many."""
    if not 1 <= int(asked) <= most:
        raise InputError(f"1 <= codebooks <= {most} must hold, but got {asked}")
    return int(asked)
