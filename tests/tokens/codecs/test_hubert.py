from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from isoflop.errors import InputError
from isoflop.tokens.codecs.hubert import RATE, HubertFeatures


def waves(*samples: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [np.cumsum(generator.uniform(-0.02, 0.02, each)).astype(np.float32) for each in samples]


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_vectors_are_those_of_the_model_s_layer(hubert_folder: Path, layer: int) -> None:
    import torch
    from transformers import HubertModel

    features = HubertFeatures(weights=hubert_folder, layer=layer, device="cpu")
    model = HubertModel.from_pretrained(hubert_folder).eval()
    (wave,) = waves(80 + 320 * 100)  # 400 samples for the first vector, 320 for each other: all are used
    with torch.inference_mode():
        truth = model(torch.from_numpy(wave)[None], output_hidden_states=True).hidden_states[layer][0].numpy()
    (found,) = features.of([wave])
    assert features.rate == 50
    assert found.shape == (100, 32)
    np.testing.assert_allclose(found, truth, atol=1e-5)


def test_a_wave_s_vectors_do_not_depend_on_its_neighbours(hubert_folder: Path) -> None:
    features = HubertFeatures(weights=hubert_folder, layer=2, device="cpu")
    several = waves(16_000, 100, 48_000, 16_100, 48_000)
    together = features.of(several)
    assert [len(each) for each in together] == [49, 1, 149, 50, 149]
    for found, wave in zip(together, several, strict=True):
        np.testing.assert_allclose(found, features.of([wave])[0], atol=1e-5)


def test_waves_are_normalised_if_the_weights_say_so(hubert_folder: Path, tmp_path: Path) -> None:
    plain = HubertFeatures(weights=hubert_folder, layer=2, device="cpu")
    copy = tmp_path / "hubert"
    shutil.copytree(hubert_folder, copy)
    facts = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True, "sampling_rate": RATE}
    (copy / "preprocessor_config.json").write_text(json.dumps(facts))
    normalising = HubertFeatures(weights=copy, layer=2, device="cpu")
    assert (plain.normalises, normalising.normalises) == (False, True)
    assert plain.digest != normalising.digest
    (wave,) = waves(16_080)
    (found,) = normalising.of([wave])
    np.testing.assert_allclose(found, normalising.of([3 * wave + 0.1])[0], atol=1e-3)
    np.testing.assert_allclose(found, plain.of([(wave - wave.mean()) / wave.std()])[0], atol=1e-3)


def test_a_layer_that_it_has_not_is_refused(hubert_folder: Path) -> None:
    with pytest.raises(InputError, match="1 <= layer <= 3 must hold, but got 4"):
        HubertFeatures(weights=hubert_folder, layer=4)
