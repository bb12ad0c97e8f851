"""What turning clips into codes costs beside a bare loop over the codec, as a ratio of speeds.

    python benchmarks/tokens.py [--json] [--repeats 5]

`encodec`: the real class at its real size with random weights. Both read the same wav files, make the same batches and
give the same codes; the pipeline also prepares, checks and puts things back in order. They take turns, and the best
turn of each counts. `mfcc`: wav file to codes, 9 codebooks of 256, over 300 × real time. Seconds are the process's own,
of all its threads: those of one core, whatever else the machine does; reading ahead on another core gains nothing here.
Some minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from machine import machine
from numpy.typing import NDArray

from isoflop.tokens.clips import Clip
from isoflop.tokens.codecs import Codec, fit_codec
from isoflop.tokens.codecs.encodec import EncodecCodec, _package
from isoflop.tokens.encoding import Batching, Encoded, encode

RATE = 24_000
BATCHING = Batching(seconds=16.0, window=32)
TARGETS = {"encodec": 0.95, "mfcc": 1.0}
MFCC_TARGET = 300


def noises(folder: Path, rate: int, count: int) -> list[Clip]:
    """Wav files of 1 to 3 seconds of filtered noise."""
    generator = np.random.default_rng(0)
    clips = []
    for number in range(count):
        wave = np.cumsum(generator.uniform(-0.02, 0.02, int(rate * generator.uniform(1, 3))))
        path = folder / f"{rate}-{number}.wav"
        soundfile.write(path, wave - wave.mean(), rate)
        clips.append(Clip(path.stem, path))
    return clips


def encodec(folder: Path) -> EncodecCodec:
    """EnCodec with random weights, loaded as Meta's are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.save(_package().EncodecModel.encodec_model_24khz(pretrained=False).state_dict(), folder / "random.th")
    return EncodecCodec(weights=folder / "random.th", device="cpu")


def bare_loop(clips: list[Clip], codec: EncodecCodec) -> list[NDArray[np.int64]]:
    """The loop that one would write by hand: read all, sort, pad, encode."""
    model, hop = codec._model, 320
    waves = [soundfile.read(clip.path, dtype="float32")[0] for clip in clips]
    found: dict[int, NDArray[np.int64]] = {}
    batch: list[int] = []
    order = sorted(range(len(waves)), key=lambda index: (len(waves[index]), index))
    for place, index in enumerate(order):
        batch.append(index)
        following = len(waves[order[place + 1]]) if place + 1 < len(order) else np.inf
        if following * (len(batch) + 1) > BATCHING.seconds * RATE:
            frames = [-(-len(waves[each]) // hop) for each in batch]
            padded = torch.zeros(len(batch), 1, max(frames) * hop)
            for row, each in zip(padded, batch, strict=True):
                row[0, : len(waves[each])] = torch.from_numpy(waves[each])
            with torch.inference_mode():
                codes = model.encode(padded)[0][0].numpy()
            for row, each, count in zip(codes, batch, frames, strict=True):
                found[each] = row[:, :count].T
            batch = []
    return [found[index] for index in range(len(waves))]


def pipeline(clips: list[Clip], codec: Codec) -> list[NDArray[np.int64]]:
    return [item.codes for item in encode(clips, codec, batching=BATCHING) if isinstance(item, Encoded)]


def timed(function: Callable[[], list[NDArray[np.int64]]], spent: list[float]) -> list[NDArray[np.int64]]:
    began = time.process_time()
    codes = function()
    spent.append(time.process_time() - began)
    return codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the table")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        clips, codec = noises(folder, RATE, BATCHING.window), encodec(folder)
        seconds = sum(soundfile.info(clip.path).duration for clip in clips)
        ours: list[float] = []
        bare: list[float] = []
        pipeline(clips[:2], codec)
        for _ in range(arguments.repeats):
            codes = timed(lambda: pipeline(clips, codec), ours)
            truth = timed(lambda: bare_loop(clips, codec), bare)
            if not all(np.array_equal(one, other) for one, other in zip(codes, truth, strict=True)):
                sys.exit("both must give the same codes")
        speech = noises(folder, 16_000, 200)
        sizes = {"semantic_entries": 256, "acoustic_entries": 256, "acoustic_codebooks": 8}
        mfcc = fit_codec(
            "mfcc", [soundfile.read(clip.path, dtype="float32")[0] for clip in speech[:80]], 16_000, **sizes
        )
        heard = sum(soundfile.info(clip.path).duration for clip in speech)
        times: list[float] = []
        for _ in range(arguments.repeats):
            timed(lambda: pipeline(speech, mfcc), times)
    ratios = {"encodec": round(min(bare) / min(ours), 3), "mfcc": round(heard / min(times) / MFCC_TARGET, 3)}
    if arguments.json:
        print(json.dumps({"ratios": ratios, "machine": {**machine("torch"), "threads": 1}}))
        return
    print(f"{'case':<10} {'× real time':>12} {'beside':>8} {'ratio':>7} {'at least':>9}")
    rows = {"encodec": (seconds / min(ours), seconds / min(bare)), "mfcc": (heard / min(times), MFCC_TARGET)}
    for name, (speed, beside) in rows.items():
        print(f"{name:<10} {speed:>12.1f} {beside:>8.1f} {ratios[name]:>7.3f} {TARGETS[name]:>9.2f}")


if __name__ == "__main__":
    main()
