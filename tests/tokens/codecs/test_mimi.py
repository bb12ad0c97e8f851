from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.codecs import Codec, load_codec, open_codec
from isoflop.tokens.codecs.mimi import MimiCodec
from isoflop.tokens.stream import Layout

RATE = 24_000


@pytest.fixture(scope="module")
def codec(mimi_folder: Path) -> MimiCodec:
    return MimiCodec(weights=mimi_folder, device="cpu")


def waves(*seconds: float) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.cumsum(generator.uniform(-0.02, 0.02, round(each * RATE))).astype(np.float32) for each in seconds]


def test_it_is_the_codec_of_soda(codec: MimiCodec) -> None:
    promised: Codec = codec
    assert (promised.name, promised.rate, promised.frame_rate) == ("mimi", RATE, 12.5)
    assert (promised.codebook_sizes, promised.semantic) == ((2048,) * 8, 1)
    for samples, frames in [(1, 1), (1920, 1), (1921, 2), (2 * RATE, 25)]:
        (codes,) = codec.encode([waves(2.0)[0][:samples]], RATE)
        assert codes.shape == (frames, 8)
        layout = Layout(text_entries=128_256, codebook_sizes=codec.codebook_sizes, semantic=0)
        assert len(layout.flatten(codes)) == 8 * frames


def test_codes_are_those_of_the_model_itself(codec: MimiCodec, mimi_folder: Path) -> None:
    import torch
    from transformers import MimiModel

    model = MimiModel.from_pretrained(mimi_folder).eval()
    (wave,) = waves(1.6)  # whole frames: nothing is padded
    with torch.inference_mode():
        truth = model.encode(torch.from_numpy(wave)[None, None]).audio_codes[0].numpy()
        heard = model.decode(torch.from_numpy(truth[None, :8])).audio_values[0, 0].numpy()
    (codes,) = codec.encode([wave], RATE)
    np.testing.assert_array_equal(codes, truth[:8].T)
    assert all(len(np.unique(book)) > 5 for book in codes.T)
    np.testing.assert_allclose(codec.decode(codes), heard, atol=1e-6)


def test_a_batch_gives_the_codes_of_each_wave_alone(codec: MimiCodec) -> None:
    several = waves(0.3, 2.0, 1.25)
    for together, wave in zip(codec.encode(several, RATE), several, strict=True):
        # Rounding may differ by the batch's shape, and then flip a near tie.
        assert (together == codec.encode([wave], RATE)[0]).mean() > 0.97
    assert codec.encode([], RATE) == []


def test_it_is_saved_by_name_and_opened_where_its_weights_are(
    codec: MimiCodec, mimi_folder: Path, tmp_path: Path
) -> None:
    codec.save(tmp_path)
    record = json.loads((tmp_path / "codec.json").read_text())
    assert record["weights"] == str(mimi_folder.resolve())
    again = open_codec(tmp_path)
    np.testing.assert_array_equal(again.encode(waves(1.0), RATE)[0], codec.encode(waves(1.0), RATE)[0])
    assert again.digest == codec.digest

    moved = tmp_path / "moved"
    shutil.copytree(mimi_folder, moved)
    (tmp_path / "codec.json").write_text(json.dumps({**record, "weights": "/nowhere/at/all"}))
    with pytest.raises(
        InputError, match=r"but /nowhere/at/all is neither: put its config\.json and model\.safetensors"
    ):
        open_codec(tmp_path)
    assert open_codec(tmp_path, weights=moved).digest == codec.digest
    (tmp_path / "codec.json").write_text(json.dumps({**record, "codebooks": 4}))
    with pytest.raises(CorruptFileError, match="was saved with other weights"):
        open_codec(tmp_path)
    (tmp_path / "codec.json").write_text(json.dumps({"name": "mimi", "digest": "0"}))
    with pytest.raises(CorruptFileError, match=r"codec\.json must describe a codec, but: KeyError\('weights'\)"):
        open_codec(tmp_path)


def test_weights_that_are_not_whole_are_refused(mimi_folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(mimi_folder, broken)
    tensors = load_file(broken / "model.safetensors")
    lost = next(name for name in tensors if "conv.weight" in name or "conv.parametrizations" in name)
    save_file({name: value for name, value in tensors.items() if name != lost}, broken / "model.safetensors")
    with pytest.raises(CorruptFileError, match="must hold all weights of MimiModel, but 1 are missing"):
        MimiCodec(weights=broken)
    (broken / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CorruptFileError, match="must hold weights of MimiModel"):
        MimiCodec(weights=broken)


def test_what_cannot_be_is_refused(codec: MimiCodec, mimi_folder: Path) -> None:
    with pytest.raises(InputError, match="1 <= codebooks <= 16 must hold, but got 17"):
        MimiCodec(weights=mimi_folder, codebooks=17)
    with pytest.raises(InputError, match="a device must be cpu, cuda"):
        MimiCodec(weights=mimi_folder, device="gpu")
    with pytest.raises(InputError, match=r"options of mimi must be among weights, codebooks, device, but got 'layers'"):
        load_codec("mimi", weights=mimi_folder, layers=3)
    with pytest.raises(InputError, match="rate of 24000 Hz, but have 16000 Hz"):
        codec.encode(waves(1.0), 16_000)
    for wave in (np.zeros(0), np.zeros((2, 5)), np.array([np.nan])):
        with pytest.raises(InputError, match="mono, not empty and finite"):
            codec.encode([wave.astype(np.float32)], RATE)
    for codes in (np.zeros((4, 7), int), np.full((4, 8), 2048), np.full((4, 8), -1), np.zeros((0, 8), int)):
        with pytest.raises(InputError, match="code"):
            codec.decode(codes)


def test_unknown_codecs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one of mfcc, mimi, encodec, encodec\+hubert, but got 'opus'"):
        load_codec("opus")
    with pytest.raises(InputError, match="mfcc is fitted, so a folder"):
        load_codec("mfcc")
    with pytest.raises(InputError, match="a saved codec must be a folder"):
        open_codec(tmp_path)
