"""EnCodec at 24 kHz (Défossez et al. 2022, arXiv 2210.13438), of Meta's package: acoustic alone, 75 frames a second.

The package wants torchaudio, only to resample and to write files, which it is not asked to do here; where torchaudio
does not import (beside a CPU torch it often does not), an empty module stands in for it while the package loads.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError, MissingExtraError
from isoflop.store import read_json, write_json
from isoflop.tokens.codecs import RECORD
from isoflop.tokens.codecs.weights import Floats, checked_codes, checked_waves, digest_of, located, padded, torch_of

#: What Meta calls the weights; the end of the name is the start of the file's SHA-256.
FILE_NAME = "encodec_24khz-d7cc33bc.th"


class EncodecCodec:
    """A loaded EnCodec.

    Parameters
    ----------
    weights
        The file of Meta's weights (a state dict saved by torch), or a folder that holds it; None downloads it.
    codebooks
        How many of its 32 codebooks to use: 8 are 6 kbit/s.
    device
        ``cpu``, ``cuda``, ``cuda:N`` or ``auto``.

    Raises
    ------
    InputError
        If the weights are not there, or the codec has not that many codebooks.
    CorruptFileError
        If the weights cannot be loaded, or are not those that the file's name promises.
    MissingExtraError
        If torch or encodec is not installed.
    """

    name = "encodec"

    def __init__(self, *, weights: str | Path | None = None, codebooks: int = 8, device: str = "auto") -> None:
        self._torch, self.device = torch_of(device)
        model = _model(self._torch, weights)
        books = model.quantizer.n_q
        if not 1 <= int(codebooks) <= books:
            raise InputError(f"1 <= codebooks <= {books} must hold, but got {codebooks}")
        self.weights = None if weights is None else located(str(weights))
        self.rate = int(model.sample_rate)
        self.frame_rate = float(model.frame_rate)
        self.codebook_sizes = (int(model.quantizer.bins),) * int(codebooks)
        self.semantic = 0
        self.digest = digest_of(model.state_dict(), {"codec": self.name, "codebooks": int(codebooks)})
        self._frame = int(np.prod(model.encoder.ratios))
        # Codebooks are asked for by bandwidth: the least that has enough of them.
        each = model.bits_per_codebook * model.frame_rate / 1000
        model.set_target_bandwidth(next(rate for rate in model.target_bandwidths if rate >= each * int(codebooks)))
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
            ((codes, _),) = self._model.encode(self._torch.from_numpy(batch).to(self.device))
        books = len(self.codebook_sizes)
        return [row[:books, :count].T.astype(np.int64) for row, count in zip(codes.cpu().numpy(), frames, strict=True)]

    def decode(self, codes: NDArray[np.integer]) -> Floats:
        """A wave at `rate`, a frame's samples for each frame; `InputError` if the codes are not this codec's."""
        codes = checked_codes(codes, self.codebook_sizes)
        with self._torch.inference_mode():
            given = self._torch.from_numpy(codes.T[None].copy()).to(self.device)
            wave = self._model.decode([(given, None)])[0, 0]
        return np.asarray(wave.cpu().numpy()[: len(codes) * self._frame], dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write which weights these are into `folder`, not the weights."""
        record = {"name": self.name, "weights": self.weights, "codebooks": len(self.codebook_sizes)}
        write_json(folder / RECORD, {**record, "digest": self.digest})

    @classmethod
    def load(cls, folder: Path, *, weights: str | Path | None = None, device: str = "auto") -> EncodecCodec:
        """Read what `save` wrote; `weights` say where they lie now."""
        record = read_json(folder / RECORD)
        return cls(weights=weights or record["weights"], codebooks=int(record["codebooks"]), device=device)


def _model(torch: Any, weights: str | Path | None) -> Any:
    maker = _package().EncodecModel.encodec_model_24khz
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, that the package uses its older weight norm
        if weights is None:
            try:
                return maker(pretrained=True)
            except OSError as error:
                raise InputError(_put(FILE_NAME)) from error
            except RuntimeError as error:  # the file's SHA-256
                raise CorruptFileError(f"{FILE_NAME} came otherwise than Meta published it: {error}") from error
        model = maker(pretrained=False)
    file = _file(Path(weights))
    promised = re.fullmatch(r".*-([0-9a-f]{8,64})\.th", file.name)
    if promised:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
        if not found.startswith(promised[1]):
            raise CorruptFileError(f"{file} must have a SHA-256 that starts with {promised[1]}, but has {found[:8]}…")
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:
        raise CorruptFileError(f"{file} must hold EnCodec's weights, but: {str(error)[:200]}") from error
    return model.eval()


def _file(weights: Path) -> Path:
    if weights.is_file():
        return weights
    files = sorted(weights.glob("*.th")) if weights.is_dir() else []
    if len(files) != 1:
        raise InputError(_put(str(weights)))
    return files[0]


def _put(place: str) -> str:
    return (
        f"the weights of encodec must be on this machine or on a network that it reaches, but {place} is neither: put "
        f"{FILE_NAME} (dl.fbaipublicfiles.com/encodec/v0) into a folder, and give that folder as the codec's weights"
    )


def _package() -> Any:
    """Meta's package."""
    stand_in = types.ModuleType("torchaudio")
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError):
        sys.modules["torchaudio"] = stand_in
    try:
        return importlib.import_module("encodec")
    except ModuleNotFoundError:
        raise MissingExtraError("encodec", "encodec") from None
    finally:
        # Others look for torchaudio too, and must not find one that can do nothing.
        if sys.modules.get("torchaudio") is stand_in:
            del sys.modules["torchaudio"]
