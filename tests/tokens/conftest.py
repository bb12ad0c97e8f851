"""Codecs of their real classes with random weights, saved in their real formats: nothing is downloaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

#: Two seconds whose spectrum keeps changing: what the random codebooks below are spread over.
RATE = 24_000


def babble(seed: int, seconds: float = 2.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Noise through a filter that changes eight times a second."""
    generator = np.random.default_rng(seed)
    pieces = []
    for _ in range(max(1, round(8 * seconds))):
        spectrum = np.fft.rfft(generator.standard_normal(RATE // 8))
        centre, width = generator.uniform(5, 400), generator.uniform(5, 100)
        spectrum *= np.exp(-np.square((np.arange(len(spectrum)) - centre) / width))
        piece = np.fft.irfft(spectrum, RATE // 8)
        pieces.append(piece / np.abs(piece).max() * generator.uniform(0.01, 0.8))
    return np.concatenate(pieces).astype(np.float32)


def _spread(codebooks: list[Any], residual: Any, assign: Any) -> None:
    """Make each codebook of what the one before leaves, so that random weights still give all kinds of codes."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for codebook, entries in codebooks:
        chosen = torch.randint(len(residual), (entries,), generator=generator)
        noise = torch.randn(entries, residual.shape[1], generator=generator)
        embedding = residual[chosen] + 0.5 * residual.std(dim=0) * noise
        assign(codebook, embedding)
        residual = residual - embedding[torch.cdist(residual, embedding).argmin(dim=1)]


@pytest.fixture(scope="session")
def mimi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Mimi: 12.5 frames a second, 16 codebooks of 2,048, as `save_pretrained` writes it."""
    import torch
    from transformers import MimiConfig, MimiModel

    config = MimiConfig(
        hidden_size=32, num_filters=4, num_hidden_layers=1, intermediate_size=64, num_attention_heads=2,
        num_key_value_heads=2, codebook_dim=16, vector_quantization_hidden_dimension=16, num_quantizers=16,
        upsample_groups=32,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_num_threads(1)  # tests run beside each other
    model = MimiModel(config).eval()
    with torch.inference_mode():
        latents = model.encoder(torch.from_numpy(np.stack([babble(seed) for seed in range(8)]))[:, None])[0]
        for half in (
            model.quantizer.semantic_residual_vector_quantizer,
            model.quantizer.acoustic_residual_vector_quantizer,
        ):
            projected = half.input_proj(latents).transpose(1, 2).reshape(-1, 16)

            def assign(codebook: Any, embedding: Any) -> None:
                codebook.embed_sum.copy_(embedding)
                codebook.cluster_usage.fill_(1.0)

            _spread([(layer.codebook, 2048) for layer in half.layers], projected, assign)
    folder = tmp_path_factory.mktemp("mimi")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encodec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EnCodec at 24 kHz in its one size, as Meta's file is: a state dict."""
    import torch

    from isoflop.tokens.codecs.encodec import _package

    torch.manual_seed(0)
    torch.set_num_threads(1)  # tests run beside each other
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = _package().EncodecModel.encodec_model_24khz(pretrained=False)
    with torch.inference_mode():
        latents = model.encoder(torch.from_numpy(np.stack([babble(seed, 0.5) for seed in range(8)]))[:, None])
        codebooks = [(layer._codebook, 1024) for layer in model.quantizer.vq.layers]
        _spread(codebooks, latents.transpose(1, 2).reshape(-1, 128), lambda book, values: book.embed.copy_(values))
    folder = tmp_path_factory.mktemp("encodec")
    torch.save(model.state_dict(), folder / "encodec.th")
    return folder


@pytest.fixture(scope="session")
def hubert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small HuBERT of the base kind (it normalises over all of a wave), as `save_pretrained` writes it."""
    import torch
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(0)
    torch.set_num_threads(1)  # tests run beside each other
    config = HubertConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("hubert")
    HubertModel(config).save_pretrained(folder)
    return folder
