"""What runs need of hardware, as pure numbers: memory of an accelerator, hours, cost, disk.

These are estimates from formulas, each with what it leaves out; `isoflop probe` measures. None of them changes a run.
"""

from __future__ import annotations

import difflib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from isoflop.errors import InputError
from isoflop.flops import AnyShape, Shape
from isoflop.planning.runs import Precision, Run
from isoflop.planning.trunks import own_steps, trunks
from isoflop.study import Hardware

#: One process; a copy of the weights on each device (DDP); or a part of them (FSDP2).
Strategy = Literal["single", "ddp", "fsdp"]

GIB = 2**30
#: What the framework, its kernels and fragmentation take of an accelerator.
RESERVED = 0.08
#: Bytes of a weight in a checkpoint: itself and Adam's two moments in fp32.
CHECKPOINT_BYTES = 12
#: And of one that is kept when its run is done.
WEIGHT_BYTES = 4
#: From this vocabulary on the loss is taken a chunk of tokens at a time (`isoflop.training.loss`).
CHUNKED_VOCABULARY = 2**14
#: Logits of one chunk, 128 MiB in fp32; and the most chunks, for each takes a pass over the head's gradient.
CHUNK_LOGITS = 2**25
CHUNKS = 16
#: Checkpoints that a run keeps while it goes on.
_CHECKPOINTS = 2


@dataclass(frozen=True)
class Accelerator:
    """A device by its data sheet: `memory_gib` is None where it is not estimated, peaks are dense FLOP/s."""

    name: str
    title: str
    memory_gib: float | None
    bf16: float
    fp32: float
    mfu: float
    source: str

    def peak(self, precision: Precision) -> float:
        """Peak FLOP/s of that arithmetic."""
        return self.bf16 if precision == "bf16" else self.fp32


