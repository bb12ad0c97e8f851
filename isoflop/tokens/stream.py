"""The stream that models train on: text and audio of utterances in one sequence of ids.

A document is emitted by utterance, without word alignment, in one of two orders that are each other's twins (SODA,
arXiv 2602.16687)::

    text_first    BOS (text_start T text_end audio_start A audio_end)* EOS
    audio_first   BOS (audio_start A audio_end text_start T text_end)* EOS

T are the text's ids, A the audio's, frame by frame with codebook 0 first. Sound without text has no text parts, and
text without sound, as in a text corpus, stands bare: ``BOS T EOS``. Neither has a twin that differs.

The vocabulary holds the text's entries, then the control tokens in the order of `CONTROLS`, then the codebooks one
after the other. BOS and EOS may instead be entries of the text's vocabulary, as in Llama-3's: SODA's ids are
``Layout(128_256, (2048,) * 8, 0, bos=128_000, eos=128_001)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError

Order = Literal["text_first", "audio_first"]

#: The control tokens, in the order of their ids.
CONTROLS = ("bos", "eos", "text_start", "text_end", "audio_start", "audio_end")


#: The composition of the stream: which of the codec's codebooks are in it, and whether the text is.
Compositions = Literal["semantic", "semantic+acoustic", "semantic+acoustic+text"]
#: Controls that may be entries of the text's vocabulary.
_ENDS = ("bos", "eos")


@dataclass(frozen=True, eq=False)
class Utterance:
    """What was said and how: `text` ids (entries,) and `codes` (frames, codebooks), each from 0; None is none."""

    text: NDArray[np.integer] | None
    codes: NDArray[np.integer] | None


@dataclass(frozen=True)
class Layout:
    """Which ids mean what.

    Parameters
    ----------
    text_entries
        Entries of the text vocabulary; they are the first ids.
    codebook_sizes
        Entries of each codebook, in stream order.
    semantic
        The codebook that is semantic, None if none is; the others are acoustic.
    bos, eos
        Their ids where they are entries of the text's vocabulary; None where they are control tokens after it.

    Raises
    ------
    InputError
        If a size is not positive (of the text: negative), the semantic codebook is not one of them, or BOS and EOS
        are not two of the text's entries.
    """

    text_entries: int
    codebook_sizes: tuple[int, ...]
    semantic: int | None
    bos: int | None = None
    eos: int | None = None

    def __post_init__(self) -> None:
        if self.text_entries < 0 or not self.codebook_sizes or min(self.codebook_sizes) < 1:
            raise InputError(
                "text_entries >= 0 and one or more codebooks of size 1 or more must hold, but got "
                f"{self.text_entries} and {self.codebook_sizes}"
            )
        ends = [end for end in (self.bos, self.eos) if end is not None]
        if len(set(ends)) != len(ends) or not all(0 <= end < self.text_entries for end in ends):
            raise InputError(
                f"bos and eos must be two of the {self.text_entries} text entries, but got {self.bos} and {self.eos}"
            )
        if self.semantic is not None and not 0 <= self.semantic < len(self.codebook_sizes):
            raise InputError(
                f"0 <= semantic < {len(self.codebook_sizes)} (codebooks) must hold, but got {self.semantic}"
            )

    @property
    def vocabulary(self) -> int:
        """Ids in all, V."""
        return self.audio_offset + sum(self.codebook_sizes)

    @property
    def audio_offset(self) -> int:
        """The id of codebook 0's entry 0."""
        return self.text_entries + sum(getattr(self, name, None) is None for name in CONTROLS)

    @cached_property
    def codebook_offsets(self) -> NDArray[np.int64]:
        """The id of each codebook's entry 0."""
        return self.audio_offset + np.concatenate([[0], np.cumsum(self.codebook_sizes[:-1])]).astype(np.int64)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smallest integer type that holds every id."""
        return np.min_scalar_type(self.vocabulary - 1)

    @cached_property
    def controls(self) -> dict[str, int]:
        """The id of each control token of `CONTROLS`."""
        inside = {name: getattr(self, name) for name in _ENDS if getattr(self, name) is not None}
        own = [name for name in CONTROLS if name not in inside]
        return {name: inside[name] if name in inside else self.text_entries + own.index(name) for name in CONTROLS}

    @property
    def types(self) -> tuple[str, ...]:
        """Names of the token types: ``text``, ``control``, ``semantic`` (if any), ``acoustic_1``, ``acoustic_2``…."""
        return "text", "control", *sorted(self._codebook_types, key=lambda name: name != "semantic")

    @cached_property
    def token_types(self) -> NDArray[np.uint8]:
        """Index into `types` by id, shape (V,)."""
        found = np.zeros(self.vocabulary, dtype=np.uint8)
        found[list(self.controls.values())] = self.types.index("control")
        for name, start, size in zip(self._codebook_types, self.codebook_offsets, self.codebook_sizes, strict=True):
            found[start : start + size] = self.types.index(name)
        return found

    @property
    def _codebook_types(self) -> list[str]:
        names, acoustic = [], 0
        for index in range(len(self.codebook_sizes)):
            acoustic += index != self.semantic
            names.append("semantic" if index == self.semantic else f"acoustic_{acoustic}")
        return names

    def flatten(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Ids of `codes` (frames, codebooks): frame by frame, codebook 0 first.

        Raises
        ------
        InputError
            If the codes have another number of codebooks, or a code is not in its codebook.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.codebook_sizes):
            raise InputError(f"codes must have the shape (frames, {len(self.codebook_sizes)}), but have {codes.shape}")
        if (codes < 0).any() or (codes >= np.array(self.codebook_sizes)).any():
            raise InputError(f"0 <= code < {self.codebook_sizes} must hold, but got {codes.max(axis=0).tolist()}")
        return (codes + self.codebook_offsets).reshape(-1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the ids of the control tokens spelled out for readers; `from_dict` reads it back equal."""
        return {
            "text_entries": self.text_entries,
            "codebook_sizes": list(self.codebook_sizes),
            "semantic": self.semantic,
            "controls": self.controls,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Layout:
        """Read what `to_dict` wrote; `InputError` if a field is missing or the controls stand elsewhere."""
        try:
            entries = int(record["text_entries"])
            ends = {name: int(record["controls"][name]) for name in _ENDS}
            layout = cls(
                entries,
                tuple(int(size) for size in record["codebook_sizes"]),
                None if record["semantic"] is None else int(record["semantic"]),
                **{name: end for name, end in ends.items() if end < entries},
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"a layout must have text_entries, codebook_sizes, semantic and controls, but got {record}"
            ) from error
        if layout.to_dict() != record:
            raise InputError(f"a layout's fields must be {layout.to_dict()}, but got {record}")
        return layout


@dataclass(frozen=True)
class Composition:
    """What the stream is made of.

    Parameters
    ----------
    layout
        Which ids mean what.
    codebooks
        Columns of the codec's codes that are kept, in stream order.
    orders
        Orders in which a training document is emitted: one, or both, first the one and a pass later its twin.
    text
        Whether what is said is in the stream.
    """

    layout: Layout
    codebooks: tuple[int, ...]
    orders: tuple[Order, ...] = ("text_first", "audio_first")
    text: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain values but for the layout, which has its own."""
        return {"codebooks": list(self.codebooks), "orders": list(self.orders), "text": self.text}


def compose(
    kind: str,
    codebook_sizes: Sequence[int],
    semantic: int,
    text_entries: int,
    *,
    order: str = "both",
    codebooks: int | None = None,
    bos: int | None = None,
    eos: int | None = None,
) -> Composition:
    """The composition named `kind` (of `Compositions`) of a codec and a text vocabulary.

    Parameters
    ----------
    kind
        ``semantic``, ``semantic+acoustic`` or ``semantic+acoustic+text``; without the text, neither its entries nor a
        second order are in the stream.
    codebook_sizes, semantic
        The codec's codebooks, and how many of the leading ones are semantic.
    text_entries, bos, eos
        The text's vocabulary, and its own BOS and EOS if it has them.
    order
        ``text_first``, ``audio_first`` or ``both``.
    codebooks
        How many of the leading codebooks are kept; default all that the composition names.

    Raises
    ------
    InputError
        If a name is unknown, or the codec has no semantic codebook, no acoustic one, or too few where they are wanted.
    """
    if kind not in get_args(Compositions):
        raise InputError(f"the composition must be one of {', '.join(get_args(Compositions))}, but got {kind!r}")
    if order not in (*get_args(Order), "both"):
        raise InputError(f"the order must be one of {', '.join(get_args(Order))}, both, but got {order!r}")
    if kind == "semantic" and not semantic:
        raise InputError("a semantic stream must have a codec with a semantic codebook, but this one has none")
    most = semantic if kind == "semantic" else len(codebook_sizes)
    kept = most if codebooks is None else codebooks
    if not 1 <= kept <= most:
        raise InputError(f"1 <= codebooks <= {most} must hold for a {kind} stream, but got {kept}")
    spoken = kind.endswith("+text")
    layout = Layout(
        text_entries if spoken else 0,
        tuple(codebook_sizes[:kept]),
        0 if semantic else None,
        bos if spoken else None,
        eos if spoken else None,
    )
    orders: tuple[Order, ...] = ("audio_first",)
    if spoken:
        orders = cast("tuple[Order, ...]", get_args(Order) if order == "both" else (order,))
    return Composition(layout, tuple(range(kept)), orders, spoken)


def interleave(utterances: Sequence[Utterance], layout: Layout, order: Order) -> NDArray[np.int64]:
    """Ids of a document: its utterances in turn, each one's text and audio in the given order.

    Raises
    ------
    InputError
        If the order is unknown, a text id is no text of the vocabulary, the codes do not fit the layout, or some
        utterances of the document have text and others none (a lone text is a document of its own).
    """
    if order not in get_args(Order):
        raise InputError(f"the order must be one of {', '.join(get_args(Order))}, but got {order!r}")
    having = {(utterance.text is not None, utterance.codes is not None) for utterance in utterances}
    if len(having) > 1 or (False, False) in having or ((True, False) in having and len(utterances) > 1):
        raise InputError(
            "the utterances of a document must all have text and codes, or codes alone, or be one text, but "
            f"{len(utterances)} have {sorted(having)} (text, codes)"
        )
    mark = {name: _one(layout.controls[name]) for name in CONTROLS}
    parts = [mark["bos"]]
    for utterance in utterances:
        spoken = [] if utterance.text is None else [_checked_text(utterance.text, layout)]
        if utterance.codes is None:
            parts += spoken
            continue
        heard = [mark["audio_start"], layout.flatten(utterance.codes), mark["audio_end"]]
        if spoken:
            spoken = [mark["text_start"], *spoken, mark["text_end"]]
        parts += spoken + heard if order == "text_first" else heard + spoken
    return np.concatenate([*parts, mark["eos"]])


def _checked_text(text: NDArray[np.integer], layout: Layout) -> NDArray[np.int64]:
    ids = np.asarray(text, dtype=np.int64)
    if ids.size and not (ids.min() >= 0 and ids.max() < layout.text_entries):
        raise InputError(f"0 <= text id < {layout.text_entries} must hold, but got up to {int(ids.max())}")
    inside = [end for end in (layout.bos, layout.eos) if end is not None]
    if inside and np.isin(ids, inside).any():
        raise InputError(f"a text must not hold the ids of BOS and EOS, {inside}, but does")
    return ids


def split(ids: NDArray[np.integer], layout: Layout) -> list[Utterance]:
    """The utterances of a document that `interleave` made, whatever its order.

    Raises
    ------
    InputError
        If the ids are not one whole document, from BOS to EOS.
    """
    whole = np.asarray(ids, dtype=np.int64)
    marks = {name: np.flatnonzero(whole == token).tolist() for name, token in layout.controls.items()}
    order: Order = "text_first" if marks["text_start"][:1] == [1] else "audio_first"
    try:
        utterances = _utterances(whole, marks, layout)
        again = interleave(utterances, layout, order)
    except ValueError as error:
        raise InputError(f"ids must be one document, from BOS to EOS, but: {error}") from error
    if not np.array_equal(again, whole):
        raise InputError(
            f"ids must be one document, from BOS to EOS, but are {whole[:8].tolist()} … {whole[-1:].tolist()}"
        )
    return utterances


def _utterances(ids: NDArray[np.int64], marks: dict[str, list[int]], layout: Layout) -> list[Utterance]:
    """What stands between the marks; a document without any is a lone text, or empty."""
    texts = [ids[start + 1 : end] for start, end in zip(marks["text_start"], marks["text_end"], strict=True)]
    audios = [ids[start + 1 : end] for start, end in zip(marks["audio_start"], marks["audio_end"], strict=True)]
    if not audios:
        return [Utterance(ids[1:-1], None)] if len(ids) > len(_ENDS) else []
    codes = [audio.reshape(-1, len(layout.codebook_sizes)) - layout.codebook_offsets for audio in audios]
    if not texts:
        return [Utterance(None, each) for each in codes]
    return [Utterance(text, each) for text, each in zip(texts, codes, strict=True)]


def _one(token: int) -> NDArray[np.int64]:
    return np.array([token], dtype=np.int64)
