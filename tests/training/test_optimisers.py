from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from isoflop.planning.runs import Run
from isoflop.training import optimisers
from isoflop.training.model import Decoder
from isoflop.training.optimisers import CautiousAdamC

BETA1, BETA2, EPSILON, DECAY, PEAK = 0.95, 0.98, 1e-15, 0.1, 0.02
SHAPES = ((7, 5), (11,), (3, 2, 4))


def rate(step: int) -> float:
    return PEAK * min(step / 4, 1.0)


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    found = [torch.randn(shape, generator=generator) for shape in SHAPES]
    found[0][2] = 0.0  # as a row of the embedding whose token does not occur
    if step == 3:
        found[1] = -1e3 * found[1].abs()  # against all that was before
    return found


def made(shapes: tuple[tuple[int, ...], ...] = SHAPES) -> tuple[list[torch.Tensor], CautiousAdamC]:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    groups = [{"params": weights[:2]}, {"params": weights[2:], "weight_decay": 0.0, "lr": 3 * PEAK}]
    return weights, CautiousAdamC(groups, PEAK, (BETA1, BETA2), EPSILON, DECAY)


def advance(weights: list[torch.Tensor], optimizer: CautiousAdamC, first: int, last: int) -> None:
    for step in range(first, last + 1):
        for weight, gradient in zip(weights, gradients(step), strict=True):
            weight.grad = gradient
        for factor, group in zip((1, 3), optimizer.param_groups, strict=True):
            group["lr"] = rate(step) * factor
        optimizer.step()


@pytest.mark.parametrize("batch", [optimisers.BATCH, 40, 1])
def test_every_step_is_that_of_the_formulas(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry by entry in double precision, from the equations in the docstring; however the weights are batched."""
    monkeypatch.setattr(optimisers, "BATCH", batch)
    weights, optimizer = made()
    expected = [weight.detach().double().numpy().copy() for weight in weights]
    first, second = ([np.zeros_like(weight) for weight in expected] for _ in range(2))
    masked = 0
    for step in range(1, 9):
        advance(weights, optimizer, step, step)
        for number, gradient in enumerate(gradients(step)):
            peak, decay = ((PEAK, DECAY), (PEAK, DECAY), (3 * PEAK, 0.0))[number]
            eta = rate(step) / PEAK * peak
            raw = np.zeros_like(expected[number])
            for place in np.ndindex(raw.shape):
                g = float(gradient[place])
                first[number][place] = BETA1 * first[number][place] + (1 - BETA1) * g
                second[number][place] = BETA2 * second[number][place] + (1 - BETA2) * g * g
                m = first[number][place] / (1 - BETA1**step)
                v = second[number][place] / (1 - BETA2**step)
                raw[place] = m / (math.sqrt(v) + EPSILON)
            mask = (raw * gradient.double().numpy() > 0).astype(float)
            masked += int((mask == 0).sum())
            update = raw * mask / (mask.mean() + EPSILON)
            expected[number] -= eta * (update + decay * (eta / peak) * expected[number])
        for weight, value in zip(weights, expected, strict=True):
            np.testing.assert_allclose(weight.detach().numpy(), value, rtol=2e-5, atol=2e-6)
    assert masked > 8 * 5  # more than the row that never has a gradient


def test_an_update_without_one_agreeing_entry_moves_nothing_but_the_decay() -> None:
    weights, optimizer = made()
    advance(weights, optimizer, 1, 2)
    before = weights[1].detach().clone()
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    weights[1].grad = -1e-6 * optimizer.state[weights[1]]["first"]
    optimizer.step()
    torch.testing.assert_close(weights[1], before * (1 - rate(2) * DECAY * rate(2) / PEAK), rtol=1e-6, atol=0)


@pytest.mark.parametrize("stop", [1, 4])
def test_a_saved_state_goes_on_bit_for_bit(stop: int) -> None:
    whole, optimizer = made()
    advance(whole, optimizer, 1, 7)
    halves, before = made()
    advance(halves, before, 1, stop)
    buffer = io.BytesIO()
    torch.save(before.state_dict(), buffer)
    buffer.seek(0)
    resumed, after = made()
    for weight, value in zip(resumed, halves, strict=True):
        weight.data.copy_(value.data)
    after.load_state_dict(torch.load(buffer, weights_only=True))
    advance(resumed, after, stop + 1, 7)
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def test_a_closure_computes_the_gradients_and_its_loss_is_returned() -> None:
    weight = torch.tensor([2.0], requires_grad=True)
    optimizer = CautiousAdamC([{"params": [weight]}], 0.1, weight_decay=0.0)

    def closure() -> float:
        loss = (weight**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert weight.item() == pytest.approx(1.9)  # the first step of Adam is the rate, against the gradient's sign


def names(decoder: Decoder, weights: list[torch.Tensor]) -> set[str]:
    return {name for name, value in decoder.named_parameters() if any(value is weight for weight in weights)}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "cautious"])
def test_groups_learn_at_their_own_rates(planned: Callable[..., Run], tied: bool, optimizer: str) -> None:
    run = planned(
        embedding_rate=10.0, head_rate=0.5, norm_rate=2.0, mup_width=2, learning_rate=0.01, optimizer=optimizer
    )
    run = replace(run, shape=replace(run.shape, tied_head=tied))
    decoder = Decoder(run.shape, 0)
    made, factors = optimisers.make(run, decoder)
    found: dict[str, tuple[float, float]] = {}
    for factor, group in zip(factors, made.param_groups, strict=True):
        assert group["lr"] == 0.01 * factor
        found |= dict.fromkeys(names(decoder, group["params"]), (factor, group["weight_decay"]))
    assert set(found) == {name for name, _ in decoder.named_parameters()}
    for name, value in found.items():
        if name == "embedding.weight":
            assert value == (10.0, 0.0)
        elif name == "head.weight":
            assert value == (0.5, 0.1)
        elif "norm" in name:
            assert value == (2.0, 0.0)
        else:
            assert value == (2 / 8, 0.1)


def test_by_default_all_learn_at_the_run_s_rate_in_two_groups(planned: Callable[..., Run]) -> None:
    for changes in ({}, {"weight_decay": 0.0}):
        run = planned(**changes)
        made, factors = optimisers.make(run, Decoder(run.shape, 0))
        assert factors == [1.0, 1.0]
        assert isinstance(made, torch.optim.AdamW)
        assert copy.deepcopy(made).defaults["fused"] is True
