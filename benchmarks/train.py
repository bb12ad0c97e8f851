"""What the training path of a sweep costs beside a plain PyTorch loop, as a ratio of tokens per second.

    python benchmarks/train.py [--json] [--repeats 5]

Both train the same model on the same tokens in this process, with the same optimiser and the same things on: a row
of metrics every 50 steps, a checkpoint every 200 (two kept), clipping by norm, the learning rate by step, progress
once a second, the held-out loss at the end. They take turns. Time is taken every ten steps, and of each ten the best
of all turns counts: what else the machine does only ever adds. What a run costs before its first step and after its
last is printed apart. One thread, and over a minute.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from machine import machine
from numpy.typing import NDArray

from isoflop.flops import Shape
from isoflop.planning.runs import Run
from isoflop.training.data import Tokens
from isoflop.training.loss import LossByType, plain_loss, token_losses
from isoflop.training.model import Decoder
from isoflop.training.module import Cadence
from isoflop.training.run import run

#: Name, width, sequences a step of 128 tokens, steps timed, and the ratio that is to be reached.
CASES = (("d24_256", 24, 2, 600, 0.90), ("d32_1024", 32, 8, 200, 0.95), ("d64_1024", 64, 8, 100, 0.97))
CADENCE = Cadence(log=50, checkpoint=200)
VOCABULARY, SEQUENCE = 256, 128
#: Steps between two readings of the clock.
SEGMENT = 10


class RandomTokens:
    """A source of uniform tokens (what they say does not change how long they take) that notes when they are read."""

    names = ("random",)
    vocabulary = VOCABULARY
    types = ("text",)
    token_types = np.zeros(VOCABULARY, dtype=np.uint8)

    def __init__(self) -> None:
        self.times: list[float] = []
        self.pool = np.random.default_rng(0).integers(0, VOCABULARY, (4096, SEQUENCE + 1))

    def batches(self, planned: Run) -> Callable[[int], Tokens]:
        """Note the time at the first step of every segment."""
        size = planned.batch_size
        self.times = []

        def batch(step: int) -> Tokens:
            if step % SEGMENT == 0:
                self.times.append(time.perf_counter())
            return self.pool[np.arange(step * size, (step + 1) * size) % len(self.pool)]

        return batch

    def validation(self, planned: Run) -> Tokens:
        """Any of them."""
        return self.pool[: planned.validation_tokens // SEQUENCE]


def plan(width: int, batch: int, steps: int) -> Run:
    shape = Shape(2, width, 2, 2, width // 2, 4 * width, VOCABULARY, SEQUENCE, tied_head=True)
    flops = shape.training_flops(steps * batch * SEQUENCE)
    return Run(
        flops, flops, shape, batch, steps, steps // 10, steps // 5, 0.1 / width, 0.1, 0.9, 0.98, 1e-8, 1.0, 0,
        RandomTokens.names[0], 1024,
    )  # fmt: skip


def plain_loop(planned: Run, directory: Path, source: RandomTokens) -> float:
    """The loop that one would write by hand; returns the held-out loss."""
    model = Decoder(planned.shape, planned.seed)
    named = dict(model.named_parameters())
    free = [weight for name, weight in named.items() if "norm" in name or "embedding" in name]
    others = [weight for name, weight in named.items() if not ("norm" in name or "embedding" in name)]
    optimizer = torch.optim.AdamW(
        [{"params": others}, {"params": free, "weight_decay": 0.0}],
        lr=planned.learning_rate,
        betas=(planned.beta1, planned.beta2),
        eps=planned.epsilon,
        weight_decay=planned.weight_decay,
        fused=True,
    )
    parameters = list(model.parameters())
    batch, schedule = source.batches(planned), planned.schedule
    kept: list[Path] = []
    told = time.perf_counter()
    with (directory / "metrics.csv").open("w") as metrics:
        for step in range(planned.steps):
            for group in optimizer.param_groups:
                group["lr"] = planned.learning_rate * schedule.factor(step)
            tokens = torch.from_numpy(batch(step))
            loss, _ = plain_loss(model(tokens[:, :-1]).view(-1, VOCABULARY), tokens[:, 1:].reshape(-1))
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, planned.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            if done % CADENCE.log == 0 or done == planned.steps:
                metrics.write(f"{done},{loss.item()},{norm.item()},{optimizer.param_groups[0]['lr']}\n")
                metrics.flush()
            if done % CADENCE.checkpoint == 0 or done == planned.steps:
                kept.append(directory / f"{done}.pt")
                buffer = io.BytesIO()
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}, buffer)
                with (directory / "new.pt").open("wb") as file:
                    file.write(buffer.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
                (directory / "new.pt").replace(kept[-1])
                if len(kept) > 2:
                    kept.pop(0).unlink()
            if time.perf_counter() - told > 1:
                told = time.perf_counter()
                (directory / "status.json").write_text(json.dumps({"step": done, "loss": loss.item()}))
    tally = LossByType(source.types, source.token_types)
    with torch.inference_mode():
        tokens = torch.from_numpy(source.validation(planned))
        tally.add(token_losses(model, tokens), tokens[:, 1:].reshape(-1))
    return tally.losses()["loss"]


@dataclass
class Timing:
    """Times of one way to train, turn by turn."""

    train: Callable[[Run, Path, RandomTokens], float]
    segments: list[NDArray[np.float64]] = field(default_factory=list)
    around: list[float] = field(default_factory=list)

    def turn(self, planned: Run) -> float:
        """Train once, in a fresh directory; returns the held-out loss."""
        source = RandomTokens()
        with tempfile.TemporaryDirectory() as directory:
            began = time.perf_counter()
            loss = self.train(planned, Path(directory), source)
            spent = time.perf_counter() - began
        self.segments.append(np.diff(source.times))
        self.around.append(spent - (source.times[-1] - source.times[0]) * planned.steps / (planned.steps - SEGMENT))
        return loss

    @property
    def step_ms(self) -> float:
        """Milliseconds a step, from the best turn of every segment."""
        return float(np.min(self.segments, axis=0).mean()) / SEGMENT * 1e3

    @property
    def around_ms(self) -> float:
        """Milliseconds of set-up, validation and result."""
        return float(np.median(self.around)) * 1e3


def our_run(planned: Run, directory: Path, source: RandomTokens) -> float:
    return float(run(planned, directory, source=source, cadence=CADENCE)["loss"])


def measure(planned: Run, repeats: int) -> tuple[Timing, Timing]:
    """Timings of our run and of the plain loop."""
    Timing(our_run).turn(replace(planned, steps=2 * SEGMENT, warmup_steps=1, decay_steps=1))
    ours, plain = Timing(our_run), Timing(plain_loop)
    for repeat in range(repeats):
        losses = [timing.turn(planned) for timing in ((ours, plain) if repeat % 2 else (plain, ours))]
        if abs(losses[0] - losses[1]) > 1e-5:
            sys.exit(f"both must train the same model, but their losses are {losses}")
    return ours, plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    parser.add_argument("--repeats", type=int, default=5, help="times each is run per case")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {name: measure(plan(width, batch, steps), arguments.repeats) for name, width, batch, steps, _ in CASES}
    ratios = {name: round(plain.step_ms / ours.step_ms, 3) for name, (ours, plain) in rows.items()}
    if arguments.json:
        print(json.dumps({"ratios": ratios, "machine": {**machine("torch"), "threads": 1}}))
        return
    print(f"{'case':<10} {'ours, ms/step':>14} {'plain':>7} {'ratio':>7} {'at least':>9}   ms around the steps")
    for name, *_, target in CASES:
        ours, plain = rows[name]
        around = f"{ours.around_ms:.0f} (plain {plain.around_ms:.0f})"
        print(f"{name:<10} {ours.step_ms:>14.2f} {plain.step_ms:>7.2f} {ratios[name]:>7.3f} {target:>9.2f}   {around}")


if __name__ == "__main__":
    main()
