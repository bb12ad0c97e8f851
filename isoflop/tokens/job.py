"""A tokenisation job: clips become the shards of a corpus, by any number of workers, each whenever it likes.

::

    <corpus>/.job/job.json          the request and what it makes: options, the codec's and the text's facts, the shards
             .job/00017.json        the clips of shard 17, locked by whoever is making it (job.json: the index)
             codec.npz, text.json … the codec and the tokeniser, fitted if need be
             shards/                what is done
             index.json             at last; then `.job` goes

`begin` makes the first three, whole or not at all. From then on a shard is a pure function of the job and its number
(`Job.make`), written whole, and the same bytes whoever makes it. So a worker is a loop over the shards that nobody has
made or is making (`work`): on one machine or many, killed and started again, at any moment. Whoever finds all shards
made writes the index, the same as anyone would.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from isoflop.errors import CorruptFileError, InputError, RunError
from isoflop.names import validated_name
from isoflop.planning.runs import canonical_json
from isoflop.store import read_json
from isoflop.tokens import encoding
from isoflop.tokens.clips import Clip, Rejected
from isoflop.tokens.codecs import Codec, open_codec
from isoflop.tokens.preparation import Preparation
from isoflop.tokens.publishing import claimed
from isoflop.tokens.shard_files import Document, hashed, table_file, write_shard
from isoflop.tokens.shards import SHARDS, UNFINISHED, Corpus, write_index
from isoflop.tokens.stream import Composition, Layout, Utterance
from isoflop.tokens.tokenizers import TextTokenizer, open_tokenizer

JOB = "job.json"


@dataclass(frozen=True)
class Options:
    """What is made of the clips.

    Parameters
    ----------
    codec, codec_options
        Name of the codec, and what it is loaded or fitted with (see `isoflop.tokens.codecs`).
    text, text_file, text_entries
        Name of the tokeniser, its file where it has one, and the entries of a BPE that is fitted.
    composition, order, codebooks, bos, eos
        See `isoflop.tokens.stream.compose`.
    holdout
        The share of documents that is held out, in (0, 1).
    preparation, channel
        What is done to the waves, and which channel is taken.
    clips_per_shard
        Clips of a shard, or somewhat more: a document lies in one.
    calibration_seconds
        Sound that a codec is fitted to, of training documents alone.
    strict
        Whether the first clip that cannot be used ends the job.
    """

    codec: str = "mfcc"
    codec_options: dict[str, Any] = field(default_factory=dict)
    text: str = "characters"
    text_file: str | None = None
    text_entries: int = 1024
    composition: str = "semantic+acoustic+text"
    order: str = "both"
    codebooks: int | None = None
    bos: int | None = None
    eos: int | None = None
    holdout: float = 0.05
    preparation: Preparation = Preparation()  # noqa: RUF009 - frozen
    channel: int | None = None
    clips_per_shard: int = 500
    calibration_seconds: float = 1500.0
    strict: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.holdout < 1:
            raise InputError(f"0 < holdout < 1 must hold, but got {self.holdout}")
        if self.clips_per_shard < 1 or not self.calibration_seconds > 0:
            raise InputError(
                "clips_per_shard >= 1 and calibration_seconds > 0 must hold, but got "
                f"{self.clips_per_shard} and {self.calibration_seconds}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back equal."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Options:
        """Read what `to_dict` wrote."""
        return cls(**{**record, "preparation": Preparation(**record["preparation"])})


@dataclass(frozen=True)
class Recording:
    """Clips that become one document: those that follow each other in one file, or a clip alone."""

    name: str
    clips: tuple[Clip, ...]

    @property
    def source(self) -> str:
        """Where it is from."""
        return self.clips[0].source


def recordings(clips: Sequence[Clip]) -> list[Recording]:
    """The documents of `clips`, in an order that depends on their names alone.

    So whoever reads a part of the corpus has seen all of it, and not the first speakers only.
    """
    found = []
    for (_, _, path, _), group in groupby(clips, key=_recorded_in):
        members = list(group)
        parts = [members] if path is not None else [[member] for member in members]
        found += [Recording(part[0].id, tuple(part)) for part in parts]
    return sorted(found, key=lambda recording: hashed("place", recording.name))


def _recorded_in(clip: Clip) -> tuple[str, str, Path | None, int | None]:
    return clip.source, clip.speaker, clip.path, clip.row


def partition(found: Sequence[Recording], clips_per_shard: int) -> list[list[Recording]]:
    """The recordings of each shard: one source each, sources in alphabetical order."""
    shards: list[list[Recording]] = []
    for _, group in groupby(sorted(found, key=lambda each: each.source), key=lambda each: each.source):
        part: list[Recording] = []
        for recording in group:
            part.append(recording)
            if sum(len(each.clips) for each in part) >= clips_per_shard:
                shards.append(part)
                part = []
        if part:
            shards.append(part)
    return shards


def refuse_unfit(clips: Sequence[Clip], spoken: bool) -> tuple[list[Clip], list[Rejected]]:
    """Clips whose kind the stream can hold, each id once, and the others with the reason."""
    for source in sorted({clip.source for clip in clips}):
        try:
            validated_name(source)
        except InputError as error:
            raise InputError(f"{error}; give the source another: NAME=SOURCE") from error
    kept: dict[str, Clip] = {}
    refused = []
    for clip in clips:
        if clip.id in kept:
            refused.append(Rejected(clip.id, f"ids must be distinct over all sources, but {clip.source} has it again"))
        elif spoken and not clip.text:
            refused.append(Rejected(clip.id, "text must be given for a stream with text, but is missing"))
        elif not spoken and clip.path is None:
            refused.append(Rejected(clip.id, "a stream without text must be made of sound, but this is text alone"))
        else:
            kept[clip.id] = clip
    return list(kept.values()), refused


def request_digest(options: Options, clips: Sequence[Clip], rejected: Sequence[Rejected]) -> str:
    """SHA-256 (hex) of all that was asked for; the content of the audio files is not read."""
    digest = hashlib.sha256(canonical_json(options.to_dict()).encode())
    for clip in clips:
        digest.update(canonical_json(plain(clip)).encode())
    for each in rejected:
        digest.update(canonical_json(plain(each)).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Job:
    """A job that has begun; see `Job.open`."""

    directory: Path
    record: dict[str, Any]

    @staticmethod
    def begun(directory: Path) -> bool:
        """Whether a job has begun at `directory` and not come to its end."""
        return (directory / UNFINISHED / JOB).is_file()

    @classmethod
    def open(cls, directory: Path) -> Job:
        """Read a job; `InputError` if none has begun there."""
        try:
            return cls(directory, read_json(directory / UNFINISHED / JOB))
        except CorruptFileError:
            if cls.begun(directory):
                raise
            raise InputError(f"a tokenisation must have begun at {directory}, but none has") from None

    @property
    def options(self) -> Options:
        """What was asked for."""
        return Options.from_dict(self.record["options"])

    @property
    def composition(self) -> Composition:
        """Of the stream."""
        made = self.record["composition"]
        layout = Layout.from_dict(self.record["layout"])
        return Composition(layout, tuple(made["codebooks"]), tuple(made["orders"]), made["text"])

    @property
    def shards(self) -> list[str]:
        """Names of all shards."""
        return [f"{number:05}" for number in range(self.record["shards"])]

    def missing(self) -> list[str]:
        """Names of the shards that are not made."""
        return [name for name in self.shards if not (self.directory / SHARDS / table_file(name)).is_file()]

    def make(self, name: str, codec: Codec, tokenizer: TextTokenizer, done: Callable[[], None] = lambda: None) -> None:
        """Make the shard `name`: nothing but the job and the name says what is in it.

        Parameters
        ----------
        name
            One of `shards`.
        codec, tokenizer
            The job's own, opened.
        done
            Called after every clip.

        Raises
        ------
        RunError
            If the shard cannot be written; or a clip cannot be used, and the job is strict.
        """
        listed = read_json(self.directory / UNFINISHED / f"{name}.json")
        found = [
            Recording(each["name"], tuple(clip_of(clip) for clip in each["clips"])) for each in listed["recordings"]
        ]
        failed: list[Rejected] = []
        documents = list(self._documents(found, codec, tokenizer, failed, done))
        try:
            write_shard(
                self.directory / SHARDS,
                name,
                documents,
                self.composition,
                source=found[0].source,
                holdout=self.options.holdout,
                failed=failed,
            )
        except OSError as error:
            raise RunError(
                f"shard {name} could not be written: {error.strerror or error}; make room and run again, what is done "
                "stays"
            ) from error

    def _documents(
        self,
        found: Sequence[Recording],
        codec: Codec,
        tokenizer: TextTokenizer,
        failed: list[Rejected],
        done: Callable[[], None],
    ) -> Iterator[Document]:
        """Each recording with what could be used of it; what could not is added to `failed`."""
        options, kept = self.options, list(self.composition.codebooks)
        heard = (clip for recording in found for clip in recording.clips if clip.path is not None)
        encoded = encoding.encode(heard, codec, options.preparation, channel=options.channel)
        for recording in found:
            utterances, seconds = [], 0.0
            for clip in recording.clips:
                result = next(encoded) if clip.path is not None else None
                utterance = result if isinstance(result, Rejected) else self._utterance(clip, result, tokenizer, kept)
                done()
                if isinstance(utterance, Rejected):
                    if options.strict:
                        raise RunError(f"{clip.id} cannot be used: {utterance.reason}")
                    failed.append(utterance)
                    continue
                utterances.append(utterance)
                seconds += result.seconds if isinstance(result, encoding.Encoded) else 0.0
            if utterances:
                yield Document(recording.name, tuple(utterances), seconds, recording.source)

    def _utterance(
        self, clip: Clip, encoded: encoding.Encoded | None, tokenizer: TextTokenizer, kept: list[int]
    ) -> Utterance | Rejected:
        layout = self.composition.layout
        text = tokenizer.encode(clip.text or "") if self.composition.text else None
        if text is not None and not text.size:
            return Rejected(clip.id, f"text must hold something that its tokeniser knows, but is {clip.text!r}")
        if text is not None and {layout.bos, layout.eos} & set(text.tolist()):
            return Rejected(clip.id, "text must not hold the tokens of its own beginning and end, but does")
        return Utterance(text, encoded.codes[:, kept] if encoded is not None else None)

    def finish(self) -> Corpus:
        """Write the index of all shards, and remove what only the job needed.

        Raises
        ------
        RunError
            If no clip could be used.
        """
        facts = {
            "fingerprint": f"tokens-{self.record['request'][:16]}",
            "frame_rate": self.record["codec"]["frame_rate"],
            "codec": self.record["codec"],
            "text": self.record["text"],
            "job": {"request": self.record["request"], **self.record["options"]},
        }
        for unfinished in (self.directory / SHARDS).glob(".*"):  # by whoever was killed
            unfinished.unlink(missing_ok=True)
        rejected = [Rejected(**each) for each in self.record["rejected"]]
        try:
            corpus = write_index(self.directory, self.composition, self.shards, facts, rejected)
        except InputError as error:
            raise RunError(str(error)) from error
        self._remove()
        return corpus

    def _remove(self) -> None:
        """Remove the job's own files, the description last: while that is there, anyone finds the job and ends it."""
        folder = self.directory / UNFINISHED
        for path in sorted(folder.iterdir(), key=lambda path: path.name == JOB):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # NFS keeps a deleted file's other name until nobody has it open
            folder.rmdir()


