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
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from isoflop.planning.hardware import CHUNK_LOGITS, CHUNKED_VOCABULARY
from isoflop.training.model import Decoder

#: Codebooks of one signal, reported one by one and, under this name, together.
ACOUSTIC = "acoustic"


def training_loss(decoder: Decoder, tokens: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]:
    """What is minimised over windows of tokens, (batch, s + 1), and the loss in nats per token.

    They differ by the z-loss (Chowdhery et al. 2022, arXiv 2204.02311, section 5): `z_loss` times the mean squared
    log-partition, which keeps logits from drifting away together.
    """
    targets = tokens[:, 1:].reshape(-1)
    features, weight = decoder.features(tokens[:, :-1]), decoder.head.weight
    if len(weight) >= CHUNKED_VOCABULARY:
        return chunked_loss(features, weight, targets, z_loss)
    return plain_loss(decoder.head(features), targets, z_loss)


def plain_loss(logits: Tensor, targets: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]:
    """`training_loss` from `logits` (n, V) and `targets` (n,)."""
    logits = logits.float()
    loss = F.cross_entropy(logits, targets)
    if not z_loss:
        return loss, loss.detach()
    return loss + z_loss * logits.logsumexp(-1).square().mean(), loss.detach()


def chunked_loss(features: Tensor, weight: Tensor, targets: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]:
    """`training_loss` from `features` (n, d), the head's `weight` (V, d) and `targets` (n,), without all the logits."""
    objective, loss = _ChunkedLoss.apply(features, weight, targets, z_loss)  # type: ignore[no-untyped-call]
    return objective, loss


class _ChunkedLoss(torch.autograd.Function):
    """Both gradients are known once the loss is: with p the softmax, y the target and z the log-partition.

    dL/dlogits = (p·(1 + 2·z_loss·z) − 1[y])/n, which is written over the logits.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor]:
        device = features.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        count = len(targets)
        matrix = weight.to(kind)
        losses, squares = torch.empty(2, count, device=features.device).unbind()
        by_features, by_weight = torch.empty_like(features), torch.zeros_like(weight)
        # Under autocast each chunk would copy the weights anew.
        with torch.autocast(device, enabled=False):
            for start in range(0, count, chunk_rows(len(weight))):
                part = slice(start, start + chunk_rows(len(weight)))
                x, y = features[part].to(kind), targets[part, None]
                logits = (x @ matrix.T).float()
                chosen, peak = logits.gather(1, y), logits.amax(1, keepdim=True)
                total = logits.sub_(peak).exp_().sum(1, keepdim=True)
                partition = total.log() + peak
                losses[part] = (partition - chosen).squeeze(1)
                squares[part] = partition.square().squeeze(1)
                logits.mul_((1 + 2 * z_loss * partition) / (count * total))
                logits.scatter_add_(1, y, torch.full_like(chosen, -1 / count))
                gradient = logits.to(kind)
                by_features[part] = gradient @ matrix
                if kind == weight.dtype:
                    by_weight.addmm_(gradient.T, x)
                else:
                    by_weight.add_(gradient.T @ x)
                del logits, gradient
        loss = losses.mean()
        ctx.save_for_backward(by_features, by_weight)
        ctx.mark_non_differentiable(loss)
        return loss + z_loss * squares.mean(), loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_objective: Tensor, by_loss: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_features, by_weight = ctx.saved_tensors
        # In place: a second matrix of the head's size would be the largest thing in memory.
        return by_features.mul_(by_objective), by_weight.mul_(by_objective), None, None


def token_losses(decoder: Decoder, tokens: Tensor) -> Tensor:
    """The loss of each target of `tokens` (batch, s + 1) in nats, (batch·s,); for use without gradients."""
    targets = tokens[:, 1:].reshape(-1)
    features, vocabulary = decoder.features(tokens[:, :-1]), len(decoder.head.weight)
    rows = chunk_rows(vocabulary) if vocabulary >= CHUNKED_VOCABULARY else len(targets)
    parts = zip(torch.split(features, rows), torch.split(targets, rows), strict=True)
    return torch.cat([F.cross_entropy(decoder.head(x).float(), y, reduction="none") for x, y in parts])


def chunk_rows(vocabulary: int) -> int:
    """Tokens whose logits are held at once."""
    return max(1, CHUNK_LOGITS // vocabulary)


class LossByType:
    """Cross-entropy summed by type of target token, batch by batch.

    Parameters
    ----------
    names
        The types.
    types
        The index into `names` of each entry of the vocabulary.
    """

    def __init__(self, names: tuple[str, ...], types: NDArray[np.uint8]) -> None:
        self.names = names
        self.types = torch.from_numpy(types.astype(np.int64))
        self.sums = np.zeros(len(names))
        self.counts = np.zeros(len(names), dtype=np.int64)

    def add(self, losses: Tensor, targets: Tensor) -> None:
        """Count `targets` under their types, with their `losses`; both (n,)."""
        types = self.types[targets.cpu()]
        self.sums += torch.bincount(types, losses.cpu().double(), minlength=len(self.names)).numpy()
        self.counts += torch.bincount(types, minlength=len(self.names)).numpy()

    @property
    def tokens(self) -> int:
        """Targets counted so far."""
        return int(self.counts.sum())

    def losses(self) -> dict[str, float]:
        """``loss`` over all targets, ``loss_<type>`` over those of a type, ``loss_acoustic`` over its codebooks.

        Nats per token. A type without a target has no loss, so it is left out.
        """
        acoustic = [name == ACOUSTIC or name.startswith(f"{ACOUSTIC}_") for name in self.names]
        groups = {
            "loss": np.ones(len(self.names), dtype=bool),
            **{f"loss_{name}": np.arange(len(self.names)) == i for i, name in enumerate(self.names)},
            f"loss_{ACOUSTIC}": np.array(acoustic),
        }
        return {
            name: math.fsum(self.sums[members]) / int(self.counts[members].sum())
            for name, members in groups.items()
            if self.counts[members].any()
        }
