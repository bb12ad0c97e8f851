"""The study file: what a researcher writes, as frozen, validated models.

One YAML file says what to study; where it runs is a launcher profile's business. Loading is strict: an unknown key
is refused with the nearest right one, and every error states the rule and the value. Numbers may be written as
``3e18``, which YAML itself reads as text.

>>> Study.model_validate({"name": "x", "grid": {"budgets": ["2.5e10"], "sizes": [8, 12, 16]}}).grid.budgets
(25000000000.0,)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from isoflop.errors import InputError
from isoflop.names import validated_name
from isoflop.settings import Loggers, Number, Section, Whole, explain, read_yaml
from isoflop.study_axes import Axis, axis_name, resolve_axes
from isoflop.study_data import Data
from isoflop.study_grid import Grid, PriorChoice
from isoflop.study_ladder import resolve_ladder
from isoflop.study_recipe import RecipeChoice, from_file
from isoflop.study_trainer import TrainerChoice

#: A parabola needs three points.
_FEWEST_SIZES = 3


class Model(Section):
    """What all models of the study share; the recipe's ladder gives the rest."""

    sequence_length: Whole = Field(128, ge=2, description="tokens that attend to each other")
    tied_head: bool = Field(True, description="whether the output head is the embedding's matrix")
    mask_documents: bool = Field(False, description="whether tokens attend to their own document alone")


