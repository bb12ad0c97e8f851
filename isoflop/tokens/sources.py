"""Where speech and text come from: manifests, folders, datasets on disk, and text alone; all become lists of clips.

::

    read("speech.csv")      a manifest (csv, jsonl, parquet): a row a clip
    read("recordings/")     a folder of audio; what is said lies beside each file as .txt, .srt or .vtt
    read("dataset/")        a dataset saved by Hugging Face's `datasets`
    read("articles.txt")    text alone: paragraphs, or "text" of the lines of a .jsonl without "path"

Columns of a manifest: ``path``, and where known ``text, speaker, language, id, start, end`` (seconds); of other names
if `columns` says so. Every reader returns the clips that can be used, in order, and those that cannot, each with its
reason. None opens an audio file: `isoflop.tokens.audio` does.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.arrow import dataset_files, dataset_rows
from isoflop.tokens.clips import Clip, Rejected

__all__ = ["COLUMNS", "Clip", "Rejected", "read", "read_datasets", "read_folder", "read_manifest", "read_texts"]

Found = tuple[list[Clip], list[Rejected]]

#: What a manifest may say of a clip.
COLUMNS = ("path", "text", "speaker", "language", "id", "start", "end")
AUDIO_SUFFIXES = frozenset(
    [
        ".wav",
        ".flac",
        ".mp3",
        ".ogg",
        ".oga",
        ".opus",
        ".g722",
        ".m4a",
        ".mp4",
        ".aac",
        ".webm",
        ".aiff",
        ".aif",
        ".caf",
    ]
)
MANIFEST_SUFFIXES = frozenset([".csv", ".tsv", ".jsonl", ".parquet"])
LONGEST_ID = 500

#: One cue of SubRip or WebVTT: from, to, and lines up to an empty one.
_TIME = r"((?:\d+:)?\d{1,2}:\d{2}[.,]\d{3})"
_CUE = re.compile(rf"^[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}[^\n]*((?:\n[ \t]*[^\s][^\n]*)*)", re.MULTILINE)


def read(path: Path, columns: Mapping[str, str] | None = None, root: Path | None = None) -> Found:
    """The clips of any source, by what `path` is.

    Parameters
    ----------
    path
        A manifest, a folder of audio, a dataset on disk, or text.
    columns
        The source's own names of `COLUMNS`, by these names.
    root
        The folder that a manifest's paths start from and may not leave; default its own.

    Raises
    ------
    InputError
        If nothing is there, or it is none of these.
    CorruptFileError
        If it cannot be read as a whole.
    """
    if path.is_dir():
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")) or _has_parquet_alone(path):
            return read_datasets(path, columns)
        return read_folder(path)
    if path.suffix.lower() == ".txt" or (path.suffix.lower() == ".jsonl" and _is_text_alone(path, columns or {})):
        return read_texts(path, columns)
    return read_manifest(path, columns, root)


def read_manifest(path: Path, columns: Mapping[str, str] | None = None, root: Path | None = None) -> Found:
    """The clips of a table; see `read`."""
    names = _names(columns or {})
    root = (root or path.parent).resolve()
    # Rows of a .jsonl may each leave out what they do not know.
    wanted = [names["path"], *((columns or {}).values() if path.suffix.lower() != ".jsonl" else [])]
    found: list[Clip | Rejected] = []
    for number, row in enumerate(_rows(path, list(names.values())), start=1):
        if isinstance(row, str):
            found.append(Rejected(f"{path.name}:{number}", row))
            continue
        lacking = [name for name in wanted if name not in row]
        if lacking and not found:
            raise InputError(f"{path} must have a column {lacking[0]!r}, but has {', '.join(map(_shown, row))}")
        values = {ours: row.get(theirs) for ours, theirs in names.items()}
        found.append(_clip(values, f"{path.name}:{number}", path.stem, root))
    return _distinct(found)


def read_folder(folder: Path) -> Found:
    """The audio files in a folder and those below it, in alphabetical order, each with what is beside it.

    ``speech.txt`` beside ``speech.wav`` is what is said in it; ``speech.srt`` or ``.vtt`` cuts it into utterances. A
    folder below `folder` is the speaker's name where there is one.
    """
    if not folder.is_dir():
        raise InputError(f"a source must be a folder of audio, but {folder} is not")
    found: list[Clip | Rejected] = []
    inside = folder.resolve()
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES):
        name = path.relative_to(folder)
        speaker = name.parts[0] if len(name.parts) > 1 else ""
        if not path.resolve().is_relative_to(inside) or not path.is_file():
            found.append(Rejected(str(name), f"a file must lie in {folder}, but {name} does not"))
            continue
        clip = Clip(str(name.with_suffix("")), path, None, speaker, source=folder.resolve().name)
        found += _with_text(clip, path, inside)
    if not found:
        raise InputError(f"a folder of audio must hold such files, but {folder} holds none")
    return _distinct(found)


def read_datasets(folder: Path, columns: Mapping[str, str] | None = None) -> Found:
    """The clips of a dataset on disk, all its splits; ``path`` is not used, since rows hold their audio."""
    names = {ours: theirs for ours, theirs in _names(columns or {}).items() if ours != "path"}
    found: list[Clip | Rejected] = []
    number = 0
    for file in dataset_files(folder):
        for row, values in enumerate(dataset_rows(file, list(names.values()))):
            number += 1
            clip = _clip(
                {ours: values.get(theirs) for ours, theirs in names.items()}, f"{folder.name}:{number}", folder.name
            )
            found.append(replace(clip, path=file, row=row) if isinstance(clip, Clip) else clip)
    return _distinct(found)


def read_texts(path: Path, columns: Mapping[str, str] | None = None) -> Found:
    """Text alone: the paragraphs of a .txt, the lines of a .jsonl, or of all such files in a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [file for file in files if file.suffix.lower() in (".txt", ".jsonl") and file.is_file()]
    if not files:
        raise InputError(f"text must be a .txt, a .jsonl or a folder of these, but {path} is not")
    names = _names(columns or {})
    base = path if path.is_dir() else path.parent
    return _distinct(chain.from_iterable(_texts(file, str(file.relative_to(base)), path.stem, names) for file in files))


