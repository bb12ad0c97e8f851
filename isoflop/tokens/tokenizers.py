"""Tokenisers of text: characters and bytes for tiny studies, byte-level BPE for larger ones.

>>> tokenizer = Bytes()
>>> tokenizer.decode(tokenizer.encode("да"))
'да'

Three ways to one, as with codecs: `load_tokenizer`, `fit_tokenizer` (characters and BPE are fitted to texts), and
`open_tokenizer`, from the folder that `save` wrote, as in a corpus.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import CorruptFileError, InputError, MissingExtraError
from isoflop.planning.runs import canonical_json
from isoflop.store import read_json, write_json, write_text
from isoflop.tokens import text as characters

__all__ = [
    "NAMES",
    "BytePairs",
    "Bytes",
    "Characters",
    "TextTokenizer",
    "fit_tokenizer",
    "load_tokenizer",
    "open_tokenizer",
]

NAMES = ("characters", "bytes", "bpe")
#: Where characters and bytes are described.
RECORD = "text.json"
#: BPE in the format of `tokenizers`, as models are published with.
BPE_NAME = "tokenizer.json"
BYTES = 256


class TextTokenizer(Protocol):
    """What the token stream asks of a tokeniser."""

    @property
    def name(self) -> str:
        """One of `NAMES`."""

    @property
    def entries(self) -> int:
        """Ids that it may give: from 0 to one less."""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that the ids depend on."""

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text."""

    def decode(self, ids: NDArray[np.integer]) -> str:
        """The text whose ids these are."""

    def save(self, folder: Path) -> None:
        """Write into `folder` what `open_tokenizer` needs."""


@dataclass(frozen=True)
class Characters:
    """One id a character; text is folded to the alphabet first (see `isoflop.tokens.text`)."""

    alphabet: str = characters.ALPHABET

    def __post_init__(self) -> None:
        if " " not in self.alphabet or len(set(self.alphabet)) != len(self.alphabet):
            raise InputError(f"an alphabet must have a space and no character twice, but is {self.alphabet!r}")

    @classmethod
    def fit(cls, texts: Iterable[str]) -> Characters:
        """The default alphabet, and after it every other character that the folded texts hold, in Unicode's order."""
        held = set[str]()
        for text in texts:
            held.update(characters.folded(text))
        added = sorted(held - set(characters.ALPHABET) - {each for each in held if each.isspace()})
        return cls(characters.ALPHABET + "".join(added))

    @property
    def name(self) -> str:
        """Its name among tokenisers."""
        return "characters"

    @property
    def entries(self) -> int:
        """Characters in the alphabet."""
        return len(self.alphabet)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the alphabet."""
        return _digest({"name": self.name, "alphabet": self.alphabet})

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of the folded text."""
        return characters.encode(text, self.alphabet).astype(np.int64)

    def decode(self, ids: NDArray[np.integer]) -> str:
        """The text; `InputError` if an id is not in the alphabet."""
        return characters.decode(ids, self.alphabet)

    def save(self, folder: Path) -> None:
        """Write `RECORD` into `folder`."""
        write_json(folder / RECORD, {"name": self.name, "alphabet": self.alphabet})


@dataclass(frozen=True)
class Bytes:
    """One id a byte of UTF-8."""

    @property
    def name(self) -> str:
        """Its name among tokenisers."""
        return "bytes"

    @property
    def entries(self) -> int:
        """256."""
        return BYTES

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the name, which says it all."""
        return _digest({"name": self.name})

    def encode(self, text: str) -> NDArray[np.int64]:
        """The bytes."""
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)

    def decode(self, ids: NDArray[np.integer]) -> str:
        """The text, � for bytes that are none; `InputError` if an id is not a byte."""
        return bytes(_checked(ids, BYTES).tolist()).decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Write `RECORD` into `folder`."""
        write_json(folder / RECORD, {"name": self.name})


