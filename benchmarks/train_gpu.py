"""What training reaches on a GPU: MFU, against plain compiled PyTorch and Hugging Face's Trainer, and memory.

    python benchmarks/train_gpu.py [--json] [--sizes 135M,600M] [--steps 40]
    python benchmarks/train_gpu.py --smoke           every line of it in seconds on a CPU; no figure means anything

The shapes are SODA's, V = 144,644, sequences of 4,096 tokens, bf16, uniform tokens. Each way of training has a process
of its own, so that none inherits another's memory, and takes half as many sequences at once where these do not fit:

- ours: `isoflop.training.run` as a sweep calls it, with metrics, status, losses by type, clipping and the rate by step,
  blocks and loss compiled;
- eager: the same, nothing compiled, which is what the plan's estimate of memory is of;
- plain: the same model and optimiser in the loop that one would write by hand, logits in full, blocks and loss compiled
  (torchtitan's way on one GPU);
- trainer: `transformers.Trainer` on the same model as a Qwen3, bf16, compiled; only where transformers and accelerate
  are installed.

All are timed from step to step. MFU is of the peak that `isoflop/data/accelerators.yaml` has for the GPU, by causal
FLOPs and, which flatters, by attention in full. Memory is the most that torch had allocated, beside what is planned.
Without a GPU there is nothing to measure, and the script says so and ends with code 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor

from isoflop.flops import Shape
from isoflop.planning.hardware import memory
from isoflop.planning.probes import Probe, settings_of
from isoflop.planning.recipes import named, published_ladder
from isoflop.planning.runs import Run, trainable
from isoflop.study import Model
from isoflop.study_recipe import RecipeChoice
from isoflop.training import options
from isoflop.training.data import Tokens
from isoflop.training.exporting import configuration
from isoflop.training.model import Decoder
from isoflop.training.module import Cadence
from isoflop.training.options import Options
from isoflop.training.probe import Uniform
from isoflop.training.run import run

VOCABULARY, SEQUENCE = 144_644, 4096
#: Sequences of a step, and of one forward pass; the MFU (causal) that is to be reached.
SIZES = {"135M": (32, 8, 0.33), "600M": (32, 4, 0.40)}
#: On a CPU, large enough in V alone: its logits are taken by the chunk.
SMOKE, SMOKE_SHAPE = (4, 2, 0.0), Shape(2, 32, 2, 1, 16, 64, 2**14, 32, tied_head=False)
#: The ratios that are to be reached, to `plain` and `trainer`, and how far the plan's memory may be off.
PLAIN, TRAINER, MEMORY = 1.0, 1.2, 0.1
WARM_UP = 10
#: What a process ends with where memory did not suffice.
NO_ROOM = 3


def planned(size: str, steps: int) -> Run:
    """The run of a size: short, its rates do not matter."""
    if size == "smoke":
        batch, shape = SMOKE[0], SMOKE_SHAPE
    else:
        names = [each.name for each in published_ladder("soda-suite")]
        recipe = named(RecipeChoice(base="marin-2025", published_ladder="soda-suite"))
        ladder = recipe.every_shape(VOCABULARY, Model(sequence_length=SEQUENCE, tied_head=False))
        batch, shape = SIZES[size][0], ladder[names.index(size)]
    length = shape.sequence_length
    flops = shape.training_flops(steps * batch * length)
    return Run(
        flops, flops, shape, batch, steps, 2, 2, 1e-3, 0.1, 0.9, 0.95, 1e-8, 1.0, 0, "uniform", length, "bf16"
    )  # fmt: skip


class Timed(Uniform):
    """Uniform tokens made beforehand, which note when they are read."""

    def __init__(self, of: Run) -> None:
        super().__init__(of)
        self.times: list[float] = []
        self.pool = self._windows(of.batch_size, of, 0)

    def batches(self, run: Run) -> Callable[[int], Tokens]:
        """Note the time of every step."""

        def batch(step: int) -> Tokens:
            self.times.append(time.perf_counter())
            return self.pool

        return batch

    @property
    def step_seconds(self) -> float:
        """Of a step after the warm-up: every way waits for the GPU once a step."""
        return (self.times[-1] - self.times[WARM_UP]) / (len(self.times) - 1 - WARM_UP)


def ours(of: Run, at_once: int, device: str, compiled: bool = True) -> float:
    """Seconds a step of our run."""
    source, how = Timed(of), Options(micro_batch=at_once, compile=compiled)
    accelerator = "gpu" if device == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as directory:
        run(of, Path(directory), source=source, accelerator=accelerator, options=how, cadence=Cadence(10, 10_000))
    return source.step_seconds


def eager(of: Run, at_once: int, device: str) -> float:
    """The same with nothing compiled."""
    return ours(of, at_once, device, compiled=False)


def plain(of: Run, at_once: int, device: str) -> float:
    """The same of the loop that one would write by hand."""
    source = Timed(of)
    read = source.batches(of)
    model = Decoder(trainable(of), of.seed).to(device)
    for block in model.blocks:
        block.compile(backend=options.BACKEND, dynamic=False)

    @torch.compile(backend=options.BACKEND, dynamic=False)
    def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    optimizer = torch.optim.AdamW(model.parameters(), lr=of.learning_rate, weight_decay=of.weight_decay, fused=True)
    for step in range(of.steps):
        parts = torch.from_numpy(read(step)).to(device).split(at_once)
        for part in parts:
            with torch.autocast(device, torch.bfloat16):
                loss = loss_of(model(part[:, :-1]), part[:, 1:]) / len(parts)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), of.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
    return source.step_seconds


def trainer(of: Run, at_once: int, device: str) -> float:
    """The same of Hugging Face's Trainer."""
    import transformers

    source = Timed(of)
    left_out = {"architectures", "torch_dtype"}
    settings = {name: value for name, value in configuration(of).items() if name not in left_out}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**settings))

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *arguments: Any, **more: Any) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            source.times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as directory:
        arguments = transformers.TrainingArguments(
            directory, max_steps=of.steps, per_device_train_batch_size=at_once,
            gradient_accumulation_steps=of.batch_size // at_once, bf16=True, torch_compile=True,
            torch_compile_backend=options.BACKEND, optim="adamw_torch_fused", save_strategy="no", report_to=[],
            logging_steps=10, disable_tqdm=True, use_cpu=device == "cpu",
        )  # fmt: skip
        # One epoch: what starts another is no part of a step.
        rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(source.pool[:, :-1])]
        transformers.Trainer(model, arguments, train_dataset=rows * of.steps, callbacks=[Clock()]).train()
    return source.step_seconds


