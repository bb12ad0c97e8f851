"""Parameters and FLOPs of a decoder-only transformer, group by group and by every named convention.

A scaling law is only as meaningful as its N and its C, and papers mean different things by both. So nothing
here returns "the" number: parameters come in groups, of which a named convention picks some, and FLOPs come
with the name of the formula, of how attention is counted and of the passes.

>>> shape = Shape(n_layers=2, d_model=64, n_heads=2, n_kv_heads=2, head_size=32, d_mlp=256, vocabulary=256,
...               sequence_length=128, tied_head=True)
>>> shape.parameters.total, shape.parameters.non_embedding
(147904, 131520)
>>> shape.flops_per_token("counted") / shape.flops_per_token("6nd"), shape.flops_per_token(passes="forward")
(1.2237126784941583, 361984.0)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from isoflop.errors import InputError
from isoflop.names import validated_name

ParamsConvention = Literal["total", "non_embedding", "body_and_head"]
FlopsConvention = Literal["counted", "levanter", "6nd", "6nd_non_embedding", "6nd_body_and_head"]
Attention = Literal["full", "causal"]
Passes = Literal["training", "forward"]
MlpKind = Literal["gated", "plain"]

#: Training costs one forward and one backward pass; the backward pass is two matmuls for each of the forward's.
TRAINING_OVER_FORWARD = 3


@dataclass(frozen=True)
class Parameters:
    """Parameters by group, in units of one weight. A tied head owns no weights: they are the embedding's.

    `other` are weights of the body whose group is not known (`Listed`).
    """

    embedding: int
    head: int
    attention: int
    mlp: int
    norms: int
    other: int = 0

    @property
    def total(self) -> int:
        """Every weight, each once."""
        return self.embedding + self.head + self.body

    @property
    def body(self) -> int:
        """The blocks and the final norm: attention, MLP, norms."""
        return self.attention + self.mlp + self.norms + self.other

    @property
    def non_embedding(self) -> int:
        """Neither the embedding nor the head (Kaplan et al. 2020, section 2.1)."""
        return self.body

    @property
    def body_and_head(self) -> int:
        """What multiplies every token: the body and the head's matrix, be it tied or not."""
        return self.body + (self.head or self.embedding)

    def by(self, convention: ParamsConvention) -> int:
        """N by the named convention; `InputError` names the known ones."""
        _known(convention, get_args(ParamsConvention), "params convention")
        return int(getattr(self, convention))