def _texts(file: Path, name: str, source: str, names: Mapping[str, str]) -> Iterator[Clip | Rejected]:
    if file.suffix.lower() == ".txt":
        text = _decoded(file.read_bytes())
        if text is None:
            yield Rejected(name, "text must be UTF-8, but is not")
            return
        for number, paragraph in enumerate(re.split(r"\n[ \t]*(?:\n[ \t]*)+", text.strip()), start=1):
            yield Clip(f"{name}:{number}", text=paragraph.strip(), source=source)
        return
    for number, row in enumerate(_rows(file, list(names.values())), start=1):
        label = f"{name}:{number}"
        if isinstance(row, str):
            yield Rejected(label, row)
            continue
        if row.get(names["path"]):
            yield Rejected(label, "a line must name audio only where the first one does, but this one alone does")
            continue
        values = {ours: row.get(theirs) for ours, theirs in names.items() if ours not in ("path", "start", "end")}
        clip = _clip(values, label, source)
        yield (
            Rejected(clip.id, "text must be given, but is missing")
            if isinstance(clip, Clip) and not clip.text
            else clip
        )


def _clip(values: Mapping[str, Any], label: str, source: str, root: Path | None = None) -> Clip | Rejected:
    """A clip of the values of one row; `label` names it where it has no id, `root` is where its path starts."""
    try:
        strings = {name: _string(name, values.get(name)) for name in ("path", "text", "speaker", "language", "id")}
        start, end = _seconds("start", values.get("start")) or 0.0, _seconds("end", values.get("end"))
        name = strings["id"] or label
        if root is not None:
            path = _located(strings["path"], root)
            whole = values.get("start") in (None, "") and end is None
            name = strings["id"] or (str(Path(strings["path"]).with_suffix("")) + ("" if whole else f"@{start:g}"))
        if end is not None and not start < end:
            raise InputError(f"0 <= start < end must hold, but got {start:g} and {end:g}")
    except InputError as error:
        return Rejected(_shown(values.get("id")) or label, str(error))
    return Clip(
        name,
        path if root is not None else None,
        strings["text"] or None,
        strings["speaker"],
        strings["language"],
        start,
        end,
        source,
    )


def _string(name: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | dict | bool | bytes):
        raise InputError(f"{name} must be text, but is {_shown(value)}")
    text = str(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} must be UTF-8, but is {_shown(text)}") from None
    return text


def _shown(value: Any) -> str:
    """A value as a message or a terminal can hold it."""
    text = str(value).strip()[:80] if value is not None else ""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _seconds(name: str, value: Any) -> float | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be seconds, but is {_shown(value)!r}") from None
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"{name} must be seconds from 0, but is {seconds}")
    return seconds


