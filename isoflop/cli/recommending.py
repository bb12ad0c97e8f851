"""Advice: `recommend`, from what somebody has to the model to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isoflop.cli.options import JsonOption, print_json
from isoflop.errors import InputError

if TYPE_CHECKING:
    from isoflop.recommendation.ladder import Ladder
    from isoflop.recommendation.resources import Machine
    from isoflop.recommendation.source import Source

_HAVE, _SHAPE, _COMPARE = "What you have", "The shape", "Comparisons"


def register(app: typer.Typer) -> None:
    """Add this module's verb to `app`."""
    app.command(epilog="Example: isoflop recommend --law hoffmann2022 --flops 5.76e23")(recommend)


def _have(name: str, metavar: str, help_: str) -> Any:
    return typer.Option(name, metavar=metavar, help=help_, rich_help_panel=_HAVE)


def recommend(
    law: Annotated[
        str,
        typer.Option("--law", metavar="NAME|FILE|STUDY", help="A published law, a law.json, or a study directory."),
    ],
    flops: Annotated[str | None, _have("--flops", "C", "Training FLOPs.")] = None,
    gpu_hours: Annotated[str | None, _have("--gpu-hours", "H", "Hours of --gpu.")] = None,
    cost: Annotated[str | None, _have("--cost", "X", "Money, with --gpu and --price-per-hour.")] = None,
    days: Annotated[str | None, _have("--days", "D", "Days on --gpus of --gpu.")] = None,
    gpu: Annotated[str | None, _have("--gpu", "NAME", "a100-80, h100, h200, b200, l40s, rtx-4090, cpu.")] = None,
    gpus: Annotated[int | None, _have("--gpus", "K", "How many of them.")] = None,
    mfu: Annotated[float | None, _have("--mfu", "M", "Part of the bf16 peak put to use; default: the GPU's.")] = None,
    price: Annotated[str | None, _have("--price-per-hour", "P", "Of one GPU for an hour, in your currency.")] = None,
    params: Annotated[str | None, _have("--params", "N", "A fixed model size: 1.7B.")] = None,
    tokens: Annotated[str | None, _have("--tokens", "D", "Tokens to train on: 30B.")] = None,
    unique_tokens: Annotated[
        str | None, _have("--unique-tokens", "U", "Distinct tokens there are; more are repetitions.")
    ] = None,
    audio_hours: Annotated[
        str | None, _have("--audio-hours", "T", "The same as hours of audio, with --token-rate.")
    ] = None,
    token_rate: Annotated[str | None, _have("--token-rate", "R", "Tokens a second of audio.")] = None,
    tokens_served: Annotated[
        str | None, _have("--tokens-served", "T", "Tokens to serve over the model's life, with a compute budget.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", metavar="NAME", help="Whose ladder to build on.", rich_help_panel=_SHAPE),
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option("--vocabulary", metavar="V", help="Entries, with --recipe.", rich_help_panel=_SHAPE)
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option("--sequence-length", metavar="S", help="With --recipe.", rich_help_panel=_SHAPE)
    ] = None,
    untied_head: Annotated[
        bool, typer.Option("--untied-head", help="With --recipe: the head has a matrix.", rich_help_panel=_SHAPE)
    ] = False,
    shapes: Annotated[
        str | None,
        typer.Option(
            "--ladder",
            metavar="NAME",
            help="A published ladder in place of the recipe's: soda-suite, chinchilla.",
            rich_help_panel=_SHAPE,
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="C,C,…", help="A row for each budget.", rich_help_panel=_COMPARE),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            metavar="N,N,…",
            help="A row for each model: 135M,1.7B; at the budget, or each at its own optimum.",
            rich_help_panel=_COMPARE,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="NAME,…", help="Ask published laws too.", rich_help_panel=_COMPARE),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend how big a model to train, on how many tokens, for what you have: compute, money, days, data or a size.

    Numbers are plain, with k, M, B or T at most: 1e22, 1.7B, 30B.
    """
    from isoflop.recommendation import comparison
    from isoflop.recommendation import recommend as recommend_for
    from isoflop.recommendation.resources import amount, amounts, tokens_of_audio

    machine = _machine(gpu, gpus, mfu, price)
    budgets = {"--flops": flops, "--gpu-hours": gpu_hours, "--cost": cost, "--days": days, "--table": table}
    budget = _only(budgets, "compute budget")
    _only({"--unique-tokens": unique_tokens, "--audio-hours": audio_hours}, "amount of data")
    _only({"--table": table, "--suite": suite, "--against": against}, "comparison")
    _only({"--params": params, "--suite": suite}, "size")
    if audio_hours is not None and token_rate is None:
        raise InputError(f"--audio-hours must go with --token-rate, but got {audio_hours} alone")
    rate = None if token_rate is None else amount(token_rate, "--token-rate")
    unique = None if unique_tokens is None else amount(unique_tokens, "--unique-tokens")
    if audio_hours is not None and rate is not None:
        unique = tokens_of_audio(amount(audio_hours, "--audio-hours"), rate)
    if (budget, params, tokens, suite, unique) == (None,) * 5:
        known = ", ".join([*budgets, "--params", "--suite", "--tokens", "--unique-tokens", "--audio-hours"])
        raise InputError(f"one of {known} must be given, but got none")
    source, own = _source(law)
    ladder = _ladder(recipe, vocabulary, sequence_length, untied_head)
    if shapes is not None:
        ladder = _on(ladder or own or source.ladder, shapes)
    asked: dict[str, Any] = {
        "params": None if params is None else amount(params, "--params"),
        "tokens": None if tokens is None else amount(tokens, "--tokens"),
        "unique_tokens": unique,
        "tokens_served": None if tokens_served is None else amount(tokens_served, "--tokens-served"),
        "token_rate": rate,
        "ladder": ladder or own,
        "machine": machine,
    }
    compute = None
    if budget is not None and budget != "--table":
        compute = _flops(budget, amount(str(budgets[budget]), budget), machine)
    result: Any
    if table is not None:
        result = comparison.table(source, amounts(table, "--table"), **asked)
    elif suite is not None:
        del asked["params"]
        result = comparison.suite(source, amounts(suite, "--suite"), flops=compute, **asked)
    elif against is not None:
        asked["ladder"] = ladder
        result = comparison.against(source, against.split(","), flops=compute, **asked)
    else:
        result = recommend_for(source, flops=compute, **asked)
    print_json(result.to_json()) if as_json else typer.echo(str(result))


def _only(options: dict[str, str | None], what: str) -> str | None:
    """The name of the option that was given; `InputError` if several were."""
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        values = ", ".join(f"{name} {options[name]}" for name in given)
        raise InputError(f"at most one {what} must be given, but got {values}")
    return given[0] if given else None


def _machine(gpu: str | None, gpus: int | None, mfu: float | None, price: str | None) -> Machine | None:
    from isoflop.recommendation.resources import Machine, amount

    if gpu is None:
        for name, value in (("--gpus", gpus), ("--mfu", mfu), ("--price-per-hour", price)):
            if value is not None:
                raise InputError(f"{name} must go with --gpu, but got {value} alone")
        return None
    return Machine(gpu, gpus, mfu, None if price is None else amount(price, "--price-per-hour"))


def _flops(name: str, value: float, machine: Machine | None) -> float:
    """The budget in training FLOPs."""
    from isoflop.recommendation.resources import flops_of_cost, flops_of_days, flops_of_hours

    if name == "--flops":
        return value
    if machine is None:
        raise InputError(f"{name} must go with --gpu, but got {value:g} alone")
    convert = {"--gpu-hours": flops_of_hours, "--cost": flops_of_cost, "--days": flops_of_days}
    return convert[name](value, machine)


def _source(law: str) -> tuple[Source, Ladder | None]:
    """The law, and the ladder of its study if it is a study directory's."""
    from isoflop.planning.prior import names
    from isoflop.recommendation.source import by_name, fitted

    if law in names():
        return by_name(law), None
    from isoflop import store
    from isoflop.fitting.law import Law

    path = Path(law)
    file = path / "law.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"a law must be a law file (write one: isoflop fit … --out law.json), a study directory with one, or a "
            f"published law ({', '.join(names())}), but got {law!r}"
        )
    return fitted(Law.from_json(store.read_json(file)), str(path)), _studied(path) if path.is_dir() else None


def _studied(directory: Path) -> Ladder | None:
    """The ladder of a study directory; None while it has no runs, which know the vocabulary."""
    from isoflop.interpretation import ladder
    from isoflop.store import StudyDirectory
    from isoflop.study import Study

    place = StudyDirectory(directory)
    return ladder(Study.load(place.study_file), place) if place.study_file.exists() else None


def _on(ladder: Ladder | None, shapes: str) -> Ladder:
    if ladder is None:
        raise InputError(f"--ladder must go with --recipe, for want of a law with one, but got {shapes} alone")
    return ladder.of(shapes)


def _ladder(recipe: str | None, vocabulary: int | None, sequence_length: int | None, untied: bool) -> Ladder | None:
    from isoflop.recommendation.ladder import Ladder

    given = {"--vocabulary": vocabulary, "--sequence-length": sequence_length, "--untied-head": untied or None}
    if recipe is None:
        for name, value in given.items():
            if value is not None:
                raise InputError(f"{name} must go with --recipe, but got {value} alone")
        return None
    if vocabulary is None or sequence_length is None:
        raise InputError(f"--recipe must go with --vocabulary and --sequence-length, but got {recipe} alone")
    return Ladder.named(recipe, vocabulary, sequence_length, tied_head=not untied)
