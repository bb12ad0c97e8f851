from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from isoflop.errors import CorruptFileError, InputError
from isoflop.tokens.sources import Clip, Rejected, read, read_folder, read_manifest, read_texts


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Files in the places of audio: no reader opens them."""
    for name in ("a.wav", "b.flac", "anna/c.g722", "anna/d.mp3"):
        path = tmp_path / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"some")
    return tmp_path / "recordings"


ROWS = [
    {"path": "a.wav", "text": "Hello, „Welt“", "speaker": "Anna", "language": "de", "id": "one"},
    {"path": "anna/c.g722", "text": "ещё", "start": 1.5, "end": 3, "id": ""},
    {"path": "b.flac", "text": "", "id": None},
]
CLIPS = [
    ("one", "a.wav", "Hello, „Welt“", "Anna", "de", 0.0, None),
    ("anna/c@1.5", "anna/c.g722", "ещё", "", "", 1.5, 3.0),
    ("b", "b.flac", None, "", "", 0.0, None),
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n", encoding="utf-8")
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        pd.DataFrame(rows).to_csv(path, index=False, sep=separator, encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("name", ["speech.csv", "speech.tsv", "speech.jsonl", "speech.parquet"])
def test_the_same_manifest_in_every_format(recordings: Path, name: str) -> None:
    clips, rejected = read(write(recordings / name, ROWS))
    root = recordings.resolve()
    assert rejected == []
    assert clips == [
        Clip(label, root / path, text, speaker, language, start, end, "speech")
        for label, path, text, speaker, language, start, end in CLIPS
    ]


def test_columns_may_have_other_names_and_the_root_may_be_elsewhere(recordings: Path, tmp_path: Path) -> None:
    rows = [{"audio_filepath": "recordings/a.wav", "normalized": "hello", "text": "Hello!"}]
    path = write(tmp_path / "other.jsonl", rows)
    clips, rejected = read(path, {"path": "audio_filepath", "text": "normalized"})
    assert (clips[0].text, clips[0].id, rejected) == ("hello", "recordings/a", [])
    (tmp_path / "lists").mkdir()
    moved = path.rename(tmp_path / "lists" / "other.jsonl")
    assert read_manifest(moved, {"path": "audio_filepath"}, root=tmp_path)[0][0].text == "Hello!"
    with pytest.raises(InputError, match=r"must be one of path, text, .* but got 'tekst'"):
        read(moved, {"tekst": "text"})
    with pytest.raises(InputError, match="must have a column 'path', but has audio_filepath, normalized, text"):
        read_manifest(moved)
    with pytest.raises(InputError, match="must have a column 'tekst', but has path, text"):
        read(write(recordings / "speech.csv", ROWS), {"text": "tekst"})


def test_every_row_that_cannot_be_used_is_named_with_its_reason(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"some")
    (recordings / "link.wav").symlink_to(tmp_path / "secret.wav")
    rows: list[dict[str, object]] = [
        {"path": "a.wav", "id": "good"},
        {"path": "gone.wav"},
        {"path": "../secret.wav"},
        {"path": str(tmp_path / "secret.wav"), "id": "absolute"},
        {"path": "link.wav"},
        {"path": "", "id": "nowhere"},
        {"path": "a.wav", "start": 3, "end": 2, "id": "backwards"},
        {"path": "a.wav", "start": -1, "id": "before"},
        {"path": "a.wav", "end": "soon", "id": "when"},
        {"path": "a.wav", "id": "two\nlines"},
        {"path": "b.flac", "id": "good"},
        {"path": "a.wav", "id": "list", "text": ["a"]},
    ]
    clips, rejected = read(write(recordings / "speech.jsonl", rows))
    assert [clip.id for clip in clips] == ["good"]
    reasons = {item.id: item.reason for item in rejected}
    assert len(rejected) == len(reasons) == 11
    assert "must be a file, but 'gone.wav' is not one" in reasons["speech.jsonl:2"]
    for name in ("speech.jsonl:3", "absolute", "speech.jsonl:5"):
        assert f"must lie in {recordings}" in reasons[name]
    assert reasons["nowhere"] == "path must be given, but is missing"
    assert reasons["backwards"] == "0 <= start < end must hold, but got 3 and 2"
    assert reasons["before"] == "start must be seconds from 0, but is -1.0"
    assert reasons["when"] == "end must be seconds, but is 'soon'"
    assert "printable" in reasons["two\\nlines"]
    assert reasons["good"] == "ids must be distinct, but this one was there before"
    assert reasons["list"] == "text must be text, but is ['a']"


@pytest.mark.parametrize("name", ["speech.csv", "speech.jsonl"])
def test_a_row_that_is_not_utf_8_is_the_only_one_lost(recordings: Path, name: str) -> None:
    path = write(recordings / name, ROWS)
    path.write_bytes(path.read_bytes().replace("ещё".encode(), "ещё".encode("cp1251")))
    clips, rejected = read(path)
    assert [clip.id for clip in clips] == ["one", "b"]
    assert len(rejected) == 1
    assert "must be UTF-8" in rejected[0].reason


def test_no_part_of_a_row_is_lost_in_silence(recordings: Path, tmp_path: Path) -> None:
    table = recordings / "speech.csv"
    table.write_text('path, text\na.wav, "Well, yes"\n\nb.flac,Well, no\n')
    clips, rejected = read(table)
    assert [(clip.id, clip.text) for clip in clips] == [("a", "Well, yes")]
    assert rejected == [
        Rejected("speech.csv:2", "a row must have as many values as the header has names, 2, but has more")
    ]
    lines = recordings / "speech.jsonl"
    lines.write_text('{"path": "a.wav"}\n{"text": "no audio"}\n')
    clips, rejected = read(lines)
    assert ([clip.id for clip in clips], [item.id for item in rejected]) == (["a"], ["speech.jsonl:2"])
    lines.write_text('{"text": "no audio"}\n{"path": "a.wav", "text": "audio"}\n')
    clips, rejected = read(lines)
    assert ([clip.text for clip in clips], [item.id for item in rejected]) == (["no audio"], ["speech.jsonl:2"])
    (recordings / "anna" / "c.srt").write_text(
        "1\n00:00:00,000 --> 00:00:01,000\n\n2\n00:00:02,000 --> 00:00:04,000\nSecond.\n"
    )
    cues = [(clip.text, clip.start, clip.end) for clip in read_folder(recordings)[0] if clip.id.startswith("anna/c")]
    assert cues == [("Second.", 2.0, 4.0)]


def test_a_name_that_cannot_be_shown_is_refused_alone(recordings: Path, tmp_path: Path) -> None:
    for name in (b"caf\xe9.wav", b"two\nlines.wav", b"caf\xe9.txt"):
        (recordings / os.fsdecode(name)).write_bytes(b"some")
    clips, rejected = read_folder(recordings)
    assert [clip.id for clip in clips] == ["a", "anna/c", "anna/d", "b"]
    assert [item.id for item in rejected] == ["caf\\udce9", "two\\nlines"]
    assert all("must be printable" in item.reason for item in rejected)
    assert [item.id for item in read_texts(recordings)[1]] == ["caf\\udce9.txt:1"]


def test_a_line_that_is_no_json_is_named_by_its_number(recordings: Path) -> None:
    path = recordings / "speech.jsonl"
    path.write_text('{"path": "a.wav"}\n{"path": \n[1]\n{"path": "b.flac", "text": "\\ud800"}\n' + "[" * 100_000)
    clips, rejected = read(path)
    assert [clip.id for clip in clips] == ["a"]
    assert [item.id for item in rejected] == [f"speech.jsonl:{line}" for line in (2, 3, 4, 5)]
    assert "must be JSON" in rejected[0].reason
    assert "must be a JSON object" in rejected[1].reason
    assert "text must be UTF-8" in rejected[2].reason


def test_what_is_no_table_is_refused_as_a_whole(recordings: Path) -> None:
    (recordings / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(CorruptFileError, match=r"bad\.parquet must be a Parquet table"):
        read(recordings / "bad.parquet")
    (recordings / "bad.csv").write_text('path,text\na.wav,"never closed\n')
    with pytest.raises(CorruptFileError, match=r"bad\.csv must be a table, but line 1"):
        read(recordings / "bad.csv")
    for path in (recordings / "none.csv", recordings / "a.wav"):
        with pytest.raises(InputError, match="a source must be a file"):
            read(path)


def test_a_folder_has_its_texts_beside_the_audio(recordings: Path) -> None:
    (recordings / "a.txt").write_text("What a said.\n", encoding="utf-8-sig")
    (recordings / "b.txt").write_bytes("très bien".encode("latin-1"))
    (recordings / "anna" / "c.srt").write_text(
        "1\r\n00:00:01,500 --> 00:00:03,000\r\nFirst\r\nof two.\r\n\r\n"
        "2\r\n01:02:03,250 --> 01:02:04,000\r\nSecond.\r\n"
    )
    (recordings / "anna" / "d.vtt").write_text(
        "WEBVTT\n\nNOTE none\n\nintro\n00:01.000 --> 00:02.500 align:start\nOnly one.\n"
    )
    (recordings / "notes.md").write_text("no audio")
    clips, rejected = read(recordings)
    told = [(clip.id, clip.text, clip.speaker, clip.start, clip.end) for clip in clips]
    assert told == [
        ("a", "What a said.", "", 0.0, None),
        ("anna/c@1.5", "First of two.", "anna", 1.5, 3.0),
        ("anna/c@3723.25", "Second.", "anna", 3723.25, 3724.0),
        ("anna/d@1", "Only one.", "anna", 1.0, 2.5),
    ]
    assert {clip.source for clip in clips} == {"recordings"}
    assert rejected == [Rejected("b", "text must be UTF-8, but b.txt is not")]


def test_a_folder_may_lack_texts_but_not_audio(recordings: Path, tmp_path: Path) -> None:
    (recordings / "anna" / "c.srt").write_text("nothing timed")
    (recordings / "a.mp3").write_bytes(b"the same name")
    outside = tmp_path / "outside.wav"
    outside.write_bytes(b"some")
    (recordings / "z.wav").symlink_to(outside)
    (recordings / "b.txt").symlink_to(outside)
    clips, rejected = read_folder(recordings)
    assert [(clip.id, clip.text) for clip in clips] == [("a", None), ("anna/d", None)]
    assert {item.id for item in rejected} == {"anna/c", "a", "b", "z.wav"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="must hold such files"):
        read_folder(tmp_path / "empty")
    with pytest.raises(InputError, match="must be a folder"):
        read_folder(outside)


def test_text_alone_is_paragraphs_or_lines_of_json(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("Once upon\na time.\n\n \n The end.\n", encoding="utf-8")
    clips, rejected = read(tmp_path / "story.txt")
    assert [(clip.id, clip.text, clip.path, clip.source) for clip in clips] == [
        ("story.txt:1", "Once upon\na time.", None, "story"),
        ("story.txt:2", "The end.", None, "story"),
    ]
    lines = ['{"text": "One.", "id": "x"}', '{"text": ""}', '{"title": "none"}', '{"text": "Two."}']
    (tmp_path / "web.jsonl").write_text("\n".join(lines))
    clips, rejected = read(tmp_path / "web.jsonl")
    assert [(clip.id, clip.text) for clip in clips] == [("x", "One."), ("web.jsonl:4", "Two.")]
    assert [item.id for item in rejected] == ["web.jsonl:2", "web.jsonl:3"]
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    clips, rejected = read_texts(tmp_path)
    assert len(clips) == 4
    assert Rejected("bad.txt", "text must be UTF-8, but is not") in rejected
    assert {clip.source for clip in clips} == {tmp_path.name}
    with pytest.raises(InputError, match="text must be a"):
        read_texts(tmp_path / "none.doc")
