"""The recipe section of a study file: a named recipe, whatever the study changes in it, and a ladder of its own.

What each constant does is told by `isoflop.planning.recipe`, which holds the named recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from isoflop.errors import InputError
from isoflop.settings import Number, Options, Section, Whole, read_yaml

_DEFAULT = "default: the recipe's"
#: Keys of the section that are no constants of the recipe.
_NO_CONSTANTS = frozenset({"name", "base", "ladder", "published_ladder", "tuned"})


#: A rate this near to one that was tried is as good as tried: constants of recipes are rounded.
_ABOUT = 1.001


class Size(Section):
    """A row of a ladder: a shape by its numbers, or a model that is not ours by its parameters and FLOPs."""

    name: str = Field("", description="of the size; needed where no shape is given")
    n_layers: Whole | None = Field(None, ge=1, description="blocks")
    d_model: Whole | None = Field(None, ge=1, description="width")
    n_heads: Whole | None = Field(None, ge=1, description="query heads")
    n_kv_heads: Whole | None = Field(None, ge=1, description="key/value heads; default: the query heads")
    head_size: Whole | None = Field(None, ge=1, description="width of a head; default: d_model / n_heads")
    d_mlp: Whole | None = Field(None, ge=1, description="hidden width of the MLP; default: mlp_ratio · d_model")
    params: Whole | None = Field(None, ge=1, description="parameters of a model that is not ours")
    non_embedding: Whole | None = Field(None, ge=1, description="of them, in neither embedding nor head; default: all")
    flops_per_token: Number | None = Field(None, gt=0, description="its training FLOPs (forward, backward) per token")
    flops_per_sample: Number | None = Field(None, gt=0, description="the same per sample: then D counts samples")
    learning_rate: Number | None = Field(None, gt=0, description="its peak rate; default: the recipe's rule")
    options: Options = Field({}, description="for the study's own trainer: numbers, text, true or false")

    @model_validator(mode="after")
    def _shape_or_table(self) -> Self:
        shape = [self.n_layers, self.d_model, self.n_heads]
        costs = [self.flops_per_token, self.flops_per_sample]
        if self.params is None and None in shape:
            raise ValueError(
                "a size must have n_layers, d_model and n_heads, or params and flops_per_token, but got "
                f"{sorted(self.model_fields_set)}"
            )
        if self.params is None:
            if costs != [None, None] or self.non_embedding is not None:
                raise ValueError(f"a shape's FLOPs are counted, not given, but got {sorted(self.model_fields_set)}")
            if self.options:
                raise ValueError(f"a shape must have no options, but got {sorted(self.options)}")
            if self.learning_rate is not None:
                raise ValueError(
                    f"a shape's rate follows the recipe's rule, but got learning_rate {self.learning_rate:g}"
                )
            return self
        if (self.flops_per_token is None) == (self.flops_per_sample is None):
            raise ValueError(
                "a size with params must have one of flops_per_token and flops_per_sample, but got "
                f"{sum(cost is not None for cost in costs)}"
            )
        if not self.name:
            raise ValueError("a size with params must have a name, but got none")
        if self.n_layers is not None or self.n_heads is not None:
            raise ValueError(f"a size must be a shape or have params, but got both: {sorted(self.model_fields_set)}")
        return self


class Tuned(Section):
    """What a recipe was tuned on: beyond it, its rules are extrapolated. `isoflop tune` writes it."""

    widths: tuple[Whole, Whole] = Field(description="smallest and largest model width d_model tuned at")
    tokens: tuple[Number, Number] = Field(description="fewest and most training tokens of a run")
    rates: tuple[Number, Number] = Field(description="lowest and highest peak rate tried (no unit)")
    trials: Whole = Field(ge=1, description="finished trials behind it")
    seeds: Whole = Field(ge=1, description="runs of each trial")
    data: str = Field(description="fingerprint of what the runs read")
    source: str = Field(description="who tuned it")

    def beyond(self, width: int, rate: float) -> str:
        """Why a run of that width and peak rate lies outside of what was tuned; empty where it does not."""
        (narrow, wide), (low, high) = self.widths, self.rates
        said = []
        if not low / _ABOUT <= rate <= high * _ABOUT:
            said.append(f"its rate, {rate:.3g}, was not tried ({low:.3g} to {high:.3g})")
        if not narrow <= width <= wide:
            said.append(f"its width, {width}, was not tuned ({narrow} to {wide})")
        return " and ".join(said)


class RecipeChoice(Section):
    """A named recipe, and what this study changes in it; {file: FILE} reads the same from a file."""

    name: str | None = Field(None, description="of the recipe with its changes; default: the base's")
    base: str = Field("tiny", description="name of the recipe: tiny, marin-2025, chinchilla")
    ladder: tuple[Size, ...] | None = Field(
        None,
        min_length=1,
        description=f"the study's own sizes, smallest first: rows, a .csv, package.module:function; {_DEFAULT}",
    )
    published_ladder: str | None = Field(
        None, description=f"or published sizes by name: chinchilla, soda-suite; {_DEFAULT}"
    )
    n_layers: Whole | None = Field(None, ge=1, description=f"blocks of every model; {_DEFAULT}")
    heads: Whole | None = Field(
        None, ge=1, description=f"query heads, halved where one would be narrower than the base's least; {_DEFAULT}"
    )
    head_size: Whole | None = Field(None, ge=2, description=f"width of a head: heads = d_model // it; {_DEFAULT}")
    width_step: Whole | None = Field(None, ge=1, description=f"widths of the ladder are its multiples; {_DEFAULT}")
    mlp: Literal["gated", "plain"] | None = Field(None, description=f"kind of the MLP; {_DEFAULT}")
    mlp_ratio: Whole | None = Field(None, ge=1, description=f"hidden width of the MLP over d_model; {_DEFAULT}")
    tokens_per_step: Whole | None = Field(None, ge=1, description=f"tokens of one optimiser step; {_DEFAULT}")
    batch_budget: Number | None = Field(
        None, gt=0, description=f"training FLOPs at which tokens_per_step holds; {_DEFAULT}"
    )
    batch_exponent: Number | None = Field(
        None, ge=0, le=1, description=f"tokens_per_step grows as (C / batch_budget)^it (no unit); {_DEFAULT}"
    )
    target_steps: Whole | None = Field(
        None, ge=0, description=f"choose the batch for about so many steps; 0: tokens_per_step; {_DEFAULT}"
    )
    min_batch: Whole | None = Field(None, ge=1, description=f"fewest sequences of a step; {_DEFAULT}")
    rate_times_width: Number | None = Field(
        None, gt=0, description=f"peak learning rate × d_model at a batch of one (no unit); {_DEFAULT}"
    )
    rate_batch_exponent: Number | None = Field(
        None, ge=0, le=1, description=f"peak rate grows as (sequences a step)^it (no unit); {_DEFAULT}"
    )
    learning_rate: Number | None = Field(None, gt=0, description="one peak rate for all sizes; default: by width")
    rate_width: Number | None = Field(None, gt=0, description=f"d_model at which tuned rates are anchored; {_DEFAULT}")
    rate_width_exponent: Number | None = Field(
        None, description=f"peak rate × (d_model / rate_width)^it besides (no unit); {_DEFAULT}"
    )
    rate_tokens: Number | None = Field(
        None, gt=0, description=f"training tokens at which tuned rates are anchored; {_DEFAULT}"
    )
    rate_tokens_exponent: Number | None = Field(
        None, description=f"peak rate × (tokens / rate_tokens)^it besides (no unit); {_DEFAULT}"
    )
    max_rate: Number | None = Field(None, gt=0, description=f"highest peak rate; {_DEFAULT}")
    warmup_steps: Whole | None = Field(None, ge=0, description=f"optimiser steps of linear warm-up; {_DEFAULT}")
    warmup_fraction: Number | None = Field(
        None, ge=0, lt=1, description=f"or warm-up as a fraction of the steps; {_DEFAULT}"
    )
    decay: Literal["linear", "cosine"] | None = Field(None, description=f"form of the decay; {_DEFAULT}")
    decay_fraction: Number | None = Field(
        None, ge=0, le=1, description=f"last fraction of the steps, decayed to final_rate; {_DEFAULT}"
    )
    final_rate: Number | None = Field(None, ge=0, lt=1, description=f"last rate over the peak (no unit); {_DEFAULT}")
    max_steps: Whole | None = Field(None, ge=1, description=f"most steps of a run; {_DEFAULT}")
    optimizer: Literal["adamw", "cautious"] | None = Field(None, description=f"the optimiser; {_DEFAULT}")
    weight_decay: Number | None = Field(None, ge=0, description=f"of the optimiser (no unit); {_DEFAULT}")
    beta1: Number | None = Field(None, ge=0, lt=1, description=f"of the optimiser (no unit); {_DEFAULT}")
    beta2: Number | None = Field(None, ge=0, lt=1, description=f"of the optimiser (no unit); {_DEFAULT}")
    beta2_batch: Number | None = Field(
        None, ge=0, description=f"sequences a step at which beta2 holds, as beta2^(B/it); 0: constant; {_DEFAULT}"
    )
    epsilon: Number | None = Field(None, gt=0, description=f"of the optimiser (no unit); {_DEFAULT}")
    clip: Number | None = Field(None, gt=0, description=f"largest gradient norm (no unit); {_DEFAULT}")
    embedding_rate: Number | None = Field(
        None, gt=0, description=f"peak rate of the embedding over that of matrices (no unit); {_DEFAULT}"
    )
    head_rate: Number | None = Field(
        None, gt=0, description=f"peak rate of an untied head over that of matrices (no unit); {_DEFAULT}"
    )
    norm_rate: Number | None = Field(
        None, gt=0, description=f"peak rate of the norms' scales over that of matrices (no unit); {_DEFAULT}"
    )
    initial_scale: Number | None = Field(
        None, gt=0, description=f"sd of the matrices' weights before training (no unit); {_DEFAULT}"
    )
    mup_width: Whole | None = Field(
        None, ge=0, description=f"width at which muP equals the standard parametrisation; 0: no muP; {_DEFAULT}"
    )
    z_loss: Number | None = Field(
        None, ge=0, description=f"factor of the squared log-partition in what is minimised (no unit); {_DEFAULT}"
    )
    tuned: Tuned | None = Field(None, description="what the recipe was tuned on; default: not known")

    @field_validator("ladder")
    @classmethod
    def _distinct(cls, rows: tuple[Size, ...] | None) -> tuple[Size, ...] | None:
        names = [row.name for row in rows or () if row.name]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"names must be distinct, but got {name!r} twice")
        return rows

    @model_validator(mode="after")
    def _one_of_a_kind(self) -> Self:
        pairs = (
            ("heads", "head_size"),
            ("warmup_steps", "warmup_fraction"),
            ("learning_rate", "rate_times_width"),
            ("ladder", "published_ladder"),
        )
        for one, other in pairs:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(
                    f"at most one of {one} and {other} must be given, but got {getattr(self, one)} and "
                    f"{getattr(self, other)}"
                )
        return self

    def changes(self) -> dict[str, object]:
        """The constants that this study sets, by name."""
        return {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name not in _NO_CONSTANTS and getattr(self, name) is not None
        }


def from_file(section: Any, folder: Path) -> Any:
    """The recipe section with its ``file``, relative to `folder`, read into it; what stands beside wins.

    Raises
    ------
    InputError
        If there is no such file, or it holds no keys and values.
    """
    if not isinstance(section, Mapping) or "file" not in section:
        return section
    path = folder / str(section["file"])
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"recipe.file must be readable YAML, but got {path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or "file" in content:
        raise InputError(f"a recipe file must hold the keys of a recipe section and no file, but {path} does not")
    return {**content, **{name: value for name, value in section.items() if name != "file"}}
