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
from pathlib import Path
from typing import Any

import numpy as np

from isoflop.errors import CorruptFileError, InputError, MissingExtraError
from isoflop.tokens.codecs.neural import NeuralCodec, checked_codebooks
from isoflop.tokens.codecs.weights import digest_of, located, torch_of

#: What Meta calls the weights; the end of the name is the start of the file's SHA-256.
FILE_NAME = "encodec_24khz-d7cc33bc.th"


class EncodecCodec(NeuralCodec):
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
        codebooks = checked_codebooks(codebooks, model.quantizer.n_q)
        self.weights = None if weights is None else located(str(weights))
        self.rate = int(model.sample_rate)
        self.frame_rate = float(model.frame_rate)
        self.codebook_sizes = (int(model.quantizer.bins),) * codebooks
        self.semantic = 0
        self.digest = digest_of(model.state_dict(), {"codec": self.name, "codebooks": codebooks})
        self._frame = int(np.prod(model.encoder.ratios))
        # Codebooks are asked for by bandwidth: the least that has enough of them.
        each = model.bits_per_codebook * model.frame_rate / 1000
        model.set_target_bandwidth(next(rate for rate in model.target_bandwidths if rate >= each * codebooks))
        self._model: Any = model.to(self.device)

    def _codes(self, batch: Any) -> Any:
        ((codes, _),) = self._model.encode(batch)
        return codes

    def _wave(self, codes: Any) -> Any:
        return self._model.decode([(codes, None)])


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
