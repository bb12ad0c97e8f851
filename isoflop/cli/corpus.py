"""Looking into a corpus: `corpus info`, `corpus listen`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isoflop.cli.options import JsonOption, print_json, say, visible

if TYPE_CHECKING:
    from isoflop.tokens.shards import Corpus

app = typer.Typer(help="Look into a corpus of token shards.", no_args_is_help=True)

CorpusArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A corpus, as in studies/demo/corpus.")]

#: Documents that are shown, and failures.
_EXAMPLES = 3
_FAILURES = 10


@app.command(epilog="Example: isoflop corpus info studies/demo/corpus")
def info(directory: CorpusArgument, as_json: JsonOption = False) -> None:
    """Show what a corpus holds: hours, tokens by type and source, unique tokens, what failed, examples as text."""
    from isoflop.tokens.shards import Corpus

    corpus = Corpus.open(directory)
    index = corpus.index
    examples = [{"id": name, "text": said} for name, said in islice(_said(corpus), _EXAMPLES)]
    if as_json:
        shown = (
            "fingerprint",
            "unique_tokens",
            "frame_rate",
            "token_types",
            "layout",
            "composition",
            "splits",
            "sources",
        )
        facts: dict[str, Any] = {name: index[name] for name in shown}
        made = {name: index[name] for name in ("codec", "text", "failed") if name in index}
        print_json({"vocabulary": corpus.vocabulary, "digest": corpus.digest, **facts, **made, "examples": examples})
        return
    typer.echo(
        f"{directory}: {corpus.fingerprint}, vocabulary of {corpus.vocabulary:,}, {corpus.unique_tokens:,} unique "
        f"training tokens, each document in {' and '.join(index['composition']['orders'])}"
    )
    for split, counts in index["splits"].items():
        typer.echo(f"{split}: {_counted(counts)}")
        if len(corpus.sources) > 1:
            for source, by_split in corpus.sources.items():
                typer.echo(f"  {source}: {_counted(by_split[split])}")
    for failure in index["failed"][:_FAILURES]:
        typer.echo(visible(f"failed: {failure['id']}: {failure['reason']}"))
    if len(index["failed"]) > _FAILURES:
        typer.echo(f"failed: {len(index['failed']) - _FAILURES:,} more; --json names them all")
    for example in examples:
        typer.echo(visible(f"{example['id']}: {' / '.join(example['text'])}"))


def _counted(counts: dict[str, Any]) -> str:
    return (
        f"{counts['tokens']:,} tokens ({by_kind(counts['tokens_by_type'])}) in {counts['documents']:,} documents, "
        f"{counts['utterances']:,} utterances, {counts['seconds'] / 3600:.2f} hours"
    )


def by_kind(by_type: dict[str, int]) -> str:
    """Counts of tokens by type for a person: acoustic codebooks together."""
    acoustic = [count for name, count in by_type.items() if name.startswith("acoustic_")]
    others = [f"{count:,} {name}" for name, count in by_type.items() if not name.startswith("acoustic_")]
    return ", ".join([*others, f"{sum(acoustic):,} acoustic of {len(acoustic)} codebooks"] if acoustic else others)


def _said(corpus: Corpus) -> Any:
    """Name and texts of held-out documents that have text."""
    from isoflop.tokens.stream import split
    from isoflop.tokens.tokenizers import open_tokenizer

    if not corpus.index["composition"]["text"]:
        return
    tokenizer = open_tokenizer(corpus.directory)
    if tokenizer.entries != corpus.layout.text_entries:
        return  # not the one that it was made with: it did not come with one
    for name, ids in corpus.documents("validation"):
        texts = [utterance.text for utterance in split(ids, corpus.layout)]
        yield name, [tokenizer.decode(text) for text in texts if text is not None]


@app.command(epilog="Example: isoflop corpus listen studies/demo/corpus 17 --out 17.wav")
def listen(
    directory: CorpusArgument,
    document: Annotated[str, typer.Argument(metavar="ID", help="A document's id, or the number of a held-out one.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The wav file to write.")] = Path("document.wav"),
    as_json: JsonOption = False,
) -> None:
    """Decode a document of a corpus to a wav file, and print what it says."""
    from isoflop.tokens import listening
    from isoflop.tokens.shards import Corpus

    corpus = Corpus.open(directory)
    heard = listening.listen(corpus, *corpus.named(document))
    listening.write_wav(out, heard.wave, heard.rate)
    seconds = len(heard.wave) / heard.rate
    if as_json:
        print_json({"wav": out, "seconds": seconds, "rate": heard.rate, "text": list(heard.text)})
    else:
        typer.echo(visible("\n".join(heard.text)))
        say(f"wrote {out}: {seconds:.1f} s")
