"""The trainer section of a study file: what trains the runs in place of isoflop's own training.

Nothing is imported or looked up here; that is done by the process that trains (`isoflop.launching.own`). The contract
is `isoflop.trainer`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from isoflop.settings import Options, Section, Whole

#: ``package.module:function``.
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
#: A placeholder of a command, or a doubled brace, which stands for itself.
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w.]*)\}", re.ASCII)
#: What a command may be told: of the run, where its files are, and where it tells how it goes and what came of it.
PLACEHOLDERS = (
    *("run", "size", "params", "tokens", "steps", "batch_size", "flops", "budget", "seed", "learning_rate"),
    *("warmup_steps", "decay_steps", "data", "corpus", "checkpoints", "outputs", "accelerator", "micro_batches"),
    *("assignment", "progress", "result", "python"),
)
_OPTION = "options."


def validated_target(value: str) -> str:
    """`value`, if it is ``package.module:function``; else a `ValueError`."""
    if not _TARGET.fullmatch(value):
        raise ValueError(f"must be package.module:function, but got {value!r}")
    return value


class TrainerChoice(Section):
    """What trains the runs: exactly one of python, lightning and command."""

    python: str | None = Field(None, description="package.module:function, called with an isoflop.trainer.Assignment")
    lightning: str | None = Field(
        None, description="package.module:function that returns a LightningModule and its LightningDataModule"
    )
    command: tuple[str, ...] | None = Field(
        None, min_length=1, description="a command and its arguments, with placeholders such as {steps} and {result}"
    )
    options: Options = Field({}, description="for the trainer: numbers, text, true or false; part of every run's id")
    revision: Whole = Field(0, ge=0, description="raise it where changed code gives other losses: part of run ids")
    folder: Path | None = Field(
        None, description="where the code lies and a command starts; default: the study file's folder"
    )

    @field_validator("python", "lightning")
    @classmethod
    def _a_target(cls, value: str | None) -> str | None:
        return None if value is None else validated_target(value)

    @field_validator("command")
    @classmethod
    def _known_placeholders(cls, words: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for word in words or ():
            if not word or "\0" in word:
                raise ValueError(f"words must be text, but got {word!r}")
            for name in names_in(word):
                if name not in PLACEHOLDERS and not name.startswith(_OPTION):
                    raise ValueError(
                        f"placeholders must be of {', '.join(PLACEHOLDERS)} and options.NAME ({{{{ for a brace), but "
                        f"got {{{name}}}"
                    )
        return words

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = sum(each is not None for each in (self.python, self.lightning, self.command))
        if given != 1:
            raise ValueError(f"exactly one of python, lightning and command must be given, but got {given}")
        told = {name for word in self.command or () for name in names_in(word)}
        if self.command is not None and not told & {"result", "assignment"}:
            raise ValueError(
                "a command must be told where its result goes, {result} or {assignment}, but got neither in "
                f"{list(self.command)}"
            )
        return self

    @property
    def identity(self) -> str:
        """What it is, as runs know it: equal for equal work, wherever the code lies."""
        kind, what = next((kind, getattr(self, kind)) for kind in _KINDS if getattr(self, kind) is not None)
        text = what if isinstance(what, str) else json.dumps(what)
        return f"{kind}:{text}" + (f"@{self.revision}" if self.revision else "")

    def check_options(self, of_sizes: Collection[str]) -> None:
        """Raise `ValueError` where the command asks for an option that neither the trainer nor a size has."""
        for word in self.command or ():
            for name in names_in(word):
                known = {*self.options, *of_sizes}
                if name.startswith(_OPTION) and name.removeprefix(_OPTION) not in known:
                    raise ValueError(
                        f"trainer.command: options must be of {', '.join(sorted(known)) or 'none'}, but got {{{name}}}"
                    )

    def in_folder(self, folder: Path) -> Self:
        """The same with its code's folder, by default `folder`, as an absolute path."""
        return self.model_copy(update={"folder": (folder / (self.folder or "")).resolve()})

    @field_validator("folder", mode="before")
    @classmethod
    def _a_path(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"must be a path, but got {value!r}")
        return value


_KINDS = ("python", "lightning", "command")


def names_in(word: str) -> list[str]:
    """The placeholders in a command's word."""
    return [match[1] for match in PLACEHOLDER.finditer(word) if match[1]]
