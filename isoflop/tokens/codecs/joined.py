"""EnCodec led by units of HuBERT: what is said, then how it sounds, at EnCodec's 75 frames a second.

Units are k-means clusters of HuBERT's vectors, fitted here. HuBERT has 50 vectors a second: each frame takes the vector
of its middle, so units come once or twice in a row.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError
from isoflop.store import read_json, write_json
from isoflop.tokens.codecs import RECORD
from isoflop.tokens.codecs.encodec import EncodecCodec
from isoflop.tokens.codecs.hubert import HUB_NAME, LAYER, RATE, HubertFeatures
from isoflop.tokens.codecs.kmeans import kmeans, nearest
from isoflop.tokens.codecs.weights import Floats, checked_codes, checked_waves
from isoflop.tokens.preparation import resampled

#: The fitted units beside the codec's description.
UNITS_NAME = "units.npz"


class JoinedCodec:
    """EnCodec and HuBERT with fitted units; make one by `fit` or `load`.

    Parameters
    ----------
    acoustic, features
        The two models.
    centroids
        Of the units, shape (units, dimensions).
    """

    name = "encodec+hubert"

    def __init__(self, acoustic: EncodecCodec, features: HubertFeatures, centroids: Floats) -> None:
        self.acoustic = acoustic
        self.features = features
        self.centroids = centroids
        self.rate = acoustic.rate
        self.frame_rate = acoustic.frame_rate
        self.codebook_sizes = (len(centroids), *acoustic.codebook_sizes)
        self.semantic = 1

    @classmethod
    def fit(
        cls,
        waves: Sequence[Floats],
        rate: int,
        *,
        weights: str | Path | None = None,
        hubert: str | Path = HUB_NAME,
        layer: int = LAYER,
        units: int = 500,
        codebooks: int = 8,
        device: str = "auto",
        seed: int = 0,
    ) -> JoinedCodec:
        """Fit units to calibration speech: deterministic given the waves, the seed and one thread.

        Parameters
        ----------
        waves, rate
            Mono, at EnCodec's rate.
        weights, codebooks, device
            EnCodec's, see `EncodecCodec`.
        hubert, layer
            HuBERT's weights and layer, see `HubertFeatures`.
        units
            Clusters.
        seed
            Of the clusters' start.

        Raises
        ------
        InputError
            If weights are not there, a wave is not usable, or the waves hold fewer vectors than units.
        """
        acoustic = EncodecCodec(weights=weights, codebooks=codebooks, device=device)
        features = HubertFeatures(weights=hubert, layer=layer, device=device)
        if not waves:
            raise InputError("a codec must be fitted to at least one wave, but got none")
        vectors = features.of(_heard(waves, rate, acoustic.rate))
        return cls(acoustic, features, kmeans(np.concatenate(vectors), int(units), int(seed)))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of both models and the units."""
        digest = hashlib.sha256(f"{self.name} {self.acoustic.digest} {self.features.digest}".encode())
        digest.update(f" {self.centroids.dtype.str} {self.centroids.shape}\0".encode())
        digest.update(np.ascontiguousarray(self.centroids).tobytes())
        return digest.hexdigest()

    def encode(self, waves: Sequence[Floats], rate: int) -> list[NDArray[np.int64]]:
        """Codes of mono waves in [-1, 1] as one batch: units first, then EnCodec's, shape (frames, 1 + codebooks) each.

        Raises
        ------
        InputError
            If a wave is empty, not mono, holds NaN or infinity, or the rate is not the codec's.
        """
        joined = []
        vectors = self.features.of(_heard(waves, rate, self.rate))
        for codes, each in zip(self.acoustic.encode(waves, rate), vectors, strict=True):
            middles = (2 * np.arange(len(codes)) + 1) * self.features.rate / (2 * self.frame_rate)
            units = nearest(each, self.centroids)[np.minimum(middles.astype(np.int64), len(each) - 1)]
            joined.append(np.column_stack([units, codes]))
        return joined

    def decode(self, codes: NDArray[np.integer]) -> Floats:
        """EnCodec's wave of its own codes; units say nothing of the sound."""
        return self.acoustic.decode(checked_codes(codes, self.codebook_sizes)[:, 1:])

    def save(self, folder: Path) -> None:
        """Write the units, and which weights these are, into `folder`; not the weights."""
        with (folder / UNITS_NAME).open("wb") as file:
            np.savez(file, centroids=self.centroids)
        record = {"name": self.name, "weights": self.acoustic.weights, "codebooks": len(self.acoustic.codebook_sizes)}
        record |= {"hubert": self.features.weights, "layer": self.features.layer, "digest": self.digest}
        write_json(folder / RECORD, record)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        weights: str | Path | None = None,
        hubert: str | Path | None = None,
        device: str = "auto",
    ) -> JoinedCodec:
        """Read what `save` wrote; `weights` and `hubert` say where they lie now."""
        record = read_json(folder / RECORD)
        try:
            with (folder / UNITS_NAME).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                centroids = arrays["centroids"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CorruptFileError(f"{folder / UNITS_NAME} must hold units, but: {error}") from error
        acoustic = EncodecCodec(weights=weights or record["weights"], codebooks=int(record["codebooks"]), device=device)
        features = HubertFeatures(weights=hubert or record["hubert"], layer=int(record["layer"]), device=device)
        return cls(acoustic, features, centroids)


def _heard(waves: Sequence[Floats], rate: int, wanted: int) -> list[Floats]:
    """The waves at HuBERT's rate."""
    return [resampled(wave, rate, RATE) for wave in checked_waves(waves, rate, wanted)]
