"""What is done to a wave before it is encoded, all of it stated: silence, loudness, rate.

In this order: silence at the ends is cut to a given rest, loudness is brought to a given level, and the wave to the
codec's rate (soxr). Nothing is done that was not asked for, except the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError, MissingExtraError

Floats = NDArray[np.float32]

#: Windows in which a wave is silent or not.
WINDOW_SECONDS = 0.02
#: Silent is what lies this far below the loudest window: room tone under speech, but not its soft consonants.
SILENCE_DB = 45.0
#: No gain lifts a peak above this, so that nothing clips.
CEILING = 0.99


@dataclass(frozen=True)
class Preparation:
    """What to do to every wave.

    Parameters
    ----------
    loudness
        Integrated loudness in LUFS (ITU-R BS.1770-4) to bring clips to, such as -23; None leaves it. Peaks limit it.
    silence
        Seconds of silence to leave at either end; None leaves all.
    longest
        Seconds that a clip may last.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    loudness: float | None = None
    silence: float | None = None
    longest: float = 120.0

    def __post_init__(self) -> None:
        if self.loudness is not None and not -70 < self.loudness <= 0:
            raise InputError(f"-70 < loudness <= 0 LUFS must hold, but got {self.loudness}")
        if self.silence is not None and not 0 <= self.silence < math.inf:
            raise InputError(f"silence >= 0 s must hold, but got {self.silence}")
        if not self.longest > 0:
            raise InputError(f"longest > 0 s must hold, but got {self.longest}")

    def apply(self, wave: Floats, rate: int, wanted: int) -> Floats:
        """The wave as asked for, at the `wanted` rate.

        Raises
        ------
        InputError
            If it lasts longer than it may, or is too silent for its loudness or its silence to be told.
        MissingExtraError
            If soxr is needed and not installed.
        """
        seconds = len(wave) / rate
        if seconds > self.longest:
            raise InputError(
                f"a clip must last at most {self.longest:g} s, but lasts {seconds:.1f} s: cut it by start, end"
            )
        if self.silence is not None:
            first, last = sounding(wave, rate)
            rest = round(self.silence * rate)
            wave = wave[max(0, first - rest) : last + rest]
        if self.loudness is not None:
            gain = 10 ** ((self.loudness - integrated_loudness(wave, rate)) / 20)
            wave = wave * np.float32(min(gain, CEILING / float(np.abs(wave).max())))
        return resampled(wave, rate, wanted)


def resampled(wave: Floats, rate: int, wanted: int) -> Floats:
    """The wave at another rate, band-limited; `MissingExtraError` without soxr."""
    if rate == wanted:
        return np.asarray(wave, dtype=np.float32)
    try:
        import soxr
    except ModuleNotFoundError:
        raise MissingExtraError("soxr", "audio") from None
    return np.asarray(soxr.resample(wave, rate, wanted), dtype=np.float32)


def sounding(wave: Floats, rate: int) -> tuple[int, int]:
    """First sample of the first window that is not silent, and the one after the last's.

    Raises
    ------
    InputError
        If all is silent.
    """
    size = max(1, round(WINDOW_SECONDS * rate))
    powers = np.add.reduceat(np.square(wave, dtype=np.float64), np.arange(0, len(wave), size))
    if not powers.max() > 0:
        raise InputError("a clip must sound somewhere, but is silent")
    loud = np.flatnonzero(powers >= powers.max() * 10 ** (-SILENCE_DB / 10))
    return int(loud[0]) * size, min((int(loud[-1]) + 1) * size, len(wave))


def integrated_loudness(wave: Floats, rate: int) -> float:
    """Loudness in LUFS of a mono wave by ITU-R BS.1770-4: K-weighting, blocks of 400 ms, both gates.

    A 997 Hz sine of full scale has −3.01. A wave under 400 ms is one block.

    Raises
    ------
    InputError
        If all of it is under the absolute gate of −70.
    """
    from scipy.signal import sosfilt

    weighted = np.square(sosfilt(_k_weighting(rate), np.asarray(wave, dtype=np.float64)))
    size, step = round(0.4 * rate), round(0.1 * rate)
    sums = np.concatenate([[0.0], np.cumsum(weighted)])
    starts = np.arange(0, max(len(wave) - size, 0) + 1, step)
    ends = np.minimum(starts + size, len(wave))
    powers = (sums[ends] - sums[starts]) / (ends - starts)
    heard = powers[powers > 10 ** ((-70 + 0.691) / 10)]
    if not heard.size:
        raise InputError("a clip must be louder than -70 LUFS somewhere, but is not")
    heard = heard[heard > heard.mean() / 10]
    return float(-0.691 + 10 * np.log10(heard.mean()))


def _k_weighting(rate: int) -> NDArray[np.float64]:
    """The standard's two filters, which it gives at 48 kHz, at any rate, as second-order sections, shape (2, 6).

    The analogue prototypes behind its coefficients (De Man 2014): a shelf of +4 dB above 1.7 kHz, a high pass at 38 Hz.
    """
    gain, quality, frequency = 3.999843853973347, 0.7071752369554196, 1681.974450955533
    k, high = math.tan(math.pi * frequency / rate), 10 ** (gain / 20)
    middle = high**0.4996667741545416
    norm = 1 + k / quality + k * k
    shelf = [high + middle * k / quality + k * k, 2 * (k * k - high), high - middle * k / quality + k * k]
    shelf += [norm, 2 * (k * k - 1), 1 - k / quality + k * k]
    quality, frequency = 0.5003270373238773, 38.13547087602444
    k = math.tan(math.pi * frequency / rate)
    norm = 1 + k / quality + k * k
    passing = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm]
    return np.array([[value / shelf[3] for value in shelf], passing])
