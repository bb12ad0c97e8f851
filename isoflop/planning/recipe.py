"""Recipes: the named rules that turn a budget and a size into shape, batch, rate and schedule.

A recipe is frozen data and a few pure functions of it; the named ones, every constant with its reason, are in
`isoflop.planning.recipes`. A study file names one, may change its constants, and may bring a ladder of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from isoflop.errors import InputError
from isoflop.flops import AnyShape, Listed, MlpKind, Shape
from isoflop.planning.runs import Optimizer
from isoflop.planning.schedule import Decay
from isoflop.study import Model
from isoflop.study_recipe import Size


@dataclass(frozen=True)
class Walk:
    """The widths that a ``rule`` grid visits: from `start` to `stop`, by `step`, or `coarse_step` above a budget."""

    start: int
    stop: int
    step: int
    coarse_step: int
    coarse_above: float

    def widths(self, budget: float) -> range:
        """Widths at `budget` training FLOPs."""
        return range(self.start, self.stop + 1, self.coarse_step if budget > self.coarse_above else self.step)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Rules for shape, batch, rate and schedule.

    Parameters
    ----------
    name
        Under which study files find it.
    ladder
        Explicit sizes, smallest first; empty for a ladder by width.
    n_layers, layer_width, layer_width_log2
        Blocks: `n_layers`, or (0) round(d / (layer_width + layer_width_log2·log2 d)).
    heads, min_head_size, head_size
        Query (and key/value) heads: `heads`, halved until a head has `min_head_size` at least; or, with `heads` 0,
        max(1, d // head_size), which share d.
    width_step, widest
        The ladder's widths are the multiples of `width_step` up to `widest`; `walk` are those that a rule grid visits
        where the study names none.
    mlp, mlp_ratio
        Kind of the MLP and its hidden width over d_model.
    tokens_per_step, batch_budget, batch_exponent
        Tokens of one optimiser step: tokens_per_step·(C/batch_budget)^batch_exponent, in whole sequences.
    target_steps
        If not 0, instead: the least power of two of sequences that needs at most so many steps.
    min_batch
        Fewest sequences of a step.
    rate_times_width, rate_batch_exponent, learning_rate
        Peak rate: rate_times_width·B^rate_batch_exponent/d with B sequences a step; or (not 0) `learning_rate`.
    rate_width, rate_width_exponent, rate_tokens, rate_tokens_exponent
        What tuning has found beside: that rate is multiplied by (d/rate_width)^rate_width_exponent and by
        (D/rate_tokens)^rate_tokens_exponent, D the tokens of the run, about.
    max_rate
        Highest peak rate. Where the batch is chosen for `target_steps` it is halved until the rate obeys.
    warmup_steps, warmup_fraction
        Linear warm-up in absolute steps, or (not 0) as a fraction of them. Absolute, it does not depend on a run's
        length, and runs that differ in length alone share their stable part.
    decay, decay_fraction, final_rate
        Form of the decay, the last fraction of the steps that it takes (1: all after the warm-up), and the rate that
        it ends in over the peak.
    max_steps
        Most steps of a run.
    optimizer, weight_decay, beta1, beta2, beta2_batch, epsilon, clip
        The optimiser's constants; β2 is beta2^(B/beta2_batch) where `beta2_batch` is not 0, so that it forgets after
        the same number of tokens at every batch; the largest gradient norm.
    embedding_rate, head_rate, norm_rate, initial_scale, mup_width, z_loss
        See `isoflop.planning.runs.Run`. Under muP `rate_times_width` is over `mup_width`, not over each model's width,
        and wider models must have more heads, not larger ones.
    """

    name: str
    ladder: tuple[Size, ...] = ()
    n_layers: int = 0
    layer_width: float = 0.0
    layer_width_log2: float = 0.0
    heads: int = 0
    min_head_size: int = 2
    head_size: int = 128
    width_step: int = 128
    widest: int = 8192
    walk: Walk | None = None
    mlp: MlpKind = "gated"
    mlp_ratio: int = 4
    tokens_per_step: int = 0
    batch_budget: float = 1.0
    batch_exponent: float = 0.0
    target_steps: int = 0
    min_batch: int = 1
    rate_times_width: float = 0.0
    rate_batch_exponent: float = 0.0
    learning_rate: float = 0.0
    rate_width: float = 1.0
    rate_width_exponent: float = 0.0
    rate_tokens: float = 1.0
    rate_tokens_exponent: float = 0.0
    max_rate: float = math.inf
    warmup_steps: int = 0
    warmup_fraction: float = 0.0
    decay: Decay = "linear"
    decay_fraction: float = 0.0
    final_rate: float = 0.0
    max_steps: int = 10**9
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    beta2_batch: float = 0.0
    epsilon: float = 1e-8
    clip: float = 1.0
    embedding_rate: float = 1.0
    head_rate: float = 1.0
    norm_rate: float = 1.0
    initial_scale: float = 0.02
    mup_width: int = 0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        if self.mup_width and self.heads:
            raise InputError(
                "recipe.head_size must be given where mup_width is (heads of one size, more of them as models widen), "
                f"but got heads {self.heads}"
            )

    def shape(self, d_model: int, vocabulary: int, model: Model) -> Shape:
        """The ladder's model of width `d_model`; `InputError` where the heads cannot divide it evenly."""
        heads = self.heads or max(1, d_model // self.head_size)
        while self.heads and heads > 1 and d_model < heads * self.min_head_size:
            heads //= 2
        if d_model % (2 * heads):
            raise InputError(
                f"d_model must be a multiple of {2 * heads} ({heads} heads of even size), but got {d_model}"
            )
        layers = self._layers(d_model)
        if layers < 1:
            raise InputError(f"a model must have a block, but the depth rule gives none at d_model {d_model}")
        return Shape(
            n_layers=layers,
            d_model=d_model,
            n_heads=heads,
            n_kv_heads=heads,
            head_size=d_model // heads,
            d_mlp=self.mlp_ratio * d_model,
            vocabulary=vocabulary,
            sequence_length=model.sequence_length,
            tied_head=model.tied_head,
            mlp=self.mlp,
        )

    def every_shape(self, vocabulary: int, model: Model) -> list[AnyShape]:
        """The whole ladder: its explicit sizes, or every width from 8 on that makes a model, by `width_step`."""
        if self.ladder:
            return [self._named_row(place, vocabulary, model) for place in range(len(self.ladder))]
        widths = range(max(8, self.width_step), self.widest + 1, self.width_step)
        return [self.shape(width, vocabulary, model) for width in widths if self._layers(width)]

    def listed(self, size: int | str, vocabulary: int, model: Model) -> AnyShape:
        """The one of the ladder's explicit sizes that has this name (as given or as in run ids), or this width.

        Raises
        ------
        InputError
            If none has it, or several have.
        """
        rows = [(row.name, self._row(row, vocabulary, model)) for row in self.ladder]
        found = [shape for name, shape in rows if str(size) in {name, shape.label, str(shape.d_model)}]
        if len(found) != 1:
            names = ", ".join(name or shape.label for name, shape in rows)
            raise InputError(
                f"sizes must each be one of the recipe's, {names}, but got {size!r}, which is {len(found)} of them"
            )
        return found[0]

    def _layers(self, d_model: int) -> int:
        return self.n_layers or round(d_model / (self.layer_width + self.layer_width_log2 * math.log2(d_model)))

    def _named_row(self, place: int, vocabulary: int, model: Model) -> AnyShape:
        row = self.ladder[place]
        try:
            return self._row(row, vocabulary, model)
        except InputError as error:
            raise InputError(f"recipe.ladder.{place}{f' ({row.name})' if row.name else ''}: {error}") from None

    def _row(self, row: Size, vocabulary: int, model: Model) -> AnyShape:
        if row.params is not None:
            cost = row.flops_per_token or row.flops_per_sample
            assert cost is not None  # noqa: S101 - held by Size
            return Listed(
                name=row.name,
                params=row.params,
                training_flops_per_token=cost,
                vocabulary=vocabulary,
                sequence_length=model.sequence_length if row.flops_per_sample is None else 1,
                non_embedding=row.non_embedding or 0,
                d_model=row.d_model or 0,
                options=tuple(sorted(row.options.items())),
            )
        assert row.n_layers is not None  # noqa: S101 - held by Size
        assert row.d_model is not None  # noqa: S101 - held by Size
        assert row.n_heads is not None  # noqa: S101 - held by Size
        if row.head_size is None and row.d_model % row.n_heads:
            raise InputError(f"heads must divide d_model, but got {row.n_heads} and {row.d_model}")
        return Shape(
            n_layers=row.n_layers,
            d_model=row.d_model,
            n_heads=row.n_heads,
            n_kv_heads=row.n_kv_heads or row.n_heads,
            head_size=row.head_size or row.d_model // row.n_heads,
            d_mlp=row.d_mlp or self.mlp_ratio * row.d_model,
            vocabulary=vocabulary,
            sequence_length=model.sequence_length,
            tied_head=model.tied_head,
            mlp=self.mlp,
        )

    def batch_size(self, sequence_length: int, budget: float, tokens: float) -> int:
        """Sequences per step of a run of about `tokens` tokens at `budget` training FLOPs; 0 where under half a one.

        Raises
        ------
        InputError
            If the same tokens_per_step is asked of all runs and is no multiple of the sequence length.
        """
        if self.target_steps:
            return 1 << max(0, math.ceil(math.log2(tokens / (self.target_steps * sequence_length))))
        if self.batch_exponent:
            asked = self.tokens_per_step * math.pow(budget / self.batch_budget, self.batch_exponent)
            return round(asked / sequence_length)
        if self.tokens_per_step % sequence_length or not self.tokens_per_step:
            raise InputError(
                "tokens_per_step must be a multiple of sequence_length, "
                f"but got {self.tokens_per_step} and {sequence_length}"
            )
        return self.tokens_per_step // sequence_length

    def peak_rate(self, shape: AnyShape, batch: int, tokens: float) -> float:
        """Peak learning rate of `shape` at `batch` sequences a step, in a run of about `tokens` tokens.

        Raises
        ------
        InputError
            If the rate goes by width, and the size has none.
        """
        own = next((row.learning_rate for row in self.ladder if row.name == shape.label), None)
        if own is not None or self.learning_rate:
            return own or self.learning_rate * self._tuned(shape, tokens)
        if not shape.d_model:
            raise InputError(
                f"a size without d_model must have a learning_rate, but {shape.label!r} has none "
                "(in recipe.ladder, or recipe.learning_rate for all)"
            )
        width = self.mup_width or shape.d_model
        ruled = self.rate_times_width * math.pow(batch, self.rate_batch_exponent) / width
        return ruled * self._tuned(shape, tokens)

    def _tuned(self, shape: AnyShape, tokens: float) -> float:
        by_width = math.pow(shape.d_model / self.rate_width, self.rate_width_exponent)
        return by_width * math.pow(tokens / self.rate_tokens, self.rate_tokens_exponent)

    def second_moment(self, batch: int) -> float:
        """β2 at `batch` sequences a step."""
        return math.pow(self.beta2, batch / self.beta2_batch) if self.beta2_batch else self.beta2

    def warmup(self, steps: int) -> int:
        """Steps of the warm-up of a run of `steps`."""
        return round(self.warmup_fraction * steps) if self.warmup_fraction else self.warmup_steps

    def decay_steps(self, steps: int) -> int:
        """Steps of the final decay of a run of `steps`."""
        if self.decay_fraction == 1:
            return max(0, steps - self.warmup(steps))
        return round(self.decay_fraction * steps)
