"""From sources to a corpus, on this machine: begin the job or carry it on, work on all cores, say what came of it.

Called again with the same arguments it carries on from the shards that are made, and says the same once all are. Called
at once on many machines that see the folder, each takes shards that no other has: an array of such jobs needs nothing
else, given a file system whose locks (`flock`) all of them see.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from isoflop.errors import InputError, RunError
from isoflop.machine import cores
from isoflop.store import read_json, write_json
from isoflop.tokens import audio, processes, worker
from isoflop.tokens.clips import Clip, Rejected
from isoflop.tokens.codecs import FITTED, Codec, fit_codec, load_codec
from isoflop.tokens.encoding import UNUSABLE
from isoflop.tokens.job import (
    JOB,
    Job,
    Options,
    Recording,
    clip_of,
    partition,
    plain,
    recordings,
    refuse_unfit,
    request_digest,
)
from isoflop.tokens.publishing import publishing
from isoflop.tokens.shard_files import hashed, held_out
from isoflop.tokens.shards import UNFINISHED, Corpus
from isoflop.tokens.stream import compose
from isoflop.tokens.tokenizers import TextTokenizer, fit_tokenizer, load_tokenizer

#: Told how many of how many clips are done, and what is going on.
Progress = Callable[[float, float, str], None]

#: Clips offered to a codec that is fitted, and texts to a tokeniser: more would teach neither anything.
_CALIBRATION_CLIPS = 5_000
_CALIBRATION_TEXTS = 200_000
_REQUEST = "request.json"
_CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Parameters
    ----------
    directory
        Of the corpus.
    corpus
        The corpus; None while other processes are still at work on it.
    left
        Shards that they have left to make.
    elapsed
        Seconds that it took, where this call made all of it.
    """

    directory: Path
    corpus: Corpus | None
    left: int
    elapsed: float | None

    @property
    def failed(self) -> list[dict[str, str]]:
        """Clips that could not be used: ``id`` and ``reason``."""
        return [] if self.corpus is None else list(self.corpus.index["failed"])

    def to_json(self) -> dict[str, Any]:
        """Plain values: ``tokenized`` clips, ``failed``, ``tokens`` by type, ``seconds`` of sound, and more."""
        splits = [] if self.corpus is None else list(self.corpus.index["splits"].values())
        types = [] if self.corpus is None else self.corpus.layout.types
        seconds = sum(counts["seconds"] for counts in splits)
        return {
            "corpus": self.directory,
            "tokenized": sum(counts["utterances"] for counts in splits),
            "failed": self.failed,
            "tokens": {name: sum(counts["tokens_by_type"][name] for counts in splits) for name in types},
            "seconds": round(seconds, 3),
            "held_out_tokens": 0 if self.corpus is None else self.corpus.held_out_tokens,
            "shards_left": self.left,
            "times_real_time": round(seconds / self.elapsed, 1) if self.elapsed else None,
        }


def tokenize(
    clips: Sequence[Clip],
    rejected: Sequence[Rejected],
    directory: Path,
    options: Options,
    *,
    workers: int | None = None,
    progress: Progress = lambda done, total, message: None,
) -> Outcome:
    """Make the corpus of `clips` at `directory`, or carry on making it.

    Parameters
    ----------
    clips, rejected
        As the readers of `isoflop.tokens.sources` give them.
    directory
        Where to: nothing, what this job has made so far, or what it has made.
    options
        What is made of them.
    workers
        Processes at a time; default one a core that this process may use.
    progress
        Told of every few clips.

    Raises
    ------
    InputError
        If the request is impossible, or something else is at `directory`.
    RunError
        If no clip can be used or a shard not be written; where the options are strict, if one clip cannot be used.
    """
    workers = workers if workers is not None else cores()
    if workers < 1:
        raise InputError(f"workers >= 1 must hold, but got {workers}")
    began = time.monotonic()
    fresh = begin(clips, rejected, directory, options, progress=progress)
    outcome = carry_on(directory, workers, progress=progress)
    return replace(outcome, elapsed=time.monotonic() - began) if fresh else outcome


def begin(
    clips: Sequence[Clip],
    rejected: Sequence[Rejected],
    directory: Path,
    options: Options,
    *,
    progress: Progress = lambda done, total, message: None,
) -> bool:
    """Begin the job of `tokenize`, unless it has begun or is done; returns whether it had to be.

    Raises
    ------
    InputError, RunError
        As `tokenize`.
    """
    request = request_digest(options, clips, rejected)
    fresh = not Corpus.stands(directory) and not Job.begun(directory)
    if fresh:
        _begin(clips, rejected, directory, options, request, progress)
    stands = Corpus.stands(directory)
    made = Corpus.open(directory).index.get("job", {}) if stands else Job.open(directory).record
    if made.get("request") != request:
        raise InputError(
            f"{directory} must have been begun with the same sources and options to be carried on, but was not; delete "
            "it or give another folder"
        )
    return fresh


def carry_on(directory: Path, workers: int, *, progress: Progress = lambda done, total, message: None) -> Outcome:
    """Work on a job that has begun, in some processes, until all its shards are made or others are making them.

    Raises
    ------
    InputError, RunError
        As `tokenize`.
    """
    left = 0
    if Job.begun(directory):
        job = Job.open(directory)
        _work(job, workers, progress)
        left = len(job.missing())
    return look(directory, left)


def look(directory: Path, left: int | None = None) -> Outcome:
    """What has come of a job that has begun; `left` if it is known how many shards there are to make."""
    if Corpus.stands(directory):
        return Outcome(directory, Corpus.open(directory), 0, None)
    return Outcome(directory, None, len(Job.open(directory).missing()) if left is None else left, None)


