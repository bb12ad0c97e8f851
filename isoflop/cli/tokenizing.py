"""From audio and transcripts to a corpus: `tokenize`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from isoflop.cli.corpus import by_kind
from isoflop.cli.counting import counting
from isoflop.cli.options import STOPPED, JsonOption, print_json, say
from isoflop.errors import InputError
from isoflop.names import validated_name

if TYPE_CHECKING:
    from isoflop.launching.corpora import Tasks
    from isoflop.tokens.clips import Clip, Rejected
    from isoflop.tokens.tokenization import Outcome

#: Failures that are told to a person; the index has them all.
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add this module's verbs to `app`."""
    app.command(epilog="Example: isoflop tokenize speech.csv books=articles.jsonl --codec mimi --out corpora/speech")(
        tokenize
    )


def tokenize(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]SOURCE…",
            help="Manifests (csv, jsonl, parquet: path, text, speaker, language, id, start, end), folders of audio "
            "with their texts, saved datasets, or text alone; NAME is what the source is counted under.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The corpus to make, or to carry on making.")],
    codec: Annotated[str, typer.Option("--codec", help="mfcc, mimi, encodec, encodec+hubert.")] = "mfcc",
    codec_set: Annotated[
        list[str] | None,
        typer.Option("--codec-set", metavar="KEY=VALUE", help="What the codec is loaded or fitted with: weights=DIR."),
    ] = None,
    text: Annotated[str, typer.Option("--text", help="characters, bytes, bpe.")] = "characters",
    text_file: Annotated[
        Path | None, typer.Option("--text-file", metavar="FILE", help="A tokenizer.json.  [default: fitted]")
    ] = None,
    text_entries: Annotated[int, typer.Option("--text-entries", help="Entries of a BPE that is fitted.")] = 1024,
    bos: Annotated[int | None, typer.Option("--bos", help="The text's own BOS id.  [default: one is added]")] = None,
    eos: Annotated[int | None, typer.Option("--eos", help="The text's own EOS id.  [default: one is added]")] = None,
    composition: Annotated[
        str, typer.Option("--composition", help="semantic, semantic+acoustic, semantic+acoustic+text.")
    ] = "semantic+acoustic+text",
    codebooks: Annotated[int | None, typer.Option("--codebooks", help="Leading codebooks to keep.")] = None,
    order: Annotated[str, typer.Option("--order", help="text_first, audio_first, both.")] = "both",
    holdout: Annotated[float, typer.Option("--holdout", help="Share of documents held out for validation.")] = 0.05,
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="NAME=COLUMN,…", help='Name foreign columns: text=transcript,path="Audio".'),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", metavar="DIR", help="Where a manifest's paths start.  [default: beside it]"),
    ] = None,
    loudness: Annotated[float | None, typer.Option("--loudness", help="LUFS to bring clips to.")] = None,
    silence: Annotated[float | None, typer.Option("--silence", help="Seconds of silence to leave at the ends.")] = None,
    longest: Annotated[float, typer.Option("--longest", help="Seconds that a clip may last.")] = 120.0,
    channel: Annotated[
        int | None, typer.Option("--channel", help="Channel to take, from 0.  [default: mean of two]")
    ] = None,
    clips_per_shard: Annotated[int, typer.Option("--clips-per-shard", help="Clips of a shard.")] = 500,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes.  [default: one a core]")] = None,
    launcher: Annotated[
        Path | None,
        typer.Option("--launcher", metavar="FILE", help="A launcher profile: a cluster's submits and leaves."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first clip that cannot be used.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Turn speech and text into a corpus of token shards.

    Killed at any moment, it carries on when it is called again; called on many machines, they share the work. With a
    cluster's profile it fits the codec, puts tasks into the queue and leaves.
    """
    from isoflop.launching import cluster, corpora
    from isoflop.launching.profiles import LocalProfile, load_profile
    from isoflop.tokens.job import Options
    from isoflop.tokens.preparation import Preparation
    from isoflop.tokens.tokenization import begin, look
    from isoflop.tokens.tokenization import tokenize as make

    profile = load_profile(launcher)
    if not isinstance(profile, LocalProfile):
        cluster.require()
    options = Options(
        codec=codec,
        codec_options=_values(codec_set or []),
        text=text,
        text_file=None if text_file is None else str(text_file.resolve()),
        text_entries=text_entries,
        composition=composition,
        order=order,
        codebooks=codebooks,
        bos=bos,
        eos=eos,
        holdout=holdout,
        preparation=Preparation(loudness, silence, longest),
        channel=channel,
        clips_per_shard=clips_per_shard,
        strict=strict,
    )
    clips, rejected = _read(sources, columns, root)
    submitted = None
    try:
        with counting("tokenising") as bar:

            def progress(done: float, total: float, _: str) -> None:
                bar(int(done), int(total))

            if isinstance(profile, LocalProfile):
                processes = workers if workers is not None else profile.processes
                outcome = make(clips, rejected, out, options, workers=processes, progress=progress)
            else:
                begin(clips, rejected, out, options, progress=progress)
                submitted = corpora.submit(out, profile)
                outcome = look(out)
    except KeyboardInterrupt:
        say("stopped; call it again to carry on")
        raise typer.Exit(STOPPED) from None
    for failure in outcome.failed[:_SHOWN]:
        say(f"failed: {failure['id']}: {failure['reason']}")
    if len(outcome.failed) > _SHOWN:
        say(f"failed: {len(outcome.failed) - _SHOWN} more, all named in {out / 'index.json'}")
    if as_json:
        print_json({**outcome.to_json(), "submitted": None if submitted is None else submitted.to_json()})
    else:
        typer.echo(_sentence(outcome) if outcome.corpus or submitted is None else _queued(outcome, submitted))


def _read(sources: list[str], columns: str | None, root: Path | None) -> tuple[list[Clip], list[Rejected]]:
    """The clips of all sources, each under its name, with what cannot be used."""
    from isoflop.tables import parse_columns
    from isoflop.tokens.sources import read

    named = parse_columns(columns)
    clips: list[Clip] = []
    rejected: list[Rejected] = []
    for source in sources:
        name, separator, path = source.partition("=")
        given = bool(separator) and not Path(source).exists()
        found, lost = read(Path(path if given else source), named, root)
        clips += [replace(clip, source=validated_name(name)) for clip in found] if given else found
        rejected += lost
    return clips, rejected


def _values(settings: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as a dict, each value read as YAML."""
    from isoflop.settings import read_yaml

    found = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key:
            raise InputError(f"--codec-set must be KEY=VALUE, but got {setting!r}")
        try:
            found[key] = read_yaml(value)
        except yaml.YAMLError:
            raise InputError(f"--codec-set must have a value that is YAML, but got {setting!r}") from None
        if not isinstance(found[key], str | int | float):
            raise InputError(f"--codec-set must have text or a number as its value, but got {setting!r}")
    return found


def _queued(outcome: Outcome, submitted: Tasks) -> str:
    tasks = f"submitted {submitted.tasks} tasks (job {submitted.job})" if submitted.tasks else "nothing to submit"
    before = f", {submitted.waiting} were in the queue" if submitted.waiting else ""
    return f"{outcome.directory}: {outcome.left} shards are to be made; {tasks}{before}; called again, it tells more"


def _sentence(outcome: Outcome) -> str:
    facts = outcome.to_json()
    if outcome.corpus is None:
        return f"{outcome.directory}: {outcome.left} shards are left to other processes that are at work on them"
    speed = "" if facts["times_real_time"] is None else f", {facts['times_real_time']:,.0f} × real time"
    lost = f"; {len(outcome.failed):,} clips could not be used" if outcome.failed else ""
    held = "" if facts["held_out_tokens"] else "; nothing is held out to validate on (--holdout)"
    return (
        f"{outcome.directory}: {facts['tokenized']:,} clips, {facts['seconds'] / 3600:.2f} hours{speed}, "
        f"{sum(facts['tokens'].values()):,} tokens ({by_kind(facts['tokens'])}){lost}{held}"
    )
