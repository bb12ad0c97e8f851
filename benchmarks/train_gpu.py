"""What training reaches on a GPU: MFU, against plain compiled PyTorch and Hugging Face's Trainer, and memory.

    python benchmarks/train_gpu.py [--json] [--sizes 135M,600M] [--steps 40]

The shapes are SODA's, V = 144,644, sequences of 4,096 tokens, bf16, blocks compiled, uniform tokens. Each way of
training has a process of its own, so that none inherits another's memory:

- ours: `isoflop.training.run` as a sweep calls it, with metrics, status, clipping and the rate by step, timed from
  step to step;
- plain: the same model and optimiser in the loop that one would write by hand, logits in full, blocks compiled
  (torchtitan's way on one GPU); where its logits do not fit, half as many sequences go through at once;
- trainer: `transformers.Trainer` on the same model as a Qwen3, bf16, compiled; only where transformers is installed.

MFU is of the peak that `isoflop/data/accelerators.yaml` has for the GPU, by causal FLOPs and, which flatters, by
attention in full. Memory is the most that torch had allocated, beside the plan's estimate. Without a GPU there is
nothing to measure, and the script says so and ends with code 1.
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

from isoflop.planning.hardware import memory
from isoflop.planning.probes import Probe, settings_of
from isoflop.planning.recipes import named, published_ladder
from isoflop.planning.runs import Run, trainable
from isoflop.study import Model
from isoflop.study_recipe import RecipeChoice
from isoflop.training.data import Tokens
from isoflop.training.exporting import configuration
from isoflop.training.model import Decoder
from isoflop.training.module import Cadence
from isoflop.training.options import Options
from isoflop.training.probe import Uniform
from isoflop.training.run import run

VOCABULARY, SEQUENCE = 144_644, 4096
#: Sequences of a step, and of one forward pass; the MFU (causal) and the ratios that are to be reached.
SIZES = {"135M": (32, 8, 0.33), "600M": (32, 4, 0.40)}
PLAIN, TRAINER = 1.0, 1.2
WARM_UP = 10
#: Sequences at once by parameters: what a way of training is told of the size.
SIZES_BY_PARAMS: dict[int, int] = {}
WAYS = ("ours", "plain", "trainer")


def planned(size: str, steps: int) -> Run:
    names = [each.name for each in published_ladder("soda-suite")]
    recipe = named(RecipeChoice(base="marin-2025", published_ladder="soda-suite"))
    shape = recipe.every_shape(VOCABULARY, Model(sequence_length=SEQUENCE, tied_head=False))[names.index(size)]
    batch = SIZES[size][0]
    flops = shape.training_flops(steps * batch * SEQUENCE)
    return Run(
        flops, flops, shape, batch, steps, 2, 2, 1e-3, 0.1, 0.9, 0.95, 1e-8, 1.0, 0, "uniform", SEQUENCE, "bf16"
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
        """Of a step after the warm-up: what is queued on the GPU at either end evens out."""
        return (self.times[-1] - self.times[WARM_UP]) / (len(self.times) - 1 - WARM_UP)


def ours(of: Run) -> tuple[float, int]:
    """Seconds a step of our run, and sequences at once."""
    source, at_once = Timed(of), SIZES_BY_PARAMS[of.shape.parameters.total]
    options = Options(micro_batch=at_once, compile=True)
    with tempfile.TemporaryDirectory() as directory:
        run(of, Path(directory), source=source, accelerator="gpu", options=options, cadence=Cadence(10, 10_000))
    return source.step_seconds, at_once


def plain(of: Run) -> tuple[float, int]:
    """The same of the loop that one would write by hand, with the most sequences at once whose logits fit."""
    at_once = SIZES_BY_PARAMS[of.shape.parameters.total]
    while True:
        try:
            return _plain(of, at_once), at_once
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if at_once == 1:
                raise
            at_once //= 2


def _plain(of: Run, at_once: int) -> float:
    source = Timed(of)
    read = source.batches(of)
    model = Decoder(trainable(of), of.seed).cuda()
    for block in model.blocks:
        block.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=of.learning_rate, weight_decay=of.weight_decay, fused=True)
    for step in range(of.steps):
        parts = torch.from_numpy(read(step)).cuda().split(at_once)
        for part in parts:
            with torch.autocast("cuda", torch.bfloat16):
                logits = model(part[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), part[:, 1:].flatten()) / len(parts)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), of.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
    return source.step_seconds


def trainer(of: Run) -> tuple[float, int]:
    """The same of Hugging Face's Trainer."""
    import transformers

    source, at_once = Timed(of), SIZES_BY_PARAMS[of.shape.parameters.total]
    rows = torch.from_numpy(source.pool[:, :-1])
    config = transformers.AutoConfig.for_model(
        **{name: value for name, value in configuration(of).items() if name not in {"architectures", "torch_dtype"}}
    )
    model = transformers.AutoModelForCausalLM.from_config(config)

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *arguments: Any, **more: Any) -> None:
            torch.cuda.synchronize()
            source.times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as directory:
        arguments = transformers.TrainingArguments(
            directory, max_steps=of.steps, per_device_train_batch_size=at_once,
            gradient_accumulation_steps=of.batch_size // at_once, bf16=True, torch_compile=True,
            optim="adamw_torch_fused", save_strategy="no", report_to=[], logging_steps=10,
        )  # fmt: skip
        data = [{"input_ids": row, "labels": row} for row in rows]
        transformers.Trainer(model, arguments, train_dataset=data, callbacks=[Clock()]).train()
    return source.step_seconds, at_once


