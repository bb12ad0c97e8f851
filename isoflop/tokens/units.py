"""Units of speech, each spoken and encoded in a fresh process.

A unit's result depends on the unit alone: not on which worker took it, nor on what was spoken before, nor on how many
threads a matrix product would have used. So a corpus is the same, byte for byte, for any number of workers.

A process (see `isoflop.tokens.processes`) finds its unit in a file beside the output, and tells of every sentence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop.tokens import processes
from isoflop.tokens.codecs.mfcc import MfccCodec
from isoflop.tokens.speech import RATE, Speaker, Voice


@dataclass(frozen=True)
class Script:
    """What one voice says, in this order."""

    voice: Voice
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """Scripts for a fresh process: `codec` encodes them into `output`; without one, a codec is fitted into `output`.

    Parameters
    ----------
    name
        For people, and for messages about its end.
    scripts
        What is spoken.
    output
        The file to write: codes, or the fitted codec, which has a name of its own.
    codec
        The folder that holds the codec; None to fit one.
    """

    name: str
    scripts: tuple[Script, ...]
    output: Path
    codec: Path | None = None

    def work(self, spoken: Callable[[], None]) -> None:
        """Do it in this process, which must be fresh; `spoken` is called after every sentence."""
        codec = None if self.codec is None else MfccCodec.load(self.codec)
        speaker = Speaker()
        waves, codes, samples = [], [], []
        for script in self.scripts:
            speaker.select(script.voice)
            for sentence in script.sentences:
                wave = speaker.speak(sentence)
                samples.append(len(wave))
                if codec is None:
                    waves.append(wave)
                else:
                    codes += codec.encode([wave], RATE)
                spoken()
        if codec is None:
            MfccCodec.fit(waves, RATE).save(self.output.parent)
            return
        with self.output.open("wb") as file:
            frames = np.array([len(each) for each in codes])
            np.savez(file, codes=np.concatenate(codes), frames=frames, samples=np.array(samples))

    def to_json(self) -> str:
        """JSON that `from_json` reads back equal."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Unit:
        """Read what `to_json` wrote."""
        record = json.loads(text)
        scripts = [Script(Voice(**script["voice"]), tuple(script["sentences"])) for script in record["scripts"]]
        codec = None if record["codec"] is None else Path(record["codec"])
        return cls(record["name"], tuple(scripts), Path(record["output"]), codec)


def read_codes(path: Path) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """What a unit with a codec wrote: the codes (frames, codebooks) and the number of samples of each sentence."""
    with np.load(path, allow_pickle=False) as arrays:
        return np.split(arrays["codes"], np.cumsum(arrays["frames"])[:-1]), arrays["samples"]


def run(units: Sequence[Unit], workers: int, spoken: Callable[[int], None]) -> None:
    """Do all `units` in order, at most `workers` at a time; see `isoflop.tokens.processes.run`.

    Parameters
    ----------
    units, workers
        What, and on how many processes.
    spoken
        Called in this thread with the number of sentences that were spoken since the last call.

    Raises
    ------
    RunError
        As soon as a unit's process fails, with the unit's name and its last words; the others are ended.
    """
    tasks = []
    for unit in units:
        file = unit.output.with_suffix(".json")
        file.write_text(unit.to_json(), encoding="utf-8")
        tasks.append(processes.Task(unit.name, __name__, str(file), unit.output.with_suffix(".log")))
    processes.run(tasks, workers, spoken)


def main(unit_file: str) -> None:
    """Do the unit described in `unit_file`; the entry of its process."""
    tell = processes.tied()
    Unit.from_json(Path(unit_file).read_text(encoding="utf-8")).work(tell)
