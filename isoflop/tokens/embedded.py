"""The corpus that is made on the spot: the standard library's prose, spoken by espeak-ng, as tokens.

Nothing is downloaded. Every sentence is spoken once, in one of twelve voices; its audio becomes 25 semantic and 50
acoustic tokens a second, its text characters, and both one stream (see `isoflop.tokens.stream`). About eleven hours
and 3.7 million tokens, in about one minute of computing.

What is made depends on nothing but what `fingerprint` digests, and is the same byte for byte on one machine for any
number of workers. Another processor's arithmetic may round otherwise and so give some other tokens.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from isoflop.errors import InputError
from isoflop.machine import cores
from isoflop.planning.runs import canonical_json
from isoflop.tokens import text, units
from isoflop.tokens.codecs import mfcc
from isoflop.tokens.prose import Prose, sentences, source_digest
from isoflop.tokens.shards import Corpus, Document, hashed, held_out, publishing, write_corpus
from isoflop.tokens.speech import LIBRARY_VERSION, RATE, Voice, require_library
from isoflop.tokens.stream import Layout, Utterance

__all__ = ["LAYOUT", "VOCABULARY", "VOICES", "Progress", "build", "fingerprint", "sentences", "source_digest"]

#: Told how many of how many sentences are spoken, and what is going on.
Progress = Callable[[float, float, str], None]

#: Raised when a change of code changes the corpus without changing anything else that is digested.
RECIPE = 1
VOICES = (
    Voice("en", 165),
    Voice("en+m3", 175),
    Voice("en+f2", 160),
    Voice("en-us", 175),
    Voice("en-us+m7", 170),
    Voice("en-us+f3", 165),
    Voice("en-us-nyc", 170),
    Voice("en-gb-scotland", 160),
    Voice("en-gb-x-rp", 170),
    Voice("en-gb-x-rp+f4", 165),
    Voice("en-gb-x-gbclan", 175),
    Voice("en-029", 165),
)
LAYOUT = Layout(text_entries=len(text.ALPHABET), codebook_sizes=(64, 64, 64), semantic=0)
VOCABULARY = LAYOUT.vocabulary
#: The share of documents held out for validation: some 200,000 tokens.
HOLDOUT = 0.06
#: Sentences of each voice that the codec is fitted to, from training documents only: about 25 minutes in all.
CALIBRATION_SENTENCES = 30
#: Processes that each voice is divided into: enough for a machine of 24 cores, and for even ends on one of two.
UNITS_PER_VOICE = 2


def fingerprint() -> str:
    """What the corpus is made from, known without making it (in some 0.1 s): ``embedded-`` and 16 hex digits.

    It covers this recipe, the bytes of the source text, the voice library's version, and the minor version of numpy,
    whose transforms and random numbers may change from one to the next.
    """
    recipe = {
        "recipe": RECIPE,
        "voices": [asdict(voice) for voice in VOICES],
        "layout": LAYOUT.to_dict(),
        "alphabet": text.ALPHABET,
        "holdout": HOLDOUT,
        "calibration": CALIBRATION_SENTENCES,
        "units": UNITS_PER_VOICE,
        "source": source_digest(),
        "voice_library": LIBRARY_VERSION,
        "numpy": np.__version__.split(".")[:2],
    }
    return f"embedded-{hashlib.sha256(canonical_json(recipe).encode()).hexdigest()[:16]}"


def build(directory: Path, progress: Progress | None = None, workers: int | None = None) -> Corpus:
    """Make the corpus at `directory`, whole or not at all.

    Parameters
    ----------
    directory
        Where to; nothing may be there, or an empty directory.
    progress
        Told of every few sentences.
    workers
        Processes at a time; default one a core that this process may use.

    Raises
    ------
    InputError
        If something is at `directory`, or `workers` is not positive.
    MissingExtraError
        If the voice library is not installed.
    RunError
        If a unit of speech fails; names it.
    """
    made_from = fingerprint()
    return make(directory, sentences(), fingerprint=made_from, progress=progress, workers=workers)


def make(
    directory: Path,
    documents: Sequence[Prose],
    *,
    fingerprint: str,
    voices: Sequence[Voice] = VOICES,
    calibration: int = CALIBRATION_SENTENCES,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Corpus:
    """Make a corpus of any `documents` in the way of `build`, which see; `calibration` is in sentences a voice."""
    require_library()
    workers = workers if workers is not None else cores()
    if workers < 1:
        raise InputError(f"workers >= 1 must hold, but got {workers}")
    cast = _cast(documents, voices)
    with publishing(directory) as place:
        scratch = place / "units"
        scratch.mkdir()
        fitting, parts = _units(cast, calibration, scratch, place)
        speaking = [unit for unit, _ in parts]
        report = _reporter(progress, [fitting, *speaking])
        units.run([fitting], workers, report("fitting the codec"))
        fitting.output.rename(place / mfcc.FILE_NAME)
        units.run(speaking, workers, report("speaking"))
        spoken = [document for unit, prose in parts for document in _documents(unit, prose)]
        shutil.rmtree(scratch)
        # Sources lie in alphabetical order until here; whoever reads only the first tokens should see all of them.
        spoken.sort(key=lambda document: hashed("place", document.name))
        write_corpus(place, spoken, LAYOUT, fingerprint=fingerprint, frame_rate=float(mfcc.FRAME_RATE), holdout=HOLDOUT)
    return Corpus.open(directory)


def _cast(documents: Sequence[Prose], voices: Sequence[Voice]) -> dict[Voice, list[Prose]]:
    """Who says what: the voice of a document depends on its name only. The names then tell the voice."""
    cast: dict[Voice, list[Prose]] = {voice: [] for voice in voices}
    for prose in documents:
        voice = voices[int(hashed("voice", prose.name) * len(voices))]
        cast[voice].append(Prose(f"{prose.name} {voice}", prose.sentences))
    return {voice: part for voice, part in cast.items() if part}


def _units(
    cast: dict[Voice, list[Prose]], calibration: int, scratch: Path, codec: Path
) -> tuple[units.Unit, list[tuple[units.Unit, list[Prose]]]]:
    """The unit that fits the codec, and those that speak, each with its documents."""
    scripts = []
    for voice, part in cast.items():
        known = sorted(
            (prose for prose in part if not held_out(prose.name, HOLDOUT)),
            key=lambda prose: hashed("calibration", prose.name),
        )
        chosen = [sentence for prose in known for sentence in prose.sentences][:calibration]
        scripts.append(units.Script(voice, tuple(chosen)))
    fitting = units.Unit("fitting the codec", tuple(scripts), scratch / mfcc.FILE_NAME)

    speaking: list[tuple[units.Unit, list[Prose]]] = []
    for voice, part in cast.items():
        for number in range(UNITS_PER_VOICE):
            share = part[number * len(part) // UNITS_PER_VOICE : (number + 1) * len(part) // UNITS_PER_VOICE]
            if share:
                script = units.Script(voice, tuple(sentence for prose in share for sentence in prose.sentences))
                name = f"voice {voice}, documents {share[0].name!r} to {share[-1].name!r}"
                output = scratch / f"{len(speaking):03}.npz"
                speaking.append((units.Unit(name, (script,), output, codec), share))
    return fitting, speaking


def _documents(unit: units.Unit, documents: Sequence[Prose]) -> Iterator[Document]:
    codes, samples = units.read_codes(unit.output)
    spoken = zip(codes, samples.tolist(), strict=True)
    for prose in documents:
        utterances, seconds = [], 0.0
        for sentence in prose.sentences:
            sentence_codes, length = next(spoken)
            utterances.append(Utterance(text.encode(sentence), sentence_codes))
            seconds += length / RATE
        yield Document(prose.name, tuple(utterances), seconds)


def _reporter(progress: Progress | None, work: Sequence[units.Unit]) -> Callable[[str], Callable[[int], None]]:
    total = sum(len(script.sentences) for unit in work for script in unit.scripts)
    done = 0

    def doing(message: str) -> Callable[[int], None]:
        def spoken(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total, message)

        return spoken

    return doing
