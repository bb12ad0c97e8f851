"""A clip's audio as a mono wave: whatever the format, or the reason why not.

soundfile reads wav, flac, ogg and opus, and goes straight to an utterance of a long file. av (FFmpeg) reads mp3, G.722,
m4a, webm and the rest, each file as a whole, kept for the utterances that follow. What a file is, its content tells and
not its name, except for G.722, which has no header.

A file that was cut short is refused where its format can tell: a wav's header says its length, an ogg's last page is
marked, flac frames are whole or not, an mp3 may say its length. G.722 cannot tell.
"""

from __future__ import annotations

import functools
import io
import os
import struct
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError, MissingExtraError
from isoflop.tokens.arrow import embedded_audio
from isoflop.tokens.clips import Clip

Floats = NDArray[np.float32]

#: Formats that FFmpeg may find: none that names other files or addresses, as playlists do.
FORMATS = "aac,aiff,amr,asf,caf,flac,g722,matroska,webm,mov,mp4,mp3,ogg,w64,wav"
#: How far an utterance may end after its file does, as manifests round, and a decoder may fall short of its header.
TOLERANCE_SECONDS = 0.1
#: Formats that may not say how long they last; FFmpeg then guesses by the first bit rate, wrongly where that varies.
_GUESSED = ("aac", "amr", "mp3")
#: A peak above this is that of another scale; lossy formats overshoot 1 by far less.
LARGEST = 4.0

_HEADERS = (b"RIFF", b"fLaC", b"OggS", b"FORM", b"ID3\x03", b"ID3\x04")
#: Lengths that a wav has whose writer could not go back to set it.
_UNSET = (0, 0x7FFFFFFF, 0xFFFFFFFF)


def load(clip: Clip, channel: int | None = None) -> tuple[Floats, int]:
    """The clip as a mono wave in [-1, 1], and its rate in Hz.

    Parameters
    ----------
    clip
        With a path.
    channel
        Which channel to take, from 0; None takes the mean of one or two, and refuses more.

    Raises
    ------
    InputError
        If the clip has no audio, too many channels, no such part, or samples that are not finite and of that scale.
    CorruptFileError
        If the file cannot be read, or is cut short.
    MissingExtraError
        If soundfile or av is not installed.
    """
    if clip.path is None:
        raise InputError(f"a clip must have a path to be heard, but {clip.id} is text alone")
    name = clip.path.name if clip.row is None else f"row {clip.row} of {clip.path.name}"
    try:
        if clip.row is None and not clip.path.stat().st_size:
            raise CorruptFileError(f"{name} must hold audio, but is empty")
        wave, rate = _wave(clip, clip.path, name, channel)
    except OSError as error:
        raise CorruptFileError(f"{name} must hold audio, but: {error.strerror or error}") from error
    if not wave.size:
        raise InputError(f"{name} must hold samples between {clip.start:g} and {clip.end:g} s, but holds none")
    peak = float(np.abs(wave).max())
    if not peak <= LARGEST:
        raise InputError(f"samples of {name} must be finite and within ±{LARGEST:g}, but their peak is {peak:g}")
    return wave, rate


def _wave(clip: Clip, path: Path, name: str, channel: int | None) -> tuple[Floats, int]:
    """The clip's part of its file."""
    if clip.row is not None:
        content = embedded_audio(path, clip.row)
        if not content:
            raise CorruptFileError(f"{name} must hold audio, but is empty")
        found = _by_soundfile(io.BytesIO(content), clip, name, channel)
        return found or _part(*_by_av(io.BytesIO(content), name, "", channel), clip, name)
    with path.open("rb") as file:
        raw = path.suffix.lower() == ".g722" and file.read(4) not in _HEADERS
        file.seek(0)
        found = None if raw else _by_soundfile(file, clip, name, channel)
    if found is not None:
        return found
    return _part(*_decoded(path, path.stat().st_mtime_ns, "g722" if raw else "", channel), clip, name)


