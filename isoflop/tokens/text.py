"""Text as characters: what is spoken, folded to a small fixed alphabet.

A tiny study cannot pay for a large text vocabulary: at width 48 an embedding of 1,024 entries is half of the FLOPs.
So its text is lower-case letters, digits, the space and common punctuation, and everything else is folded to these:

>>> normalise("Fiancée’s  №5 — done_deal™!")
"fiancee's no5 - done dealtm!"
>>> decode(encode("Hello, world."))
'hello, world.'
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError

#: Every character of a text, in the order of its id.
ALPHABET = " abcdefghijklmnopqrstuvwxyz0123456789.,;:?!'\"-()/"

#: Typographic forms of what the alphabet has; compatibility forms (ligatures, widths, ™) fall to NFKC.
_FOLDED = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "–": "-", "—": "-", "−": "-"})


def folded(text: str) -> str:
    """`text` without differences that are not heard: case, typographic and compatibility forms; accents stay.

    Compatibility forms become what they stand for (NFKC), case is folded, quotes and dashes are the plain ones.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_FOLDED)


def normalise(text: str, alphabet: str = ALPHABET) -> str:
    """`text` in the characters of `alphabet`: idempotent, without spaces at the ends or in a row.

    The folded text's characters stay where the alphabet has them. Others are taken apart (NFKD) and lose their accents,
    and whatever is still unknown separates words as a space does.
    """
    known = frozenset(alphabet)
    kept = []
    for character in folded(text):
        parts = character if character in known else unicodedata.normalize("NFKD", character)
        kept += [part if part in known else " " for part in parts if part in known or not unicodedata.combining(part)]
    return " ".join("".join(kept).split())


def encode(text: str, alphabet: str = ALPHABET) -> NDArray[np.integer]:
    """Ids of `normalise(text)`, one a character, in the smallest type that holds the alphabet's."""
    ids = {character: index for index, character in enumerate(alphabet)}
    dtype = np.min_scalar_type(len(alphabet) - 1)
    return np.array([ids[character] for character in normalise(text, alphabet)], dtype=dtype)


def decode(ids: NDArray[np.integer], alphabet: str = ALPHABET) -> str:
    """The text whose ids these are; `InputError` unless all lie in ``[0, len(alphabet))``."""
    values = np.asarray(ids)
    if values.size and not (values.min() >= 0 and values.max() < len(alphabet)):
        raise InputError(
            f"0 <= id < {len(alphabet)} must hold for a text id, but got {int(values.min())} … {int(values.max())}"
        )
    return "".join(alphabet[int(value)] for value in values)