def _located(path: str, root: Path) -> Path:
    if not path or "\0" in path:
        raise InputError("path must be given, but is missing")
    located = (root / path).resolve()
    if not located.is_relative_to(root):
        raise InputError(f"path must lie in {root}, but is {path!r}; give its folder as the root")
    if not located.is_file():
        raise InputError(f"path must be a file, but {path!r} is not one in {root}")
    return located


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any] | str]:
    """The rows of a table, as they are; a string says why one is none."""
    kind = path.suffix.lower()
    if kind not in MANIFEST_SUFFIXES or not path.is_file():
        kinds = ", ".join(sorted(MANIFEST_SUFFIXES))
        raise InputError(f"a source must be a file {kinds} or .txt, or a folder, but got {path}")
    if kind == ".parquet":
        yield from _parquet_rows(path, columns)
    elif kind == ".jsonl":
        with path.open("rb") as file:
            yield from (_json_row(line) for line in file if line.strip())
    else:
        # What is no UTF-8 survives as lone surrogates, which the reading of a value then refuses in that row alone.
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
        try:
            reader = csv.DictReader(
                io.StringIO(text, newline=""),
                delimiter="\t" if kind == ".tsv" else ",",
                strict=True,
                skipinitialspace=True,
            )
            for row in reader:
                # What a transcript's unquoted comma cuts off, the reader keeps under None.
                more = None in row
                yield (
                    f"a row must have as many values as the header has names, {len(row) - 1}, but has more"
                    if more
                    else row
                )
        except csv.Error as error:
            raise CorruptFileError(f"{path} must be a table, but line {reader.line_num}: {error}") from error


def _json_row(line: bytes) -> dict[str, Any] | str:
    text = _decoded(line)
    if text is None:
        return "a line must be UTF-8, but is not"
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"a line must be JSON, but: {error}"
    return row if isinstance(row, dict) else f"a line must be a JSON object, but is {text.strip()[:40]}"


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            kept = [name for name in columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=kept):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise CorruptFileError(f"{path} must be a Parquet table, but: {error}") from error


def _with_text(clip: Clip, path: Path, root: Path) -> Iterable[Clip | Rejected]:
    """The clip with the text beside it, or its utterances where that has times; of `root` as the audio is."""
    for suffix in (".srt", ".vtt", ".txt"):
        beside = path.with_suffix(suffix)
        if not beside.is_file():
            continue
        if not beside.resolve().is_relative_to(root):
            return [Rejected(clip.id, f"text must lie in {root}, but {beside.name} does not")]
        text = _decoded(beside.read_bytes())
        if text is None:
            return [Rejected(clip.id, f"text must be UTF-8, but {beside.name} is not")]
        if suffix == ".txt":
            return [replace(clip, text=text.strip() or None)]
        cues = [
            replace(
                clip,
                id=f"{clip.id}@{_clock(start):g}",
                text=" ".join(said.split()),
                start=_clock(start),
                end=_clock(end),
            )
            for start, end, said in _CUE.findall(text.replace("\r\n", "\n"))
            if said.strip()
        ]
        return cues or [Rejected(clip.id, f"{beside.name} must hold an utterance with its times, but holds none")]
    return [clip]


def _clock(time: str) -> float:
    seconds = 0.0
    for part in time.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _names(columns: Mapping[str, str]) -> dict[str, str]:
    """Our columns' names in the source."""
    for name in columns:
        if name not in COLUMNS:
            raise InputError(f"a column must be one of {', '.join(COLUMNS)}, but got {name!r}")
    return {name: columns.get(name, name) for name in COLUMNS}


def _distinct(found: Iterable[Clip | Rejected]) -> Found:
    """Clips and the rejected apart; of clips with one id, the first stays, and none whose id cannot be shown."""
    clips: dict[str, Clip] = {}
    rejected = []
    for item in found:
        if isinstance(item, Rejected):
            rejected.append(item)
        elif not item.id.isprintable() or len(item.id) > LONGEST_ID:
            reason = f"an id must be printable and of at most {LONGEST_ID} characters, but is {item.id[:40]!r}"
            rejected.append(Rejected(_shown(item.id), reason))
        elif item.id in clips:
            rejected.append(Rejected(item.id, "ids must be distinct, but this one was there before"))
        else:
            clips[item.id] = item
    return list(clips.values()), rejected


def _decoded(content: bytes) -> str | None:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _has_parquet_alone(folder: Path) -> bool:
    suffixes = {path.suffix.lower() for path in folder.rglob("*")}
    return ".parquet" in suffixes and not suffixes & AUDIO_SUFFIXES


def _is_text_alone(path: Path, columns: Mapping[str, str]) -> bool:
    """Whether the first row of a .jsonl names no audio."""
    names = _names(columns)
    first = next((row for row in _rows(path, list(names.values())) if isinstance(row, dict)), {})
    return names["path"] not in first and names["text"] in first