def _begin(
    clips: Sequence[Clip],
    rejected: Sequence[Rejected],
    directory: Path,
    options: Options,
    request: str,
    progress: Progress,
) -> None:
    """Lay out the shards, fit or load the codec and the tokeniser in a process of their own; whole or not at all."""
    spoken = compose(options.composition, (1, 1), 1, 1, order=options.order).text
    kept, refused = refuse_unfit(clips, spoken)
    lost = [*rejected, *refused]
    if lost and options.strict:
        raise RunError(f"{lost[0].id} cannot be used: {lost[0].reason}")
    found = recordings(kept)
    if not found:
        reason = f"; {lost[0].id}: {lost[0].reason}" if lost else ""
        raise RunError(f"a corpus must have a clip to be made of, but none of {len(lost)} can be used{reason}")
    shards = partition(found, options.clips_per_shard)
    try:
        with publishing(directory) as place, tempfile.TemporaryDirectory() as logs:
            folder = place / UNFINISHED
            folder.mkdir()
            for number, part in enumerate(shards):
                listed = [{"name": each.name, "clips": [plain(clip) for clip in each.clips]} for each in part]
                write_json(folder / f"{number:05}.json", {"recordings": listed})
            asked = {
                "request": request,
                "options": options.to_dict(),
                "rejected": [plain(each) for each in lost],
                "shards": len(shards),
                "clips": [sum(len(each.clips) for each in part) for part in shards],
            }
            write_json(folder / _REQUEST, asked)
            write_json(folder / _CALIBRATION, _calibration(found, options.holdout))
            progress(0, 1, f"{options.codec} and {options.text}")
            task = processes.Task("the preparation", __name__, str(place), Path(logs) / "log")
            processes.run([task], 1, lambda count: None)
            (folder / _CALIBRATION).unlink()
    except InputError:
        # Another process may have begun the same at the same time; if so, its job is ours.
        if not Job.begun(directory):
            raise


def _calibration(found: Sequence[Recording], holdout: float) -> dict[str, Any]:
    """Clips and texts to fit to: of training documents, in an order that depends on their names alone."""
    known = [recording for recording in found if not held_out(recording.name, holdout)] or list(found)
    known.sort(key=lambda recording: hashed("calibration", recording.name))
    clips = [clip for recording in known for clip in recording.clips]
    heard = islice((plain(clip) for clip in clips if clip.path is not None), _CALIBRATION_CLIPS)
    texts = islice((clip.text for clip in clips if clip.text), _CALIBRATION_TEXTS)
    return {"clips": list(heard), "texts": list(texts)}


def main(place: str) -> None:
    """Load or fit the codec and the tokeniser of the job at `place`, and describe the job; the entry of a process."""
    processes.tied()
    with processes.answering():
        _prepare(Path(place))


def _prepare(place: Path) -> None:
    asked, offered = read_json(place / UNFINISHED / _REQUEST), read_json(place / UNFINISHED / _CALIBRATION)
    options = Options.from_dict(asked["options"])
    codec = _codec(options, [clip_of(each) for each in offered["clips"]])
    codec.save(place)
    tokenizer = _tokenizer(options, offered["texts"])
    tokenizer.save(place)
    composition = compose(
        options.composition,
        codec.codebook_sizes,
        codec.semantic,
        tokenizer.entries,
        order=options.order,
        codebooks=options.codebooks,
        bos=options.bos,
        eos=options.eos,
    )
    described = {
        **asked,
        "codec": {
            "name": codec.name,
            "digest": codec.digest,
            "frame_rate": codec.frame_rate,
            "codebook_sizes": list(codec.codebook_sizes),
        },
        "text": {"name": tokenizer.name, "digest": tokenizer.digest, "entries": tokenizer.entries},
        "layout": composition.layout.to_dict(),
        "composition": composition.to_dict(),
    }
    write_json(place / UNFINISHED / JOB, described)
    (place / UNFINISHED / _REQUEST).unlink()


def _codec(options: Options, clips: Sequence[Clip]) -> Codec:
    """The codec asked for: loaded, or fitted to as many of `clips` as calibration takes."""
    name = options.codec
    if name not in FITTED or "folder" in options.codec_options:
        return load_codec(name, **options.codec_options)
    waves, seconds, lost = [], 0.0, ""
    for clip in clips:
        if seconds >= options.calibration_seconds:
            break
        try:
            wave, rate = audio.load(clip, options.channel)
            waves.append(options.preparation.apply(wave, rate, FITTED[name]))
        except UNUSABLE as error:  # each is named where its shard is made
            lost = lost or f"; {clip.id}: {error}"
            continue
        seconds += len(waves[-1]) / FITTED[name]
    try:
        return fit_codec(name, waves, FITTED[name], **options.codec_options)
    except InputError as error:
        raise InputError(f"{error} (of {len(waves)} clips, {seconds:.1f} s{lost})") from error


def _tokenizer(options: Options, texts: Sequence[str]) -> TextTokenizer:
    if options.text_file is not None:
        return load_tokenizer(options.text, Path(options.text_file))
    return fit_tokenizer(options.text, texts, options.text_entries)


def _work(job: Job, workers: int, progress: Progress) -> None:
    """Work on what is missing in some processes, and tell how far it is."""
    missing = set(job.missing())
    total = sum(count for name, count in zip(job.shards, job.record["clips"], strict=True) if name in missing)
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total, "tokenising")

    count = max(1, min(workers, len(missing)))
    devices = tuple(filter(None, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")))
    with tempfile.TemporaryDirectory() as logs:
        tasks = [
            processes.Task(
                f"worker {number}",
                worker.__name__,
                str(job.directory),
                Path(logs) / f"{number}.log",
                devices[number % len(devices)] if devices else None,
            )
            for number in range(count)
        ]
        processes.run(tasks, count, told)
