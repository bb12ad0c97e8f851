"""The way back: from the tokens of a corpus to a wave that can be heard.

>>> heard = listen(Corpus.open(Path("studies/demo/corpus")), "validation", 3)      # doctest: +SKIP
>>> write_wav(Path("document-3.wav"), heard.wave, heard.rate)                      # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop.errors import InputError, MissingExtraError
from isoflop.store import replacing
from isoflop.tokens.codecs import open_codec
from isoflop.tokens.shards import Corpus, Split
from isoflop.tokens.stream import split
from isoflop.tokens.tokenizers import open_tokenizer

#: Silence after each utterance, which the codec was not given.
PAUSE_SECONDS = 0.25


@dataclass(frozen=True, eq=False)
class Heard:
    """A document as a mono wave in [-1, 1] at `rate` Hz, and what is said in it, where the corpus holds that."""

    wave: NDArray[np.float32]
    rate: int
    text: tuple[str, ...]


def listen(corpus: Corpus, part: Split, document: int) -> Heard:
    """Document number `document` of a split.

    Raises
    ------
    InputError
        If there is no such document or no sound in it, or the corpus does not hold its codec.
    CorruptFileError
        If the codec cannot be read.
    """
    utterances = split(corpus.document(part, document), corpus.layout)
    codes = [utterance.codes for utterance in utterances if utterance.codes is not None]
    if not codes:
        raise InputError(f"a document must hold sound to be heard, but document {document} of {part} holds none")
    codec = open_codec(corpus.directory)
    if codec.codebook_sizes != corpus.layout.codebook_sizes:
        raise InputError(
            f"a corpus must hold the codebooks of its codec to be heard, {codec.codebook_sizes}, but "
            f"{corpus.directory} holds {corpus.layout.codebook_sizes}"
        )
    pause = np.zeros(round(PAUSE_SECONDS * codec.rate), dtype=np.float32)
    wave = np.concatenate([piece for each in codes for piece in (codec.decode(each), pause)])
    tokenizer = open_tokenizer(corpus.directory)
    texts = [utterance.text for utterance in utterances if utterance.text is not None]
    return Heard(wave, codec.rate, tuple(tokenizer.decode(text) for text in texts))


def write_wav(path: Path, wave: NDArray[np.float32], rate: int) -> None:
    """Write a mono wave as 16-bit WAV, whole or not at all; `MissingExtraError` without soundfile."""
    try:
        import soundfile
    except ModuleNotFoundError:
        raise MissingExtraError("soundfile", "audio") from None
    with replacing(path) as temporary:
        soundfile.write(temporary, wave, rate, format="WAV", subtype="PCM_16")
