"""Pages of the site that the code itself writes: verbs and options, keys of files, published laws.

A hook of mkdocs: it adds the pages when the site is built, so they cannot differ from what is installed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any, Literal, get_args, get_origin

import typer.main
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from isoflop.cli import app
from isoflop.launching.profiles import LocalProfile, SlurmProfile
from isoflop.planning.recipes import RECIPES
from isoflop.study import Study


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the site's files."""
    pages = {"cli": cli_page(), "study": study_page(), "launcher": launcher_page(), "laws": laws_page()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def cli_page() -> str:
    """Every verb with its arguments, options and example."""
    lines = [
        "# Command line",
        "",
        "Results go to standard output (with `--json`, one JSON document), messages and progress to standard error. "
        "Exit codes: 0 done, or done but for things it names; 1 it tried and could not, and says why; 2 the call was "
        "wrong, and it says the rule and the value; 130 stopped by Ctrl-C.",
        "",
    ]
    for name, command in _commands(typer.main.get_command(app), "isoflop"):
        usage = " ".join(part for part in (name, *map(_argument, _parameters(command, "argument"))) if part)
        example = re.sub(r"\s+", " ", command.epilog or "").removeprefix("Example: ")
        lines += [f"## {name}", "", f"`{usage} [OPTIONS]`", "", _prose(command.help), ""]
        rows = [(f"`{_argument(each)}`", _prose(each.help)) for each in _parameters(command, "argument")]
        rows += [(f"`{_option(each)}`", _help(each)) for each in _parameters(command, "option")]
        lines += [*_table(("option", "what it says"), rows), "", "```", example, "```", ""]
    return "\n".join(lines)


def study_page() -> str:
    """The keys of a study file, a table for each section."""
    lines = [
        "# Study file",
        "",
        "What `isoflop plan`, `run` and `submit` read. Every key but those marked *needed* may be left out; an unknown "
        "one is refused with the nearest right one. Numbers may be written as `3e18`. `--set KEY.KEY=VALUE` replaces a "
        "value on the command line. `isoflop init DIR` writes a commented file to start from.",
        "",
        *_sections(Study, ""),
        "## Recipes",
        "",
        "What a key of `recipe` is where the study does not say: the constants of the named recipe. A 0 stands where "
        "another rule holds; [`Recipe`](rooms.md#isoflop.planning.recipe.Recipe) says which.",
        "",
    ]
    names = [
        name for name in next(iter(RECIPES.values())).__dataclass_fields__ if name not in {"name", "ladder", "walk"}
    ]
    rows = [(f"`{name}`", *(_value(getattr(each, name)) for each in RECIPES.values())) for name in names]
    return "\n".join(lines + _table(("constant", *(f"`{name}`" for name in RECIPES)), rows) + [""])


def launcher_page() -> str:
    """The keys of a launcher profile."""
    lines = [
        "# Launcher profile",
        "",
        "Where runs execute: `--launcher FILE`. `launchers/` has examples to copy; "
        "[My cluster](../how-to/cluster.md) says how to make one's own.",
        "",
        "## On this machine",
        "",
        *_keys(LocalProfile),
        "## On a SLURM cluster",
        "",
        *_sections(SlurmProfile, "", level=3),
    ]
    return "\n".join(lines)


def laws_page() -> str:
    """The published laws, as `--law`, `grid.prior` and `--against` take them; and accelerators."""
    data = files("isoflop") / "data"
    lines = ["# Published laws and accelerators", "", "## Laws", ""]
    for path in sorted((data / "laws").iterdir(), key=lambda each: each.name):
        law = yaml.safe_load(path.read_text(encoding="utf-8"))
        said = [f"{name} = {value}" for name, value in law.get("surface", {}).items()]
        line = ", ".join(f"{name} {value}" for name, value in law.get("line", {}).items())
        lines += [f"### {path.name.removesuffix('.yaml')}", "", f"{law['title']}. {law['source']}.", ""]
        lines += [f"L = E + A/N^α + B/D^β with {', '.join(said)}.", ""] if said else []
        lines += [f"The optimum's line: {line}.", ""] if line else []
        lines += [
            f"N is {law['params'].replace('_', ' ')} parameters, C is {law['flops']}. {law.get('note', '').strip()}",
            "",
        ]
    accelerators = yaml.safe_load((data / "accelerators.yaml").read_text(encoding="utf-8"))
    rows = [
        (f"`{name}`", each["title"], _value(each["memory_gib"]), f"{float(each['bf16']) / 1e12:g}", str(each["mfu"]))
        for name, each in accelerators.items()
    ]
    header = ("name", "what it is", "memory, GiB", "bf16 peak, TFLOP/s", "assumed MFU")
    return "\n".join([*lines, "## Accelerators", "", *_table(header, rows), ""])


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for verb, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from _commands(inner, f"{name} {verb}")
        else:
            yield f"{name} {verb}", inner


def _parameters(command: Any, kind: str) -> list[Any]:
    return [each for each in command.params if each.param_type_name == kind]


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _option(parameter: Any) -> str:
    flags = ", ".join(sorted(parameter.opts, key=len))
    return flags if parameter.is_flag else f"{flags} {parameter.metavar or parameter.name.upper()}"


def _help(parameter: Any) -> str:
    """What it says, whether it is needed, and the default, where the help does not name it itself."""
    said = _prose(parameter.help)
    if parameter.required:
        return f"*Needed.* {said}"
    shown = parameter.default is not None and not parameter.is_flag and "[default" not in (parameter.help or "")
    return f"{said} \\[default: {parameter.default}\\]" if shown else said


def _sections(model: type[BaseModel], path: str, level: int = 2) -> Iterator[str]:
    """A heading and a table for `model` and, after it, for every section within."""
    if path:
        yield from (f"{'#' * level} {path}", "", _prose(inspect.getdoc(model)), "")
    yield from _keys(model)
    for name, field in model.model_fields.items():
        for inner in _models(field):
            repeated = "[]" if "tuple" in str(field.annotation) else ""
            yield from _sections(inner, f"{path}.{name}{repeated}".removeprefix("."), level)


def _keys(model: type[BaseModel]) -> Iterator[str]:
    rows = [
        (f"`{name}`", _default(field), _prose(field.description) + _choices(field))
        for name, field in model.model_fields.items()
    ]
    yield from (*_table(("key", "default", "what it says"), rows), "")


def _models(field: FieldInfo) -> Iterator[type[BaseModel]]:
    pending = [field.annotation]
    while pending:
        kind = pending.pop()
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            yield kind
        pending += get_args(kind)


def _choices(field: FieldInfo) -> str:
    """The words that the key may be, where these are few."""
    kinds = (field.annotation, *get_args(field.annotation))
    words = [str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    return f" ({', '.join(f'`{word}`' for word in words)})" if len(words) > 1 else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*needed*"
    if any(_models(field)):
        return "" if field.default is None else "…"
    return _value(field.default)


def _value(value: Any) -> str:
    if value is None or value in ("", (), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    escaped = (tuple(cell.replace("|", "\\|") for cell in row) for row in rows)
    return [_row(header), _row("---" for _ in header), *map(_row, escaped)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _prose(text: str | None) -> str:
    """Text as markdown: nothing in it is markup."""
    plain = " ".join((text or "").split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([*_{}\[\]])", r"\\\1", plain)
