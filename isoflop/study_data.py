"""The data section of a study file: what the models read, or what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from isoflop.names import validated_name
from isoflop.settings import Number, Section, Whole

#: How far the shares of a mixture may miss one in sum.
_SHARES = 1e-3


class Source(Section):
    """One source of a described corpus."""

    unique_tokens: Whole = Field(ge=1, description="distinct training tokens; twins of a document count once")
    share: Number = Field(gt=0, le=1, description="part of a run's tokens that it gives (fraction)")
    tokens_per_second: Number | None = Field(
        None, gt=0, description="audio tokens a second of sound; default: no audio"
    )
    audio_share: Number = Field(1.0, gt=0, le=1, description="part of its tokens that are audio (fraction)")
    orders: Whole = Field(
        1, ge=1, description="orders in which each document is emitted: twins, of which one is unique"
    )


class Abstract(Section):
    """Data that is only described: such a study is planned and rehearsed, never trained."""

    vocabulary: Whole = Field(ge=2, description="entries of the vocabulary")
    unique_tokens: Whole | None = Field(
        None, ge=1, description="distinct training tokens; twins of a document count once"
    )
    sources: dict[str, Source] = Field({}, description="or the same by source, each with its share of a run's tokens")

    @model_validator(mode="after")
    def _total_or_sources(self) -> Self:
        if (self.unique_tokens is None) == (not self.sources):
            raise ValueError(
                "exactly one of unique_tokens and sources must be given, but got "
                f"{'neither' if self.unique_tokens is None else 'both'}"
            )
        total = sum(source.share for source in self.sources.values())
        if self.sources and abs(total - 1) > _SHARES:
            raise ValueError(f"the shares of the sources must sum to 1, but got {total:g}")
        return self


class External(Section):
    """Data that only the study's own trainer knows (`isoflop.trainer`)."""

    name: str = Field(description="of the data, part of every run's id: give another where they change")
    samples: Whole | None = Field(
        None, ge=1, description="distinct training samples (or tokens, as the ladder counts); default: not known"
    )
    vocabulary: Whole = Field(1, ge=1, description="entries of the vocabulary; needed where the ladder has shapes")

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        return validated_name(value)


class Data(Section):
    """What the models read: exactly one of the four."""

    embedded: bool = Field(False, description="speech and text made on the spot from the Python library's own prose")
    corpus: Path | None = Field(None, description="folder of token shards; a relative path starts at the study file")
    abstract: Abstract | None = Field(None, description="only described: planned, never trained")
    external: External | None = Field(
        None, description="only the study's own trainer knows them: its name, or a section"
    )
    weights: dict[str, Number] = Field(
        {}, description="shares of the corpus's sources in a run's tokens, in any unit; default: by their tokens"
    )
    text_share: Number | None = Field(
        None,
        ge=0,
        le=1,
        description="part of a run's tokens from sources of text alone (fraction); default: as weighted",
    )
    held_out: Literal["mixture", "corpus"] | None = Field(
        None,
        description="sources' shares in held-out tokens: a run's or the corpus's; default: mixture, with axes corpus",
    )

    @field_validator("corpus")
    @classmethod
    def _a_path(cls, value: Path | None) -> Path | None:
        if value is not None and "\0" in str(value):
            raise ValueError(f"must be a path, but got {str(value)!r}")
        return value

    @field_validator("external", mode="before")
    @classmethod
    def _external_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        chosen = [self.embedded, *(each is not None for each in (self.corpus, self.abstract, self.external))]
        if sum(chosen) != 1:
            raise ValueError(
                f"exactly one of embedded, corpus, abstract and external must be given, but got {sum(chosen)}"
            )
        if self.corpus is None and (self.weights or self.held_out is not None):
            raise ValueError("weights and held_out must be of a corpus, but got no corpus")
        described = self.abstract is not None and self.abstract.sources
        if self.text_share is not None and self.corpus is None and not described:
            raise ValueError("text_share must be of a corpus, or of abstract sources, but got neither")
        return self