def work(directory: Path, done: Callable[[], None] = lambda: None) -> None:
    """Make every shard that nobody has made or is making; the index too, if all are made then.

    Any number of processes, on any machines that see `directory`, may do this at once.

    Raises
    ------
    InputError
        If neither a job nor a corpus is at `directory`.
    RunError
        See `Job.make` and `Job.finish`.
    """
    try:
        job = Job.open(directory)
    except InputError:
        if Corpus.stands(directory):
            return
        raise
    names = job.missing()
    if names:
        codec, tokenizer = open_codec(directory, **_places(job.options)), open_tokenizer(directory)
        # Workers start at different shards, so that they rarely meet.
        first = os.getpid() % len(names)
        for name in names[first:] + names[:first]:
            with claimed(directory / UNFINISHED / f"{name}.json") as mine:
                if mine and not (directory / SHARDS / table_file(name)).is_file() and Job.begun(directory):
                    job.make(name, codec, tokenizer, done)
    if not job.missing():
        # Whoever is second waits: a corpus stands when its worker returns, though the first be killed meanwhile.
        with claimed(directory / UNFINISHED / JOB, wait=True) as mine:
            if mine and Job.begun(directory):
                job.finish()


def _places(options: Options) -> dict[str, Any]:
    """The options of a codec that say where it runs."""
    return {name: value for name, value in options.codec_options.items() if name == "device"}


def plain(item: Clip | Rejected) -> dict[str, Any]:
    """A record as JSON can hold it."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(item).items()}


def clip_of(record: dict[str, Any]) -> Clip:
    """Read what `plain` made of a clip."""
    try:
        clip = Clip(**record)
    except TypeError as error:
        raise CorruptFileError(f"a job must list clips, but holds {record}") from error
    return replace(clip, path=None if record["path"] is None else Path(record["path"]))