WAYS: dict[str, Callable[[Run, int, str], float]] = {"ours": ours, "eager": eager, "plain": plain, "trainer": trainer}


def one(way: str, size: str, steps: int, at_once: int) -> dict[str, Any]:
    """A way of training, measured in this process."""
    of, device = planned(size, steps), "cpu" if size == "smoke" else "cuda"
    seconds = WAYS[way](of, at_once, device)
    name, peak = "cpu", 0
    if device == "cuda":
        name, peak = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated()
    per_step = of.tokens_per_step
    probe = Probe(
        size, dict(vars(of.shape)), settings_of(of), of.batch_size, "gpu" if device == "cuda" else "cpu", name, 1,
        "single", at_once, False, way != "eager", seconds, peak, of.shape.training_flops(per_step),
        of.shape.flops_per_token("counted", "causal") * per_step, {},
    )  # fmt: skip
    estimate = memory(of.shape, at_once, "bf16").total
    return {"way": way, **probe.to_json(), "estimated_bytes": estimate}


def _apart(way: str, size: str, steps: int) -> dict[str, Any]:
    """The same in a process of its own, with the most sequences at once that fit."""
    at_once = (SMOKE if size == "smoke" else SIZES[size])[1]
    while True:
        command = [sys.executable, __file__, "--steps", str(steps), "--one", way, size, str(at_once)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode == 0:
            result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return result
        if done.returncode != NO_ROOM or at_once == 1:
            sys.exit(f"{way} at {size} ended with code {done.returncode}, {at_once} sequences at once")
        at_once //= 2


def table(found: dict[tuple[str, str], dict[str, Any]], ratios: dict[str, float]) -> str:
    """What was found, and what was to be reached."""
    heads = ("size", "way", "at once", "tokens/s", "MFU causal", "full", "GiB", "planned")
    lines = ["{:<6} {:<8} {:>7} {:>9} {:>11} {:>6} {:>6} {:>8}".format(*heads)]
    for (size, way), each in found.items():
        shares = [f"{each[name]:.3f}" if each[name] is not None else "?" for name in ("mfu_causal", "mfu")]
        planned_gib = f"{each['estimated_bytes'] / 2**30:.1f}" if way in {"ours", "eager"} else ""
        lines.append(
            f"{size:<6} {way:<8} {each['micro_batch']:>7} {each['tokens_per_second']:>9,.0f} {shares[0]:>11} "
            f"{shares[1]:>6} {each['peak_bytes'] / 2**30:>6.1f} {planned_gib:>8}"
        )
    least = {"plain": PLAIN, "trainer": TRAINER}
    for name, ratio in ratios.items():
        wanted = least.get(name.split("_over_")[-1])
        lines.append(f"{name}: {ratio}" + (f" (at least {wanted})" if wanted else ""))
    for size in dict.fromkeys(size for size, _ in found):
        wanted = SIZES[size][2] if size in SIZES else 0
        lines.append(f"{size}: MFU by causal FLOPs at least {wanted}, memory within {MEMORY:.0%} of the plan's")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    parser.add_argument("--sizes", default=",".join(SIZES), help="of SODA's suite")
    parser.add_argument("--steps", type=int, default=40, help="of each, the first ten not timed")
    parser.add_argument("--smoke", action="store_true", help="a tiny model on a CPU in the place of them")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "SIZE", "AT_ONCE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps <= WARM_UP + 1:
        parser.error(f"--steps must be more than {WARM_UP + 1}, but got {arguments.steps}")
    if arguments.one:
        way, size, at_once = arguments.one
        if size == "smoke":
            # What is compiled is traced, and run as it is.
            options.BACKEND = "aot_eager"
        try:
            print(json.dumps(one(way, size, arguments.steps, int(at_once))))
        except torch.OutOfMemoryError as error:
            print(error, file=sys.stderr)
            sys.exit(NO_ROOM)
        return
    if not (arguments.smoke or torch.cuda.is_available()):
        sys.exit("no GPU here: nothing was measured (MFU, the ratios and memory stay open)")
    have_trainer = all(importlib.util.find_spec(package) for package in ("transformers", "accelerate"))
    sizes = ["smoke"] if arguments.smoke else arguments.sizes.split(",")
    ways = [way for way in WAYS if way != "trainer" or have_trainer]
    found = {(size, way): _apart(way, size, arguments.steps) for size in sizes for way in ways}
    speed = {key: each["tokens_per_second"] for key, each in found.items()}
    ratios = {
        f"{size}_over_{way}": round(speed[size, "ours"] / speed[size, way], 3) for size, way in found if way != "ours"
    }
    if arguments.json:
        print(json.dumps({"ratios": ratios, "runs": list(found.values()), "machine": machine("torch")}))
        return
    print(table(found, ratios))
    if not have_trainer:
        print("without transformers and accelerate there is no Trainer of Hugging Face: pip install accelerate")


if __name__ == "__main__":
    main()
