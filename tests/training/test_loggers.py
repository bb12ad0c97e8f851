"""What the loggers hold is what metrics.csv and validation.csv hold, however often a run is taken up."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from isoflop.errors import Interrupted, MissingExtraError
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory
from isoflop.training import recording
from isoflop.training.loggers import check
from isoflop.training.metrics import Progress
from isoflop.training.module import Cadence
from isoflop.training.options import Options
from isoflop.training.run import run as train

CADENCE = Cadence(log=5, checkpoint=20)
#: Tokens between two validations: at steps of which some have a row of metrics, too.
EVERY = 300


def with_a_stop(run: Run, study: Path, options: Options) -> Path:
    """Train with an end by force after a row that has no checkpoint, so that it is written again."""

    def stop(progress: Progress) -> None:
        if progress.step >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, study, options=options, cadence=CADENCE, on_progress=stop)
    train(run, study, options=options, cadence=CADENCE)
    return StudyDirectory(study).run(run.id).root


def values(root: Path) -> dict[str, dict[int, float]]:
    """What the run's files tell, by name and step."""
    metrics, validations = (pd.read_csv(root / f"{name}.csv").set_index("step") for name in ("metrics", "validation"))
    assert metrics.index.tolist() == list(range(5, 61, 5))
    assert validations.index.tolist() == [10, 19, 29, 38, 47, 57, 60]
    tables = ("", metrics), ("validation/", validations)
    return {f"{prefix}{name}": table[name].dropna().to_dict() for prefix, table in tables for name in table}


# Of the package's own protocol buffers.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_every_row_once(
    study: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)
    run = planned()
    root = with_a_stop(run, study, Options(loggers=("csv", "tensorboard"), validate_every=EVERY))
    expected = values(root)
    events = [event for path in (root / "tensorboard").iterdir() for event in EventFileLoader(str(path)).Load()]
    found: dict[str, dict[int, float]] = {name: {} for name in expected}
    for event in events:
        for value in event.summary.value:
            assert event.step not in found[value.tag], "a row is there twice"
            found[value.tag][event.step] = value.tensor.float_val[0]
    assert found == {name: pytest.approx(steps, rel=1e-6) for name, steps in expected.items()}


@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_offline_has_every_row_once(
    study: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(study))
    run = planned()
    root = with_a_stop(run, study, Options(loggers=("wandb",), validate_every=EVERY))
    (path,) = (root / "wandb").glob("offline-run-*/*.wandb")
    assert run.id in path.name
    records = [Record.FromString(data) for data in log_records(path.read_bytes())]
    history = [record.history for record in records if record.WhichOneof("record_type") == "history"]
    found: dict[str, dict[int, float]] = {}
    for row in history:
        told = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in row.item}
        for name in told.keys() - {"_step", "_runtime", "_timestamp"}:
            assert told["_step"] not in found.setdefault(name, {}), "a row is there twice"
            found[name][told["_step"]] = told[name]
    assert found == values(root)


def log_records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: blocks of 32 KiB, parts with seven bytes before each."""
    place, record = 7, b""  # W&B's own header
    while place + 7 <= len(content):
        if 2**15 - place % 2**15 < 7:
            place += 2**15 - place % 2**15
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            yield record
            record = b""


def test_a_missing_package_is_named_before_anything_is_written(
    study: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(MissingExtraError, match=r"wandb.*isoflop\[loggers\]"):
        train(planned(), study, options=Options(loggers=("wandb",)))
    assert [path.name for path in study.iterdir()] == ["corpus"]
    check(("csv",))


def test_a_run_stopped_at_a_row_is_closed(
    study: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a logger is left open in the process, and what is written is whole."""
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)

    def stop(progress: Progress) -> None:
        raise Interrupted("time limit")

    run = planned()
    with pytest.raises(Interrupted):
        train(run, study, options=Options(loggers=("tensorboard",)), cadence=CADENCE, on_progress=stop)
    root = StudyDirectory(study).run(run.id).root
    assert len(list((root / "tensorboard").iterdir())) == 1
