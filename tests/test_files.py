"""Files that are whole or absent, and those that only the first may write."""

from __future__ import annotations

import json
import math
import threading

import pytest

from isoflop.errors import CorruptFileError
from isoflop.files import publish_json, read_json, replacing, write_json


def test_a_writer_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"new": math.nan})
    with pytest.raises(OSError, match="a directory"), replacing(path) as temporary:
        temporary.joinpath("x").write_text("not a directory")
    with pytest.raises(ValueError, match="JSON"):
        publish_json(tmp_path / "b.json", {"new": math.nan})
    assert read_json(path) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_a_file_that_is_no_json_object_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(CorruptFileError, match=r"a\.json must hold a JSON object"):
        read_json(tmp_path / "a.json")


def test_the_first_to_publish_wins_and_what_it_wrote_stays(tmp_path):
    path = tmp_path / "a.json"
    won = []
    start = threading.Barrier(8)

    def publish(number: int) -> None:
        start.wait()
        if publish_json(path, {"by": number}):
            won.append(number)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert json.loads(path.read_text()) == {"by": won[0]}
    assert not publish_json(path, {"by": "late"})
    assert json.loads(path.read_text()) == {"by": won[0]}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert path.stat().st_nlink == 1
