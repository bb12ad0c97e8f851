from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from isoflop.flops import Shape
from isoflop.planning.hardware import memory
from isoflop.planning.recipes import named
from isoflop.planning.runs import Precision, Run
from isoflop.study import Model
from isoflop.study_recipe import RecipeChoice
from isoflop.training import optimisers
from isoflop.training.loss import training_loss
from isoflop.training.model import Decoder, rotations

TINY = Shape(2, 8, 2, 2, 4, 32, 50, 16, tied_head=True)
GROUPED = Shape(3, 24, 4, 2, 8, 40, 70, 32, tied_head=False)
PLAIN = replace(GROUPED, mlp="plain")
SUITE = named(RecipeChoice(base="marin-2025", published_ladder="soda-suite")).every_shape(
    144_644, Model(sequence_length=4096, tied_head=False)
)


def perturbed(shape: Shape, **options: int) -> Decoder:
    """A model none of whose parameters has a special value."""
    model = Decoder(shape, seed=1, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def tokens_of(shape: Shape, rows: int = 3) -> torch.Tensor:
    return torch.randint(0, shape.vocabulary, (rows, shape.sequence_length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "shape", [TINY, GROUPED, PLAIN, *SUITE, replace(GROUPED, n_heads=1, n_kv_heads=1, tied_head=True)]
)
def test_parameters_equal_the_shape_s_group_by_group(shape: Shape) -> None:
    with torch.device("meta"):
        model = Decoder(shape, seed=0)
    groups = dict.fromkeys(("embedding", "head", "attention", "mlp", "norms"), 0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            groups["norms"] += parameter.numel()
        else:
            groups[next(group for group in groups if group in name.split("."))] += parameter.numel()
    assert groups == {group: getattr(shape.parameters, group) for group in groups}
    assert sum(groups.values()) == shape.parameters.total


@pytest.mark.parametrize(
    "shape", [TINY, GROUPED, PLAIN, *SUITE, Shape(8, 768, 6, 6, 128, 3072, 144_644, 4096, tied_head=False)]
)
def test_counted_flops_are_those_of_torch_s_counter_but_for_the_softmax(shape: Shape) -> None:
    """Attention by the math path: the fused one counts nothing on a CPU. The backward pass is twice the forward's."""
    with torch.device("meta"):
        model, tokens = Decoder(shape, seed=0), torch.zeros(2, shape.sequence_length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        logits = model(tokens)
        forward = counter.get_total_flops()
        logits.sum().backward()
        training = counter.get_total_flops()
    softmax = 3 * shape.sequence_length * shape.n_heads * shape.n_layers
    matmuls = (shape.flops_per_token(passes="forward") - softmax) * tokens.numel()
    assert forward == pytest.approx(matmuls, rel=1e-3)
    assert training == pytest.approx(3 * forward, rel=1e-3)


def test_recomputing_takes_a_fraction_of_the_memory_and_what_the_plan_expects(peak: Any) -> None:
    """The most that a forward and backward pass hold beside weights and moments, on shapes alone."""
    shape = Shape(12, 128, 2, 2, 64, 512, 50, 256, tied_head=True)
    peaks = []
    for recompute in (False, True):
        with FakeTensorMode():
            model, tokens = Decoder(shape, 0), torch.zeros(4, 257, dtype=torch.long)
            model.recompute = recompute
            with peak() as tracked:
                training_loss(model, tokens)[0].backward()
        peaks.append(tracked.peak)
        planned = memory(shape, 4, "32", recompute=recompute)
        assert planned.total == pytest.approx(tracked.peak + planned.weights + planned.optimizer, rel=0.05)
    assert peaks[1] < peaks[0] / 4


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("shape", [GROUPED, PLAIN, Shape(3, 256, 4, 2, 64, 1024, 500, 256, tied_head=False)])
def test_the_memory_that_a_plan_expects_is_what_autograd_keeps(shape: Shape, precision: Precision) -> None:
    model, tokens = Decoder(shape, seed=0), tokens_of(shape, rows=2)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        # A matrix whose rows are not tokens is the copy of a weight in bf16, which is counted with the weights.
        if storage.data_ptr() not in own and (tensor.dim() != 2 or len(tensor) == tokens.numel()):
            kept[storage.data_ptr()] = storage
        return tensor

    cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), cast:
        model(tokens)
    found = sum(storage.nbytes() for storage in kept.values())
    assert found == pytest.approx(memory(shape, 2, precision).activations, rel=0.06)


def reference(model: Decoder, tokens: torch.Tensor) -> torch.Tensor:
    """The same function from Qwen3's formulas, in double precision, head by head, rotations as complex numbers."""
    shape, weights = model.shape, {name: value.double() for name, value in model.named_parameters()}
    size, s = shape.head_size, tokens.shape[1]

    def normalised(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-6) * scale

    def turned(x: torch.Tensor) -> torch.Tensor:
        rates = 10_000.0 ** (-2 * torch.arange(size // 2, dtype=torch.float64) / size)
        angles = torch.arange(s, dtype=torch.float64)[:, None] * rates
        pairs = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * torch.exp(1j * angles)
        return torch.cat([pairs.real, pairs.imag], -1)

    x = weights["embedding.weight"][tokens]
    mask = torch.full((s, s), -math.inf, dtype=torch.float64).triu(1).expand(len(tokens), s, s).clone()
    if model.document_start is not None:
        for row, sequence in enumerate(tokens.tolist()):
            for place, token in enumerate(sequence):
                if token == model.document_start:
                    mask[row, place:, :place] = -math.inf
    for layer in range(shape.n_layers):
        of = {name.removeprefix(f"blocks.{layer}."): value for name, value in weights.items()}
        inner = normalised(x, of["attention_norm.weight"])
        rows = of["attention.qkv.weight"].split(size)
        heads = []
        for head in range(shape.n_heads):
            group = head // (shape.n_heads // shape.n_kv_heads)
            q = turned(normalised(inner @ rows[head].T, of["attention.qk_norm"][0]))
            k = turned(normalised(inner @ rows[shape.n_heads + group].T, of["attention.qk_norm"][1]))
            v = inner @ rows[shape.n_heads + shape.n_kv_heads + group].T
            heads.append((q @ k.transpose(-1, -2) / math.sqrt(size) + mask).softmax(-1) @ v)
        x = x + torch.cat(heads, -1) @ of["attention.out.weight"].T
        inner = normalised(x, of["mlp_norm.weight"])
        if shape.mlp == "gated":
            gate, up = of["mlp.gate_up.weight"].split(shape.d_mlp)
            hidden = inner @ gate.T * torch.sigmoid(inner @ gate.T) * (inner @ up.T)
        else:
            up = inner @ of["mlp.up.weight"].T
            hidden = up * (1 + torch.erf(up / math.sqrt(2))) / 2
        x = x + hidden @ of["mlp.down.weight"].T
    head = weights["embedding.weight" if shape.tied_head else "head.weight"]
    return normalised(x, weights["norm.weight"]) @ head.T * model.shrink


FORMS = [(TINY, {}), (GROUPED, {}), (PLAIN, {"document_start": 3}), (GROUPED, {"document_start": 0, "mup_width": 6})]


@pytest.mark.parametrize(("shape", "options"), FORMS)
def test_logits_equal_those_of_the_formulas(shape: Shape, options: dict[str, int]) -> None:
    model, tokens = perturbed(shape, **options), tokens_of(shape)
    with torch.no_grad():
        expected = reference(model, tokens)
        torch.testing.assert_close(model(tokens).double(), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("shape", "options"), FORMS)
def test_gradients_equal_those_of_the_formulas(shape: Shape, options: dict[str, int]) -> None:
    model, tokens = perturbed(shape, **options), tokens_of(shape)
    parameters = list(model.parameters())
    both = (model(tokens), reference(model, tokens))
    losses = [F.cross_entropy(logits.flatten(0, 1), tokens.flatten()) for logits in both]
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in losses)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-5)


def test_a_logit_depends_on_no_later_token() -> None:
    model, tokens = perturbed(GROUPED), tokens_of(GROUPED)
    changed = tokens.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % GROUPED.vocabulary
    torch.testing.assert_close(model(tokens)[:, :20], model(changed)[:, :20], rtol=0, atol=1e-5)
    assert (model(tokens)[:, 20] - model(changed)[:, 20]).abs().max() > 0.1
    torch.testing.assert_close(model(tokens[:, :9]), model(tokens)[:, :9], rtol=0, atol=1e-5)


def test_masked_documents_do_not_know_of_each_other() -> None:
    """The second document's logits are the same whatever stands before it, and those that it would have alone."""
    model, tokens = perturbed(GROUPED, document_start=7), tokens_of(GROUPED).clamp_min(8)
    tokens[:, 12] = 7
    others = tokens.clone()
    others[:, :12] = 9
    logits = model(tokens)
    torch.testing.assert_close(logits[:, 12:], model(others)[:, 12:], rtol=0, atol=1e-5)
    # Rotations tell distances alone, so a document is the same wherever it stands.
    torch.testing.assert_close(logits[:, 12:], model(tokens[:, 12:]), rtol=0, atol=1e-4)
    unmasked = perturbed(GROUPED)
    assert (unmasked(tokens)[:, 12:] - unmasked(others)[:, 12:]).abs().max() > 0.1


def test_mup_keeps_the_size_of_what_a_step_does_as_models_widen() -> None:
    """Yang et al. 2022, appendix D: after some steps at one rate, logits move as much at every width.

    Without muP the same rate moves those of the widest model over five times as far as those of the narrowest.
    """

    def moved(width: int, mup_width: int) -> float:
        shape = Shape(2, width, width // 8, width // 8, 8, 4 * width, 50, 16, tied_head=False)
        model, tokens = Decoder(shape, 0, mup_width=mup_width), tokens_of(shape, rows=8)
        run = Run(
            1e9, 1e9, shape, 8, 9, 0, 0, 0.01, 0.0, 0.9, 0.98, 1e-8, 1.0, 0, "x", 1, mup_width=mup_width
        )  # fmt: skip
        optimizer, _ = optimisers.make(run, model)
        before = model(tokens).detach()
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
            optimizer.step()
        return float((model(tokens).detach() - before).square().mean().sqrt())

    narrow, wide = 32, 512
    assert moved(wide, 32) / moved(narrow, 32) == pytest.approx(1, abs=0.5)
    assert moved(wide, 0) / moved(narrow, 0) > 5


def test_rotations_keep_the_products_of_equal_distances() -> None:
    cos, sin = rotations(64, 8)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    turned = [x * cos[:, 0] + x.roll(4) * sin[:, 0] for x in (q, k)]
    products = turned[0] @ turned[1].T
    for distance in (0, 5, 31):
        line = products.diagonal(-distance)
        torch.testing.assert_close(line, line[:1].expand_as(line), rtol=0, atol=1e-5)
    assert products[40, 0] != pytest.approx(float(products[0, 0]), abs=1e-3)


def test_the_initial_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = Decoder(TINY, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second, other = Decoder(TINY, seed=1).state_dict(), Decoder(TINY, seed=2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


@pytest.mark.parametrize("width", [8, 64, 256])
def test_the_first_loss_is_that_of_guessing(width: int) -> None:
    shape = replace(TINY, d_model=width, d_mlp=4 * width, head_size=width // 2, vocabulary=240)
    tokens = tokens_of(shape, rows=16)
    loss = F.cross_entropy(Decoder(shape, seed=0)(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(240), abs=0.1)
