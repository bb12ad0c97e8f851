"""Weights that others trained: where they are, which they are, and the device they run on.

All of it works offline from a local folder. Torch and transformers are imported only when a codec is loaded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError, MissingExtraError
from isoflop.planning.runs import canonical_json

Floats = NDArray[np.float32]

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def torch_of(device: str) -> tuple[Any, str]:
    """Torch, and the device's name: ``cpu``, ``cuda``, ``cuda:1``; ``auto`` is the first GPU if there is one.

    Raises
    ------
    MissingExtraError
        If torch is not installed.
    InputError
        If there is no such device.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise MissingExtraError("torch", "train") from None
    if device == "auto":
        return torch, "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise InputError(f"a device must be cpu, cuda, cuda:N or auto, but got {device!r}")
    if device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"the device must be there, but {device} is not: this torch sees no GPU")
    return torch, device


def pretrained(class_name: str, weights: str, codec: str) -> Any:
    """A model of transformers, ready to infer, from a local folder or by its name on the hub.

    Raises
    ------
    MissingExtraError
        If transformers is not installed.
    InputError
        If the weights are not there; says what to put where.
    CorruptFileError
        If they are there and cannot be loaded.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        raise MissingExtraError("transformers", "audio") from None
    folder = Path(weights)
    if not folder.is_dir() and not _HUB_NAME.fullmatch(weights):
        raise InputError(_put(codec, weights))
    bars: Any = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        model, report = from_pretrained(getattr(transformers, class_name), weights, output_loading_info=True)
    except Exception as error:
        if folder.is_dir() and (folder / "config.json").is_file() and _holds_weights(folder):
            raise CorruptFileError(f"{folder} must hold weights of {class_name}, but: {error}") from error
        raise InputError(_put(codec, weights)) from error
    finally:
        if shown:
            bars.enable_progress_bar()
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
        raise CorruptFileError(
            f"{weights} must hold all weights of {class_name}, but {len(lacking)} are missing or of another shape, "
            f"{lacking[0]} among them"
        )
    return model.eval()


def from_pretrained(maker: Any, weights: str, **options: Any) -> Any:
    """What a class of transformers reads from a local folder, else from the hub's cache here, else from the hub.

    In this order, since a hub that is out of reach is asked for half a minute, by every process.
    """
    try:
        return maker.from_pretrained(weights, local_files_only=True, **options)
    except OSError:
        if Path(weights).is_dir():
            raise
        return maker.from_pretrained(weights, local_files_only=False, **options)


def _put(codec: str, weights: str) -> str:
    return (
        f"the weights of {codec} must be on this machine or on a hub that it reaches, but {weights} is neither: put "
        "its config.json and model.safetensors into a folder, and give that folder as the codec's weights"
    )


def _holds_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.safetensors.index.json", "*.bin"))


def located(weights: str) -> str:
    """Weights as they are recorded: a local path in full, a name on the hub as it is."""
    return str(Path(weights).resolve()) if Path(weights).exists() else weights


def digest_of(tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of weights by their names, and of plain facts beside them."""
    digest = hashlib.sha256(canonical_json(dict(facts)).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(_torch_bytes()).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _torch_bytes() -> Any:
    import torch

    return torch.uint8


def checked_waves(waves: Sequence[Floats], rate: int, wanted: int) -> list[Floats]:
    """The waves as float32, if they can be encoded.

    Raises
    ------
    InputError
        If a wave is empty, not mono, holds NaN or infinity, or the rate is not the codec's.
    """
    if rate != wanted:
        raise InputError(f"waves must have the codec's rate of {wanted} Hz, but have {rate} Hz")
    arrays = [np.asarray(wave, dtype=np.float32) for wave in waves]
    for wave in arrays:
        if wave.ndim != 1 or not wave.size or not np.isfinite(wave).all():
            raise InputError(f"a wave must be mono, not empty and finite, but got shape {wave.shape}")
    return arrays


def checked_codes(codes: NDArray[np.integer], sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """The codes, if each is in its codebook; `InputError` if not, or if the shape is not (frames, codebooks)."""
    codes = np.asarray(codes).astype(np.int64)
    if codes.ndim != 2 or codes.shape[1] != len(sizes) or not len(codes):
        raise InputError(f"codes must have the shape (frames, {len(sizes)}), but have {codes.shape}")
    if (codes < 0).any() or (codes >= np.array(sizes)).any():
        raise InputError(f"0 <= code < {sizes} must hold, but got up to {codes.max(axis=0).tolist()}")
    return np.asarray(codes, dtype=np.int64)


def padded(waves: Sequence[Floats], frame: int) -> tuple[Floats, list[int]]:
    """Waves as one batch (waves, 1, samples) of whole frames of `frame` samples, and each one's own number of frames.

    What follows a wave is silence, so a causal codec gives the frames that it would give the wave alone.
    """
    frames = [-(-len(wave) // frame) for wave in waves]
    batch = np.zeros((len(waves), 1, max(frames) * frame), dtype=np.float32)
    for row, wave in zip(batch, waves, strict=True):
        row[0, : len(wave)] = wave
    return batch, frames
