"""Reading training batches: tokens a second beside a bare numpy slice, memory and start-up on 10 billion tokens.

    python benchmarks/tokens_reading.py [--json] [--repeats 15]

The first corpus holds 64M tokens of 32 shards, in the page cache. For each sequence length, the sampler's batches and
a loop that slices one memory map at random places into the same array take turns; of each the best turn counts. Both
convert to int64. The second corpus is simulated: 10,000 shards of a million tokens, as sparse files. It is opened in a
fresh process, then its batches are read over and over, and the process's own memory (not the page cache's) is watched.
One thread, a minute or two, and 600 MB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import machine

from isoflop.tokens.mixture import Sampler
from isoflop.tokens.shard_files import table_file, tokens_file
from isoflop.tokens.shards import SHARDS, Corpus, write_index
from isoflop.tokens.stream import Composition, Layout

#: Sequence length, sequences a step; SODA's vocabulary, four bytes a token.
CASES = ((128, 64), (512, 32), (4096, 16))
COMPOSITION = Composition(Layout(128_256, (2048,) * 8, 0, bos=128_000, eos=128_001), tuple(range(8)), ("text_first",))
MANY, EACH = 10_000, 1_000_000
#: Batches read between two looks at the memory.
LOOK = 250
#: The tokens of all shards in one file, for whoever slices it by hand.
FLAT = "flat"
FRESH = "import sys; from tokens_reading import fresh; fresh(sys.argv[1])"


def corpus(directory: Path, shards: int, tokens: int, sparse: bool) -> None:
    """A corpus of two sources with nothing but tokens: random ones, or holes in files."""
    generator = np.random.default_rng(0)
    (directory / SHARDS).mkdir()
    counts = {
        "documents": 1,
        "utterances": 1,
        "seconds": 1.0,
        "tokens_by_type": dict.fromkeys(COMPOSITION.layout.types, 0),
    }
    for number in range(shards):
        held = 1000
        content = generator.integers(0, COMPOSITION.layout.vocabulary, 0 if sparse else tokens + held, dtype=np.uint32)
        path = directory / SHARDS / tokens_file(f"{number:05}")
        path.write_bytes(content.tobytes())
        os.truncate(path, 4 * (tokens + held))
        table = {
            "source": "books" if number < shards // 2 else "calls",
            "bytes": 4 * (tokens + held),
            "sha256": "0" * 64,  # of each of the holes it would be the same, and nobody asks
            "counts": {"train": {**counts, "tokens": tokens}, "validation": {**counts, "tokens": held}},
            "documents": {},
            "failed": [],
        }
        (directory / SHARDS / table_file(f"{number:05}")).write_text(json.dumps(table))
        if not sparse:
            with (directory / FLAT).open("ab") as flat:
                flat.write(content.tobytes())
    names = [f"{number:05}" for number in range(shards)]
    write_index(directory, COMPOSITION, names, {"fingerprint": "simulated", "frame_rate": 12.5})


def best(turns: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Seconds of the best of `repeats` calls of each, in turns."""
    found = dict.fromkeys(turns, float("inf"))
    for _ in range(repeats + 1):  # one more, to warm up
        for name, turn in turns.items():
            began = time.perf_counter()
            turn()
            found[name] = min(found[name], time.perf_counter() - began)
    return found


def reading(opened: Corpus, length: int, size: int, repeats: int) -> dict[str, float]:
    """Tokens a second of the sampler and of bare slices, and their ratio."""
    steps = 4_000_000 // (length * size)
    sampler = Sampler(opened, length, size, seed=0)
    tokens = np.asarray(np.memmap(opened.directory / FLAT, np.uint32, mode="r"))
    places = np.random.default_rng(0).integers(0, len(tokens) - length - 1, steps * size)

    def batches() -> None:
        for step in range(steps):
            sampler.batch(step)

    def slices() -> None:
        for step in range(steps):
            batch = np.empty((size, length + 1), dtype=np.int64)
            for row, place in enumerate(places[step * size : (step + 1) * size].tolist()):
                batch[row] = tokens[place : place + length + 1]

    seconds = best({"sampler": batches, "slices": slices}, repeats)
    read = steps * size * length
    return {
        "tokens_per_second": read / seconds["sampler"],
        "bare_tokens_per_second": read / seconds["slices"],
        "ratio": seconds["slices"] / seconds["sampler"],
    }


def fresh(directory: str) -> None:
    """In a process of its own: open the large corpus, read batches, watch the memory; prints what was found."""
    began = time.perf_counter()
    opened = Corpus.open(Path(directory))
    sampler = Sampler(opened, 4096, 16, seed=0)
    sampler.batch(0)
    started = time.perf_counter() - began
    seen = []
    for step in range(8 * LOOK):
        sampler.batch(step * 1009)  # all over the corpus
        if (step + 1) % LOOK == 0:
            seen.append(own_memory())
    sys.stdout.write(json.dumps({"start_seconds": started, "tokens": opened.unique_tokens, "mib": seen}))


def own_memory() -> float:
    """MiB of this process that are no file's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def measure(repeats: int) -> dict[str, float]:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        small.mkdir()
        corpus(small, 32, 2_000_000, sparse=False)
        for length, size in CASES:
            for name, value in reading(Corpus.open(small), length, size, repeats).items():
                found[f"reading_s{length}_{name}"] = value
        shutil.rmtree(small)
        large.mkdir()
        corpus(large, MANY, EACH, sparse=True)
        told = subprocess.run(
            [sys.executable, "-c", FRESH, str(large)],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
        )  # fmt: skip
        facts = json.loads(told.stdout)
        found["start_seconds_10000_shards"] = facts["start_seconds"]
        found["tokens_of_the_large_index"] = facts["tokens"]
        # The first look is over one shard in three; maps of files that are new to the process still come after it.
        found["memory_mib_first"], found["memory_mib_last"] = facts["mib"][0], facts["mib"][-1]
        found["memory_growth_over_second_half_mib"] = facts["mib"][-1] - facts["mib"][len(facts["mib"]) // 2]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    found = measure(arguments.repeats)
    if arguments.json:
        print(json.dumps({"ratios": found, "machine": machine("numpy")}))
        return
    for name, value in found.items():
        print(f"{name:45} {value:>16,.3f}")


if __name__ == "__main__":
    main()