@dataclass(frozen=True)
class Shape:
    """A Qwen3-style decoder: QK-norm, RoPE, RMSNorm, no biases.

    Parameters
    ----------
    n_layers, d_model, n_heads, n_kv_heads, head_size, d_mlp
        Blocks, model width, query heads, key/value heads, width of one head, hidden width of the MLP.
    vocabulary
        Entries of the embedding and of the head.
    sequence_length
        Tokens that attend to each other, s.
    tied_head
        Whether the head is the embedding's matrix.
    mlp
        ``gated`` (three matrices, SwiGLU) or ``plain`` (two).

    Raises
    ------
    InputError
        If a number is not positive, or the query heads are not a multiple of the key/value heads, or the
        head size is odd (rotary embeddings turn pairs), or the kind of MLP is unknown.
    """

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    d_mlp: int
    vocabulary: int
    sequence_length: int
    tied_head: bool
    mlp: MlpKind = "gated"

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise InputError(f"{name} >= 1 must hold, but got {getattr(self, name)}")
        if self.n_heads % self.n_kv_heads:
            raise InputError(f"n_heads must be a multiple of n_kv_heads, but got {self.n_heads} and {self.n_kv_heads}")
        if self.head_size % 2:
            raise InputError(f"head_size must be even (rotary embeddings turn pairs), but got {self.head_size}")
        _known(self.mlp, get_args(MlpKind), "mlp")

    @property
    def label(self) -> str:
        """``d<width>-l<layers>``, as in run ids."""
        return f"d{self.d_model}-l{self.n_layers}"

    @property
    def mlp_matrices(self) -> int:
        """Matrices of d·ffn weights in one MLP: three gated, two plain."""
        return 3 if self.mlp == "gated" else 2

    @property
    def parameters(self) -> Parameters:
        """Parameters by group.

        Attention: d·(h + 2·kv)·hd for queries, keys and values, h·hd·d for the output. MLP: 3·d·ffn gated, 2·d·ffn
        plain. Norms: two of width d a block, the query's and the key's of width hd, the final one. SODA's authors
        leave out L·2·hd + d of the norms (under 1e-4 of the total on their grid).
        """
        d, heads, kv, size = self.d_model, self.n_heads, self.n_kv_heads, self.head_size
        return Parameters(
            embedding=self.vocabulary * d,
            head=0 if self.tied_head else self.vocabulary * d,
            attention=self.n_layers * (d * (heads + 2 * kv) * size + heads * size * d),
            mlp=self.n_layers * self.mlp_matrices * d * self.d_mlp,
            norms=self.n_layers * (2 * d + 2 * size) + d,
        )

    @property
    def forward_flops_per_token(self) -> float:
        """Counted FLOPs of one forward pass, per token, attention over the full sequence (see `flops_per_token`)."""
        return self.flops_per_token(passes="forward")

    def flops_per_token(
        self, convention: FlopsConvention = "counted", attention: Attention = "full", passes: Passes = "training"
    ) -> float:
        """FLOPs per token by the named convention.

        Parameters
        ----------
        convention
            ``counted``: f = L·[2m·d·ffn + 2d(h·hd + 2·kv·hd) + 2·h·hd·d + 4·s·h·hd + 3·s·h] + 2·d·V, every matmul at
            two FLOPs a multiply-add (m = 3 matrices of a gated MLP, 2 of a plain one), attention, 3·s·h for its
            softmax, the head. Left out: norms, rotary embeddings, activations, residual stream, the optimiser
            (together under 1 % from d = 64 on); against torch's own counter, which knows matmuls alone, it is
            higher by the softmax, 3·s·h·L (under 1.2 % from hd = 64 on). Source: arXiv 2602.16687 and its code, here
            for any head size.
            ``levanter``: the same with hd = d/h, as in the authors' code (Levanter's `lm_flops_per_token`). Equal on
            all of SODA's grid; for their suite, whose heads are wider, 30 % low at 600M (d 1024, 16 heads of 128)
            and 16 % at 4B.
            ``6nd``, ``6nd_non_embedding``, ``6nd_body_and_head``: 2N forward for that N (Kaplan et al. 2020,
            section 2.1). Leaves out attention's quadratic part; with N total it counts the embedding's look-up as
            a matmul: right about a tied head, too high by 6·V·d in training for an untied one (1.66 to 0.95 of
            ``counted`` over SODA's cells).
        attention
            ``full``: every token attends to s tokens, as most papers count; ``causal``: to (s + 1)/2 on average,
            what a causal kernel computes. No effect on 6ND.
        passes
            ``forward``, or ``training`` = 3 × forward: the backward pass is two matmuls for each of the forward's.
        """
        _known(convention, get_args(FlopsConvention), "FLOPs convention")
        _known(attention, get_args(Attention), "attention")
        _known(passes, get_args(Passes), "passes")
        multiple = TRAINING_OVER_FORWARD if passes == "training" else 1
        if convention.startswith("6nd"):
            return 2.0 * multiple * self.parameters.by(_params_of(convention))
        size = self.d_model / self.n_heads if convention == "levanter" else self.head_size
        return multiple * self._counted(size, self.sequence_length if attention == "full" else self._causal_length)

    @property
    def _causal_length(self) -> float:
        return (self.sequence_length + 1) / 2

    def _counted(self, size: float, length: float) -> float:
        d, heads, kv = self.d_model, self.n_heads, self.n_kv_heads
        projections = 2 * d * (heads + 2 * kv) * size + 2 * heads * size * d
        attention = 4 * length * heads * size + 3 * length * heads
        mlp = 2 * self.mlp_matrices * d * self.d_mlp
        return float(self.n_layers * (mlp + projections + attention) + 2 * d * self.vocabulary)

    def training_flops(
        self, tokens: float, convention: FlopsConvention = "counted", attention: Attention = "full"
    ) -> float:
        """FLOPs of training on `tokens` tokens, C, by the named convention (see `flops_per_token`)."""
        return self.flops_per_token(convention, attention) * tokens


