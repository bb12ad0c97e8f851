from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from isoflop.errors import InputError, MissingExtraError
from isoflop.tokens import encoding
from isoflop.tokens.clips import Clip, Rejected
from isoflop.tokens.codecs import Codec, fit_codec, load_codec
from isoflop.tokens.codecs.mfcc import MfccCodec
from isoflop.tokens.encoding import Batching, Encoded, Speed, encode
from isoflop.tokens.preparation import Preparation
from isoflop.tokens.sources import read_manifest

RATE = 8000


class Peaks:
    """A codec that refuses loud waves and says of each frame how loud it is; it notes its batches."""

    name, rate, frame_rate, codebook_sizes, semantic, digest = "peaks", RATE, 10.0, (100,), 0, "0"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def encode(self, waves: Sequence[NDArray[np.float32]], rate: int) -> list[NDArray[np.int64]]:
        assert rate == RATE
        self.batches.append([len(wave) for wave in waves])
        if any(np.abs(wave).max() > 0.99 for wave in waves):
            raise InputError("a wave must be quiet, but is not")
        cut = [wave[: len(wave) // 800 * 800].reshape(-1, 800) for wave in waves]
        return [(100 * np.abs(wave).max(axis=1, keepdims=True)).round().astype(np.int64) for wave in cut]

    def decode(self, codes: NDArray[np.integer]) -> NDArray[np.float32]:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        raise NotImplementedError


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Ten good ones of several lengths, and three that cannot be used."""
    found = []
    for number in range(13):
        path = tmp_path / f"{number}.wav"
        wave = np.full(RATE // 4 * (1 + number * 7 % 5), number / 20, dtype=np.float32)
        if number == 6:
            wave[:] = 1.0
        soundfile.write(path, wave, RATE, subtype="FLOAT")
        if number == 3:
            path.write_bytes(b"")
        if number == 9:
            path.unlink()
        found.append(Clip(f"clip {number}", path))
    return found


def test_every_clip_comes_back_in_its_place_with_its_codes_or_its_reason(clips: list[Clip]) -> None:
    for batching in (Batching(), Batching(seconds=1, window=2), Batching(seconds=2.5, window=5)):
        results = list(encode(clips, Peaks(), batching=batching))
        for number, (clip, result) in enumerate(zip(clips, results, strict=True)):
            if number in (3, 6, 9):
                assert isinstance(result, Rejected)
                assert result.id == clip.id
            else:
                assert isinstance(result, Encoded)
                assert result.clip is clip
                assert result.seconds == 0.25 * (1 + number * 7 % 5)
                assert set(result.codes.reshape(-1).tolist()) == {5 * number}
        reasons = [result.reason for result in results if isinstance(result, Rejected)]
        assert reasons == [
            "3.wav must hold audio, but is empty",
            "a wave must be quiet, but is not",
            "9.wav must hold audio, but: No such file or directory",
        ]


def test_batches_are_of_like_lengths_bounded_and_always_the_same(clips: list[Clip]) -> None:
    batching = Batching(seconds=2, window=8)
    good = [clip for clip in clips if clip.id not in ("clip 3", "clip 6", "clip 9")]
    codec, again = Peaks(), Peaks()
    list(encode(good, codec, batching=batching))
    list(encode(iter(good), again, batching=batching))
    assert codec.batches == again.batches
    for batch in codec.batches:
        assert batch == sorted(batch)
        assert len(batch) * batch[-1] <= 2 * RATE or len(batch) == 1
    assert sum(map(len, codec.batches[:-1])) >= 8 > len(codec.batches) > 2


def test_progress_tells_clips_audio_and_speed(clips: list[Clip]) -> None:
    told: list[Speed] = []
    list(encode(clips, Peaks(), batching=Batching(window=4), progress=told.append))
    assert [speed.clips for speed in told] == sorted(speed.clips for speed in told)
    assert told[-1].clips == 11  # the loud one was tried
    assert str(Speed(12, 7200.0, 72.0)) == "12 clips, 2.00 hours, 100 × real time"
    assert Speed(0, 0.0, 0.0).times_real_time == 0


def test_waves_are_prepared_and_channels_chosen(tmp_path: Path) -> None:
    both = np.stack([np.full(4000, 0.1), np.full(4000, 0.3)], axis=1)
    soundfile.write(tmp_path / "2.wav", both, 2 * RATE, subtype="FLOAT")
    clip = Clip("2", tmp_path / "2.wav")
    (right,) = encode([clip], Peaks(), channel=1)
    assert isinstance(right, Encoded)
    assert right.seconds == 0.25
    assert right.codes[-1, 0] == pytest.approx(30, abs=2)
    (long,) = encode([clip], Peaks(), Preparation(longest=0.2))
    assert isinstance(long, Rejected)
    assert "at most 0.2 s" in long.reason


def test_what_is_no_clip_s_fault_ends_the_work(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(clip: Clip, channel: int | None) -> None:
        raise MissingExtraError("soundfile", "audio")

    monkeypatch.setattr(encoding.audio, "load", absent)
    with pytest.raises(MissingExtraError):
        list(encode(clips, Peaks()))
    with pytest.raises(InputError, match="window >= 1"):
        Batching(window=0)


@pytest.fixture(scope="module")
def speech(prompts) -> dict[str, list[Clip]]:
    """The prompts of each language, in the manifest's order."""
    clips, rejected = read_manifest(prompts.manifest, root=prompts.root)
    assert rejected == []
    found = {language: [clip for clip in clips if clip.language == language] for language in prompts.languages}
    assert len(found) == 5
    assert all(len(part) > 150 for part in found.values())
    return found


def encoded(clips: list[Clip], codec: Codec) -> list[Encoded]:
    results = list(encode(clips, codec))
    assert not [result for result in results if isinstance(result, Rejected)]
    return [result for result in results if isinstance(result, Encoded)]


@pytest.fixture(scope="module")
def mfcc(speech: dict[str, list[Clip]]) -> MfccCodec:
    """Fitted to 26 minutes of all languages; every tenth prompt is held out."""
    chosen = [clip for part in speech.values() for number, clip in enumerate(part) if number % 10 and number % 2]
    waves = [encoding.audio.load(clip)[0] for clip in chosen]
    sizes = {"semantic_entries": 256, "acoustic_entries": 256, "acoustic_codebooks": 8}
    codec = fit_codec("mfcc", waves, 16_000, **sizes)
    assert isinstance(codec, MfccCodec)
    return codec


@pytest.mark.slow
def test_mfcc_keeps_real_speech_in_five_languages(speech: dict[str, list[Clip]], mfcc: MfccCodec) -> None:
    assert mfcc.codebook_sizes == (256,) * 9
    distances: dict[str, float] = {}
    for language, part in speech.items():
        held_out = encoded(part[::10][:18], mfcc)
        assert len(held_out) == 18
        found = []
        for item in held_out[::3]:
            wave, _ = encoding.audio.load(item.clip)
            truth = mfcc.spectrum.log_mel(wave, 2 * len(item.codes))
            heard = mfcc.spectrum.log_mel(mfcc.decode(item.codes), 2 * len(item.codes))
            found.append(np.abs(heard - truth).mean())
        distances[language] = float(np.mean(found))
    assert np.mean(list(distances.values())) <= 0.45, distances
    assert max(distances.values()) <= 0.5, distances


@pytest.mark.slow
def test_longer_texts_have_more_frames(speech: dict[str, list[Clip]], mfcc: MfccCodec) -> None:
    """So texts and audio belong together."""
    items = encoded(speech["en"], mfcc)
    lengths = [len(re.sub(r"\W", "", item.clip.text or "")) for item in items]
    assert np.corrcoef(lengths, [len(item.codes) for item in items])[0, 1] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mimi", "encodec", "encodec+hubert"])
def test_real_classes_tokenise_real_speech(
    speech: dict[str, list[Clip]], name: str, mimi_folder: Path, encodec_folder: Path, hubert_folder: Path
) -> None:
    shortest = [sorted(part, key=lambda clip: clip.path.stat().st_size)[:8] for part in speech.values()]  # type: ignore[union-attr]
    folders = {"mimi": mimi_folder, "encodec": encodec_folder}
    if name in folders:
        codec = load_codec(name, weights=folders[name], device="cpu")
    else:
        waves = [Preparation().apply(*encoding.audio.load(clip), 24_000) for part in shortest for clip in part[:3]]
        options = {"weights": encodec_folder, "hubert": hubert_folder, "layer": 3, "units": 50}
        codec = fit_codec(name, waves, 24_000, device="cpu", **options)
    items = encoded([clip for part in shortest for clip in part], codec)
    assert Counter(item.clip.language for item in items) == dict.fromkeys(speech, 8)
    for item in items:
        assert item.codes.shape == (np.ceil(round(item.seconds * codec.frame_rate, 6)), len(codec.codebook_sizes))
        assert (item.codes >= 0).all()
        assert (item.codes < np.array(codec.codebook_sizes)).all()
    used = [len(np.unique(column)) for column in np.concatenate([item.codes for item in items]).T]
    assert min(used) > 10, used
    assert len(codec.decode(items[0].codes)) == round(len(items[0].codes) / codec.frame_rate * codec.rate)
