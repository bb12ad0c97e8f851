"""The model: a decoder-only transformer as SODA's, for shapes from a laptop core's to a GPU's.

Qwen3's block (arXiv 2505.09388): pre-norm with RMSNorm, grouped-query attention whose queries and keys are
normalised head by head (QK-norm) and turned by rotary embeddings (RoPE), an MLP gated by SiLU (or a plain one), no
biases, a head that is the embedding's matrix (tied) or its own. Its parameters are, group by group, those of
`isoflop.flops.Shape.parameters`.

Small models spend their time in the overhead of operators, not in arithmetic. So what can be one operator is one:
queries, keys and values come from one matmul, are normalised and turned together, the MLP's gate and
up-projection share another, and positions are rows of one matrix throughout.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isoflop.flops import Shape

#: The base of the rotary embeddings' wavelengths (Su et al. 2021); enough for sequences up to some 10,000 tokens.
ROPE_BASE = 10_000.0
#: Added to the mean square before the root.
NORM_EPSILON = 1e-6


class Attention(nn.Module):
    """Causal grouped-query attention with QK-norm and rotary embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = shape.n_heads, shape.n_kv_heads, shape.head_size
        self.turned = self.heads + self.kv_heads
        self.qkv = nn.Linear(shape.d_model, (self.turned + self.kv_heads) * self.size, bias=False)
        self.out = nn.Linear(self.heads * self.size, shape.d_model, bias=False)
        #: Row 0 scales every query, row 1 every key.
        self.qk_norm = nn.Parameter(torch.ones(2, self.size))
        roles = torch.tensor([[1.0, 0.0]] * self.heads + [[0.0, 1.0]] * self.kv_heads)
        self.register_buffer("roles", roles, persistent=False)
        self.roles: Tensor

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within each sequence: `x` is (batch·s, d), the rotations are (s, 1, size).

        `mask` (batch, 1, s, s) says who attends to whom; None: everyone to all before.
        """
        qkv = self.qkv(x).view(-1, len(cos), self.turned + self.kv_heads, self.size)
        qk, v = torch.split(qkv, [self.turned, self.kv_heads], 2)
        # The scale of each head, picked by a matmul: indexing has a backward pass ten times as slow.
        qk = F.rms_norm(qk, (self.size,), eps=NORM_EPSILON) * (self.roles @ self.qk_norm)
        # Each pair is (i, i + size/2), as Hugging Face orders them; the sine carries the sign.
        qk = (qk * cos + qk.roll(self.size // 2, -1) * sin).transpose(1, 2)
        q, k = torch.split(qk, [self.heads, self.kv_heads], 1)
        mixed = F.scaled_dot_product_attention(
            q, k, v.transpose(1, 2), mask, is_causal=mask is None, enable_gqa=self.heads != self.kv_heads
        )
        return cast(Tensor, self.out(mixed.transpose(1, 2).reshape(len(x), -1)))


class MLP(nn.Module):
    """Gated by SiLU: ``down(silu(gate(x)) * up(x))``."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_up = nn.Linear(shape.d_model, 2 * shape.d_mlp, bias=False)
        self.down = nn.Linear(shape.d_mlp, shape.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Every position by itself."""
        gate, up = self.gate_up(x).chunk(2, -1)
        return cast(Tensor, self.down(F.silu(gate) * up))


class PlainMLP(nn.Module):
    """Two matrices with a GELU between them: ``down(gelu(up(x)))``."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.up = nn.Linear(shape.d_model, shape.d_mlp, bias=False)
        self.down = nn.Linear(shape.d_mlp, shape.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Every position by itself."""
        return cast(Tensor, self.down(F.gelu(self.up(x))))


class Block(nn.Module):
    """Attention, then the MLP, each on normalised input and added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.d_model, eps=NORM_EPSILON)
        self.attention = Attention(shape)
        self.mlp_norm = nn.RMSNorm(shape.d_model, eps=NORM_EPSILON)
        self.mlp = MLP(shape) if shape.mlp == "gated" else PlainMLP(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """The residual stream after this block."""
        x = x + self.attention(self.attention_norm(x), cos, sin, mask)
        return cast(Tensor, x + self.mlp(self.mlp_norm(x)))


class Decoder(nn.Module):
    """Tokens in, logits of the next token out.

    Parameters
    ----------
    shape
        Widths, depth and vocabulary; `sequence_length` is the longest input.
    seed
        Of the initialisation, whatever the state of torch's own generator (which is left alone).
    initial_scale
        Standard deviation of the weights before training.
    mup_width
        The width at which muP equals the standard parametrisation; 0: standard.
    document_start
        The token that starts a document: none attends beyond the start of its own. None: to the whole sequence.

    Notes
    -----
    Every matrix starts normal with standard deviation `initial_scale`, the two that write to the residual stream over
    sqrt(2·layers) more (Radford et al. 2019, section 2.3); scales of norms start at one. All else is normalised, so
    what this sets is how fast a matrix turns under AdamW's steps, and the first logits: small, a loss of ln V. On
    speech tokens (widths 16 and 40, 1,500 steps, two seeds) 0.02 ends 0.05 to 0.15 nats below 1/sqrt(fan-in), and
    within noise (0.02) of 0.04, of 1/(4·sqrt(fan-in)) and of writing zeros to the residual stream.

    muP (Yang et al. 2022, arXiv 2203.03466, Table 8, for Adam), with m = d/mup_width: the blocks' matrices start at
    `initial_scale`/sqrt(m) and learn at 1/m of the rate (`isoflop.training.optimisers`), logits are divided by m; the
    embedding, the head and the norms are as they were. Attention keeps 1/sqrt(head size), which is right as long as
    wider models have more heads and not larger ones (recipes hold to it). Depth is not transferred.
    """

    def __init__(
        self,
        shape: Shape,
        seed: int,
        *,
        initial_scale: float = 0.02,
        mup_width: int = 0,
        document_start: int | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.shrink = mup_width / shape.d_model if mup_width else 1.0
        self.document_start = document_start
        #: Whether a block keeps its input alone for the backward pass, where the rest is computed again.
        self.recompute = False
        # The layers' own initialisation, which is replaced below, draws from torch's generator.
        with torch.random.fork_rng(devices=[]):
            self.embedding = nn.Embedding(shape.vocabulary, shape.d_model)
            self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
            self.norm = nn.RMSNorm(shape.d_model, eps=NORM_EPSILON)
            self.head = nn.Linear(shape.d_model, shape.vocabulary, bias=False)
        if shape.tied_head:
            self.head.weight = self.embedding.weight
        cos, sin = rotations(shape.sequence_length, shape.head_size)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.cos: Tensor
        self.sin: Tensor
        self._initialise(seed, initial_scale)

    @torch.no_grad()
    def _initialise(self, seed: int, initial_scale: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if "norm" not in name:
                inner = math.sqrt(self.shrink) if name.startswith("blocks.") else 1.0
                writes = name.endswith(("attention.out.weight", "mlp.down.weight"))
                scale = initial_scale / math.sqrt(2 * self.shape.n_layers) if writes else initial_scale
                parameter.normal_(0.0, scale * inner, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, s, vocabulary) for `tokens`, (batch, s) with s at most the shape's sequence length."""
        return cast(Tensor, self.head(self.features(tokens)).view(*tokens.shape, -1))

    def features(self, tokens: Tensor) -> Tensor:
        """What the head multiplies, (batch·s, d), for `tokens` (batch, s)."""
        return self.normed(self.stream(tokens))

    def stream(self, tokens: Tensor) -> Tensor:
        """The residual stream after the last block, (batch·s, d), for `tokens` (batch, s)."""
        s = tokens.shape[1]
        cos, sin = self.cos[:s], self.sin[:s]
        mask = None if self.document_start is None else within_documents(tokens, self.document_start)
        x = self.embedding(tokens.reshape(-1))
        again = self.recompute and torch.is_grad_enabled()
        for block in self.blocks:
            if again:
                # Nothing in a block is random.
                x = checkpoint(block, x, cos, sin, mask, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, cos, sin, mask)
        return cast(Tensor, x)

    def normed(self, x: Tensor) -> Tensor:
        """The residual stream as the head takes it."""
        x = self.norm(x)
        return x if self.shrink == 1.0 else x * self.shrink


def within_documents(tokens: Tensor, start: int) -> Tensor:
    """Who may attend to whom, (batch, 1, s, s): to the tokens before it from its own document's `start` on.

    What comes before a sequence's first start is the rest of a document.
    """
    documents = (tokens == start).cumsum(1)
    same: Tensor = documents[:, None, :, None] == documents[:, None, None, :]
    return same.tril()


def rotations(length: int, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of the rotary embeddings, each (length, 1, size).

    Pair i of a head turns by ``position · base^(-2i/size)``. Its first half gets the negative sine: with the
    halves swapped (`roll`), ``x·cos + swapped·sin`` is the rotation.
    """
    rates = ROPE_BASE ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), rates)
    cos, sin = angles.cos(), angles.sin()
    return (
        torch.cat([cos, cos], -1).float().unsqueeze(1),
        torch.cat([-sin, sin], -1).float().unsqueeze(1),
    )
