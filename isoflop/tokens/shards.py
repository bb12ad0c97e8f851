"""A corpus on disk: token shards that are memory-mapped, and an index that says what they hold.

::

    <corpus>/index.json      format, fingerprint, layout, composition, counts by split, by source and by shard, clips
                             that failed, size and SHA-256 of every other file
             shards/         two files a shard (see `isoflop.tokens.shard_files`)
             …               what the maker adds, such as the codec

The index is written last: a corpus stands once it does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError
from isoflop.planning.runs import canonical_json
from isoflop.store import read_json, write_json
from isoflop.tokens.clips import Rejected
from isoflop.tokens.publishing import LOCK, publishing
from isoflop.tokens.reading import Piece, TokenStream
from isoflop.tokens.shard_files import (
    Document,
    Split,
    by_split,
    first_order,
    hashed,
    held_out,
    read_table,
    table_file,
    tokens_file,
    write_shard,
)
from isoflop.tokens.stream import Composition, Layout

__all__ = [
    "Corpus",
    "Document",
    "Split",
    "first_order",
    "hashed",
    "held_out",
    "publishing",
    "write_corpus",
    "write_index",
]

FORMAT = 2
SHARDS = "shards"
#: Where a tokenisation keeps what is left to do, until there is an index (see `isoflop.tokens.job`).
UNFINISHED = ".job"
#: A corpus up to this size is read through before it is used, which takes some seconds a gigabyte.
CHECKED_BYTES = 4 * 2**30

_INDEX = "index.json"


@dataclass(frozen=True)
class Corpus:
    """A corpus that was opened; see `Corpus.open`."""

    directory: Path
    index: dict[str, Any]

    @staticmethod
    def stands(directory: Path) -> bool:
        """Whether a corpus is at `directory`, be it whole or not."""
        return (directory / _INDEX).is_file()

    @classmethod
    def open(cls, directory: Path) -> Corpus:
        """Read the index, and see that every file is there in full length (`verify` also checks their content).

        Raises
        ------
        InputError
            If there is no corpus at `directory`.
        CorruptFileError
            If the index cannot be read, is of another format, or a file is missing or has another size.
        """
        path = directory / _INDEX
        if not cls.stands(directory):
            if (directory / UNFINISHED).is_dir():
                raise InputError(
                    f"a corpus must be finished to be read, but {directory} is not; tokenize it to the end"
                )
            raise InputError(f"a corpus must be a folder that holds {_INDEX}, but {directory} does not")
        try:
            index = read_json(path)
        except CorruptFileError as error:
            raise CorruptFileError(f"{error}; {_cure(directory)}") from error
        if index.get("format") != FORMAT:
            raise CorruptFileError(
                f"{path} must have the format {FORMAT}, but has {index.get('format')!r}; {_cure(directory)}"
            )
        content = {name: value for name, value in index.items() if name != "digest"}
        if index.get("digest") != _digest_of_index(content):
            raise CorruptFileError(f"{path} is not what was written; {_cure(directory)}")
        for name, (size, _) in index["files"].items():
            file = os.path.join(directory, name)  # noqa: PTH118 - tens of thousands of them; a Path costs more than its stat
            found = os.stat(file).st_size if os.path.isfile(file) else None  # noqa: PTH113, PTH116
            if size != found:
                said = "is missing" if found is None else f"has {found}"
                raise CorruptFileError(f"{file} must have {size} bytes, but {said}; {_cure(directory)}")
        return cls(directory, index)

    def verify(self) -> None:
        """Compare every file's SHA-256 with the index; `CorruptFileError` names the first that differs."""
        for name, (_, digest) in self.index["files"].items():
            if _sha256(self.directory / name) != digest:
                raise CorruptFileError(f"{self.directory / name} is not what was written; {_cure(self.directory)}")

    def check(self) -> None:
        """`verify` a corpus of up to 4 GiB; of a larger one, to read it all would take longer than to find it wrong."""
        if self.bytes <= CHECKED_BYTES:
            self.verify()

    @property
    def bytes(self) -> int:
        """Size of all files but the index."""
        return sum(size for size, _ in self.index["files"].values())

    @property
    def fingerprint(self) -> str:
        """What the corpus was made from, as its maker puts it: an embedded corpus has this name in run ids."""
        return str(self.index["fingerprint"])

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the index, and by the digests in it of all content: a user's corpus's name in run ids."""
        return str(self.index["digest"])

    @cached_property
    def layout(self) -> Layout:
        """Which ids mean what."""
        return Layout.from_dict(self.index["layout"])

    @property
    def vocabulary(self) -> int:
        """Ids in all, V."""
        return self.layout.vocabulary

    @property
    def passes(self) -> int:
        """Orders in which a training document is emitted: twins tell nothing new, but are not equal."""
        return len(self.index["composition"]["orders"])

    @property
    def sources(self) -> dict[str, dict[str, Any]]:
        """Counts of each source by split."""
        return dict(self.index["sources"])

    @property
    def unique_tokens(self) -> int:
        """Training tokens without repetition: those of one pass, since a twin tells nothing new."""
        return int(self.index["splits"]["train"]["tokens"])

    @property
    def held_out_tokens(self) -> int:
        """Tokens of the validation split."""
        return int(self.index["splits"]["validation"]["tokens"])

    def pieces(self, split: Split, number: int = 0, source: str | None = None) -> list[Piece]:
        """The parts of files that hold a split, in the order of the shards.

        Parameters
        ----------
        split, number
            The side, and for training the pass: 0, or 1 for the twins.
        source
            One of `sources`; None is all of them.

        Raises
        ------
        InputError
            If there is no such pass or source.
        """
        if split == "train" and number not in range(self.passes):
            raise InputError(f"0 <= pass < {self.passes} must hold, but got {number}")
        if source is not None and source not in self.sources:
            raise InputError(f"a source must be one of {', '.join(self.sources)}, but got {source!r}")
        shards = [shard for shard in self.index["shards"] if source in (None, shard["source"])]
        return [self._piece(shard, split, 0 if split == "validation" else number) for shard in shards]

    def tokens(self, split: Split, number: int = 0, source: str | None = None) -> TokenStream:
        """Ids of a split, documents one after the other; see `pieces`."""
        return TokenStream(self.pieces(split, number, source), self.layout.dtype)

    def _piece(self, shard: Mapping[str, Any], split: Split, number: int) -> Piece:
        first = shard["train"] * (self.passes if split == "validation" else number)
        return Piece(self.directory / SHARDS / tokens_file(shard["name"]), first, shard[split])

    def documents(self, split: Split, number: int = 0) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Name and ids of each document of a split, in the order of the tokens; `number` is the pass."""
        for shard in self.index["shards"]:
            places = self._table(shard)["documents"][split]
            stream = TokenStream([self._piece(shard, split, number)], self.layout.dtype)
            for index, name in enumerate(places["names"]):
                yield name, stream.read(places["starts"][index], places["starts"][index + 1])

    def document(self, split: Split, number: int) -> NDArray[np.int64]:
        """Ids of document `number` of a split (in pass 0); `InputError` if there is no such document."""
        left = number
        for shard, documents in zip(self.index["shards"], self.index["documents"][split], strict=True):
            if 0 <= left < documents:
                starts = self._table(shard)["documents"][split]["starts"]
                stream = TokenStream([self._piece(shard, split, 0)], self.layout.dtype)
                return stream.read(starts[left], starts[left + 1])
            left -= documents
        count = self.index["splits"][split]["documents"]
        raise InputError(f"0 <= document < {count} must hold in {split}, but got {number}")

    def named(self, name: str) -> tuple[Split, int]:
        """Split and number of the document `name`, or of the held-out document of that number.

        Raises
        ------
        InputError
            If there is neither.
        """
        before: dict[Split, int] = {"train": 0, "validation": 0}
        for shard in self.index["shards"]:
            table = self._table(shard)
            for split in get_args(Split):
                names = table["documents"][split]["names"]
                if name in names:
                    return split, before[split] + names.index(name)
                before[split] += len(names)
        if name.isdecimal() and int(name) < before["validation"]:
            return "validation", int(name)
        raise InputError(
            f"a document must be the id of one in {self.directory}, or a number under {before['validation']} (held "
            f"out), but got {name!r}"
        )

    def _table(self, shard: Mapping[str, Any]) -> dict[str, Any]:
        return read_table(self.directory / SHARDS / table_file(shard["name"]))