@dataclass(frozen=True)
class Listed:
    """A model that is not ours, known by a row of a table alone.

    Parameters
    ----------
    name
        Of the size; letters, digits, ``.``, ``_``, ``-``.
    params
        All of its weights.
    training_flops_per_token
        Forward and backward, for one token (or one sample: then D counts samples and `sequence_length` is 1).
    non_embedding
        Weights that are neither embedding nor head; 0 where the table does not say: then all of `params` count.
    d_model
        Its width, for rules that need one; 0 where there is none.
    vocabulary, sequence_length
        Of the data it reads.
    options
        Names and plain values for the trainer that builds it, sorted by name.
    """

    name: str
    params: int
    training_flops_per_token: float
    vocabulary: int
    sequence_length: int
    non_embedding: int = 0
    d_model: int = 0
    options: tuple[tuple[str, bool | int | float | str], ...] = ()

    def __post_init__(self) -> None:
        validated_name(self.name)
        for name in ("params", "training_flops_per_token", "vocabulary", "sequence_length"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} > 0 must hold, but got {getattr(self, name)} for the size {self.name!r}")
        if not 0 <= self.non_embedding <= self.params:
            raise InputError(
                "0 <= non_embedding <= params must hold, but got "
                f"{self.non_embedding} and {self.params} for the size {self.name!r}"
            )

    @property
    def label(self) -> str:
        """Its name, as in run ids."""
        return self.name

    @property
    def parameters(self) -> Parameters:
        """Its weights, in the two groups that a table knows."""
        body = self.non_embedding or self.params
        return Parameters(self.params - body, 0, 0, 0, 0, other=body)

    def flops_per_token(
        self, convention: FlopsConvention = "counted", attention: Attention = "full", passes: Passes = "training"
    ) -> float:
        """FLOPs per token: its table's where the convention counts, else 2N a pass for that N.

        A table says nothing of attention: full and causal are the same here.
        """
        _known(convention, get_args(FlopsConvention), "FLOPs convention")
        _known(attention, get_args(Attention), "attention")
        _known(passes, get_args(Passes), "passes")
        share = 1.0 if passes == "training" else 1 / TRAINING_OVER_FORWARD
        if convention.startswith("6nd"):
            return 6.0 * share * self.parameters.by(_params_of(convention))
        return share * self.training_flops_per_token

    def training_flops(
        self, tokens: float, convention: FlopsConvention = "counted", attention: Attention = "full"
    ) -> float:
        """FLOPs of training on `tokens` tokens, C."""
        return self.flops_per_token(convention, attention) * tokens


#: What a run may train: a decoder, or a row of a table.
AnyShape = Shape | Listed


def _params_of(convention: str) -> ParamsConvention:
    """The N of a 6ND convention."""
    return {"6nd_non_embedding": "non_embedding", "6nd_body_and_head": "body_and_head"}.get(convention, "total")  # type: ignore[return-value]


def _known(value: str, choices: tuple[str, ...], what: str) -> None:
    if value not in choices:
        raise InputError(f"{what} must be one of {', '.join(choices)}, but got {value!r}")


_COUNTS = (
    "n_layers",
    "d_model",
    "n_heads",
    "n_kv_heads",
    "head_size",
    "d_mlp",
    "vocabulary",
    "sequence_length",
)