class BytePairs:
    """Byte-level BPE, of `tokenizers`; make one by `fit` or `load`.

    A text's ids are those of plain text, whatever it says: the name of a special token in it is spelled out.

    Parameters
    ----------
    tokenizer
        A `tokenizers.Tokenizer`.
    """

    name = "bpe"

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        self.entries = max(vocabulary.values()) + 1

    @classmethod
    def fit(cls, texts: Iterable[str], *, entries: int = 1024) -> BytePairs:
        """Learn `entries` tokens from texts, all bytes among them; fewer if the texts hold no more pairs.

        Raises
        ------
        InputError
            If `entries` is less than the number of bytes.
        MissingExtraError
            If tokenizers is not installed.
        """
        if entries < BYTES:
            raise InputError(f"entries >= {BYTES} (bytes) must hold, but got {entries}")
        library = _library()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=entries,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> BytePairs:
        """Read a tokenizer.json, or the one in a folder.

        Raises
        ------
        InputError
            If nothing is there.
        CorruptFileError
            If it is no tokeniser.
        MissingExtraError
            If tokenizers is not installed.
        """
        file = path / BPE_NAME if path.is_dir() else path
        if not file.is_file():
            raise InputError(f"a BPE must be a {BPE_NAME}, or a folder that holds one, but {path} is not")
        library = _library()
        try:
            return cls(library.Tokenizer.from_file(str(file)))
        except Exception as error:  # the library raises nothing narrower
            raise CorruptFileError(f"{file} must hold a tokeniser, but: {error}") from error

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the whole tokeniser."""
        return _digest(json.loads(self._tokenizer.to_str()))

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text, without marks of its beginning and end."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def decode(self, ids: NDArray[np.integer]) -> str:
        """The text, special tokens by their names; `InputError` if an id is not one of the tokeniser's."""
        return str(self._tokenizer.decode(_checked(ids, self.entries).tolist(), skip_special_tokens=False))

    def save(self, folder: Path) -> None:
        """Write `BPE_NAME` into `folder`, in the library's own format."""
        write_text(folder / BPE_NAME, self._tokenizer.to_str(pretty=False))


def load_tokenizer(name: str, path: Path | None = None) -> TextTokenizer:
    """A tokeniser that needs no fitting.

    Parameters
    ----------
    name
        One of `NAMES`.
    path
        BPE's tokenizer.json, or the folder that holds it.

    Raises
    ------
    InputError
        If there is no such tokeniser, or BPE is given no file.
    CorruptFileError
        If the file is no tokeniser.
    """
    if name == "characters":
        return Characters()
    if name == "bytes":
        return Bytes()
    if name != "bpe":
        raise InputError(f"a tokeniser must be one of {', '.join(NAMES)}, but got {name!r}")
    if path is None:
        raise InputError(f"a BPE must be loaded from a {BPE_NAME} or fitted, but no file was given")
    return BytePairs.load(path)


def fit_tokenizer(name: str, texts: Iterable[str], entries: int = 1024) -> TextTokenizer:
    """A tokeniser fitted to texts: characters to their alphabet, BPE to `entries` tokens; bytes need none.

    Raises
    ------
    InputError
        If there is no such tokeniser, or too few entries.
    """
    if name == "characters":
        return Characters.fit(texts)
    if name == "bpe":
        return BytePairs.fit(texts, entries=entries)
    return load_tokenizer(name)


def open_tokenizer(folder: Path) -> TextTokenizer:
    """The tokeniser that was saved in `folder`; where none was, characters, as the embedded corpus has.

    Raises
    ------
    CorruptFileError
        If what is there describes no tokeniser.
    """
    if (folder / BPE_NAME).is_file():
        return BytePairs.load(folder)
    if not (folder / RECORD).is_file():
        return Characters()
    record = read_json(folder / RECORD)
    try:
        return Characters(record["alphabet"]) if record["name"] == "characters" else load_tokenizer(record["name"])
    except (KeyError, TypeError, InputError) as error:
        raise CorruptFileError(f"{folder / RECORD} must describe a tokeniser, but: {error}") from error


def _checked(ids: NDArray[np.integer], entries: int) -> NDArray[np.integer]:
    values = np.asarray(ids)
    if values.size and not (values.min() >= 0 and values.max() < entries):
        raise InputError(f"0 <= id < {entries} must hold for a text id, but got {values.min()} … {values.max()}")
    return values


def _digest(content: Any) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ModuleNotFoundError:
        raise MissingExtraError("tokenizers", "audio") from None
    return tokenizers
