"""One shard of a corpus: a file of tokens, and a table of what lies where in it.

::

    00017.tokens    training documents in their first order | the same, each as its twin | held-out documents
    00017.json      source, counts, digest of the tokens, names and starts of the documents, clips that failed and why

Ids are in the smallest integer type that holds the vocabulary. A stream of one order has no part of twins. Whole
documents are held out, so no utterance is on both sides, nor are twins. Both a document's side and its first order
come from a hash of its name: they depend on neither the other documents nor on who writes the shard.

The table is written last, and each file whole or not at all: a shard stands once its table does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from isoflop.errors import CorruptFileError
from isoflop.store import read_json, replacing, write_json
from isoflop.tokens.clips import Rejected
from isoflop.tokens.stream import Composition, Order, Utterance, interleave

Split = Literal["train", "validation"]

#: Counts of a split that add up over shards, beside its tokens by type.
COUNTED = ("documents", "utterances", "seconds", "tokens")


@dataclass(frozen=True, eq=False)
class Document:
    """Consecutive utterances of one recording; `name` is unique in its corpus, `seconds` its sound."""

    name: str
    utterances: tuple[Utterance, ...]
    seconds: float
    source: str = "speech"


def hashed(purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on the purpose and the name only, evenly spread over names."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{name}".encode()).digest()[:6], "big") / 2**48


def held_out(name: str, share: float) -> bool:
    """Whether the document `name` is held out: true for a `share` of all names, by their hash."""
    return hashed("holdout", name) < share


def first_order(name: str) -> Order:
    """The order of the document `name` in pass 0 and in validation, where both are emitted; pass 1 has the other."""
    return "text_first" if hashed("order", name) < 0.5 else "audio_first"


def orders_of(name: str, orders: Sequence[Order]) -> tuple[Order, ...]:
    """The order of the document `name` in each pass."""
    if len(orders) == 1 or first_order(name) == orders[0]:
        return tuple(orders)
    return tuple(reversed(orders))


def tokens_file(name: str) -> str:
    """File name of a shard's tokens."""
    return f"{name}.tokens"


def table_file(name: str) -> str:
    """File name of a shard's table."""
    return f"{name}.json"


def write_shard(
    directory: Path,
    name: str,
    documents: Iterable[Document],
    composition: Composition,
    *,
    source: str,
    holdout: float,
    failed: Sequence[Rejected] = (),
) -> dict[str, Any]:
    """Write the shard `name` into `directory`; returns its table.

    The same arguments give the same bytes, so two workers that write one shard do no harm.

    Parameters
    ----------
    directory, name
        Where to, and what the files are called.
    documents
        In the order in which they are to lie.
    composition
        Layout, and the orders of the passes.
    source
        Where the documents are from.
    holdout
        The share of documents that is held out, in [0, 1).
    failed
        Clips of these documents that are not in them.

    Raises
    ------
    InputError
        If a document does not fit the layout.
    """
    sides: dict[Split, list[Document]] = {"train": [], "validation": []}
    for document in documents:
        sides["validation" if held_out(document.name, holdout) else "train"].append(document)
    passes = [_part(sides["train"], composition, number) for number in range(len(composition.orders))]
    held = _part(sides["validation"], composition, 0)
    parts = [tokens for part in (*passes, held) for tokens in part]
    content = np.concatenate([np.empty(0, dtype=composition.layout.dtype), *parts]).tobytes()
    with replacing(directory / tokens_file(name)) as temporary:
        temporary.write_bytes(content)
    table = {
        "source": source,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "counts": {
            "train": _counts(sides["train"], passes[0], composition),
            "validation": _counts(sides["validation"], held, composition),
        },
        "documents": {
            "train": _places(sides["train"], passes[0]),
            "validation": _places(sides["validation"], held),
        },
        "failed": [asdict(failure) for failure in failed],
    }
    write_json(directory / table_file(name), table)
    return table


def _part(documents: Sequence[Document], composition: Composition, number: int) -> list[np.ndarray]:
    """Ids of each document in its order of pass `number`."""
    layout, orders = composition.layout, composition.orders
    return [
        interleave(document.utterances, layout, orders_of(document.name, orders)[number]).astype(layout.dtype)
        for document in documents
    ]


def _counts(documents: Sequence[Document], tokens: Sequence[np.ndarray], composition: Composition) -> dict[str, Any]:
    layout = composition.layout
    by_type = np.zeros(len(layout.types), dtype=np.int64)
    for each in tokens:
        by_type += np.bincount(layout.token_types[each], minlength=len(by_type))
    return {
        "documents": len(documents),
        "utterances": sum(len(document.utterances) for document in documents),
        "seconds": round(sum(document.seconds for document in documents), 3),
        "tokens": int(by_type.sum()),
        "tokens_by_type": dict(zip(layout.types, by_type.tolist(), strict=True)),
    }


def _places(documents: Sequence[Document], tokens: Sequence[np.ndarray]) -> dict[str, Any]:
    starts = np.cumsum([0, *[len(each) for each in tokens]]).tolist()
    return {"names": [document.name for document in documents], "starts": starts}


def read_table(path: Path) -> dict[str, Any]:
    """The table of a shard; `CorruptFileError` names the file where it is none."""
    table = read_json(path)
    if missing := {"source", "bytes", "sha256", "counts", "documents", "failed"} - set(table):
        raise CorruptFileError(f"{path} must be the table of a shard, but lacks {', '.join(sorted(missing))}")
    return table


def added(counts: Sequence[dict[str, Any]], types: Sequence[str]) -> dict[str, Any]:
    """The counts of several shards, or splits, as one."""
    total: dict[str, Any] = {name: sum(each[name] for each in counts) for name in COUNTED}
    total["seconds"] = round(total["seconds"], 3)
    total["tokens_by_type"] = {name: sum(each["tokens_by_type"][name] for each in counts) for name in types}
    return total


def by_split(tables: Sequence[dict[str, Any]], types: Sequence[str]) -> dict[str, Any]:
    """What shards hold on each side."""
    return {split: added([table["counts"][split] for table in tables], types) for split in get_args(Split)}
