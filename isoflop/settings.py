"""Files that people write, read strictly: numbers as people write them, and every broken rule with its value.

The study file and launcher profiles are made of `Section`: frozen, no unknown keys. Numbers may be written as
``3e18``, which YAML itself reads as text. No key may stand twice, of which YAML would silently take the last.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

#: Values that a file may hold, aliases written out: one that names itself often enough would hold as many as it likes.
_MOST_VALUES = 1_000_000


class _Loader(yaml.SafeLoader):
    """YAML's plain values, with every key of a section once."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"found the key {key.value!r} twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return node


def read_yaml(text: str) -> Any:
    """The plain values of YAML that a person wrote.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML, a key stands twice, or it holds what cannot be read: no date, too long a number, or sections
        nested or repeated without end.
    """
    loader = _Loader(text)
    try:
        value = loader.get_single_data()
        _count(value, _MOST_VALUES)
    except RecursionError:
        raise yaml.YAMLError("sections nested too deep") from None
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()
    return value


def _count(value: Any, left: int) -> int:
    """How many of `left` values remain; `YAMLError` where `value` and those in it are more."""
    if left <= 0:
        raise yaml.YAMLError(f"more than {_MOST_VALUES:,} values, aliases written out")
    left -= 1
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        left = _count(inner, left)
    return left


def _number(value: Any) -> Any:
    """Read ``3e18`` and ``2.5e10``, which PyYAML leaves as text, as numbers; leave the rest to pydantic."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError("must be a number") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be finite")
    return value


def _whole(value: Any) -> Any:
    value = _number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _size(value: Any) -> Any:
    """A width as a number, as anywhere; a name as it stands."""
    try:
        return _whole(value)
    except ValueError:
        return value


#: A number that PyYAML leaves as text.
_POWER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def with_powers(value: Any) -> Any:
    """`value`, and ``3e-4`` as a number where what may stand there is not known."""
    return float(value) if isinstance(value, str) and _POWER.fullmatch(value) else value


def _plain(value: Any) -> Any:
    """Read ``3e-4`` as a number here too, and refuse what is none of numbers, text, true and false."""
    value = with_powers(value)
    if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"must be a finite number, text, true or false, but got {value!r}")
    return value


def _option_name(value: Any) -> Any:
    if not isinstance(value, str) or not (value.isascii() and value.isidentifier()):
        raise ValueError(f"names must be letters, digits and '_', but got {value!r}")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
#: A model size: its width, or its name in a ladder.
SizeName = Annotated[int | str, BeforeValidator(_size)]
#: What a section passes on to code that is not ours: plain values by name.
Options = dict[
    Annotated[str, BeforeValidator(_option_name)], Annotated[bool | int | float | str, BeforeValidator(_plain)]
]


#: Where a run's metrics go, beside its metrics.csv; one word or several.
Loggers = Annotated[
    tuple[Literal["csv", "tensorboard", "wandb"], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]


class Section(BaseModel):
    """A part of a settings file: frozen, and no key but those named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """Every broken rule of a pydantic error, each with where it is and the value that broke it."""
    return "; ".join(_sentence(item, root) for item in error.errors())


def _sentence(item: Any, root: type[BaseModel]) -> str:
    """One sentence of a pydantic error: where, the rule, the value."""
    location = ".".join(str(part) for part in item["loc"]) or "the study"
    if item["type"] == "extra_forbidden":
        known = list(_section_at(root, item["loc"][:-1]).model_fields)
        nearest = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
        return f"keys must be known, but got {location!r}; {hint}"
    if item["type"] == "missing":
        return f"{location} must be given, but is missing"
    message = item["msg"].removeprefix("Value error, ")
    if "but got" in message:
        return f"{location}: {message}"
    rule = _RULES[item["type"]].format(**item.get("ctx", {})) if item["type"] in _RULES else message
    return f"{location} {rule}, but got {item['input']!r}"


#: pydantic's error types in this project's words: the rule, to which the value is added.
_RULES = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a section with keys",
    "too_short": "must have {min_length} or more valid entries",
    "model_type": "must be a section with keys",
    "model_attributes_type": "must be a section with keys",
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "literal_error": "must be {expected}",
}


def _section_at(root: type[BaseModel], location: tuple[Any, ...]) -> type[BaseModel]:
    """The section at `location`; entries of lists and of dicts stand for what they hold."""
    section = root
    for name in location:
        if name in section.model_fields:
            section = _section_in(section.model_fields[name].annotation) or section
    return section


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_section_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((section for section in inner if section is not None), None)
