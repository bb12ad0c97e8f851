"""A codec without weights: fitted in seconds, for studies that can download nothing.

Codebook 0 is *semantic*: k-means of mel-frequency cepstra, as in the first round of HuBERT (Hsu et al. 2021, section
III-B). The others are *acoustic*: residual vector quantisation of the log-mel bands, each codebook quantising what
those before it left over. A frame is 40 ms; its bands are kept twice (every 20 ms), its cepstra as the mean of both.
The split is a rough one: in the embedded corpus a semantic token still tells 0.31 nats of who speaks (of 2.48), the
first acoustic one 0.36.

Phase is not kept: decoding finds one (Griffin-Lim), so waveform distances such as SI-SDR mean nothing here; compare
log-mel bands.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.codecs.kmeans import kmeans, nearest
from isoflop.tokens.codecs.spectrum import ANALYSIS_RATE, Floats, Spectrum, cepstra

FRAME_RATE = 25
#: What a fitted codec is called in the corpus that it made.
FILE_NAME = "codec.npz"
_PER_FRAME = ANALYSIS_RATE // FRAME_RATE
#: Coefficients before their differences: 13, of which the first is the energy, 39 numbers in all.
COEFFICIENTS = 13


@dataclass(frozen=True, eq=False)
class MfccCodec:
    """A fitted codec; make one by `fit` or `load`.

    Parameters
    ----------
    rate
        Samples per second.
    bands
        Mel bands.
    mean, scale
        Of each of the 39 cepstral numbers over the calibration speech, to weigh them equally; shape (39,).
    semantic_codebook
        Shape (entries, 39), in standardised cepstra.
    acoustic_codebooks
        Shape (codebooks, entries, 2·bands), in nats.
    """

    rate: int
    bands: int
    mean: Floats
    scale: Floats
    semantic_codebook: Floats
    acoustic_codebooks: Floats

    @classmethod
    def fit(
        cls,
        waves: Sequence[Floats],
        rate: int,
        *,
        semantic_entries: int = 64,
        acoustic_entries: int = 64,
        acoustic_codebooks: int = 2,
        bands: int = 40,
        seed: int = 0,
    ) -> MfccCodec:
        """Fit to calibration speech: deterministic given the waves, the seed and one thread.

        Raises
        ------
        InputError
            If a size is not positive, a wave is not usable (see `encode`), or the waves hold fewer distinct frames than
            a codebook has entries.
        """
        if acoustic_codebooks < 1:
            raise InputError(f"acoustic_codebooks >= 1 must hold, but got {acoustic_codebooks}")
        spectrum = Spectrum(rate, bands)
        analysed = [_analyse(wave, spectrum) for wave in waves]
        if not analysed:
            raise InputError("a codec must be fitted to at least one wave, but got none")
        features = np.concatenate([_pooled(cepstra(log_mel, COEFFICIENTS)) for log_mel in analysed])
        mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
        semantic = kmeans((features - mean) / scale, semantic_entries, seed)

        residual = np.concatenate([_stacked(log_mel) for log_mel in analysed])
        acoustic = []
        for index in range(acoustic_codebooks):
            codebook = kmeans(residual, acoustic_entries, seed + 1 + index)
            residual = residual - codebook[nearest(residual, codebook)]
            acoustic.append(codebook)
        return cls(rate, bands, mean, scale, semantic, np.stack(acoustic))

    @property
    def name(self) -> str:
        """Its name among codecs."""
        return "mfcc"

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return float(FRAME_RATE)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Entries of the semantic codebook, then of each acoustic one."""
        books, entries, _ = self.acoustic_codebooks.shape
        return (len(self.semantic_codebook), *[entries] * books)

    @property
    def semantic(self) -> int:
        """Leading codebooks that are semantic: 1."""
        return 1

    @cached_property
    def spectrum(self) -> Spectrum:
        """The analysis that codes are taken from."""
        return Spectrum(self.rate, self.bands)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the parameters."""
        digest = hashlib.sha256()
        for name, array in self._arrays().items():
            digest.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def encode(self, waves: Sequence[Floats], rate: int) -> list[NDArray[np.int64]]:
        """Codes of mono waves in [-1, 1], shape (frames, codebooks) each; a last frame is padded with silence.

        One wave after the other: they already fill the matrix products, and so no code depends on its neighbours.

        Raises
        ------
        InputError
            If a wave is empty, not mono, holds NaN or infinity, or the rate is not the codec's.
        """
        if rate != self.rate:
            raise InputError(f"waves must have the codec's rate of {self.rate} Hz, but have {rate} Hz")
        return [self._encode(wave) for wave in waves]

    def _encode(self, wave: Floats) -> NDArray[np.int64]:
        log_mel = _analyse(wave, self.spectrum)
        codes = [nearest((_pooled(cepstra(log_mel, COEFFICIENTS)) - self.mean) / self.scale, self.semantic_codebook)]
        residual = _stacked(log_mel)
        for codebook in self.acoustic_codebooks:
            codes.append(nearest(residual, codebook))
            residual = residual - codebook[codes[-1]]
        return np.stack(codes, axis=1)

    def log_mel(self, codes: NDArray[np.integer]) -> Floats:
        """The log-mel bands that the acoustic codes stand for, shape (2·frames, bands)."""
        codes = self._checked(codes)
        stacked = sum(book[codes[:, index + 1]] for index, book in enumerate(self.acoustic_codebooks))
        return np.asarray(stacked, dtype=np.float32).reshape(-1, self.bands)

    def decode(self, codes: NDArray[np.integer]) -> Floats:
        """A wave at `rate` that sounds like the acoustic codes, ``frames · rate/25`` samples."""
        return self.spectrum.invert(self.log_mel(codes))

    def save(self, folder: Path) -> None:
        """Write `FILE_NAME` into `folder`: the same bytes for the same codec."""
        with (folder / FILE_NAME).open("wb") as file:
            np.savez(file, **self._arrays())  # type: ignore[arg-type] # none of them is its own allow_pickle

    @classmethod
    def load(cls, folder: Path) -> MfccCodec:
        """Read what `save` wrote; `CorruptFileError` names the file where it is no codec."""
        path = folder / FILE_NAME
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                values = {name: arrays[name] for name in arrays.files}
            return cls(int(values.pop("rate")), int(values.pop("bands")), **values)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise CorruptFileError(f"{path} must hold an mfcc codec, but: {error}") from error

    def _arrays(self) -> dict[str, NDArray[np.generic]]:
        return {
            "rate": np.asarray(self.rate, dtype=np.int64),
            "bands": np.asarray(self.bands, dtype=np.int64),
            "mean": self.mean,
            "scale": self.scale,
            "semantic_codebook": self.semantic_codebook,
            "acoustic_codebooks": self.acoustic_codebooks,
        }

    def _checked(self, codes: NDArray[np.integer]) -> NDArray[np.integer]:
        codes = np.asarray(codes)
        sizes = np.array(self.codebook_sizes)
        if codes.ndim != 2 or codes.shape[1] != len(sizes) or not len(codes):
            raise InputError(f"codes must have the shape (frames, {len(sizes)}), but have {codes.shape}")
        if (codes < 0).any() or (codes >= sizes).any():
            raise InputError(f"0 <= code < {self.codebook_sizes} must hold, but got up to {codes.max(axis=0).tolist()}")
        return codes


def _analyse(wave: Floats, spectrum: Spectrum) -> Floats:
    """Log-mel bands of whole 40 ms frames, shape (2·frames, bands)."""
    wave = np.asarray(wave, dtype=np.float32)
    if wave.ndim != 1 or not wave.size or not np.isfinite(wave).all():
        raise InputError(f"a wave must be mono, not empty and finite, but got shape {wave.shape}")
    frames = -(-len(wave) // (_PER_FRAME * spectrum.hop))
    return spectrum.log_mel(wave, frames * _PER_FRAME)


def _pooled(features: Floats) -> Floats:
    pooled: Floats = features.reshape(-1, _PER_FRAME, features.shape[1]).mean(axis=1)
    return pooled


def _stacked(log_mel: Floats) -> Floats:
    return log_mel.reshape(-1, _PER_FRAME * log_mel.shape[1])
