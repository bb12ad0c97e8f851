from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.codecs import Codec, open_codec
from isoflop.tokens.codecs.encodec import EncodecCodec, _package

RATE = 24_000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def codec(encodec_folder: Path) -> EncodecCodec:
    return EncodecCodec(weights=encodec_folder, device="cpu")


def waves(*seconds: float) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.cumsum(generator.uniform(-0.02, 0.02, round(each * RATE))).astype(np.float32) for each in seconds]


def test_it_is_acoustic_alone(codec: EncodecCodec) -> None:
    promised: Codec = codec
    assert (promised.name, promised.rate, promised.frame_rate) == ("encodec", RATE, 75.0)
    assert (promised.codebook_sizes, promised.semantic) == ((1024,) * 8, 0)
    for samples, frames in [(1, 1), (320, 1), (321, 2), (RATE, 75)]:
        assert codec.encode([waves(1.0)[0][:samples]], RATE)[0].shape == (frames, 8)


def test_codes_are_those_of_the_package_itself(codec: EncodecCodec, encodec_folder: Path) -> None:
    import torch

    model = codec._model
    (wave,) = waves(0.8)
    with torch.inference_mode():
        model.set_target_bandwidth(24.0)
        truth = model.encode(torch.from_numpy(wave)[None, None])[0][0][0].numpy()
        heard = model.decode([(torch.from_numpy(truth[None, :8]), None)])[0, 0].numpy()
    model.set_target_bandwidth(6.0)
    (codes,) = codec.encode([wave], RATE)
    assert truth.shape == (32, 60)
    np.testing.assert_array_equal(codes, truth[:8].T)
    assert all(len(np.unique(book)) > 3 for book in codes.T)
    np.testing.assert_allclose(codec.decode(codes), heard, atol=1e-6)
    # Between the package's bandwidths too: codebooks are a prefix.
    np.testing.assert_array_equal(
        EncodecCodec(weights=encodec_folder, codebooks=5).encode([wave], RATE)[0], codes[:, :5]
    )


def test_a_batch_gives_the_codes_of_each_wave_alone(codec: EncodecCodec) -> None:
    several = waves(0.3, 1.0, 0.62)
    for together, wave in zip(codec.encode(several, RATE), several, strict=True):
        assert (together == codec.encode([wave], RATE)[0]).mean() > 0.97
    assert codec.encode([], RATE) == []


def test_it_is_saved_by_name_and_checked_by_digest(codec: EncodecCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    again = open_codec(tmp_path)
    assert (again.digest, again.codebook_sizes) == (codec.digest, codec.codebook_sizes)


def test_the_file_s_name_is_a_promise(encodec_folder: Path, tmp_path: Path) -> None:
    content = (encodec_folder / "encodec.th").read_bytes()
    right = tmp_path / f"encodec_24khz-{hashlib.sha256(content).hexdigest()[:8]}.th"
    right.write_bytes(content)
    assert EncodecCodec(weights=tmp_path, codebooks=1).codebook_sizes == (1024,)
    wrong = right.rename(tmp_path / "encodec_24khz-d7cc33bc.th")
    with pytest.raises(CorruptFileError, match="must have a SHA-256 that starts with d7cc33bc"):
        EncodecCodec(weights=tmp_path)
    shutil.copy(wrong, tmp_path / "two.th")
    with pytest.raises(InputError, match=r"put encodec_24khz-d7cc33bc\.th .* into a folder"):
        EncodecCodec(weights=tmp_path)


def test_other_files_and_numbers_are_refused(encodec_folder: Path, tmp_path: Path) -> None:
    import torch

    (tmp_path / "a.th").write_bytes(b"no weights")
    with pytest.raises(CorruptFileError, match=r"a\.th must hold EnCodec's weights"):
        EncodecCodec(weights=tmp_path)
    torch.save({"decoder.weight": torch.zeros(3)}, tmp_path / "a.th")
    with pytest.raises(CorruptFileError, match=r"a\.th must hold EnCodec's weights"):
        EncodecCodec(weights=tmp_path / "a.th")
    torch.save({"function": print}, tmp_path / "a.th")
    with pytest.raises(CorruptFileError, match=r"a\.th must hold EnCodec's weights"):
        EncodecCodec(weights=tmp_path / "a.th")
    with pytest.raises(InputError, match="1 <= codebooks <= 32 must hold, but got 33"):
        EncodecCodec(weights=encodec_folder, codebooks=33)


def test_no_stand_in_is_left_for_others_to_find() -> None:
    _package()
    assert hasattr(sys.modules.get("torchaudio", np), "__file__")
