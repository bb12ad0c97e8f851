"""HuBERT (Hsu et al. 2021, arXiv 2106.07447): 50 vectors a second that tell what is said, of transformers.

A wave's vectors depend on the wave alone. HuBERT base normalises over all of a wave, so waves are not padded: those of
one length make a batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoflop.errors import InputError
from isoflop.tokens.codecs.weights import (
    Floats,
    checked_waves,
    digest_of,
    from_pretrained,
    located,
    pretrained,
    torch_of,
)

HUB_NAME = "facebook/hubert-base-ls960"
#: Samples per second that every HuBERT takes.
RATE = 16_000
#: From this layer come the vectors whose 500 clusters taught HuBERT Large (Hsu et al. 2021, section IV-C).
LAYER = 9


class HubertFeatures:
    """A loaded HuBERT.

    Parameters
    ----------
    weights
        A folder with config.json and the weights, or a name on the hub.
    layer
        Whose output to take, from 1.
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.

    Raises
    ------
    InputError
        If the weights are not there, or it has no such layer.
    CorruptFileError
        If the weights cannot be loaded.
    MissingExtraError
        If torch or transformers is not installed.
    """

    def __init__(self, *, weights: str | Path = HUB_NAME, layer: int = LAYER, device: str = "auto") -> None:
        self._torch, self.device = torch_of(device)
        self.weights = located(str(weights))
        model = pretrained("HubertModel", str(weights), "hubert")
        if not 1 <= int(layer) <= model.config.num_hidden_layers:
            raise InputError(f"1 <= layer <= {model.config.num_hidden_layers} must hold, but got {layer}")
        self.layer = int(layer)
        self.normalises = _normalises(str(weights), model.config)
        self.hop = int(np.prod(model.config.conv_stride))
        self._reach = 1
        for kernel, stride in zip(reversed(model.config.conv_kernel), reversed(model.config.conv_stride), strict=True):
            self._reach = (self._reach - 1) * stride + kernel
        facts = {"layer": self.layer, "normalises": self.normalises}
        self.digest = digest_of(model.state_dict(), facts)
        # Layers above are not run; the next one stays, since the last may be followed by a norm of its own.
        model.encoder.layers = model.encoder.layers[: self.layer + 1]
        self._model: Any = model.to(self.device)

    @property
    def rate(self) -> float:
        """Vectors per second."""
        return RATE / self.hop

    def of(self, waves: Sequence[Floats]) -> list[Floats]:
        """Vectors of mono waves at `RATE`, shape (vectors, dimensions) each; at least one, of silence if need be.

        Raises
        ------
        InputError
            If a wave is empty, not mono, or holds NaN or infinity.
        """
        groups: dict[int, list[int]] = defaultdict(list)
        prepared = []
        for index, wave in enumerate(checked_waves(waves, RATE, RATE)):
            vectors = max(1, (len(wave) - self._reach) // self.hop + 1)
            samples = (vectors - 1) * self.hop + self._reach
            wave = np.pad(wave, (0, max(0, samples - len(wave))))[:samples]
            if self.normalises:
                wave = (wave - wave.mean()) / np.sqrt(wave.var() + np.float32(1e-7))
            prepared.append(wave)
            groups[vectors].append(index)
        found: dict[int, Floats] = {}
        for indices in groups.values():
            batch = self._torch.from_numpy(np.stack([prepared[index] for index in indices]))
            with self._torch.inference_mode():
                states = self._model(batch.to(self.device), output_hidden_states=True).hidden_states
            found |= zip(indices, states[self.layer].float().cpu().numpy(), strict=True)
        return [found[index] for index in range(len(waves))]


def _normalises(weights: str, config: Any) -> bool:
    """Whether waves are brought to mean 0 and variance 1 first: as the weights' preprocessor says, or their kind."""
    import transformers

    try:
        extractor = from_pretrained(transformers.Wav2Vec2FeatureExtractor, weights)
    except OSError:
        return bool(config.feat_extract_norm == "layer")
    return bool(extractor.do_normalize)
