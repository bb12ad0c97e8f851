from __future__ import annotations

import errno
import fcntl
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.errors import InputError, RunError
from isoflop.tokens.clips import Clip, Rejected
from isoflop.tokens.job import (
    Job,
    Options,
    clip_of,
    partition,
    plain,
    recordings,
    refuse_unfit,
    request_digest,
    work,
)
from isoflop.tokens.preparation import Preparation
from isoflop.tokens.publishing import locked, publishing

LONG = [Clip(f"talk@{n}", Path("talk.wav"), "hello", "ann", start=n, end=n + 1, source="talks") for n in range(4)]
SHORT = [Clip(f"word {n}", Path(f"{n}.wav"), "hello", "ann", source="words") for n in range(5)]
PROSE = [Clip(f"prose:{n}", text="hello", source="prose") for n in range(3)]


def test_clips_of_one_file_are_one_document_and_lone_texts_each_their_own() -> None:
    found = recordings([*LONG, *SHORT, *PROSE])
    sizes = {recording.name: len(recording.clips) for recording in found}
    assert sizes == {"talk@0": 4, **{f"word {n}": 1 for n in range(5)}, **{f"prose:{n}": 1 for n in range(3)}}
    # In an order that what else there is does not change.
    some = [recording.name for recording in found if recording.source != "prose"]
    assert [recording.name for recording in recordings([*SHORT[::-1], *LONG])] == some


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(1, 8))
def test_a_shard_is_of_one_source_and_as_large_as_asked(sizes: list[int], most: int) -> None:
    clips = [
        Clip(f"{number}@{index}", Path(f"{number}"), "x", source="ab"[number % 2])
        for number, size in enumerate(sizes)
        for index in range(size)
    ]
    found = recordings(clips)
    shards = partition(found, most)
    assert sorted(each.name for part in shards for each in part) == sorted(each.name for each in found)
    for part in shards:
        assert len({each.source for each in part}) == 1
        assert sum(len(each.clips) for each in part[:-1]) < most
    # Only the last shard of a source may be short.
    for part, following in pairwise(shards):
        if following[0].source == part[0].source:
            assert sum(len(each.clips) for each in part) >= most


def test_what_the_stream_cannot_hold_is_named() -> None:
    silent = replace(SHORT[0], text=None, id="silent")
    kept, refused = refuse_unfit([*SHORT, silent, replace(SHORT[1], source="again"), *PROSE], spoken=True)
    assert kept == [*SHORT, *PROSE]
    assert [each.id for each in refused] == ["silent", "word 1"]
    assert "text must be given for a stream with text" in refused[0].reason
    assert "ids must be distinct over all sources, but again has it again" in refused[1].reason
    kept, refused = refuse_unfit([silent, *PROSE], spoken=False)
    assert kept == [silent]
    assert {each.id for each in refused} == {each.id for each in PROSE}
    with pytest.raises(InputError, match=r"a name must be letters.*'\.\./x'"):
        refuse_unfit([replace(silent, source="../x")], spoken=False)


def test_a_request_is_told_apart_by_all_that_changes_the_corpus() -> None:
    options = Options()
    digests = {
        request_digest(options, SHORT, []),
        request_digest(options, SHORT[1:], []),
        request_digest(options, [replace(SHORT[0], text="hullo"), *SHORT[1:]], []),
        request_digest(options, SHORT, [Rejected("x", "y")]),
        request_digest(replace(options, holdout=0.1), SHORT, []),
        request_digest(replace(options, preparation=Preparation(silence=0.1)), SHORT, []),
        request_digest(replace(options, codec_options={"seed": 1}), SHORT, []),
    }
    assert len(digests) == 7
    assert request_digest(Options(), list(SHORT), []) in digests


def test_records_survive_json_and_options_are_checked() -> None:
    options = Options(codec_options={"codebooks": 3}, preparation=Preparation(loudness=-23.0), channel=1)
    assert Options.from_dict(options.to_dict()) == options
    for clip in (*LONG, *PROSE):
        assert clip_of(plain(clip)) == clip
    for wrong in ({"holdout": 0.0}, {"holdout": 1.0}, {"clips_per_shard": 0}, {"calibration_seconds": 0.0}):
        with pytest.raises(InputError, match="must hold, but got"):
            Options(**wrong)  # type: ignore[arg-type]


def test_where_files_cannot_be_locked_nobody_waits_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    reason = r"keeps locks, but .* cannot be locked: Operation not supported"
    with pytest.raises(RunError, match=reason), publishing(tmp_path / "corpus"):
        pass
    assert list(tmp_path.iterdir()) == []
    with (tmp_path / "lock").open("wb") as file, pytest.raises(RunError, match="keeps locks"):
        locked(file)


def test_a_lock_has_one_holder_and_goes_with_it(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("wb") as mine, (tmp_path / "lock").open("wb") as yours:
        assert locked(mine)
        assert not locked(yours)
        mine.close()
        assert locked(yours, wait=True)


def test_where_nothing_has_begun_there_is_nothing_to_do(tmp_path: Path) -> None:
    for call in (Job.open, work):
        with pytest.raises(InputError, match=r"a tokenisation must have begun at .*, but none has"):
            call(tmp_path)
