from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from isoflop.errors import InputError
from isoflop.tokens.preparation import Preparation, integrated_loudness, resampled, sounding


def sine(hertz: float, seconds: float, rate: int, amplitude: float = 1.0) -> NDArray[np.float32]:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100, 48_000])
def test_loudness_is_that_of_the_standard(rate: int) -> None:
    # ITU-R BS.1770-4, annex 1: a 997 Hz sine of full scale in one channel reads -3.01 LKFS.
    assert integrated_loudness(sine(997, 5, rate), rate) == pytest.approx(-3.01, abs=0.05)
    assert integrated_loudness(sine(997, 5, rate, 0.1), rate) == pytest.approx(-23.01, abs=0.05)
    # Low hum weighs less, high tones 4 dB more.
    assert integrated_loudness(sine(20, 5, rate), rate) < -15
    assert integrated_loudness(sine(6000, 5, rate), rate) == pytest.approx(-3.01 + 3.3, abs=0.3)


def test_pauses_do_not_count_as_quiet_speech() -> None:
    speech = sine(997, 5, 16_000, 0.1)
    pause = sine(997, 10, 16_000, 0.1 * 10 ** (-20 / 20) * 0.5)
    with_pause = np.concatenate([speech, pause])
    assert integrated_loudness(with_pause, 16_000) == pytest.approx(integrated_loudness(speech, 16_000), abs=0.3)


def test_every_clip_comes_to_the_loudness_that_is_asked_for_without_clipping() -> None:
    preparation = Preparation(loudness=-23)
    for amplitude in (0.01, 0.2, 0.9):
        wave = preparation.apply(sine(440, 2, 16_000, amplitude), 16_000, 16_000)
        assert integrated_loudness(wave, 16_000) == pytest.approx(-23, abs=0.01)
    click = np.zeros(32_000, dtype=np.float32)
    click[::4000] = 0.5
    assert np.abs(Preparation(loudness=-5).apply(click, 16_000, 16_000)).max() == pytest.approx(0.99)
    with pytest.raises(InputError, match="louder than -70 LUFS"):
        preparation.apply(np.zeros(16_000, dtype=np.float32), 16_000, 16_000)


def test_silence_at_the_ends_is_cut_to_the_rest_that_is_asked_for() -> None:
    rate, noise = 16_000, np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
    wave = 1e-4 * noise
    wave[32_000:48_000] += sine(300, 1, rate, 0.3)
    wave[64_000:80_000] += sine(300, 1, rate, 0.3)
    first, last = sounding(wave, rate)
    assert abs(first - 32_000) <= 320
    assert abs(last - 80_000) <= 320
    kept = Preparation(silence=0.1).apply(wave, rate, rate)
    assert abs(len(kept) - (48_000 + 2 * 1600)) <= 640
    np.testing.assert_array_equal(Preparation(silence=60).apply(wave, rate, rate), wave)
    np.testing.assert_array_equal(Preparation().apply(wave, rate, rate), wave)
    with pytest.raises(InputError, match="must sound somewhere"):
        Preparation(silence=0.1).apply(np.zeros(1000, dtype=np.float32), rate, rate)


def test_resampling_keeps_the_tone_and_lets_nothing_fold() -> None:
    wave = resampled(sine(1000, 1, 48_000) + sine(11_000, 1, 48_000), 48_000, 16_000)
    assert wave.shape == (16_000,)
    spectrum = np.abs(np.fft.rfft(wave[4000:12_000])) / 4000
    assert spectrum[500] == pytest.approx(1, abs=0.01)
    assert np.delete(spectrum, range(495, 506)).max() < 0.001
    assert resampled(sine(1000, 1, 8000), 8000, 24_000).shape == (24_000,)


def test_a_clip_that_is_too_long_is_refused() -> None:
    with pytest.raises(InputError, match=r"at most 120 s, but lasts 120\.5 s: cut it by start, end"):
        Preparation().apply(np.ones(1205, dtype=np.float32), 10, 10)


@pytest.mark.parametrize("options", [{"loudness": 3}, {"loudness": -80}, {"silence": -0.1}, {"longest": 0}])
def test_impossible_wishes_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must hold, but got"):
        Preparation(**options)
