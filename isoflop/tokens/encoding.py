"""Clips to codes: read and prepared ahead on a thread, batched by length, encoded; the order stays.

A batch depends on the clips before it and on nothing else, so the same clips give the same batches and, on one machine,
the same codes. A clip that cannot be used becomes a `Rejected` in its place, and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens import audio
from isoflop.tokens.clips import Clip, Rejected
from isoflop.tokens.codecs import Codec
from isoflop.tokens.preparation import Preparation

Floats = NDArray[np.float32]

#: What a clip's own trouble looks like; anything else ends the work.
UNUSABLE = (InputError, CorruptFileError)


@dataclass(frozen=True, eq=False)
class Encoded:
    """A clip with its codes (frames, codebooks) and the seconds of audio that they stand for."""

    clip: Clip
    codes: NDArray[np.int64]
    seconds: float


@dataclass(frozen=True)
class Batching:
    """How waves are grouped: `seconds` of audio at most in a batch, padding included, of `window` clips read ahead."""

    seconds: float = 60.0
    window: int = 64

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.window < 1:
            raise InputError(f"seconds > 0 and window >= 1 must hold, but got {self.seconds} and {self.window}")


@dataclass(frozen=True)
class Speed:
    """How far the work is: clips done, seconds of audio in them, and seconds that it took."""

    clips: int
    seconds: float
    elapsed: float

    @property
    def times_real_time(self) -> float:
        """Seconds of audio a second."""
        return self.seconds / self.elapsed if self.elapsed > 0 else 0.0

    def __str__(self) -> str:
        return f"{self.clips:,} clips, {self.seconds / 3600:.2f} hours, {self.times_real_time:,.0f} × real time"


def encode(
    clips: Iterable[Clip],
    codec: Codec,
    preparation: Preparation = Preparation(),  # noqa: B008 (frozen)
    batching: Batching = Batching(),
    progress: Callable[[Speed], None] | None = None,
    channel: int | None = None,
) -> Iterator[Encoded | Rejected]:
    """Codes of every clip, in the order of the clips.

    Parameters
    ----------
    clips
        With audio.
    codec
        What encodes them.
    preparation, channel
        What is done to each wave first, and which channel is taken (see `isoflop.tokens.audio.load`).
    batching
        How they are grouped.
    progress
        Told after every batch.

    Raises
    ------
    MissingExtraError
        If what reads the audio is not installed.
    """
    began, done, heard = time.monotonic(), 0, 0.0

    def prepared(clip: Clip) -> Floats | Rejected:
        try:
            wave, rate = audio.load(clip, channel)
            return preparation.apply(wave, rate, codec.rate)
        except UNUSABLE as error:
            return Rejected(clip.id, str(error))

    with ThreadPoolExecutor(1, "isoflop-audio") as reader:
        source = iter(clips)
        ahead = [(clip, reader.submit(prepared, clip)) for clip in islice(source, batching.window)]
        while ahead:
            current, ahead = ahead, [(clip, reader.submit(prepared, clip)) for clip in islice(source, batching.window)]
            waves = [future.result() for _, future in current]
            results: dict[int, NDArray[np.int64] | Rejected] = {
                index: wave for index, wave in enumerate(waves) if isinstance(wave, Rejected)
            }
            usable = {index: wave for index, wave in enumerate(waves) if not isinstance(wave, Rejected)}
            for batch in _batches({index: len(wave) for index, wave in usable.items()}, batching.seconds * codec.rate):
                names = [current[index][0].id for index in batch]
                results |= zip(batch, _codes(codec, [usable[index] for index in batch], names), strict=True)
                done += len(batch)
                heard += sum(len(usable[index]) for index in batch) / codec.rate
                if progress is not None:
                    progress(Speed(done, heard, time.monotonic() - began))
            for index, (clip, _) in enumerate(current):
                result = results[index]
                if isinstance(result, Rejected):
                    yield result
                else:
                    yield Encoded(clip, result, len(usable[index]) / codec.rate)


def _batches(lengths: dict[int, int], largest: float) -> Iterator[list[int]]:
    """Keys in groups of like lengths, each of at most `largest` samples when padded to its longest."""
    batch: list[int] = []
    for index in sorted(lengths, key=lambda key: (lengths[key], key)):
        if batch and lengths[index] * (len(batch) + 1) > largest:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _codes(codec: Codec, waves: Sequence[Floats], names: Sequence[str]) -> list[NDArray[np.int64] | Rejected]:
    """Codes of one batch; where the codec refuses it, of each wave by itself."""
    try:
        return list(codec.encode(waves, codec.rate))
    except UNUSABLE as error:
        if len(waves) == 1:
            return [Rejected(names[0], str(error))]
        return [code for wave, name in zip(waves, names, strict=True) for code in _codes(codec, [wave], [name])]
