"""The loss: next-token cross-entropy in nats per token, as a mean and by type of token.

A sweep over interleaved streams lives on the loss by type: text, semantic and each acoustic codebook improve at
their own pace, and the mean hides which. The type is that of the token to be predicted.

With SODA's vocabulary the logits of one sequence of 4,096 tokens are 2.2 GiB, and their cross-entropy takes two more
of that size. So from `CHUNKED_VOCABULARY` entries on the loss is taken a chunk of tokens at a time, and the gradients
of a chunk with it, while its logits are there: no logit is computed twice, none outlives its chunk. Small vocabularies
take the plain way, which is faster for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from isoflop.planning.hardware import CHUNKED_VOCABULARY, chunk_rows
from isoflop.training.model import Decoder

#: Codebooks of one signal, reported one by one and, under this name, together.
ACOUSTIC = "acoustic"
#: The types that are no sound.
NOT_SOUND = ("text", "control")

#: What `softmax` and `ending` are, compiled or not.
Chunk = Callable[[Tensor, Tensor, int, float], tuple[Tensor, Tensor, Tensor]]
Ending = Callable[[Decoder, Tensor, Tensor, float], tuple[Tensor, Tensor]]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def training_loss(
    decoder: Decoder, tokens: Tensor, z_loss: float = 0.0, chunk: Chunk | None = None, end: Ending | None = None
) -> tuple[Tensor, Tensor]:
    """What is minimised over windows of tokens, (batch, s + 1), and the loss of each target in nats, (batch·s,).

    The former is the mean of the latter, plus the z-loss (Chowdhery et al. 2022, arXiv 2204.02311, section 5):
    `z_loss` times the mean squared log-partition, which keeps logits from drifting away together. `chunk` and `end`
    are `softmax` and `ending` where these are compiled.
    """
    targets = tokens[:, 1:].reshape(-1)
    stream = decoder.stream(tokens[:, :-1])
    if decoder.shape.vocabulary >= CHUNKED_VOCABULARY:
        features, weight = decoder.normed(stream), decoder.head.weight
        return chunked_loss(features, weight, targets, z_loss, chunk or softmax)
    return (end or ending)(decoder, stream, targets, z_loss)


def ending(decoder: Decoder, stream: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
    """`training_loss` from the residual stream after the last block, (batch·s, d), and `targets` (batch·s,)."""
    return plain_loss(decoder.head(decoder.normed(stream)), targets, z_loss)


def plain_loss(logits: Tensor, targets: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]:
    """`training_loss` from `logits` (n, V) and `targets` (n,)."""
    logits = logits.float()
    # The two halves of a cross-entropy: so the loss of each target costs no second pass over the logits.
    logs = F.log_softmax(logits, -1)
    loss = F.nll_loss(logs, targets)
    losses = -logs.detach().gather(1, targets[:, None]).squeeze(1)
    if not z_loss:
        return loss, losses
    return loss + z_loss * logits.logsumexp(-1).square().mean(), losses


def softmax(logits: Tensor, targets: Tensor, count: int, z_loss: float) -> tuple[Tensor, Tensor, Tensor]:
    """What a chunk of `logits` (n, V) with `targets` (n, 1) has to do with the objective over `count` tokens.

    Of each row the loss and the squared log-partition, and dL/dlogits, of the logits' type but taken in fp32: where the
    target is likely its two parts nearly cancel.
    """
    kind = logits.dtype
    logits = logits.float()
    chosen, peak = logits.gather(1, targets), logits.amax(1, keepdim=True)
    total = logits.sub_(peak).exp_().sum(1, keepdim=True)
    partition = total.log() + peak
    logits.mul_((1 + 2 * z_loss * partition) / (count * total))
    logits.scatter_add_(1, targets, torch.full_like(chosen, -1 / count))
    return (partition - chosen).squeeze(1), partition.square().squeeze(1), logits.to(kind)


def chunked_loss(
    features: Tensor, weight: Tensor, targets: Tensor, z_loss: float = 0.0, chunk: Chunk = softmax
) -> tuple[Tensor, Tensor]:
    """`training_loss` from `features` (n, d), the head's `weight` (V, d) and `targets` (n,), without all the logits."""
    objective, losses = _ChunkedLoss.apply(features, weight, targets, z_loss, chunk)  # type: ignore[no-untyped-call]
    return objective, losses


