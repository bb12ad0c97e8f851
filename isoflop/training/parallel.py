"""One run on several devices: who takes which rows, what is added up, and how weights are spread and made whole again.

Each device has a process, a *member*, that trains the same run: it takes its rows of every step, and the gradients are
averaged before anything is done with them. Whole on each device (DDP) or shared out over them (FSDP2, torch's
`fully_shard`), the weights after a step are those of one process, to rounding. Checkpoints are of one kind, whole, so
that a run may be carried on by another number of devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from isoflop.planning import hardware
from isoflop.training.model import Decoder

_Number = TypeVar("_Number", np.float64, np.int64)


@dataclass(frozen=True)
class Member:
    """A process among those that train a run together.

    Parameters
    ----------
    rank, size
        Which of how many. The first leads: it alone writes, and talks to who started the run.
    strategy
        How they share the work.
    """

    rank: int = 0
    size: int = 1
    strategy: hardware.Strategy = "single"

    @property
    def leads(self) -> bool:
        """Whether it is this one that writes."""
        return self.rank == 0

    def rows(self, tokens: Tensor) -> Tensor:
        """The rows of this one in a step's tokens."""
        return tokens if self.size == 1 else tokens.chunk(self.size)[self.rank]

    def total(self, values: NDArray[_Number]) -> NDArray[_Number]:
        """The sum of the members' `values`, at each."""
        if self.size == 1:
            return values
        tensor = torch.from_numpy(values)
        dist.all_reduce(tensor)
        summed: NDArray[_Number] = tensor.numpy()
        return summed

    def share(self, text: str) -> str:
        """What the first one says, at each."""
        if self.size == 1:
            return text
        said = text.encode()
        length = torch.tensor([len(said)])
        dist.broadcast(length, 0)
        letters = torch.zeros(int(length), dtype=torch.uint8)
        if self.leads:
            letters[:] = torch.frombuffer(bytearray(said), dtype=torch.uint8)
        dist.broadcast(letters, 0)
        return bytes(letters.tolist()).decode()

    def lightning(self) -> Strategy | Literal["auto"]:
        """What Lightning calls the strategy."""
        if self.strategy == "ddp":
            # Nothing in the model's buffers changes, and no gradient is kept twice.
            return DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
        if self.strategy == "fsdp":
            return ModelParallelStrategy(data_parallel_size=self.size, tensor_parallel_size=1)
        return "auto"


#: A process by itself.
ALONE = Member()


def room(accelerator: str) -> float | None:
    """Bytes that a run may fill on this process's device; None: not known."""
    if accelerator == "cpu":
        return None
    return torch.cuda.mem_get_info()[1] * (1 - hardware.RESERVED)


def spread(decoder: Decoder, mesh: DeviceMesh) -> None:
    """Share out the weights of `decoder`: each block is made whole while it is computed, the rest for a pass."""
    for block in decoder.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(decoder, mesh=mesh)
    register_fsdp_forward_method(decoder, "stream")


def rest(decoder: Decoder) -> None:
    """Share out again what a pass without gradients has left whole."""
    cast(FSDPModule, decoder).reshard()


def whole(state: Any, keep: bool) -> Any:
    """A state dict with whole tensors in the place of those that are spread; every member must call it.

    Parameters
    ----------
    state
        Dicts and lists of tensors and plain values.
    keep
        Whether the whole is wanted here. Elsewhere tensors that are spread are left out, for they take memory.
    """
    if isinstance(state, Mapping):
        return {name: whole(value, keep) for name, value in state.items()}
    if isinstance(state, list):
        return [whole(value, keep) for value in state]
    if isinstance(state, DTensor):
        full = state.full_tensor()
        return full.cpu() if keep else None
    return state


def share_out(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """The whole `state` of an optimiser, with what is of a spread weight's shape spread as that weight is."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]

    def spread_as(weight: Tensor, value: Any) -> Any:
        if isinstance(weight, DTensor) and isinstance(value, Tensor) and value.shape == weight.shape:
            on_device = value.to(weight.device)
            return distribute_tensor(on_device, weight.device_mesh, weight.placements)
        return value

    of = {key: {name: spread_as(weights[key], value) for name, value in moments.items()}
          for key, moments in state["state"].items()}  # fmt: skip
    return {**state, "state": of}


def local(tensor: Tensor) -> Tensor:
    """What this member has of a tensor; the tensor itself where it is not spread."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def clip(parameters: list[nn.Parameter], most: float) -> Tensor:
    """Scale the gradients down to the norm `most` over all members; returns the norm before."""
    norm = nn.utils.clip_grad_norm_(parameters, most, foreach=True)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