def write_corpus(
    directory: Path,
    documents: Iterable[Document],
    layout: Layout,
    *,
    fingerprint: str,
    frame_rate: float,
    holdout: float,
) -> Corpus:
    """Write a corpus of one shard a source, each document in both orders, into the empty or prepared `directory`.

    Call it inside `publishing`, which makes the whole of it appear at once.

    Parameters
    ----------
    directory
        Where to; files that are there already (a codec) are indexed with the rest.
    documents
        In the order in which they are to lie.
    layout
        Which ids mean what.
    fingerprint
        What the corpus was made from.
    frame_rate
        Frames of codes per second.
    holdout
        The share of documents that is held out for validation, in (0, 1).

    Raises
    ------
    InputError
        If two documents have one name, or a split would be empty.
    """
    if not 0 < holdout < 1:
        raise InputError(f"0 < holdout < 1 must hold, but got {holdout}")
    composition = Composition(layout, tuple(range(len(layout.codebook_sizes))))
    by_source: dict[str, list[Document]] = {}
    names: set[str] = set()
    for document in documents:
        if document.name in names:
            raise InputError(f"documents must have distinct names, but {document.name!r} comes twice")
        names.add(document.name)
        by_source.setdefault(document.source, []).append(document)
    for split, wanted in (("train", False), ("validation", True)):
        if all(held_out(name, holdout) != wanted for name in names):
            raise InputError(f"each split must hold a document, but {split} holds none")
    for number, (source, part) in enumerate(by_source.items()):
        write_shard(directory / SHARDS, f"{number:05}", part, composition, source=source, holdout=holdout)
    facts = {"fingerprint": fingerprint, "frame_rate": frame_rate}
    return write_index(directory, composition, [f"{number:05}" for number in range(len(by_source))], facts)