class _ChunkedLoss(torch.autograd.Function):
    """Both gradients are known once the loss is: with p the softmax, y the target and z the log-partition.

    dL/dlogits = (p·(1 + 2·z_loss·z) − 1[y])/n, which is written over the logits.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, targets: Tensor, z_loss: float, chunk: Chunk
    ) -> tuple[Tensor, Tensor]:
        device = features.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        count = len(targets)
        rows = chunk_rows(len(weight), count)
        matrix = weight.to(kind)
        losses, squares = torch.empty(2, count, device=features.device).unbind()
        by_features, by_weight = torch.empty_like(features), torch.zeros_like(weight)
        # Under autocast each chunk would copy the weights anew.
        with torch.autocast(device, enabled=False):
            for start in range(0, count, rows):
                part = slice(start, start + rows)
                x, y = features[part].to(kind), targets[part, None]
                losses[part], squares[part], gradient = chunk(x @ matrix.T, y, count, z_loss)
                by_features[part] = gradient @ matrix
                if kind == weight.dtype:
                    by_weight.addmm_(gradient.T, x)
                else:
                    by_weight.add_(gradient.T @ x)
                del gradient
        ctx.save_for_backward(by_features, by_weight)
        ctx.mark_non_differentiable(losses)
        return losses.mean() + z_loss * squares.mean(), losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_objective: Tensor, by_losses: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        by_features, by_weight = ctx.saved_tensors
        # In place: a second matrix of the head's size would be the largest thing in memory.
        return by_features.mul_(by_objective), by_weight.mul_(by_objective), None, None, None


def token_losses(decoder: Decoder, tokens: Tensor) -> Tensor:
    """The loss of each target of `tokens` (batch, s + 1) in nats, (batch·s,); for use without gradients."""
    targets = tokens[:, 1:].reshape(-1)
    features, vocabulary = decoder.features(tokens[:, :-1]), decoder.shape.vocabulary
    rows = chunk_rows(vocabulary, len(targets)) if vocabulary >= CHUNKED_VOCABULARY else len(targets)
    parts = zip(torch.split(features, rows), torch.split(targets, rows), strict=True)
    return torch.cat([F.cross_entropy(decoder.head(x).float(), y, reduction="none") for x, y in parts])


def type_columns(names: Sequence[str]) -> tuple[str, ...]:
    """What `by_type` can tell of these types: ``loss_<type>``, and ``loss_acoustic`` over its codebooks."""
    grouped = [f"loss_{ACOUSTIC}"] if any(map(_is_acoustic, names)) else []
    return tuple(dict.fromkeys([*(f"loss_{name}" for name in names), *grouped]))


def validation_columns(names: Sequence[str], sources: Sequence[str]) -> tuple[str, ...]:
    """What `LossByType` can tell, and the bits of a second of sound."""
    several = sources if len(sources) > 1 else ()
    bits = ["bits_per_audio_second"] if set(names) - set(NOT_SOUND) else []
    return ("loss", *type_columns(names), *(f"loss_from_{source}" for source in several), *bits)


def by_type(names: Sequence[str], sums: Floats, counts: Counts) -> dict[str, float]:
    """Nats per token by the columns of `type_columns`, from the types' sums and counts of losses, both (types,).

    A type without a target has no loss, so it is left out.
    """
    members = {
        **{f"loss_{name}": [i] for i, name in enumerate(names)},
        f"loss_{ACOUSTIC}": [i for i, name in enumerate(names) if _is_acoustic(name)],
    }
    return {
        column: math.fsum(sums[own]) / int(counts[own].sum()) for column, own in members.items() if counts[own].any()
    }


def _is_acoustic(name: str) -> bool:
    return name == ACOUSTIC or name.startswith(f"{ACOUSTIC}_")


class LossByType:
    """Cross-entropy summed by source of the window and type of the target token, batch by batch.

    Parameters
    ----------
    names
        The types.
    types
        The index into `names` of each entry of the vocabulary.
    sources
        Where windows are from.
    """

    def __init__(self, names: tuple[str, ...], types: NDArray[np.uint8], sources: tuple[str, ...] = ("",)) -> None:
        self.names = names
        self.sources = sources
        self.types = torch.from_numpy(types.astype(np.int64))
        self.sums: Floats = np.zeros((len(sources), len(names)))
        self.counts: Counts = np.zeros((len(sources), len(names)), dtype=np.int64)

    def add(self, losses: Tensor, targets: Tensor, origins: Tensor | None = None) -> None:
        """Count `targets`, with their `losses`, under their types and `origins` (None: the first source); all (n,)."""
        cells = self.types[targets.cpu()]
        if origins is not None:
            cells += origins.cpu() * len(self.names)
        size = self.sums.size
        self.sums += torch.bincount(cells, losses.cpu().double(), size).numpy().reshape(self.sums.shape)
        self.counts += torch.bincount(cells, minlength=size).numpy().reshape(self.sums.shape)

    @property
    def tokens(self) -> int:
        """Targets counted so far."""
        return int(self.counts.sum())

    def losses(self) -> dict[str, float]:
        """``loss`` over all targets, by type, and ``loss_from_<source>`` where there are several; nats per token."""
        several = self.sources if len(self.sources) > 1 else ()
        by_source = {f"loss_from_{source}": self.of(source)["loss"] for source in several if source in self._seen}
        sums, counts = self.sums.sum(0), self.counts.sum(0)
        return {"loss": math.fsum(sums) / self.tokens, **by_type(self.names, sums, counts), **by_source}

    def of(self, source: str) -> dict[str, float]:
        """``loss`` over the targets of one source, and by type."""
        sums, counts = (table[self.sources.index(source)] for table in (self.sums, self.counts))
        return {"loss": math.fsum(sums) / int(counts.sum()), **by_type(self.names, sums, counts)}

    def by_source(self) -> dict[str, dict[str, float]]:
        """`of` each source that was seen."""
        return {source: self.of(source) for source in self._seen}

    @property
    def _seen(self) -> list[str]:
        return [source for source, counts in zip(self.sources, self.counts, strict=True) if counts.any()]

    def bits_per_second(self, rate: float) -> float | None:
        """What a second of sound costs: (nats per audio token)·`rate` / ln 2, in bits; None where no sound was seen.

        `rate` is the number of audio tokens a second, frames a second times codebooks. Unlike nats per token it can
        be compared between codecs that cut sound into more or fewer tokens: it is the bit rate at which the model
        would compress the codec's own stream. Text and control tokens do not count.
        """
        audio = [name not in NOT_SOUND for name in self.names]
        sums, counts = self.sums[:, audio], self.counts[:, audio]
        return math.fsum(sums.ravel()) / int(counts.sum()) * rate / math.log(2) if counts.any() else None
