"""Mimi (Défossez et al. 2024, arXiv 2410.00037): 12.5 frames a second, codebook 0 semantic, of transformers.

SODA's codec: with its first 8 of 32 codebooks of 2,048 entries, 100 tokens a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isoflop.errors import InputError
from isoflop.tokens.codecs.neural import NeuralCodec, checked_codebooks
from isoflop.tokens.codecs.weights import digest_of, located, pretrained, torch_of

HUB_NAME = "kyutai/mimi"


class MimiCodec(NeuralCodec):
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
        codebooks = checked_codebooks(codebooks, config.num_quantizers)
        self.rate = int(config.sampling_rate)
        self.frame_rate = float(config.frame_rate)
        self.codebook_sizes = (int(config.codebook_size),) * codebooks
        self.semantic = 1
        self.digest = digest_of(model.state_dict(), {"codec": self.name, "codebooks": codebooks})
        self._frame = round(self.rate / self.frame_rate)
        self._model: Any = model.to(self.device)

    def _codes(self, batch: Any) -> Any:
        return self._model.encode(batch, num_quantizers=len(self.codebook_sizes)).audio_codes

    def _wave(self, codes: Any) -> Any:
        return self._model.decode(codes).audio_values
