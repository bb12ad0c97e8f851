from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from isoflop.flops import Shape
from isoflop.planning import hardware
from isoflop.training import loss as losses_module
from isoflop.training.loss import LossByType, chunked_loss, plain_loss, token_losses, training_loss, validation_columns
from isoflop.training.model import Decoder

NAMES = ("text", "control", "semantic", "acoustic_1", "acoustic_2")
TYPES = np.array([0, 0, 1, 2, 2, 3, 4, 4], dtype=np.uint8)


def batch(seed: int, rows: int = 4, s: int = 9, low: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, s, 8, generator=generator), torch.randint(low, 8, (rows, s), generator=generator)


def by_hand(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """Losses and types of all targets, from the definition."""
    losses, types = [], []
    for logits, targets in batches:
        chances = np.exp(logits.double().numpy())
        chances /= chances.sum(-1, keepdims=True)
        losses.append(-np.log(np.take_along_axis(chances, targets.numpy()[..., None], -1)).ravel())
        types.append(TYPES[targets.numpy().ravel()])
    return np.concatenate(losses), np.concatenate(types)


def losses_of(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and targets, flat."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none"), targets.flatten()


def test_the_loss_is_that_of_the_definition() -> None:
    logits, targets = batch(0)
    flat = logits.flatten(0, 1).requires_grad_(), targets.flatten()
    objective, losses = plain_loss(*flat)
    expected = by_hand([(logits, targets)])[0]
    # The very bits of the cross-entropy that others minimise.
    assert objective.item() == F.cross_entropy(*flat).item() == pytest.approx(expected.mean(), rel=1e-6)
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert not losses.requires_grad
    objective, losses = plain_loss(*flat, 0.1)
    partitions = np.log(np.exp(logits.double().numpy()).sum(-1))
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert objective.item() == pytest.approx(expected.mean() + 0.1 * (partitions**2).mean(), rel=1e-6)


def test_losses_by_type_are_those_of_the_definition_over_all_batches() -> None:
    batches = [batch(1), batch(2, rows=1), batch(3, s=30)]
    tally = LossByType(NAMES, TYPES)
    for each in batches:
        tally.add(*losses_of(*each))
    losses, types = by_hand(batches)
    expected = {f"loss_{name}": losses[types == index].mean() for index, name in enumerate(NAMES)}
    expected |= {"loss": losses.mean(), "loss_acoustic": losses[types >= 3].mean()}
    assert tally.losses() == pytest.approx(expected, rel=1e-6)
    assert tally.tokens == len(losses)


def test_losses_by_source_and_the_bits_of_a_second_of_sound() -> None:
    tally = LossByType(NAMES, TYPES, ("radio", "books", "silent"))
    batches = [batch(1), batch(2)]
    origins = [torch.tensor([0, 1, 1, 0]), torch.tensor([1, 1, 1, 1])]
    for (logits, targets), rows in zip(batches, origins, strict=True):
        tally.add(*losses_of(logits, targets), rows.repeat_interleave(9))
    losses, types = by_hand(batches)
    where = np.repeat(torch.cat(origins).numpy(), 9)
    found = tally.losses()
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-6)
    assert found["loss_from_radio"] == pytest.approx(losses[where == 0].mean(), rel=1e-6)
    assert set(found) == {"loss", "loss_acoustic", "loss_from_radio", "loss_from_books", *(f"loss_{n}" for n in NAMES)}
    books = tally.by_source()["books"]
    assert books["loss_semantic"] == pytest.approx(losses[(where == 1) & (types == 2)].mean(), rel=1e-6)
    assert set(tally.by_source()) == {"radio", "books"}
    # 75 audio tokens a second, each at so many nats.
    bits = losses[types >= 2].mean() * 75 / np.log(2)
    assert tally.bits_per_second(75.0) == pytest.approx(bits, rel=1e-6)
    assert set(found) | {"bits_per_audio_second"} < set(validation_columns(NAMES, tally.sources))


def test_what_is_uniform_costs_the_bits_of_its_entries() -> None:
    tally = LossByType(("text", "control", "semantic"), np.array([0, 1, 2, 2, 2, 2], dtype=np.uint8))
    targets = torch.arange(2, 6)
    tally.add(torch.full((4,), float(np.log(4))), targets)
    assert tally.bits_per_second(25.0) == pytest.approx(50.0)
    without = LossByType(("text",), np.zeros(8, dtype=np.uint8))
    without.add(*losses_of(*batch(5)))
    assert without.bits_per_second(25.0) is None


def test_a_type_that_does_not_occur_has_no_loss() -> None:
    tally = LossByType(NAMES, TYPES)
    tally.add(*losses_of(*batch(4, low=5)))
    assert set(tally.losses()) == {"loss", "loss_acoustic_1", "loss_acoustic_2", "loss_acoustic"}
    text_only = LossByType(("text",), np.zeros(8, dtype=np.uint8))
    text_only.add(*losses_of(*batch(5)))
    assert set(text_only.losses()) == {"loss", "loss_text"}


