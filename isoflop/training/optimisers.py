"""The optimisers by name: fused AdamW, and the SODA authors' Cautious AdamC.

A model's weights fall into groups by what they are: the embedding, the head, the blocks' matrices, the norms' scales.
Matrices and an untied head decay; norms are scales around one, and a row of the embedding gets a gradient only where
its token occurs (and, tied, all rows from the head), yet would decay at every step: rare tokens would be forgotten for
being rare. The peak rate of a group is the run's, times the recipe's factor for the group, and under muP another for
matrices (see `isoflop.training.model.Decoder`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from isoflop.planning.runs import Run
from isoflop.training.model import Decoder
from isoflop.training.parallel import local

#: Weights that are worked on at once: few calls of operators for small models, and for large ones what is computed on
#: the way stays small (with 3e7 weights that is twice as fast on a CPU, too).
BATCH = 2**22


class CautiousAdamC(Optimizer):
    """AdamW whose updates obey the gradient's sign, with the decay of AdamC: what the SODA authors train with.

    With g the gradient, η the rate and η_max the group's peak rate, at step t::

        m ← β1·m + (1 − β1)·g        v ← β2·v + (1 − β2)·g²
        u = (m / (1 − β1^t)) / (sqrt(v / (1 − β2^t)) + ε)
        φ = 1 where u·g > 0, else 0
        w ← w − η·(u·φ / (mean(φ) + ε) + λ·(η / η_max)·w)

    Parameters
    ----------
    params
        Groups; the `lr` that one is made with is its peak, η_max.
    lr, betas, eps, weight_decay
        η_max, (β1, β2), ε and λ.

    Notes
    -----
    A step leaves something else in the gradients.

    Sources: Liang et al. 2024, arXiv 2411.16085 (the mask, and the division by its mean; with ε beside it as in the
    authors' code, Levanter's `CautiousConfig`); Defazio 2025, arXiv 2506.02285 (the decay; here, as in that code, of
    all that decays). The mean is over one matrix: two of ours hold several of theirs (queries, keys and values; gate
    and up-projection), and theirs stack one kind of all blocks, so the sizes of updates differ a little.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.98),
        eps: float = 1e-15,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        for group in self.param_groups:
            group["peak"] = group["lr"]

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; `closure` computes loss and gradients first, where one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update([weight for weight in group["params"] if weight.grad is not None], group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        if not weights:
            return
        entries = [weight.numel() for weight in weights]
        states = [self.state[weight] for weight in weights]
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state.update(step=0, first=torch.zeros_like(weight), second=torch.zeros_like(weight))
            state["step"] += 1
        # From here on what this process has of each: all of it, or where weights are shared out its part.
        shared = isinstance(weights[0], DTensor)
        gradients = [local(weight.grad) for weight in weights if weight.grad is not None]
        first, second = ([local(state[name]) for state in states] for name in ("first", "second"))
        weights = [local(weight) for weight in weights]
        agreeing = [torch.zeros((), device=weight.device) for weight in weights]
        for owners, parts in _batches(gradients, first, second):
            _mask([agreeing[owner] for owner in owners], states[0]["step"], group, *parts)

        rate = group["lr"]
        sizes = torch.tensor(entries, device=weights[0].device)
        counts = torch.stack(agreeing)
        if shared:
            dist.all_reduce(counts)
        scales = -rate / (counts / sizes + group["eps"])
        torch._foreach_mul_(gradients, list(scales.unbind()))
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"] * rate / group["peak"])
        torch._foreach_add_(weights, gradients)


def _mask(
    agreeing: list[Tensor],
    step: int,
    group: dict[str, Any],
    gradients: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
) -> None:
    """Advance the moments, put u·φ in the place of the gradients, and count the entries where φ = 1."""
    beta1, beta2 = group["betas"]
    torch._foreach_lerp_(first, gradients, 1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
    # Both corrections of the bias go into the divisor, which has a pass over the weights less.
    correction = 1 - beta1**step
    divisors = torch._foreach_sqrt(second)
    torch._foreach_mul_(divisors, correction / math.sqrt(1 - beta2**step))
    torch._foreach_add_(divisors, correction * group["eps"])
    updates = torch._foreach_div(first, divisors)
    torch._foreach_mul_(gradients, updates)
    for gradient, count in zip(gradients, agreeing, strict=True):
        torch.gt(gradient, 0, out=gradient)
        count += gradient.sum()
    torch._foreach_mul_(gradients, updates)


def _batches(*matrices: list[Tensor]) -> Iterator[tuple[list[int], list[list[Tensor]]]]:
    """Lists of equal shapes in lockstep, in parts of `BATCH` entries at most: whose each is, and each list's.

    Large matrices are cut, small ones go together; the parts are views.
    """
    owners: list[int] = []
    batch: list[list[Tensor]] = [[] for _ in matrices]
    entries = 0
    for owner, same in enumerate(zip(*matrices, strict=True)):
        whole = same[0].numel() <= BATCH
        for parts in [same] if whole else zip(*(torch.split(matrix.view(-1), BATCH) for matrix in same), strict=True):
            if entries + parts[0].numel() > BATCH:
                yield owners, batch
                owners, batch, entries = [], [[] for _ in matrices], 0
            owners.append(owner)
            entries += parts[0].numel()
            for kind, part in zip(batch, parts, strict=True):
                kind.append(part)
    yield owners, batch


def make(run: Run, decoder: Decoder) -> tuple[Optimizer, list[float]]:
    """The optimiser of `run` for the weights of `decoder`, and the factor of the run's rate for each of its groups."""
    embedding = decoder.embedding.weight
    linear = [module.weight for module in decoder.modules() if isinstance(module, nn.Linear)]
    decayed = [weight for weight in linear if weight is not embedding]
    known = set(map(id, decayed))
    free = [weight for weight in decoder.parameters() if id(weight) not in known]
    matrices = run.mup_width / run.shape.d_model if run.mup_width else 1.0

    groups: dict[tuple[bool, float], list[Tensor]] = defaultdict(list)
    for weight in decayed:
        groups[True, run.head_rate if weight is decoder.head.weight else matrices].append(weight)
    for weight in free:
        groups[False, run.embedding_rate if weight is embedding else run.norm_rate].append(weight)

    settings: dict[str, Any] = {"betas": (run.beta1, run.beta2), "eps": run.epsilon}
    params = [
        {"params": weights, "weight_decay": run.weight_decay if decays else 0.0, "lr": run.learning_rate * factor}
        for (decays, factor), weights in groups.items()
    ]
    factors = [factor for _, factor in groups]
    if run.optimizer == "cautious":
        return CautiousAdamC(params, lr=run.learning_rate, **settings), factors
    return AdamW(params, lr=run.learning_rate, fused=True, **settings), factors