def _by_soundfile(file: IO[bytes], clip: Clip, name: str, channel: int | None) -> tuple[Floats, int] | None:
    """The clip's samples; None if soundfile does not know the format, or is not to be trusted with it."""
    try:
        import soundfile
    except ModuleNotFoundError:
        raise MissingExtraError("soundfile", "audio") from None
    try:
        opened = soundfile.SoundFile(file)
    except soundfile.LibsndfileError:
        file.seek(0)
        return None
    if opened.format == "MP3":
        # libsndfile 1.2.2 gives other samples after a seek, and even in a second read, than in one of the whole.
        opened.close()
        file.seek(0)
        return None
    with opened:
        first, last = _bounds(clip, opened.frames, opened.samplerate, name)
        if clip.end is None and _cut_short(file, opened.format):
            raise CorruptFileError(f"{name} must be whole, but is cut short")
        try:
            opened.seek(first)
            samples = opened.read(last - first, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise CorruptFileError(f"{name} must be whole, but: {error.error_string}") from error
        if len(samples) < last - first - TOLERANCE_SECONDS * opened.samplerate:
            found = len(samples) / opened.samplerate
            raise CorruptFileError(f"{name} must be whole, but ends {found:.2f} s after {clip.start:g} s")
        return _mono(samples, channel, name), opened.samplerate


@functools.lru_cache(maxsize=1)
def _decoded(path: Path, modified: int, format_name: str, channel: int | None) -> tuple[Floats, int]:
    """All of a file, kept for the next utterance of it."""
    with path.open("rb") as file:
        return _by_av(file, path.name, format_name, channel)


def _by_av(file: IO[bytes], name: str, format_name: str, channel: int | None) -> tuple[Floats, int]:
    """All samples, mixed as they come."""
    try:
        import av
    except ModuleNotFoundError:
        raise MissingExtraError("av", "audio") from None
    try:
        with av.open(file, "r", format=format_name or None, options={"format_whitelist": FORMATS}) as container:
            if not container.streams.audio:
                raise CorruptFileError(f"{name} must hold audio, but holds none")
            stream = container.streams.audio[0]
            promised = _promised_by_av(container.format.name, stream)
            rate, waves = stream.rate, []
            floats = av.AudioResampler(format="flt")
            for frame in chain(container.decode(stream), [None]):
                for piece in floats.resample(frame):
                    rate = piece.sample_rate
                    samples = np.asarray(piece.to_ndarray(), dtype=np.float32).reshape(-1, piece.layout.nb_channels)
                    waves.append(_mono(samples, channel, name))
    except av.FFmpegError as error:
        raise CorruptFileError(f"{name} must be audio in a known format, but: {error.strerror}") from error
    wave = np.concatenate(waves) if waves else np.zeros(0, dtype=np.float32)
    if len(wave) < (promised - TOLERANCE_SECONDS) * rate:
        raise CorruptFileError(f"{name} must last {promised:.2f} s, but ends after {len(wave) / rate:.2f} s")
    return wave, rate


def _promised_by_av(format_name: str, stream: Any) -> float:
    """Seconds that a stream must last according to its header; 0 where that does not say."""
    # An mp3's header gives its length along with the encoder's delay, which FFmpeg makes the start.
    if not stream.duration or (format_name in _GUESSED and not stream.start_time):
        return 0.0
    return float(stream.duration * stream.time_base)


def _part(wave: Floats, rate: int, clip: Clip, name: str) -> tuple[Floats, int]:
    first, last = _bounds(clip, len(wave), rate, name)
    return wave[first:last], rate


def _bounds(clip: Clip, frames: int, rate: int, name: str) -> tuple[int, int]:
    """First sample of the clip and the one after its last, in a file of `frames`."""
    if not frames:
        raise CorruptFileError(f"{name} must hold samples, but holds none")
    seconds = frames / rate
    end = seconds if clip.end is None else clip.end
    if not (0 <= clip.start < end <= seconds + TOLERANCE_SECONDS):
        raise InputError(
            f"0 <= start < end <= {seconds:.2f} s ({name}) must hold, but got {clip.start:g} and {end:g} s"
        )
    return round(clip.start * rate), min(round(end * rate), frames)


def _mono(samples: Floats, channel: int | None, name: str) -> Floats:
    channels = samples.shape[1]
    if channel is not None:
        if not 0 <= channel < channels:
            raise InputError(f"0 <= channel < {channels} ({name}) must hold, but got {channel}")
        return np.ascontiguousarray(samples[:, channel])
    if channels > 2:
        raise InputError(f"{name} must have one or two channels unless one is chosen, but has {channels}")
    return samples[:, 0].copy() if channels == 1 else samples.mean(axis=1, dtype=np.float32)


def _cut_short(file: IO[bytes], format_name: str) -> bool:
    """Whether a wav is shorter than its header says, or the last page of an ogg is not marked as the last."""
    place = file.tell()
    try:
        size = file.seek(0, os.SEEK_END)
        if format_name in ("WAV", "WAVEX"):
            return _promised_by_wav(file, size) > size
        if format_name == "OGG":
            file.seek(max(0, size - (1 << 16)))
            ending = file.read()
            page = ending.rfind(b"OggS\0")
            return page < 0 or page + 5 >= len(ending) or not ending[page + 5] & 4
        return False
    finally:
        file.seek(place)


def _promised_by_wav(file: IO[bytes], size: int) -> int:
    """Where the samples of a wav end according to its header."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"data":
            return 0 if length in _UNSET else position + 8 + length
        position += 8 + length + length % 2
    return position
