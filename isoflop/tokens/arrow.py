"""Datasets on disk, as Hugging Face's `datasets` saves them: `save_to_disk` folders, and folders of Parquet files.

Audio is a column of structs, ``{bytes, path}``; what else is known lies in columns beside it. pyarrow alone reads both.
A clip names its file and row, and its audio is read only when it is wanted.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from isoflop.errors import CorruptFileError, InputError
from isoflop.store import read_json

#: What `save_to_disk` leaves in a folder with splits, and in that of each split.
_SPLITS, _STATE = "dataset_dict.json", "state.json"


def dataset_files(folder: Path) -> list[Path]:
    """The files that hold the rows of a dataset on disk, in its order.

    Raises
    ------
    InputError
        If the folder holds no dataset.
    CorruptFileError
        If it names files that are not in it.
    """
    if (folder / _SPLITS).is_file():
        return [file for split in _names(folder / _SPLITS, "splits") for file in dataset_files(folder / split)]
    if (folder / _STATE).is_file():
        files = [folder / name for name in _names(folder / _STATE, "_data_files")]
    else:
        files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise InputError(f"a dataset must be a folder with {_STATE}, {_SPLITS} or *.parquet, but {folder} has none")
    return files


def dataset_rows(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The named columns of every row of one file of a dataset, those that it has.

    Raises
    ------
    CorruptFileError
        If the file cannot be read, or has no column of audio.
    """
    import pyarrow as pa

    try:
        names = _schema(file).names
        audio_column(file)
        kept = [name for name in columns if name in names]
        for batch in _batches(file, kept):
            yield from batch.to_pylist() if kept else [{}] * batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise CorruptFileError(f"{file} must hold a dataset, but: {error}") from error


def audio_column(file: Path) -> str:
    """The first column of a dataset's file that is audio; `CorruptFileError` if none is."""
    import pyarrow as pa

    for field in _schema(file):
        if pa.types.is_struct(field.type) and {"bytes", "path"} <= {part.name for part in field.type}:
            return str(field.name)
    raise CorruptFileError(
        f"{file} must have a column of audio (bytes, path), but has {', '.join(_schema(file).names)}"
    )


def embedded_audio(file: Path, row: int) -> bytes:
    """What the audio file in a row holds, be it kept in the row or beside the dataset.

    Raises
    ------
    CorruptFileError
        If the file cannot be read, or the row has neither.
    """
    import pyarrow as pa

    try:
        audio = _audio(file, file.stat().st_mtime_ns, row)
        if audio is not None and audio["bytes"] is not None:
            return bytes(audio["bytes"])
        beside = file.parent / audio["path"] if audio is not None and audio["path"] else None
        if beside is not None and beside.resolve().is_relative_to(file.parent.resolve()):
            content: bytes = beside.read_bytes()
            return content
    except (OSError, pa.ArrowException) as error:
        raise CorruptFileError(f"{file} must hold audio in row {row}, but: {error}") from error
    raise CorruptFileError(f"{file} must hold audio in row {row}, but names {beside}")


def _audio(file: Path, modified: int, row: int) -> dict[str, Any] | None:
    import pyarrow.parquet as pq

    column = audio_column(file)
    if file.suffix != ".parquet":
        found = _mapped(file, modified).column(column)[row].as_py()
    else:
        metadata = pq.read_metadata(file)
        group = 0
        while row >= metadata.row_group(group).num_rows:
            row -= metadata.row_group(group).num_rows
            group += 1
        found = _group(file, modified, group).column(column)[row].as_py()
    return dict(found) if found is not None else None


@functools.lru_cache(maxsize=8)
def _mapped(file: Path, modified: int) -> Any:
    """The table of an Arrow file, its content left on disk until it is read."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()


@functools.lru_cache(maxsize=2)
def _group(file: Path, modified: int, group: int) -> Any:
    """One row group of a Parquet file, which is the least that can be read of it."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        return opened.read_row_group(group, columns=[audio_column(file)])


def _schema(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        return pq.read_schema(file)
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_stream(source).schema


def _batches(file: Path, columns: list[str]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as opened:
            yield from opened.iter_batches(columns=columns)
        return
    with pa.memory_map(str(file)) as source:
        for batch in pa.ipc.open_stream(source):
            yield batch.select(columns)


def _names(path: Path, key: str) -> list[str]:
    """Names of files or folders in a dataset's record, each plainly in the record's folder."""
    entries = read_json(path).get(key)
    names = [entry.get("filename") if isinstance(entry, dict) else entry for entry in entries or []]
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (path.parent / name).exists():
            raise CorruptFileError(f"{path} must name what is beside it, but {key} has {name!r}")
    return [str(name) for name in names]
