from __future__ import annotations

import wave as wave_module
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.audio import load
from isoflop.tokens.clips import Clip

RATE = 16_000


def tone(seconds: float = 2.0, hertz: float = 440.0) -> NDArray[np.float32]:
    """A tone that rises and grows louder, so that no part of it is like another."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * time / seconds * np.sin(2 * np.pi * (hertz + 200 * time) * time)).astype(np.float32)


def written(path: Path, wave: NDArray[np.float32], kind: str = "WAV", subtype: str | None = None) -> Path:
    soundfile.write(path, wave, RATE, format=kind, subtype=subtype)
    return path


def by_ffmpeg(
    path: Path, wave: NDArray[np.float32], codec: str, kind: str, encoder: dict[str, str] | None = None
) -> Path:
    with av.open(str(path), "w", format=kind, options={"write_xing": "0"} if kind == "mp3" else {}) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono", options=encoder or {})
        samples = (wave * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.format, "mono", RATE, frame_size=stream.codec_context.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "subtype", "error"),
    [
        ("a.wav", "WAV", "PCM_16", 1e-4),
        ("a.wav", "WAV", "FLOAT", 0),
        ("a.flac", "FLAC", "PCM_16", 1e-4),
        ("a.mp3", "MP3", None, 0.01),
        ("a.ogg", "OGG", "VORBIS", 0.01),
        ("a.opus", "OGG", "OPUS", 0.03),
        ("lies.mp3", "FLAC", "PCM_16", 1e-4),
        ("lies.g722", "WAV", "PCM_16", 1e-4),
        ("no-name-for-it", "WAV", "PCM_16", 1e-4),
    ],
)
def test_every_format_comes_back_whatever_its_name(
    tmp_path: Path, name: str, kind: str, subtype: str | None, error: float
) -> None:
    path = written(tmp_path / name, tone(), kind, subtype)
    heard, rate = load(Clip("a", path))
    assert rate == RATE
    assert heard.dtype == np.float32
    assert len(heard) == 2 * RATE
    assert np.abs(heard - tone()).mean() <= error
    part, _ = load(Clip("a", path, start=0.5, end=1.25))
    np.testing.assert_array_equal(part, heard[RATE // 2 : RATE * 5 // 4])


@pytest.mark.parametrize(("name", "codec", "kind"), [("a.g722", "g722", "g722"), ("a.m4a", "aac", "mp4")])
def test_what_soundfile_cannot_read_ffmpeg_does(tmp_path: Path, name: str, codec: str, kind: str) -> None:
    path = by_ffmpeg(tmp_path / name, tone(), codec, kind)
    heard, rate = load(Clip("a", path))
    assert rate == RATE
    # Such codecs delay by some samples and may pad; what is heard is the tone.
    assert 0 <= len(heard) - 2 * RATE < 2500
    assert min(np.abs(heard[lag : lag + 2 * RATE] - tone()[: len(heard) - lag]).mean() for lag in range(2500)) < 0.01
    part, _ = load(Clip("a", path, start=0.5, end=1.25))
    np.testing.assert_array_equal(part, heard[RATE // 2 : RATE * 5 // 4])


@pytest.mark.parametrize(("kind", "codec"), [("mp3", "libmp3lame"), ("adts", "aac")])
def test_a_length_that_no_header_tells_is_not_held_against_a_file(tmp_path: Path, kind: str, codec: str) -> None:
    """FFmpeg takes such a file's first frames for all: a plain beginning makes it promise far too much."""
    noise = np.random.default_rng(0).standard_normal(10 * RATE).clip(-5, 5) / 5
    plain = 0.001 * np.sin(2 * np.pi * 200 * np.arange(10 * RATE) / RATE)
    wave = np.concatenate([plain, noise]).astype(np.float32)
    path = by_ffmpeg(tmp_path / "guessed", wave, codec, kind, {"flags": "+qscale", "global_quality": "236"})
    with av.open(str(path)) as container:
        assert container.duration / av.time_base > 22
    assert len(load(Clip("a", path))[0]) == pytest.approx(20 * RATE, abs=3000)


