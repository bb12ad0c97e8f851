from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path

import pytest
import torch

from isoflop.errors import CorruptFileError
from isoflop.training import checkpoints
from isoflop.training.checkpoints import Checkpoint


def checkpoint(step: int, run: str = "a-run") -> Checkpoint:
    model = {"weight": torch.full((3,), float(step))}
    return Checkpoint(run, step, model, {"state": {0: {"step": torch.tensor(float(step))}}}, step / 10, 1)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, checkpoint(7))
    loaded = checkpoints.load_newest(tmp_path, "a-run")
    assert loaded is not None
    assert (loaded.run, loaded.step, loaded.seconds, loaded.resumed) == ("a-run", 7, 0.7, 1)
    assert torch.equal(loaded.model["weight"], torch.full((3,), 7.0))
    assert loaded.optimizer["state"][0]["step"] == 7


def test_the_newest_two_are_kept_and_nothing_else(tmp_path: Path) -> None:
    paths = [checkpoints.save(tmp_path, checkpoint(step)) for step in (50, 100, 950, 1000, 123_456_789)]
    assert sorted(tmp_path.iterdir()) == sorted(paths[-2:])
    loaded = checkpoints.load_newest(tmp_path, "a-run")
    assert loaded is not None
    assert loaded.step == 123_456_789


def test_the_newest_within_bounds_is_chosen_and_a_corrupt_one_set_aside_elsewhere(tmp_path: Path) -> None:
    folder, aside = tmp_path / "trunk", tmp_path / "aside"
    paths = {}
    for step in (50, 100, 150):
        saved = checkpoints.save(tmp_path / "scratch", checkpoint(step))
        folder.mkdir(exist_ok=True)
        paths[step] = saved.rename(folder / saved.name)

    def newest(**bounds: int) -> int | None:
        found = checkpoints.load_newest(folder, "a-run", aside=aside, **bounds)
        return None if found is None else found.step

    assert [newest(), newest(last=149), newest(last=50), newest(last=49)] == [150, 100, 50, None]
    assert [newest(after=100, last=150), newest(after=100, last=149)] == [150, None]
    paths[100].write_bytes(b"?")
    assert newest(last=100) == 50
    assert checkpoints.corrupt(aside) == [paths[100].name]
    assert sorted(folder.iterdir()) == [paths[50], paths[150]]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_corrupt_newest_falls_back_by_name_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.save(tmp_path, checkpoint(50))
    newest = checkpoints.save(tmp_path, checkpoint(100))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"flip": bytes(content), "truncate": bytes(content[:-9]), "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        loaded = checkpoints.load_newest(tmp_path, "a-run")
    assert loaded is not None
    assert loaded.step == 50
    assert [str(newest) in message for message in caplog.messages] == [True]
    assert not newest.exists()
    # Training on from there writes a whole one in its place, and both places hold whole ones again.
    checkpoints.save(tmp_path, checkpoint(100))
    caplog.clear()
    loaded = checkpoints.load_newest(tmp_path, "a-run")
    assert loaded is not None
    assert loaded.step == 100
    assert not caplog.messages


def test_without_a_whole_one_there_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert checkpoints.load_newest(tmp_path / "absent", "a-run") is None
    assert checkpoints.load_newest(tmp_path, "a-run") is None
    for step in (50, 100):
        checkpoints.save(tmp_path, checkpoint(step)).write_bytes(b"?")
    assert checkpoints.load_newest(tmp_path, "a-run") is None
    assert len(caplog.messages) == 2


def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, checkpoint(50, run="another"))
    with pytest.raises(CorruptFileError, match="of the run a-run, but is one of another") as error:
        checkpoints.load_newest(tmp_path, "a-run")
    assert str(path) in str(error.value)
    assert path.exists()


class _Command:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    marker, buffer = tmp_path / "executed", io.BytesIO()
    torch.save(_Command(marker), buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
    (tmp_path / f"step-00000050-{digest}.pt").write_bytes(buffer.getvalue())
    assert checkpoints.load_newest(tmp_path, "a-run") is None
    assert not marker.exists()
