from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.arrow import embedded_audio
from isoflop.tokens.audio import load
from isoflop.tokens.sources import read, read_datasets


def sound(number: int) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.full(100 + number, number / 100, dtype=np.float32), 8000, format="FLAC")
    return content.getvalue()


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Eleven rows as Hugging Face's own library makes them."""
    import datasets

    datasets.disable_progress_bars()
    columns = {
        "audio": [{"bytes": sound(number), "path": f"{number}.flac"} for number in range(11)],
        "sentence": [f"Number {number}." for number in range(11)],
        "speaker_id": [7] * 11,
    }
    return datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(decode=False))


NAMES = {"text": "sentence", "speaker": "speaker_id"}


def saved(dataset: Any, kind: str, folder: Path) -> Path:
    import datasets

    if kind == "to_disk":
        dataset.save_to_disk(folder, num_shards=3)
    elif kind == "splits":
        datasets.DatasetDict({"train": dataset.select(range(6)), "test": dataset.select(range(6, 11))}).save_to_disk(
            folder
        )
    else:
        folder.mkdir()
        for part in range(2):
            dataset.shard(2, part, contiguous=True).to_parquet(folder / f"train-{part:05}.parquet", batch_size=2)
    return folder


@pytest.mark.parametrize("kind", ["to_disk", "splits", "parquet"])
def test_a_dataset_is_read_as_its_library_wrote_it(dataset: Any, kind: str, tmp_path: Path) -> None:
    clips, rejected = read(saved(dataset, kind, tmp_path / "numbers"), NAMES)
    assert rejected == []
    assert [clip.id for clip in clips] == [f"numbers:{number}" for number in range(1, 12)]
    assert [clip.text for clip in clips] == [f"Number {number}." for number in range(11)]
    assert {(clip.speaker, clip.source) for clip in clips} == {("7", "numbers")}
    for number in (10, 0, 5, 6, 1):
        wave, rate = load(clips[number])
        assert (len(wave), rate) == (100 + number, 8000)
        np.testing.assert_allclose(wave, number / 100, atol=1e-4)


def test_audio_may_lie_beside_the_dataset_but_not_elsewhere(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "set" / "clips").mkdir(parents=True)
    (tmp_path / "set" / "clips" / "3.flac").write_bytes(sound(3))
    (tmp_path / "secret.flac").write_bytes(sound(4))
    (tmp_path / "set" / "empty.flac").write_bytes(b"")
    rows = [
        {"bytes": None, "path": name} for name in ("clips/3.flac", "../secret.flac", "gone.flac", None, "empty.flac")
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"audio": pa.array([*rows, None], kind)}), tmp_path / "set" / "a.parquet")
    clips, _ = read_datasets(tmp_path / "set")
    assert load(clips[0])[0].shape == (103,)
    for clip, reason in zip(clips[1:], ["names", "No such file", "names None", "is empty", "names None"], strict=True):
        with pytest.raises(CorruptFileError, match=reason):
            load(clip)


def test_what_is_no_dataset_is_refused(dataset: Any, tmp_path: Path) -> None:
    folder = saved(dataset, "to_disk", tmp_path / "numbers")
    first = next(folder.glob("*.arrow"))
    content = first.read_bytes()
    first.write_bytes(content[:200])
    with pytest.raises(CorruptFileError, match=f"{first.name} must hold a dataset"):
        read(folder)
    first.unlink()
    with pytest.raises(CorruptFileError, match=r"state\.json must name what is beside it"):
        read(folder)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../numbers/state.json"}]}')
    with pytest.raises(CorruptFileError, match="must name what is beside it"):
        read(folder)
    (folder / "state.json").write_text('{"_data_files": []}')
    with pytest.raises(InputError, match="a dataset must be a folder"):
        read(folder)
    dataset.remove_columns("audio").to_parquet(tmp_path / "text" / "a.parquet")
    with pytest.raises(CorruptFileError, match="must have a column of audio"):
        read(tmp_path / "text")
    with pytest.raises(CorruptFileError, match="must hold audio in row 3"):
        embedded_audio(tmp_path / "gone.parquet", 3)
