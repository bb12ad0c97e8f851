"""What the training path of a sweep costs, beside a plain PyTorch loop and Hugging Face's Trainer.

    python benchmarks/train.py [--json] [--repeats 5]

Ratios of tokens per second at steps of about 2, 13 and 35 ms on an idle core: a run of ours, with everything on that a
sweep has on, over the plain loop and over Hugging Face's Trainer, with our model in it and with its own Qwen3 from the
same weights; and the same compiled, as a long run is where it was probed. All train the same model on the same tokens
in this process, with the same optimiser and the same things on (`train_peers.py`), and take turns. What is measured is
the processor's time on one thread, every ten steps after the first, and of each ten the best of all turns counts: what
else the machine does only ever adds. Beside a ratio stands its spread, the least and the most of single turns. What a
run costs before its first step and after its last, and to compile, is printed apart (what was compiled is kept, so
after the first turn that is a second). Hugging Face's Trainer needs the package accelerate and is left out without it.

Last, a sweep of 30 short runs on two workers against the same runs as a process each, two at a time: by the clock, and
by the processor's time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from machine import machine
from numpy.typing import NDArray
from train_peers import HAVE_TRAINER, plain_loop, trainer, trainer_of_qwen3

from isoflop.claims import hold
from isoflop.flops import Shape
from isoflop.launching.local import Local
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory, write_json
from isoflop.tokens.shards import Corpus, Document, write_corpus
from isoflop.tokens.stream import Layout, Utterance
from isoflop.training.data import Tokens
from isoflop.training.module import Cadence
from isoflop.training.options import Options
from isoflop.training.run import run

#: Name, width, sequences a step of 128 tokens, steps timed, and the ratios that are to be reached: to the plain loop,
#: and to Hugging Face's Trainer of its own model, nothing of which is compiled.
CASES = (
    ("2 ms", 24, 2, 600, {"plain": 0.92, "hf": 1.3}),
    ("13 ms", 32, 8, 200, {"plain": 0.97}),
    ("35 ms", 64, 8, 100, {"plain": 0.98, "hf": 1.15}),
)
SWEEP = 1.5
#: Ways that take the very same steps, to a few units in the last place; those beside them round otherwise.
EXACT = {"ours", "plain", "hf, our model"}
#: Which way of ours stands against which.
AGAINST = {"ours": ("plain", "hf, our model", "hf"), "ours, compiled": ("plain", "hf", "hf, compiled")}
CADENCE = Cadence(log=50, checkpoint=200)
VOCABULARY, SEQUENCE = 256, 128
#: Steps between two readings of the clock.
SEGMENT = 10
#: Runs of the sweep, their steps, and processes at once.
RUNS, STEPS, WORKERS = 30, 400, 2


class RandomTokens:
    """A source of uniform tokens (what they say does not change how long they take) that notes when they are read."""

    names = ("random",)
    vocabulary = VOCABULARY
    types = ("text", "control", "semantic", "acoustic_1")
    token_types = np.repeat(np.arange(4, dtype=np.uint8), VOCABULARY // 4)
    document_start = 64
    audio_rate = 50.0

    def __init__(self) -> None:
        self.times: list[float] = []
        self.pool = np.random.default_rng(0).integers(0, VOCABULARY, (4096, SEQUENCE + 1))

    def batches(self, planned: Run) -> Callable[[int], Tokens]:
        """Note the time at the first step of every segment."""
        size = planned.batch_size
        self.times = []

        def batch(step: int) -> Tokens:
            if step % SEGMENT == 0:
                self.times.append(time.process_time())
            return self.pool[np.arange(step * size, (step + 1) * size) % len(self.pool)]

        return batch

    def validation(self, planned: Run) -> Tokens:
        """Any of them."""
        return self.pool[: planned.validation_tokens // SEQUENCE]

    def origins(self, planned: Run) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """All from one."""
        return self.names, np.zeros(planned.validation_tokens // SEQUENCE, dtype=np.int64)


def plan(width: int, batch: int, steps: int) -> Run:
    shape = Shape(2, width, 2, 2, width // 2, 4 * width, VOCABULARY, SEQUENCE, tied_head=True)
    flops = shape.training_flops(steps * batch * SEQUENCE)
    return Run(
        flops, flops, shape, batch, steps, steps // 10, steps // 5, 0.1 / width, 0.1, 0.9, 0.98, 1e-8, 1.0, 0,
        RandomTokens.names[0], 1024,
    )  # fmt: skip


def our_run(
    planned: Run, directory: Path, source: RandomTokens, cadence: Cadence, options: Options | None = None
) -> float:
    told: list[int] = []
    result = run(
        planned,
        directory,
        source=source,
        cadence=cadence,
        on_progress=lambda each: told.append(each.step),
        options=options or Options(),
    )
    return float(result["loss"])


@dataclass
class Timing:
    """Times of one way to train, turn by turn."""

    train: Callable[[Run, Path, RandomTokens, Cadence], float]
    segments: list[NDArray[np.float64]] = field(default_factory=list)
    around: list[float] = field(default_factory=list)

    def turn(self, planned: Run) -> float:
        """Train once, in a fresh directory; returns the held-out loss."""
        source = RandomTokens()
        with tempfile.TemporaryDirectory() as directory:
            began = time.process_time()
            loss = self.train(planned, Path(directory), source, CADENCE)
            spent = time.process_time() - began
        # The first ten compile, where it is asked for.
        segments = np.diff(source.times)[1:]
        self.segments.append(segments)
        self.around.append(spent - segments.mean() / SEGMENT * planned.steps)
        return loss

    @property
    def step_ms(self) -> float:
        """Milliseconds a step, from the best turn of every segment."""
        return float(np.min(self.segments, axis=0).mean()) / SEGMENT * 1e3

    @property
    def around_ms(self) -> float:
        """Milliseconds of set-up, validation and result."""
        return float(np.median(self.around)) * 1e3

    def over(self, other: Timing) -> tuple[float, float, float]:
        """How many times faster than `other`, and the least and the most of single turns."""
        turns = [theirs.sum() / own.sum() for own, theirs in zip(self.segments, other.segments, strict=True)]
        return other.step_ms / self.step_ms, min(turns), max(turns)


def measure(planned: Run, repeats: int, ways: dict[str, Timing]) -> None:
    """Let the ways to train take turns."""
    for timing in ways.values():
        Timing(timing.train).turn(replace(planned, steps=3 * SEGMENT, warmup_steps=1, decay_steps=1))
    for repeat in range(repeats):
        order = list(ways)[:: -1 if repeat % 2 else 1]
        losses = {name: ways[name].turn(planned) for name in order}
        # On tokens without structure, what its own kernels round differently grows to a few thousandths.
        apart = {name: abs(loss - losses["plain"]) for name, loss in losses.items()}
        if any(distance > (1e-5 if name in EXACT else 1e-2) for name, distance in apart.items()):
            sys.exit(f"all must train the same model, but their losses are {losses}")


def study_of_short_runs(directory: Path) -> list[Run]:
    """Lay out a study of `RUNS` runs that differ in their seeds, on a small corpus of its own."""
    generator = np.random.default_rng(0)
    layout = Layout(text_entries=10, codebook_sizes=(118, 122), semantic=0)
    documents = [
        Document(
            f"document-{number}", (Utterance(generator.integers(0, 10, 50), generator.integers(0, 118, (200, 2))),), 8.0
        )
        for number in range(300)
    ]
    write_corpus(directory / "corpus", documents, layout, fingerprint="short", frame_rate=25.0, holdout=0.2)
    corpus = Corpus.open(directory / "corpus")
    planned = replace(plan(24, 2, STEPS), data=corpus.fingerprint)
    planned = replace(planned, shape=replace(planned.shape, vocabulary=corpus.vocabulary))
    runs = [replace(planned, seed=seed) for seed in range(RUNS)]
    for each in runs:
        write_json(StudyDirectory(directory).run(each.id).run_file, each.to_dict())
    return runs


_ALONE = """
import sys
from pathlib import Path
import torch
from isoflop.store import StudyDirectory
from isoflop.training.run import run
torch.set_num_threads(1)
study = Path(sys.argv[1])
run(StudyDirectory(study).load_run(sys.argv[2]), study)
"""


def one_process_each(directory: Path, runs: list[Run]) -> None:
    """Train `runs` with a process each, as many at once as the sweep has workers."""

    def alone(planned: Run) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", _ALONE, str(directory), planned.id], check=True, env=environment)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(alone, runs))


def as_sweep(directory: Path, runs: list[Run]) -> None:
    """Train `runs` as `isoflop run` does."""
    with hold(directory, 0.0, WORKERS) as crew:
        Local(WORKERS, crew).launch(StudyDirectory(directory), runs, lambda event: None)


def sweep() -> tuple[float, float]:
    """How many times faster a sweep is than a process a run: by the clock, and by the processor's time."""
    times, losses = [], []
    for way in (as_sweep, one_process_each):
        with tempfile.TemporaryDirectory() as folder:
            runs = study_of_short_runs(Path(folder))
            began, used = time.perf_counter(), _children()
            way(Path(folder), runs)
            times.append((time.perf_counter() - began, _children() - used))
            results = [StudyDirectory(Path(folder)).run(each.id).result() for each in runs]
            losses.append([result and result["loss"] for result in results])
    if losses[0] != losses[1] or None in losses[0]:
        sys.exit(f"both must train the same runs, but their losses are {losses}")
    return times[1][0] / times[0][0], times[1][1] / times[0][1]


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    parser.add_argument("--repeats", type=int, default=5, help="times each is run per case")
    parser.add_argument("--skip-sweep", action="store_true", help="leave out the sweep, which takes longest")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ratios: dict[str, float] = {}
    rows: list[tuple[str, float, float, str, float | None]] = []
    for name, width, batch, steps, targets in CASES:
        ways = {
            "ours": Timing(our_run),
            "ours, compiled": Timing(partial(our_run, options=Options(compile=True))),
            "plain": Timing(plain_loop),
        }
        if HAVE_TRAINER:
            ways |= {"hf, our model": Timing(trainer), "hf": Timing(trainer_of_qwen3)}
            ways |= {"hf, compiled": Timing(partial(trainer_of_qwen3, compiled=True))}
        measure(plan(width, batch, steps), arguments.repeats, ways)
        for mine, others in AGAINST.items():
            for other in filter(ways.__contains__, others):
                ours, timing = ways[mine], ways[other]
                ratio, least, most = ours.over(timing)
                label = f"{mine} over {other} at {name}"
                ratios[label] = round(ratio, 3)
                around = f"{least:.2f} to {most:.2f}; {ours.around_ms:.0f} ms around, theirs {timing.around_ms:.0f}"
                rows.append((label, ours.step_ms, timing.step_ms, around, targets.get(other)))
    if not arguments.skip_sweep:
        clock, processor = sweep()
        ratios |= {"sweep": round(clock, 3), "sweep, processor": round(processor, 3)}
    if arguments.json:
        print(json.dumps({"ratios": ratios, "machine": {**machine("torch"), "threads": 1}}))
        return
    print(f"{'':<40} {'ours, ms/step':>14} {'theirs':>7} {'ratio':>7} {'at least':>9}   single turns")
    for label, own, theirs, words, target in rows:
        wanted = "" if target is None else f"{target:.2f}"
        print(f"{label:<40} {own:>14.2f} {theirs:>7.2f} {ratios[label]:>7.3f} {wanted:>9}   {words}")
    if not HAVE_TRAINER:
        print("without accelerate there is no Trainer of Hugging Face to compare with: pip install accelerate")
    if not arguments.skip_sweep:
        print(
            f"a sweep of {RUNS} runs on {WORKERS} workers is {clock:.2f} times faster than a process each, "
            f"{processor:.2f} by the processor's time (at least {SWEEP})"
        )


if __name__ == "__main__":
    main()