@cache
def accelerators() -> dict[str, Accelerator]:
    """The known accelerators by name (`isoflop/data/accelerators.yaml`)."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(
        files("isoflop").joinpath("data", "accelerators.yaml").read_text(encoding="utf-8")
    )
    numbers = ("bf16", "fp32", "mfu")
    return {
        name: Accelerator(name=name, **{**record, **{key: float(record[key]) for key in numbers}})
        for name, record in content.items()
    }


def accelerator(name: str, what: str = "hardware.accelerator") -> Accelerator:
    """The accelerator of that name; `InputError` says `what` should have named one, and the nearest known one."""
    known = accelerators()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        raise InputError(f"{what} must be one of {', '.join(known)}, but got {name!r}; did you mean {nearest[0]!r}?")
    return known[name]


@dataclass(frozen=True)
class Memory:
    """Bytes of one accelerator at the end of a forward pass, where they peak.

    `weights`, `gradients` and `optimizer` follow from the parameters, `activations` and `logits` from the tokens of
    a micro-batch.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """All of it, in bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def memory(shape: AnyShape, micro_batch: int, precision: Precision, shards: int = 1, recompute: bool = False) -> Memory:
    """Memory of an accelerator that trains `shape` on `micro_batch` sequences at once.

    Parameters
    ----------
    shape
        The model. Of a row of a table only the parameters are known: activations and logits are then 0.
    micro_batch
        Sequences in one forward pass of one accelerator.
    precision
        ``32``; or ``bf16``: weights and moments stay in fp32, matmuls run on copies in bf16.
    shards
        Accelerators over which weights, gradients and moments are spread.
    recompute
        Whether blocks are computed again in the backward pass: then what enters each is kept, 4·d bytes a token, and
        the rest of one at a time, with half as much for its gradients.

    Notes
    -----
    A weight takes 4 bytes, its gradient 4, Adam's moments 8; under bf16 a copy takes 2 more.

    Activations are the tensors that autograd keeps, per token and block: before each of two norms, after it and after
    its scale, 6·d; queries, keys and values, the former two normalised and turned, and attention's result,
    4·(h + kv)·hd; of a gated MLP both halves, the activation and the product, 4·ffn, of a plain one 2·ffn; and 3·d for
    the last norm. At 4 bytes in fp32; under bf16 at 2, but at 4 for what norms keep: 4·d, and (h + kv)·hd more. Fused
    norms keep less. Left out: the norms' and attention's row sums, what an attention kernel without a fused path keeps
    (h·s a token and block), the mask between documents, buffers of the communication between shards. Within 6 % of what
    torch keeps for the model of `isoflop.training`.

    Logits are V a token: themselves, their log-softmax and its gradient in fp32, 12 bytes, and under bf16 the copy
    that the head wrote, 2 more. From `CHUNKED_VOCABULARY` entries on a chunk of them is all there is at any time, and
    its gradient takes its place: 4 bytes, and under bf16 a copy and what the chunk adds to the head's gradient, 2·V·d.
    At V = 144,644 a sequence of 4,096 tokens takes 0.14 GiB; whole it would take 7.
    """
    params = shape.parameters.total / shards
    weights = params * (4 if precision == "32" else 6)
    activations = logits = 0.0
    if isinstance(shape, Shape):
        tokens = micro_batch * shape.sequence_length
        d, heads = shape.d_model, (shape.n_heads + shape.n_kv_heads) * shape.head_size
        mlp = (4 if shape.mlp == "gated" else 2) * shape.d_mlp
        if precision == "32":
            block, last = 4 * (6 * d + 4 * heads + mlp), 12 * d
        else:
            block, last = 4 * (4 * d + heads) + 2 * (2 * d + 4 * heads + mlp), 10 * d
        blocks = shape.n_layers * 4 * d + 1.5 * block if recompute else shape.n_layers * block
        activations = float(tokens * (blocks + last))
        logits = _logits(shape, tokens, precision)
    return Memory(weights, 4 * params, 8 * params, activations, logits)


def chunk_rows(vocabulary: int, tokens: int) -> int:
    """How many of `tokens` tokens have their logits held at once where the loss is taken by the chunk."""
    return min(tokens, max(1, CHUNK_LOGITS // vocabulary, -(-tokens // CHUNKS)))


def _logits(shape: Shape, tokens: int, precision: Precision) -> float:
    """Bytes of the logits of `tokens` tokens, and of what stands beside them (see `memory`)."""
    if shape.vocabulary < CHUNKED_VOCABULARY:
        return float(tokens * shape.vocabulary * (12 if precision == "32" else 14))
    chunk = chunk_rows(shape.vocabulary, tokens) * shape.vocabulary
    return float(4 * chunk if precision == "32" else 6 * chunk + 2 * shape.vocabulary * shape.d_model)


def available(device: Accelerator) -> float | None:
    """Bytes that a run may fill: what the device has, less 8 % for the framework; None where not estimated."""
    return None if device.memory_gib is None else device.memory_gib * GIB * (1 - RESERVED)


def gpu_hours(run: Run, device: Accelerator, mfu: float | None = None, steps: int | None = None) -> float:
    """Accelerator-hours of so many `steps` of `run` (None: all): counted FLOPs (attention in full) / (peak × MFU).

    MFU is the share of the device's peak in the run's precision that goes into counted FLOPs; measured by `mfu`, else
    the device's assumed one. Left out: start-up, validation, checkpoints, waiting for data.
    """
    flops = run.shape.training_flops((steps or run.steps) * run.tokens_per_step)
    return flops / (device.peak(run.precision) * (mfu or device.mfu)) / 3600


def flops_of_hours(hours: float, machine: Hardware, precision: Precision) -> float:
    """Training FLOPs that `hours` accelerator-hours buy on `machine`; `InputError` unless they are positive."""
    if not hours > 0:
        raise InputError(f"hours must be positive, but got {hours:g}")
    device = accelerator(machine.accelerator)
    return hours * 3600 * device.peak(precision) * (machine.mfu or device.mfu)


def hours_on_each(runs: Sequence[Run]) -> dict[str, float]:
    """Accelerator-hours of all `runs`, each trunk once, on each known device, at its assumed MFU."""
    flops: dict[Precision, float] = defaultdict(float)
    steps = own_steps(runs)
    for run in runs:
        flops[run.precision] += run.shape.training_flops(steps[run.id] * run.tokens_per_step)
    return {
        name: sum(spent / (device.peak(precision) * device.mfu) for precision, spent in flops.items()) / 3600
        for name, device in accelerators().items()
    }


def makespan(hours: Iterable[float], slots: int) -> float:
    """Hours until the last of runs of `hours` is done on `slots`, longest first; within 4/3 of the best order.

    Source: Graham 1969, SIAM J. Appl. Math. 17(2).
    """
    free = [0.0] * slots
    heapq.heapify(free)
    for each in sorted(hours, reverse=True):
        heapq.heapreplace(free, free[0] + each)
    return max(free)


@dataclass(frozen=True)
class Estimate:
    """What a plan needs of the named hardware.

    Parameters
    ----------
    accelerator, gpus, mfu, mfu_measured
        The device, how many, the utilisation and whether the study file gave it.
    gpu_hours, longest_hours, makespan_hours
        Of all runs, each trunk once; of the longest run on its accelerators; until the last is done (had no branch to
        wait for its trunk).
    cost
        gpu_hours × price, in the price's currency; None without a price.
    memory_gib, memory_run
        The largest run's memory on one accelerator, and its id; `available_gib` is what there is (None: not known).
    strategies
        Runs by how their accelerators train them together.
    measured_runs, memory_measured
        Runs whose hours were measured, and whether that memory was.
    """

    accelerator: str
    gpus: int
    gpus_per_run: int
    mfu: float
    mfu_measured: bool
    gpu_hours: float
    longest_hours: float
    makespan_hours: float
    cost: float | None
    memory_gib: float
    memory_run: str
    available_gib: float | None
    strategies: dict[Strategy, int]
    measured_runs: int
    memory_measured: bool


def strategy(
    run: Run,
    devices: int,
    micro_batch: int = 0,
    recompute: bool = False,
    sharded: bool | None = None,
    room: float | None = None,
) -> Strategy:
    """How `run` is trained on so many devices: whole on each wherever it fits, since that exchanges least.

    Parameters
    ----------
    run, devices
        What, and on how many devices.
    micro_batch
        Sequences of one forward pass on one device; 0: its part of a step.
    recompute
        As in `memory`.
    sharded
        Whether weights, gradients and moments are spread; None: where they do not fit into `room` otherwise.
    room
        Bytes that a run may fill on one device; None: not known, so enough.
    """
    if devices == 1:
        return "single"
    if sharded is None:
        part = -(-run.batch_size // devices)
        needed = memory(run.shape, min(micro_batch or part, part), run.precision, 1, recompute).total
        sharded = room is not None and needed > room
    return "fsdp" if sharded else "ddp"


def strategy_on(run: Run, hardware: Hardware, recompute: bool = False) -> Strategy:
    """The `strategy` of `run` on the hardware of a study."""
    room = available(accelerator(hardware.accelerator))
    return strategy(run, hardware.gpus_per_run, hardware.micro_batch, recompute, hardware.sharded, room)


def run_memory(run: Run, hardware: Hardware, recompute: bool = False) -> Memory:
    """Memory of one of the accelerators of `run`, which never has more sequences than its part of a step."""
    sequences = min(hardware.micro_batch, -(-run.batch_size // hardware.gpus_per_run))
    shards = hardware.gpus_per_run if strategy_on(run, hardware, recompute) == "fsdp" else 1
    return memory(run.shape, sequences, run.precision, shards, recompute)


@dataclass(frozen=True)
class Measured:
    """What real steps of a run took: accelerator-hours of one, bytes of one accelerator at most, and how they went."""

    hours: float
    bytes: int
    strategy: Strategy


def estimate(
    runs: Sequence[Run], hardware: Hardware, recompute: bool = False, measured: Mapping[str, Measured] | None = None
) -> Estimate:
    """Hours, cost and memory of `runs` on `hardware`.

    Parameters
    ----------
    runs, hardware
        What, and on what.
    recompute
        As in `memory` (its time is not counted).
    measured
        What is known better, by run id.
    """
    device = accelerator(hardware.accelerator)
    steps = own_steps(runs)
    known = measured or {}
    hours = [
        steps[run.id] * known[run.id].hours if run.id in known else gpu_hours(run, device, hardware.mfu, steps[run.id])
        for run in runs
    ]
    wall = [each / hardware.gpus_per_run for each in hours]
    sizes = [
        float(known[run.id].bytes) if run.id in known else run_memory(run, hardware, recompute).total for run in runs
    ]
    largest = max(range(len(runs)), key=sizes.__getitem__)
    room = available(device)
    return Estimate(
        accelerator=device.name,
        gpus=hardware.in_all,
        gpus_per_run=hardware.gpus_per_run,
        mfu=hardware.mfu or device.mfu,
        mfu_measured=hardware.mfu is not None,
        gpu_hours=sum(hours),
        longest_hours=max(wall),
        makespan_hours=makespan(wall, hardware.at_once),
        cost=None if hardware.price is None else sum(hours) * hardware.price,
        memory_gib=sizes[largest] / GIB,
        memory_run=runs[largest].id,
        available_gib=None if room is None else room / GIB,
        strategies=dict(
            Counter(
                known[run.id].strategy if run.id in known else strategy_on(run, hardware, recompute) for run in runs
            )
        ),
        measured_runs=len(known),
        memory_measured=runs[largest].id in known,
    )


@dataclass(frozen=True)
class Disk:
    """Bytes on disk: token shards (None while their number is not known), checkpoints at their peak, and what stays.

    That are the checkpoints of trunks, and the final weights where they are kept.
    """

    shards: int | None
    checkpoints: int
    trunks: int
    weights: int


def disk(
    runs: Sequence[Run], stream_tokens: int | None, vocabulary: int, at_once: int, keep_weights: bool = False
) -> Disk:
    """Disk that `runs` need, `at_once` of them at a time.

    Shards hold a token in 2 bytes up to 65,536 entries, else in 4, each order of a document once. A run keeps two
    checkpoints of 12 bytes a weight until it is done, then none, or with `keep_weights` 4 bytes a weight. A trunk keeps
    a checkpoint for each of its branches.
    """
    width = 2 if vocabulary <= 2**16 else 4
    params = {run.id: run.shape.parameters.total for run in runs}
    largest = sorted((run.shape.parameters.total for run in runs), reverse=True)[:at_once]
    return Disk(
        shards=None if stream_tokens is None else stream_tokens * width,
        checkpoints=_CHECKPOINTS * CHECKPOINT_BYTES * sum(largest),
        trunks=CHECKPOINT_BYTES * sum(params[run] for trunk in trunks(runs) for run in trunk.branches),
        weights=WEIGHT_BYTES * sum(params.values()) if keep_weights else 0,
    )