class Training(Section):
    """What every run shares beside the recipe."""

    seed: Whole = Field(0, ge=0, lt=2**63, description="of the initialisation and the data order")
    validation_tokens: Whole = Field(65_536, ge=1, description="held-out tokens over which the loss is taken")
    validate_every: Whole | None = Field(
        None, ge=1, description="tokens between two validations on the way; default: at the end alone"
    )
    precision: Literal["32", "bf16"] = Field("32", description="arithmetic of the forward and backward pass")
    micro_batch: Whole | None = Field(None, ge=1, description="sequences at once; default: hardware's, else a step's")
    recompute: bool = Field(
        False, description="whether blocks are computed again in the backward pass, for less memory (a third more work)"
    )
    compile: bool | None = Field(
        None, description="whether torch compiles the model; default: where isoflop probe found that it pays"
    )
    logger: Loggers = Field(("csv",), description="where metrics go: csv (always), tensorboard, wandb; or several")
    keep_weights: bool = Field(False, description="whether a finished run's weights stay on disk, for isoflop export")

    @field_validator("precision", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Limits(Section):
    """Beyond these a cell is dropped from the plan, with its reason."""

    epochs: Number = Field(1.0, gt=0, description="most passes over the unique tokens")
    beyond_epochs: Literal["drop", "flag"] = Field("drop", description="what becomes of a cell with more")
    hours: Number | None = Field(None, gt=0, description="longest run, hours on the hardware; default: any")


class Hardware(Section):
    """What the runs are thought to execute on: for memory, hours and cost. Where they do is the launcher's business."""

    accelerator: str = Field(description="a100-80, h100, h200, b200, l40s, rtx-4090, cpu")
    gpus: Whole | None = Field(
        None, ge=1, description="accelerators in all, for the time until the last run is done; default: one run's"
    )
    gpus_per_run: Whole = Field(1, ge=1, description="accelerators that one run uses; a launcher gives as many or more")
    sharded: bool | None = Field(None, description="spread weights over a run's accelerators; default: if they must be")
    micro_batch: Whole = Field(1, ge=1, description="sequences on one accelerator at once")
    mfu: Number | None = Field(
        None, gt=0, le=1, description="model FLOPs utilisation, measured (fraction); default: the accelerator's assumed"
    )
    price: Number | None = Field(
        None, gt=0, description="of one accelerator for an hour, in your currency; default: none"
    )

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.gpus is not None and self.gpus < self.gpus_per_run:
            raise ValueError(f"gpus >= gpus_per_run must hold, but got {self.gpus} and {self.gpus_per_run}")
        return self

    @property
    def in_all(self) -> int:
        """Accelerators in all."""
        return self.gpus or self.gpus_per_run

    @property
    def at_once(self) -> int:
        """Runs that they train at a time."""
        return self.in_all // self.gpus_per_run


class Reading(Section):
    """How the points are read, once there are some."""

    window: Whole | Literal["all"] = Field(
        5, description="sizes of a local parabola, 3 or more, or all: few on curved profiles, many on flat ones"
    )

    @field_validator("window", mode="before")
    @classmethod
    def _enough(cls, value: Any) -> Any:
        if value == "all":
            return value
        try:
            number = -1 if isinstance(value, bool) else int(value)
        except (TypeError, ValueError, OverflowError):
            number = -1
        if number < _FEWEST_SIZES or number != value:
            raise ValueError(f"must be a whole number from {_FEWEST_SIZES} on, or all, but got {value!r}")
        return number


class Study(Section):
    """An IsoFLOP study: a grid of model size × data size at fixed training FLOPs."""

    name: str = Field(description="name of the study and of its directory: letters, digits, '.', '_', '-'")
    data: Data = Field(
        Data(embedded=True),
        description="what the models read: embedded, {corpus: DIR}, {abstract: …} or {external: NAME}",
    )
    model: Model = Field(Model(), description="what all models share")
    recipe: RecipeChoice = Field(RecipeChoice(), description="the rules for shape, batch, rate and schedule")
    grid: Grid = Field(description="budgets and sizes")
    training: Training = Field(Training(), description="what every run shares beside the recipe")
    trainer: TrainerChoice | None = Field(
        None, description="what trains the runs instead: package.module:function, {lightning: …} or {command: …}"
    )
    limits: Limits = Field(Limits(), description="beyond these a cell is dropped")
    fit: Reading = Field(Reading(), description="how the points are read")
    hardware: Hardware | None = Field(None, description="for memory, hours and cost; default: not estimated")
    axes: dict[str, Axis] = Field(
        {}, description="what is varied at these budgets and sizes, by name; default: nothing"
    )
    arms: Literal["crossed", "one_by_one"] = Field(
        "crossed",
        description="crossed: every combination of the axes; one_by_one: one varies, others at their baseline",
    )

    @field_validator("axes")
    @classmethod
    def _columns(cls, axes: dict[str, Axis]) -> dict[str, Axis]:
        keys = [axis.key for axis in axes.values()]
        for name, axis in axes.items():
            axis_name(name)
            if keys.count(axis.key) > 1:
                raise ValueError(f"must have distinct keys, but got {axis.key} twice")
        return axes

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        return validated_name(value)

    @property
    def machine(self) -> Hardware | None:
        """The hardware, with the micro-batch that is trained: what is planned is what happens."""
        chosen = self.training.micro_batch
        return self.hardware.model_copy(update={"micro_batch": chosen}) if self.hardware and chosen else self.hardware

    @property
    def micro_batch(self) -> int:
        """Sequences of one forward pass on one accelerator; 0: a whole step's."""
        return self.training.micro_batch or (0 if self.hardware is None else self.hardware.micro_batch)

    @field_validator("data", mode="before")
    @classmethod
    def _data_by_name(cls, value: Any) -> Any:
        return {"embedded": True} if value == "embedded" else value

    @field_validator("trainer", mode="before")
    @classmethod
    def _trainer_by_name(cls, value: Any) -> Any:
        return {"python": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _trainer_fits(self) -> Self:
        if self.trainer is None and self.data.external is not None:
            raise ValueError(
                f"a trainer must be given where data are external, but got {self.data.external.name!r} alone"
            )
        if self.trainer is not None:
            rows = self.recipe.ladder or ()
            self.trainer.check_options({name for row in rows for name in row.options})
        return self

    @field_validator("recipe", mode="before")
    @classmethod
    def _recipe_by_name(cls, value: Any) -> Any:
        return {"base": value} if isinstance(value, str) else value

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = ()) -> Self:
        """Read a study file and apply overrides like ``training.seed=1``.

        Raises
        ------
        InputError
            If the file cannot be read, is not YAML, has an unknown key, or breaks a rule; the message says which.
        """
        path = Path(path)
        try:
            content = read_yaml(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"a study must be a study file or a study directory, but {path} does not exist") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"a study file must be readable text, but got {path}: {error}") from None
        except yaml.YAMLError as error:
            raise InputError(f"a study file must be YAML, but got {path}: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise InputError(f"a study file must hold keys and values, but {path} holds {type(content).__name__}")
        for override in overrides:
            _apply(content, override)
        if "recipe" in content:
            content["recipe"] = from_file(content["recipe"], path.parent)
        resolve_ladder(content, path.parent)
        resolve_axes(content, path.parent)
        study = cls.parse(content, source=str(path))
        return study._with_paths_from(path.parent)

    @classmethod
    def parse(cls, content: Mapping[str, Any], source: str = "the study") -> Self:
        """Validate plain data; `InputError` lists every broken rule with its value."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise InputError(f"{source}: {explain(error, cls)}") from None

    def _with_paths_from(self, folder: Path) -> Self:
        """Relative paths start at the study file."""
        updates: dict[str, Section] = {}
        if self.data.corpus is not None:
            updates["data"] = self.data.model_copy(update={"corpus": (folder / self.data.corpus).resolve()})
        if self.grid.prior is not None and self.grid.prior.law is not None:
            prior = PriorChoice(law=(folder / self.grid.prior.law).resolve())
            updates["grid"] = self.grid.model_copy(update={"prior": prior})
        if self.trainer is not None:
            updates["trainer"] = self.trainer.in_folder(folder)
        return self.model_copy(update=updates)

    def to_yaml(self) -> str:
        """The study as YAML that `load` reads back equal."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)


#: Sections that may be written as one word, and what that stands for.
_SHORT: dict[str, Callable[[str], dict[str, Any]]] = {
    "recipe": lambda word: {"base": word},
    "prior": lambda word: {"published": word},
    "data": lambda word: {word: True},
    "trainer": lambda word: {"python": word},
}


def _apply(content: dict[str, Any], override: str) -> None:
    """Set ``a.b=value`` in nested dicts, the value read as YAML."""
    key, separator, text = override.partition("=")
    names = key.strip().split(".")
    if not separator or not all(names):
        raise InputError(f"an override must be KEY.KEY=VALUE, but got {override!r}")
    try:
        value = read_yaml(text)
    except yaml.YAMLError:
        raise InputError(f"an override's value must be YAML, but got {override!r}") from None
    place_value(content, names, value, repr(override))


def place_value(content: dict[str, Any], names: Sequence[str], value: Any, said: str) -> None:
    """Set the key that `names` lead to in plain values of a study; errors show it as it was `said`."""
    place = content
    for name in names[:-1]:
        inner = place.get(name)
        if name in _SHORT and isinstance(inner, str):
            inner = _SHORT[name](inner)
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise InputError(f"an override must name a key of a section, but {name!r} in {said} holds {inner!r}")
        place[name] = inner
        place = inner
    place[names[-1]] = value
