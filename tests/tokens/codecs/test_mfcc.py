from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.codecs import Codec, fit_codec, load_codec, open_codec
from isoflop.tokens.codecs.mfcc import FILE_NAME, MfccCodec

RATE = 16_000


def vowels(seed: int, seconds: float = 3.0) -> NDArray[np.float32]:
    """A buzz whose pitch and two resonances change four times a second, with pauses: speech enough for a codec."""
    generator = np.random.default_rng(seed)
    pieces = []
    for _ in range(round(4 * seconds)):
        time = np.arange(RATE // 4) / RATE
        pitch = generator.uniform(90, 220)
        low, high = generator.uniform(250, 900), generator.uniform(900, 2600)
        harmonics = np.arange(1, int(4000 / pitch))
        gains = 1 / (1 + np.abs(harmonics * pitch - low) / 80) + 0.5 / (1 + np.abs(harmonics * pitch - high) / 120)
        voiced = (gains[:, None] * np.sin(2 * np.pi * pitch * harmonics[:, None] * time)).sum(axis=0)
        pieces.append(voiced * generator.choice([0, 0.05, 0.15], p=[0.2, 0.3, 0.5]))
    return np.concatenate(pieces).astype(np.float32)


@pytest.fixture(scope="module")
def codec() -> MfccCodec:
    return MfccCodec.fit([vowels(seed, 8.0) for seed in range(10)], RATE)


def test_it_is_a_codec(codec: MfccCodec) -> None:
    promised: Codec = codec
    assert (promised.name, promised.rate, promised.frame_rate, promised.semantic) == ("mfcc", RATE, 25.0, 1)
    assert promised.codebook_sizes == (64, 64, 64)


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 48_000])
def test_frames_are_40_ms_and_codes_lie_in_their_codebooks(codec: MfccCodec, samples: int) -> None:
    (codes,) = codec.encode([vowels(99)[:samples]], RATE)
    assert codes.shape == (-(-samples // 640), 3)
    assert codes.min() >= 0
    assert codes.max() < 64


def test_each_acoustic_codebook_brings_held_out_bands_nearer(codec: MfccCodec) -> None:
    wave = vowels(99)
    (codes,) = codec.encode([wave], RATE)
    truth = codec.spectrum.log_mel(wave, 2 * len(codes))
    one = codec.acoustic_codebooks[0][codes[:, 1]].reshape(-1, codec.bands)
    mean = np.abs(truth - truth.mean(axis=0)).mean()
    assert np.abs(truth - codec.log_mel(codes)).mean() < 0.9 * np.abs(truth - one).mean() < 0.6 * mean


def test_decoding_is_a_wave_that_keeps_bands_and_codes(codec: MfccCodec) -> None:
    (codes,) = codec.encode([vowels(99)], RATE)
    wave = codec.decode(codes)
    assert wave.shape == (len(codes) * 640,)
    assert np.abs(wave).max() <= 1
    heard = codec.spectrum.log_mel(wave, 2 * len(codes))
    assert np.abs(heard - codec.log_mel(codes)).mean() < 0.25
    # A decoded wave sounds alike: its first acoustic codes mostly stay, though a chance hit is 1 in 64.
    assert (codec.encode([wave], RATE)[0][:, 1] == codes[:, 1]).mean() > 0.9
    assert wave.tobytes() == codec.decode(codes).tobytes()


def test_the_file_is_the_codec_byte_for_byte(codec: MfccCodec, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    codec.save(tmp_path)
    again = MfccCodec.load(tmp_path)
    again.save(tmp_path / "again")
    assert load_codec("mfcc", folder=tmp_path).digest == open_codec(tmp_path).digest == codec.digest
    with pytest.raises(InputError, match=r"must hold a codec encodec\+hubert, but holds mfcc"):
        load_codec("encodec+hubert", folder=tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == (tmp_path / "again" / FILE_NAME).read_bytes()
    assert again.digest == codec.digest
    np.testing.assert_array_equal(again.encode([vowels(99)], RATE)[0], codec.encode([vowels(99)], RATE)[0])


def test_a_wave_s_codes_do_not_depend_on_its_neighbours(codec: MfccCodec) -> None:
    waves = [vowels(seed)[: 9_000 * seed] for seed in range(1, 5)]
    for together, wave in zip(codec.encode(waves, RATE), waves, strict=True):
        np.testing.assert_array_equal(together, codec.encode([wave], RATE)[0])


def test_sizes_and_seed_are_parameters_and_change_the_digest(codec: MfccCodec) -> None:
    waves = [vowels(seed) for seed in range(4)]
    small = MfccCodec.fit(waves, RATE, semantic_entries=8, acoustic_entries=16, acoustic_codebooks=3, bands=20)
    assert small.codebook_sizes == (8, 16, 16, 16)
    assert small.encode(waves[:1], RATE)[0].max(axis=0).tolist() <= [7, 15, 15, 15]
    other = MfccCodec.fit(waves, RATE, semantic_entries=8, acoustic_entries=16, acoustic_codebooks=3, bands=20, seed=1)
    assert len({codec.digest, small.digest, other.digest}) == 3


@pytest.mark.parametrize(
    ("wave", "rate", "message"),
    [
        (np.zeros(0, dtype=np.float32), RATE, "not empty"),
        (np.zeros((100, 2), dtype=np.float32), RATE, "mono"),
        (np.array([0.0, np.nan], dtype=np.float32), RATE, "finite"),
        (np.zeros(100, dtype=np.float32), 22_050, "rate of 16000 Hz, but have 22050 Hz"),
    ],
)
def test_unusable_waves_are_refused(codec: MfccCodec, wave: NDArray[np.float32], rate: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        codec.encode([wave], rate)


def test_codes_of_another_codec_are_refused(codec: MfccCodec) -> None:
    for codes in (np.zeros((4, 2), int), np.full((4, 3), 64), np.full((4, 3), -1), np.zeros((0, 3), int)):
        with pytest.raises(InputError, match="code"):
            codec.decode(codes)


@pytest.mark.parametrize("damage", [b"", b"not a codec", None])
def test_a_damaged_file_is_named(codec: MfccCodec, tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "codec.npz"
    codec.save(tmp_path)
    path.write_bytes(path.read_bytes()[:-500] if damage is None else damage)
    with pytest.raises(CorruptFileError, match=r"codec\.npz must hold an mfcc codec"):
        MfccCodec.load(tmp_path)


def test_it_is_fitted_to_something() -> None:
    with pytest.raises(InputError, match="at least one wave"):
        MfccCodec.fit([], RATE)
    with pytest.raises(InputError, match="acoustic_codebooks >= 1 must hold, but got 0"):
        MfccCodec.fit([vowels(0)], RATE, acoustic_codebooks=0)
    with pytest.raises(InputError, match="k=64"):
        MfccCodec.fit([np.zeros(RATE, dtype=np.float32)], RATE)
    for option, kind in ({"seed": "one"}, "a whole number"), ({"bands": 0.5}, "a whole number"):
        with pytest.raises(InputError, match=f"of mfcc must be {kind}, but got"):
            fit_codec("mfcc", [vowels(0)], RATE, **option)
    with pytest.raises(InputError, match="device of mimi must be text, but got 0"):
        load_codec("mimi", device=0)