def test_two_channels_are_mixed_and_more_must_be_chosen_from(tmp_path: Path) -> None:
    both = written(tmp_path / "2.wav", np.stack([tone(), -tone(hertz=300)], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(load(Clip("2", both))[0], (tone() - tone(hertz=300)) / 2, atol=1e-6)
    eight = written(tmp_path / "8.wav", np.stack([tone() * k / 8 for k in range(8)], axis=1), subtype="FLOAT")
    with pytest.raises(InputError, match=r"8\.wav must have one or two channels unless one is chosen, but has 8"):
        load(Clip("8", eight))
    np.testing.assert_allclose(load(Clip("8", eight), channel=5)[0], tone() * 5 / 8, atol=1e-6)
    with pytest.raises(InputError, match=r"0 <= channel < 8 .* but got 8"):
        load(Clip("8", eight), channel=8)


@pytest.mark.parametrize(
    ("kind", "subtype", "kept", "reason"),
    [
        ("WAV", "PCM_16", 0.6, "must be whole, but is cut short"),
        ("FLAC", "PCM_16", 0.6, "must be whole, but: .*lost sync"),
        ("MP3", None, 0.6, r"must last 3\.00 s, but ends after 1\.8\d s"),
        ("OGG", "VORBIS", 0.6, "must hold samples, but holds none"),
        ("OGG", "OPUS", 0.6, "must be whole, but is cut short"),
        ("WAV", "PCM_16", 0.0, "must hold audio, but is empty"),
        ("WAV", "PCM_16", 0.0002, "must be audio in a known format"),
    ],
)
def test_a_file_that_was_cut_short_is_refused(
    tmp_path: Path, kind: str, subtype: str | None, kept: float, reason: str
) -> None:
    path = written(tmp_path / "cut", tone(3.0), kind, subtype)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises((CorruptFileError, InputError), match=reason):
        load(Clip("cut", path))


def test_an_utterance_before_the_cut_is_still_good(tmp_path: Path) -> None:
    path = written(tmp_path / "long.wav", tone(3.0), subtype="FLOAT")
    path.write_bytes(path.read_bytes()[: 2 * RATE * 4])
    np.testing.assert_array_equal(load(Clip("a", path, start=0.25, end=1.0))[0], tone(3.0)[RATE // 4 : RATE])
    with pytest.raises(InputError, match=r"0 <= start < end <= 2\.00 s .* but got 1 and 2\.5"):
        load(Clip("b", path, start=1.0, end=2.5))


def test_a_wav_whose_writer_could_not_set_its_length_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "streamed.wav", tone(), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[4:8] = content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    assert len(load(Clip("a", path))[0]) == 2 * RATE


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (np.array([0.1, np.nan, 0.1], dtype=np.float32), "must be finite and within ±4, but their peak is nan"),
        (np.array([0.1, np.inf, 0.1], dtype=np.float32), "but their peak is inf"),
        (np.array([100.0, -32768.0], dtype=np.float32), "but their peak is 32768"),
        (np.zeros(0, dtype=np.float32), "must hold samples, but holds none"),
    ],
)
def test_samples_that_are_no_speech_are_refused(tmp_path: Path, wave: NDArray[np.float32], reason: str) -> None:
    with pytest.raises((InputError, CorruptFileError), match=reason):
        load(Clip("bad", written(tmp_path / "bad.wav", wave, subtype="FLOAT")))


def test_what_is_no_audio_is_refused_and_opens_nothing_else(tmp_path: Path) -> None:
    good = written(tmp_path / "good.wav", tone())
    playlist = tmp_path / "list.wav"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{good}\n#EXT-X-ENDLIST\n")
    concat = tmp_path / "concat.mp3"
    concat.write_text(f"ffconcat version 1.0\nfile '{good}'\n")
    image = tmp_path / "image.mp3"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2000))
    for path in (playlist, concat, image):
        with pytest.raises(CorruptFileError, match=f"{path.name} must be audio in a known format"):
            load(Clip("a", path))
    with pytest.raises(CorruptFileError, match=r"gone\.wav must hold audio, but: No such file"):
        load(Clip("a", tmp_path / "gone.wav"))
    with pytest.raises(InputError, match="story is text alone"):
        load(Clip("story", text="Once."))


def test_an_hour_is_read_where_the_utterance_is(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    second = (np.arange(RATE) % 250 * 100).astype("<i2")
    with wave_module.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for number in range(3600):
            file.writeframes((second + number).astype("<i2").tobytes())
    heard, _ = load(Clip("late", path, start=3000.0, end=3001.0))
    np.testing.assert_array_equal(np.round(heard * 32768), second + 3000)
