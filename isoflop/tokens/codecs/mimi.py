"""Mimi (Défossez et al. 2024, arXiv 2410.00037): 12.5 frames a second, codebook 0 semantic, of transformers.

SODA's codec: with its first 8 of 32 codebooks of 2,048 entries, 100 tokens a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError
from isoflop.store import read_json, write_json
from isoflop.tokens.codecs import RECORD
from isoflop.tokens.codecs.weights import (
    Floats,
    checked_codes,
    checked_waves,
    digest_of,
    located,
    padded,
    pretrained,
    torch_of,
)

HUB_NAME = "kyutai/mimi"


class MimiCodec:
    """A loaded Mimi.

    Parameters
    ----------
    weights
        A folder with config.json and model.safetensors, or a name on the hub.
    codebooks
        How many of its codebooks to use, the semantic one first.
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.

    Raises
    ------
    InputError
        If the weights are not there, or the codec has not that many codebooks.
    CorruptFileError
        If the weights cannot be loaded.
    MissingExtraError
        If torch or transformers is not installed.
    """

    name = "mimi"

    def __init__(self, *, weights: str | Path = HUB_NAME, codebooks: int = 8, device: str = "auto") -> None:
        self._torch, self.device = torch_of(device)
        self.weights = located(str(weights))
        model = pretrained("MimiModel", str(weights), self.name)
        config = model.config
        if config.num_semantic_quantizers != 1 or not config.use_causal_conv:
            raise InputError(f"a Mimi must be causal and have one semantic codebook, but {weights} is not")
        if not 1 <= int(codebooks) <= config.num_quantizers:
            raise InputError(f"1 <= codebooks <= {config.num_quantizers} must hold, but got {codebooks}")
        self.rate = int(config.sampling_rate)
        self.frame_rate = float(config.frame_rate)
        self.codebook_sizes = (int(config.codebook_size),) * int(codebooks)
        self.semantic = 1
        self.digest = digest_of(model.state_dict(), {"codec": self.name, "codebooks": int(codebooks)})
        self._frame = round(self.rate / self.frame_rate)
        self._model: Any = model.to(self.device)

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
            given = self._torch.from_numpy(batch).to(self.device)
            codes = self._model.encode(given, num_quantizers=len(self.codebook_sizes)).audio_codes
        return [row[:, :count].T.astype(np.int64) for row, count in zip(codes.cpu().numpy(), frames, strict=True)]

    def decode(self, codes: NDArray[np.integer]) -> Floats:
        """A wave at `rate`, a frame's samples for each frame; `InputError` if the codes are not this codec's."""
        codes = checked_codes(codes, self.codebook_sizes)
        with self._torch.inference_mode():
            given = self._torch.from_numpy(codes.T[None].copy()).to(self.device)
            wave = self._model.decode(given).audio_values[0, 0]
        return np.asarray(wave.cpu().numpy()[: len(codes) * self._frame], dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write which weights these are into `folder`, not the weights."""
        record = {"name": self.name, "weights": self.weights, "codebooks": len(self.codebook_sizes)}
        write_json(folder / RECORD, {**record, "digest": self.digest})

    @classmethod
    def load(cls, folder: Path, *, weights: str | Path | None = None, device: str = "auto") -> MimiCodec:
        """Read what `save` wrote; `weights` say where they lie now."""
        record = read_json(folder / RECORD)
        return cls(weights=weights or str(record["weights"]), codebooks=int(record["codebooks"]), device=device)