def one(way: str, size: str, steps: int) -> dict[str, Any]:
    """A way of training, measured in this process."""
    of = planned(size, steps)
    SIZES_BY_PARAMS[of.shape.parameters.total] = SIZES[size][1]
    seconds, at_once = {"ours": ours, "plain": plain, "trainer": trainer}[way](of)
    device = torch.cuda.get_device_name()
    per_step = of.tokens_per_step
    probe = Probe(
        size, dict(vars(of.shape)), settings_of(of), of.batch_size, "gpu", device, 1, "single", at_once, False, True,
        seconds, torch.cuda.max_memory_allocated(), of.shape.training_flops(per_step),
        of.shape.flops_per_token("counted", "causal") * per_step, {},
    )  # fmt: skip
    estimate = memory(of.shape, at_once, "bf16").total
    return {"way": way, **probe.to_json(), "estimated_bytes": estimate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    parser.add_argument("--sizes", default=",".join(SIZES), help="of SODA's suite")
    parser.add_argument("--steps", type=int, default=40, help="of each, the first ten not timed")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU here: nothing was measured (MFU, the ratios and memory stay open)")
    if arguments.one:
        print(json.dumps(one(*arguments.one, arguments.steps)))
        return
    ways = [way for way in WAYS if way != "trainer" or importlib.util.find_spec("transformers")]
    found = {(size, way): _apart(way, size, arguments.steps) for size in arguments.sizes.split(",") for way in ways}
    ratios = {
        f"{size}_over_{way}": round(found[size, "ours"]["tokens_per_second"] / result["tokens_per_second"], 3)
        for (size, way), result in found.items()
        if way != "ours"
    }
    if arguments.json:
        print(json.dumps({"ratios": ratios, "runs": list(found.values()), "machine": machine("torch")}))
        return
    heads = ("size", "way", "at once", "tokens/s", "MFU causal", "full", "GiB", "planned")
    print("{:<6} {:<8} {:>7} {:>9} {:>11} {:>6} {:>6} {:>8}".format(*heads))
    for (size, way), each in found.items():
        shares = [f"{each[name]:.3f}" if each[name] is not None else "?" for name in ("mfu_causal", "mfu")]
        planned_gib = f"{each['estimated_bytes'] / 2**30:.1f}" if way == "ours" else ""
        print(
            f"{size:<6} {way:<8} {each['micro_batch']:>7} {each['tokens_per_second']:>9,.0f} {shares[0]:>11} "
            f"{shares[1]:>6} {each['peak_bytes'] / 2**30:>6.1f} {planned_gib:>8}"
        )
    for name, ratio in ratios.items():
        print(f"{name}: {ratio} (at least {PLAIN if name.endswith('plain') else TRAINER})")
    for size in arguments.sizes.split(","):
        print(f"{size}: MFU by causal FLOPs at least {SIZES[size][2]}")


def _apart(way: str, size: str, steps: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", way, size, "--steps", str(steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
