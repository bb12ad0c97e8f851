from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.codecs import fit_codec, load_codec, open_codec
from isoflop.tokens.codecs.joined import JoinedCodec
from isoflop.tokens.codecs.kmeans import nearest
from isoflop.tokens.preparation import resampled

RATE = 24_000
pytestmark = pytest.mark.slow


def waves(*seconds: float) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.cumsum(generator.uniform(-0.02, 0.02, round(each * RATE))).astype(np.float32) for each in seconds]


@pytest.fixture(scope="module")
def codec(encodec_folder: Path, hubert_folder: Path) -> JoinedCodec:
    found = fit_codec(
        "encodec+hubert", waves(1.0, 1.5), RATE,
        weights=encodec_folder, hubert=hubert_folder, layer=2, units=20, codebooks=2, device="cpu",
    )  # fmt: skip
    assert isinstance(found, JoinedCodec)
    return found


def test_units_lead_and_encodec_follows(codec: JoinedCodec) -> None:
    assert (codec.name, codec.frame_rate, codec.semantic, codec.codebook_sizes) == (
        "encodec+hubert", 75.0, 1, (20, 1024, 1024),
    )  # fmt: skip
    several = waves(0.7, 1.3)
    for codes, wave in zip(codec.encode(several, RATE), several, strict=True):
        np.testing.assert_array_equal(codes[:, 1:], codec.acoustic.encode([wave], RATE)[0])
        units = nearest(codec.features.of([resampled(wave, RATE, 16_000)])[0], codec.centroids)
        # Three frames last as long as two units: their middles lie in the first, the second and the second.
        expected = [units[min((2 * frame + 1) // 3, len(units) - 1)] for frame in range(len(codes))]
        np.testing.assert_array_equal(codes[:, 0], expected)
        assert len(np.unique(codes[:, 0])) > 5
        np.testing.assert_array_equal(codec.decode(codes), codec.acoustic.decode(codes[:, 1:]))


def test_it_is_saved_and_opened(codec: JoinedCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    again = load_codec("encodec+hubert", folder=tmp_path)
    assert again.digest == codec.digest
    np.testing.assert_array_equal(again.encode(waves(0.5), RATE)[0], codec.encode(waves(0.5), RATE)[0])
    with (tmp_path / "units.npz").open("wb") as file:
        np.savez(file, centroids=codec.centroids + 1)
    with pytest.raises(CorruptFileError, match="was saved with other weights"):
        open_codec(tmp_path)
    (tmp_path / "units.npz").write_bytes(b"no")
    with pytest.raises(CorruptFileError, match=r"units\.npz must hold units"):
        open_codec(tmp_path)


def test_it_is_fitted_to_something(encodec_folder: Path, hubert_folder: Path) -> None:
    options = {"weights": encodec_folder, "hubert": hubert_folder, "layer": 2, "device": "cpu"}
    with pytest.raises(InputError, match="at least one wave"):
        fit_codec("encodec+hubert", [], RATE, **options)
    with pytest.raises(InputError, match="k=500"):
        fit_codec("encodec+hubert", waves(0.5), RATE, **options)
    with pytest.raises(InputError, match=r"that is fitted must be one of mfcc, encodec\+hubert, but got 'mimi'"):
        fit_codec("mimi", waves(0.5), RATE)