VOCABULARY = 144_644


def head_and_features(tokens: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, the head's weight and targets, such that some targets are likely and some are not."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(VOCABULARY, width, generator=generator)
    targets = torch.randint(0, VOCABULARY, (tokens,), generator=generator)
    features = torch.randn(tokens, width, generator=generator)
    features[::2] = 0.5 * weight[targets[::2]]
    return features.requires_grad_(), weight.requires_grad_(), targets


@pytest.mark.parametrize("z_loss", [0.0, 1e-3])
def test_the_chunked_loss_is_the_plain_one_in_value_and_gradients(z_loss: float) -> None:
    """At SODA's vocabulary, over more than one chunk: within 1e-5 of their size."""
    features, weight, targets = head_and_features(300, 24)
    assert hardware.chunk_rows(VOCABULARY, 300) < 300
    plain, plain_losses = plain_loss(features @ weight.T, targets, z_loss)
    expected = torch.autograd.grad(0.3 * plain, (features, weight))
    chunked, losses = chunked_loss(features, weight, targets, z_loss)
    found = torch.autograd.grad(0.3 * chunked, (features, weight))
    assert chunked.item() == pytest.approx(plain.item(), rel=1e-5)
    # A single one is a difference of two numbers of some ten nats each.
    torch.testing.assert_close(losses, plain_losses, rtol=1e-5, atol=5e-5)
    assert not losses.requires_grad
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()


def test_the_chunked_loss_takes_less_than_a_tenth_of_the_memory(peak: Any) -> None:
    """One sequence of 4,096 tokens at width 512, forward and backward, on shapes alone."""
    peaks = []
    for chunked in (False, True):
        # Tensors without content, so without memory.
        with FakeTensorMode(), peak() as tracked:
            features, weight = (torch.empty(rows, 512, requires_grad=True) for rows in (4096, VOCABULARY))
            targets = torch.zeros(4096, dtype=torch.long)
            before = tracked.bytes
            if chunked:
                objective, _ = chunked_loss(features, weight, targets)
            else:
                objective, _ = plain_loss(features @ weight.T, targets)
            objective.backward()
            del objective
        peaks.append(tracked.peak - before)
    assert peaks[0] > 2 * 4 * 4096 * VOCABULARY  # at least the logits and their log-softmax
    assert peaks[1] < peaks[0] / 10


@pytest.mark.parametrize(
    ("vocabulary", "tokens", "rows"), [(2**14, 100, 100), (2**14, 4096, 2048), (2**14, 2**16, 4096)]
)
def test_chunks_are_few_and_large_where_there_are_many_tokens(vocabulary: int, tokens: int, rows: int) -> None:
    assert hardware.chunk_rows(vocabulary, tokens) == rows


def test_under_autocast_the_chunks_do_as_the_plain_loss_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "CHUNK_LOGITS", 64 * 20)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(70, 32, generator=generator, requires_grad=True)
    weight = torch.randn(64, 32, generator=generator, requires_grad=True)
    targets = torch.randint(0, 64, (70,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        plain, _ = plain_loss(F.linear(features, weight), targets)
        chunked, _ = chunked_loss(features, weight, targets)
    assert chunked.dtype == torch.float32
    assert chunked.item() == pytest.approx(plain.item(), rel=1e-5)
    expected = torch.autograd.grad(plain, (features, weight))
    for one, other in zip(torch.autograd.grad(chunked, (features, weight)), expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=2e-2 * float(other.abs().max()))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_takes_the_way_that_its_vocabulary_asks_for(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(Shape(1, 16, 2, 1, 8, 32, 50, 12, tied_head=tied), 0)
    tokens = torch.randint(0, 50, (4, 13), generator=torch.Generator().manual_seed(0))
    parameters = list(decoder.parameters())
    plain, _ = training_loss(decoder, tokens, 1e-2)
    expected = torch.autograd.grad(plain, parameters)
    each = token_losses(decoder, tokens)

    calls: list[int] = []
    monkeypatch.setattr(losses_module, "CHUNKED_VOCABULARY", 50)
    monkeypatch.setattr(hardware, "CHUNK_LOGITS", 50 * 10)
    monkeypatch.setattr(losses_module, "plain_loss", lambda *given: pytest.fail("not chunked"))
    decoder.head.register_forward_hook(lambda module, given, logits: calls.append(len(logits)))
    chunked, losses = training_loss(decoder, tokens, 1e-2)
    assert chunked.item() == pytest.approx(plain.item(), rel=1e-6)
    for one, other in zip(torch.autograd.grad(chunked, parameters), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(token_losses(decoder, tokens), each, rtol=1e-6, atol=1e-6)
    assert calls == [10, 10, 10, 10, 8]
    torch.testing.assert_close(losses, each, rtol=1e-6, atol=1e-6)
