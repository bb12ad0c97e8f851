"""Codecs: from waves to tokens and back.

A codec turns a wave into `frames × codebooks` small integers at a fixed frame rate. Its leading codebook may be
*semantic* (what is said); the others are *acoustic* (how it sounds), each refining the ones before.

::

    mfcc             no weights: fitted to some of the speech itself; semantic + acoustic; any size
    mimi             Kyutai's, of transformers; codebook 0 is semantic
    encodec          Meta's, of its package; acoustic alone
    encodec+hubert   the same, led by k-means units of HuBERT, which are fitted

Three ways to one: `load_codec` (its weights are there), `fit_codec` (some of it must be fitted first), `open_codec`
(from the folder that its `save` wrote, as in a corpus). Torch is imported only where a codec needs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError
from isoflop.store import read_json

__all__ = ["FITTED", "NAMES", "RECORD", "Codec", "fit_codec", "load_codec", "open_codec"]

NAMES = ("mfcc", "mimi", "encodec", "encodec+hubert")
#: Codecs that are fitted, each with the rate in Hz that its calibration waves are to have.
FITTED: Mapping[str, int] = MappingProxyType({"mfcc": 16_000, "encodec+hubert": 24_000})
#: What a saved codec is described by; an mfcc codec is one file and needs no description.
RECORD = "codec.json"


class Codec(Protocol):
    """What the token stream asks of a codec."""

    @property
    def name(self) -> str:
        """One of `NAMES`."""

    @property
    def rate(self) -> int:
        """Samples per second that `encode` takes and `decode` gives."""

    @property
    def frame_rate(self) -> float:
        """Frames per second."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Entries of each codebook, in the order of the columns of the codes."""

    @property
    def semantic(self) -> int:
        """How many of the leading codebooks are semantic: 1 or 0."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that the codes depend on, weights included."""

    def encode(self, waves: Sequence[NDArray[np.float32]], rate: int) -> list[NDArray[np.int64]]:
        """Codes of mono waves in [-1, 1], each of shape (frames, codebooks); all at once, as one batch."""

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.float32]:
        """A wave at `rate` whose codes are near `codes`."""

    def save(self, folder: Path) -> None:
        """Write into `folder` what `open_codec` needs; weights that lie elsewhere are named, not copied."""


def load_codec(name: str, **options: Any) -> Codec:
    """A codec whose weights are there.

    Parameters
    ----------
    name
        One of `NAMES`.
    options
        ``folder`` for a fitted codec: where it was saved. ``weights`` (a local folder or file, or for mimi a name on
        the hub), ``codebooks`` and ``device`` (cpu, cuda, auto) for mimi and encodec.

    Raises
    ------
    InputError
        If there is no such codec or option, or its weights are not there; says what to put where.
    MissingExtraError
        If what the codec needs is not installed.
    CorruptFileError
        If its weights cannot be read.
    """
    if name in FITTED:
        folder = options.pop("folder", None)
        if folder is None:
            raise InputError(f"{name} is fitted, so a folder that holds one must be given, but got none")
        codec = open_codec(Path(folder), **options)
        if codec.name != name:
            raise InputError(f"{folder} must hold a codec {name}, but holds {codec.name}")
        return codec
    return cast(Codec, _call(name, _maker(name), options))


def fit_codec(name: str, waves: Sequence[NDArray[np.float32]], rate: int, **options: Any) -> Codec:
    """A codec of `FITTED`, fitted to calibration waves; deterministic given these and the options, ``seed`` among them.

    Raises
    ------
    InputError
        If the codec is not one that is fitted, has no such option, or cannot be fitted to these waves.
    MissingExtraError, CorruptFileError
        As `load_codec`.
    """
    if name not in FITTED:
        raise InputError(f"a codec that is fitted must be one of {', '.join(FITTED)}, but got {name!r}")
    return cast(Codec, _call(name, _maker(name).fit, options, waves, rate))


def open_codec(folder: Path, **options: Any) -> Codec:
    """The codec that was saved in `folder`; `options` say where its weights lie now, and the device.

    Raises
    ------
    InputError
        If no codec is there, or the weights that it names are not.
    CorruptFileError
        If what is there is no codec, or the weights are not those it was saved with.
    """
    from isoflop.tokens.codecs import mfcc

    if (folder / mfcc.FILE_NAME).is_file():
        return cast(Codec, _call("mfcc", mfcc.MfccCodec.load, options, folder))
    if not (folder / RECORD).is_file():
        raise InputError(f"a saved codec must be a folder that holds {RECORD} or {mfcc.FILE_NAME}, but {folder} is not")
    record = read_json(folder / RECORD)
    try:
        name, digest = str(record["name"]), str(record["digest"])
        maker = _maker(name)
        codec = cast(Codec, _call(name, maker.load, options, folder))
    except (KeyError, TypeError) as error:
        raise CorruptFileError(f"{folder / RECORD} must describe a codec, but: {error!r}") from error
    if codec.digest != digest:
        raise CorruptFileError(
            f"{folder / RECORD} was saved with other weights: the digest must be {digest[:16]}…, but is "
            f"{codec.digest[:16]}…"
        )
    return codec


def _maker(name: str) -> Any:
    """The class of a codec, imported only now."""
    if name == "mfcc":
        from isoflop.tokens.codecs.mfcc import MfccCodec

        return MfccCodec
    if name == "mimi":
        from isoflop.tokens.codecs.mimi import MimiCodec

        return MimiCodec
    if name == "encodec":
        from isoflop.tokens.codecs.encodec import EncodecCodec

        return EncodecCodec
    if name == "encodec+hubert":
        from isoflop.tokens.codecs.joined import JoinedCodec

        return JoinedCodec
    raise InputError(f"a codec must be one of {', '.join(NAMES)}, but got {name!r}")


def _call(name: str, function: Callable[..., Any], options: dict[str, Any], *arguments: Any) -> Any:
    """Call with the user's options, which must be the function's keywords."""
    parameters = inspect.signature(function).parameters.values()
    known = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    for key, value in options.items():
        if key not in known:
            raise InputError(f"options of {name} must be among {', '.join(known) or 'none'}, but got {key!r}")
        whole = isinstance(known[key], int)
        if not isinstance(value, int if whole else str | Path):
            raise InputError(f"{key} of {name} must be {'a whole number' if whole else 'text'}, but got {value!r}")
    return function(*arguments, **options)