def write_index(
    directory: Path,
    composition: Composition,
    shards: Iterable[str],
    facts: Mapping[str, Any],
    failed: Sequence[Rejected] = (),
) -> Corpus:
    """Index the `shards` that stand in `directory`, and every other file there, and open the corpus.

    Parameters
    ----------
    directory
        Of the corpus; what is in it is indexed, hidden files and folders apart.
    composition
        Of its stream.
    shards
        Names of the shards, in the order of the stream.
    facts
        ``fingerprint``, ``frame_rate``, and what else the maker has to say: plain values.
    failed
        Clips that came into no shard.

    Raises
    ------
    InputError
        If no shard holds a document.
    CorruptFileError
        If a shard's table cannot be read, or its tokens are missing.
    """
    names = list(shards)
    tables = [_summary(directory / SHARDS / table_file(name)) for name in names]
    types = composition.layout.types
    splits = by_split(tables, types)
    lost = [*(asdict(failure) for failure in failed), *(each for table in tables for each in table["failed"])]
    if not any(counts["documents"] for counts in splits.values()):
        reason = f"; {lost[0]['id']}: {lost[0]['reason']}" if lost else ""
        raise InputError(f"a corpus must hold a document, but none of {len(lost)} clips could be used{reason}")
    sources = list(dict.fromkeys(table["source"] for table in tables))
    known = {f"{SHARDS}/{tokens_file(name)}": table["sha256"] for name, table in zip(names, tables, strict=True)}
    content = {
        "format": FORMAT,
        **facts,
        "layout": composition.layout.to_dict(),
        "composition": composition.to_dict(),
        "token_types": list(types),
        "dtype": composition.layout.dtype.str,
        "unique_tokens": splits["train"]["tokens"],
        "splits": splits,
        "sources": {
            source: by_split([table for table in tables if table["source"] == source], types) for source in sources
        },
        "failed": lost,
        "shards": [
            {
                "name": name,
                "source": table["source"],
                **{split: table["counts"][split]["tokens"] for split in get_args(Split)},
            }
            for name, table in zip(names, tables, strict=True)
        ],
        "documents": {split: [table["counts"][split]["documents"] for table in tables] for split in get_args(Split)},
        "files": {name: [path.stat().st_size, known.get(name) or _sha256(path)] for name, path in _files(directory)},
    }
    write_json(directory / _INDEX, {**content, "digest": _digest_of_index(content)})
    return Corpus.open(directory)


def _summary(path: Path) -> dict[str, Any]:
    """A shard's table without its documents, of which there may be millions."""
    return {name: value for name, value in read_table(path).items() if name != "documents"}


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a corpus but its index and what is hidden, by its name from there."""
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        if path.is_file() and parts not in ((_INDEX,), (LOCK,)) and not any(part.startswith(".") for part in parts):
            yield "/".join(parts), path


def _cure(directory: Path) -> str:
    return f"delete {directory} and run again"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_index(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
