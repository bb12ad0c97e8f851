"""What a run leaves while it trains: rows that no interruption changes, validations that change no weight, checkpoints
that are written beside it, and the end of a run that diverges."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from isoflop.errors import Diverged, Interrupted
from isoflop.planning.runs import Run
from isoflop.store import RunDirectory, StudyDirectory, read_json
from isoflop.training import checkpoints, recording
from isoflop.training.data import Tokens, open_source
from isoflop.training.loss import token_losses
from isoflop.training.metrics import Progress
from isoflop.training.model import Decoder
from isoflop.training.module import Cadence
from isoflop.training.options import Options
from isoflop.training.run import run as train

CADENCE = Cadence(log=5, checkpoint=10)
#: A validation at the first step to reach each multiple of 300 tokens, of 32 a step.
EVERY = Options(validate_every=300)
AT = [10, 19, 29, 38, 47, 57]


def place_of(study: Path, run: Run) -> RunDirectory:
    return StudyDirectory(study).run(run.id)


class Left:
    """What a run left: the result, the weights, the rows."""

    def __init__(self, run: Run, study: Path, options: Options = EVERY, **given: Any) -> None:
        place, weights = place_of(study, run), dict[str, torch.Tensor]()

        def keep(progress: Progress) -> None:
            kept = sorted(place.checkpoints.glob("step-*"))
            if progress.step == run.steps and kept:
                newest = checkpoints.load_newest(place.checkpoints, run.id)
                assert newest is not None
                weights.update(newest.model)

        self.result = train(run, study, on_progress=keep, cadence=CADENCE, options=options, **given)
        self.weights = weights
        self.metrics = place.metrics_file.read_text(encoding="utf-8")
        self.validation = place.validation_file.read_text(encoding="utf-8")

    def same_losses(self, other: Left) -> bool:
        mine, theirs = ({key: value for key, value in each.result.items() if "loss" in key} for each in (self, other))
        return mine == theirs

    def same_weights(self, other: Left) -> bool:
        assert self.weights
        return all(torch.equal(other.weights[name], value) for name, value in self.weights.items())


@pytest.fixture
def other(tmp_path: Path, small_corpus: Path) -> Path:
    """Another study directory with the same corpus."""
    root = tmp_path / "other"
    root.mkdir()
    (root / "corpus").symlink_to(small_corpus)
    return root


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)


def test_a_run_yields_its_loss_curve_and_validations_change_nothing(
    study: Path, other: Path, planned: Callable[..., Run]
) -> None:
    run = planned()
    with_curve, without = Left(run, study), Left(run, other, Options())
    assert with_curve.same_weights(without)
    assert with_curve.same_losses(without)
    assert with_curve.metrics == without.metrics
    curve = pd.read_csv(place_of(study, run).validation_file)
    assert curve["step"].tolist() == [*AT, 60]
    assert curve["tokens"].tolist() == [32 * step for step in (*AT, 60)]
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0] - 0.3
    for name, value in curve.iloc[-1].drop(["step", "tokens"]).items():
        assert value == with_curve.result[str(name)]
    assert with_curve.validation.splitlines()[-1] == without.validation.splitlines()[1]
    # Their own weights are what they tell of: those of a run of which this is the beginning.
    shorter = train(planned(steps=38, decay_steps=1), other, options=EVERY)
    assert shorter["loss"] == pytest.approx(curve["loss"][3], rel=0.02)


def test_at_fixed_token_counts_runs_of_any_length_agree(study: Path, planned: Callable[..., Run]) -> None:
    short, long = Left(planned(), study), Left(planned(steps=90, decay_steps=42), study)
    rows = [each.validation.splitlines() for each in (short, long)]
    stable = [row for row in rows[0][1:] if int(row.split(",")[0]) <= 48]
    assert len(stable) == 5
    assert rows[1][1:6] == stable


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("stops", [(10,), (24, 47), (60,)])
def test_an_interrupted_run_writes_the_same_rows(
    study: Path, other: Path, planned: Callable[..., Run], stops: tuple[int, ...]
) -> None:
    run = planned()
    expected = Left(run, other)
    for stop in stops:

        def interrupt(progress: Progress, stop: int = stop) -> None:
            if progress.step >= stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(run, study, on_progress=interrupt, cadence=CADENCE, options=EVERY)
    left = Left(run, study)
    assert left.validation == expected.validation
    assert left.metrics == expected.metrics
    assert left.same_losses(expected)


def test_the_rows_tell_the_loss_by_type_and_their_mean_is_the_loss(study: Path, planned: Callable[..., Run]) -> None:
    run = planned(steps=6, warmup_steps=1, decay_steps=1)
    train(run, study, cadence=Cadence(log=1, checkpoint=1))
    first = pd.read_csv(place_of(study, run).metrics_file).iloc[0]
    source = open_source(study / "corpus")
    tokens = torch.from_numpy(source.batches(run)(0))
    with torch.no_grad():
        losses = token_losses(Decoder(run.shape, run.seed), tokens).numpy()
    types = source.token_types[tokens[:, 1:].reshape(-1).numpy()]
    assert first["loss"] == pytest.approx(losses.mean(), rel=1e-6)
    for index, name in enumerate(source.types):
        expected = losses[types == index]
        assert first[f"loss_{name}"] == pytest.approx(
            expected.mean() if len(expected) else np.nan, rel=1e-6, nan_ok=True
        )
    assert first["loss_acoustic"] == pytest.approx(losses[types >= 3].mean(), rel=1e-6)
    assert first["spikes"] == 0


def test_the_result_has_what_a_second_of_sound_costs_and_the_work_done(
    study: Path, planned: Callable[..., Run]
) -> None:
    run = planned()
    result = train(run, study, options=Options(flops_per_second=1e9))
    source = open_source(study / "corpus")
    assert source.audio_rate == 75.0
    kinds = np.bincount(source.token_types[source.validation(run)[:, 1:].ravel()], minlength=5)
    nats = sum(result[f"loss_{name}"] * kinds[index] for index, name in enumerate(source.types) if index >= 2)
    assert result["bits_per_audio_second"] == pytest.approx(nats / kinds[2:].sum() * 75 / np.log(2), rel=1e-9)
    assert result["flops_per_second"] == pytest.approx(result["flops"] / result["seconds"])
    assert (result["planned_flops_per_second"], result["spikes"]) == (1e9, 0)


class Turning:
    """Tokens that are all alike, and from step 150 on all at random: a run on them unlearns."""

    names, vocabulary, types = ("turning",), 32, ("text",)
    token_types = np.zeros(32, dtype=np.uint8)
    document_start, audio_rate = 0, 0.0

    def batches(self, run: Run) -> Callable[[int], Tokens]:
        shape = (run.batch_size, run.shape.sequence_length + 1)
        return lambda step: (
            np.zeros(shape, dtype=np.int64) if step < 150 else np.random.default_rng(step).integers(0, 32, shape)
        )

    def validation(self, run: Run) -> Tokens:
        return np.zeros((2, run.shape.sequence_length + 1), dtype=np.int64)

    def origins(self, run: Run) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        return ("turning",), np.zeros(2, dtype=np.int64)


@pytest.mark.usefixtures("often")
def test_a_loss_that_stays_high_ends_the_run_at_the_same_step_however_often_it_was_resumed(
    study: Path, other: Path, planned: Callable[..., Run]
) -> None:
    run = planned(data="turning", steps=400, decay_steps=10)
    run = replace(run, shape=replace(run.shape, vocabulary=32))
    with pytest.raises(
        Diverged, match=r"above its lowest mean.* at step 250 of 400; last good: step 150, 4800"
    ) as whole:
        train(run, other, source=Turning(), cadence=CADENCE)
    for stop in (100, 210):

        def interrupt(progress: Progress, stop: int = stop) -> None:
            if progress.step >= stop:
                raise Interrupted("time limit")

        with pytest.raises(Interrupted):
            train(run, study, source=Turning(), on_progress=interrupt, cadence=CADENCE)
    with pytest.raises(Diverged) as resumed:
        train(run, study, source=Turning(), cadence=CADENCE)
    assert str(resumed.value) == str(whole.value)
    status = read_json(place_of(study, run).status_file)
    assert (status["state"], status["cause"], status["message"]) == ("failed", "diverged", str(whole.value))


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write every checkpoint beside the training."""
    monkeypatch.setattr(checkpoints, "BACKGROUND_BYTES", 0)


@pytest.mark.usefixtures("often")
def test_checkpoints_that_are_written_in_the_background_are_the_same(
    study: Path, other: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned()
    expected = Left(run, other)
    monkeypatch.setattr(checkpoints, "BACKGROUND_BYTES", 0)
    save, threads = checkpoints.save, []

    def slowly(directory: Path, checkpoint: checkpoints.Checkpoint) -> Path:
        # The training goes on meanwhile: what is written must be what was.
        threads.append(checkpoints.threading.current_thread().name)
        time.sleep(0.05)
        return save(directory, checkpoint)

    monkeypatch.setattr(checkpoints, "save", slowly)

    def interrupt(progress: Progress) -> None:
        if progress.step >= 35:
            raise Interrupted("time limit")

    with pytest.raises(Interrupted):
        train(run, study, on_progress=interrupt, cadence=CADENCE, options=EVERY)
    # Who is told that it stopped finds the checkpoint there.
    newest = checkpoints.load_newest(place_of(study, run).checkpoints, run.id)
    assert newest is not None
    assert newest.step >= 35
    left = Left(run, study)
    assert left.same_losses(expected)
    assert left.metrics == expected.metrics
    assert left.validation == expected.validation
    assert set(threads) == {"checkpoint"}
    assert not [thread for thread in checkpoints.threading.enumerate() if thread.name == "checkpoint"]


@pytest.mark.parametrize("beside", [False, True])
def test_a_full_disk_at_a_checkpoint_is_the_runs_error_and_leaves_its_directory_as_it_was(
    study: Path, other: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    run, place = planned(), place_of(study, planned())
    expected = Left(run, other)
    save = torch.save

    def full(content: dict[str, Any], file: Any) -> None:
        if content["step"] == 30:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "BACKGROUND_BYTES", 0 if beside else 2**40)
        patched.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left") as error:
            train(run, study, cadence=CADENCE, options=EVERY)
    assert error.value.errno == errno.ENOSPC
    assert sorted(path.name.split("-")[1] for path in place.checkpoints.iterdir()) == ["00000010", "00000020"]
    assert {path.name for path in place.root.iterdir()} == {
        *("run.json", "status.json", "metrics.csv", "validation.csv", "checkpoints")
    }
    left = Left(run, study)
    assert left.same_weights(expected)
    assert left.same_losses(expected)
    assert (left.metrics, left.validation) == (expected.metrics, expected.validation)


def _train_in_the_background(run: Run, study: Path) -> None:
    checkpoints.BACKGROUND_BYTES = 0
    train(run, study, cadence=CADENCE, options=EVERY)


@pytest.mark.slow
def test_a_run_killed_while_it_writes_in_the_background_ends_in_the_same_weights(
    study: Path, other: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, place = planned(steps=800, decay_steps=160), place_of(study, planned(steps=800, decay_steps=160))
    expected = Left(run, other)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["isoflop.training.run"])
    moments, reached = random.Random(0), 0
    for _ in range(2):
        process = context.Process(target=_train_in_the_background, args=(run, study))
        process.start()
        deadline = time.monotonic() + 60
        while _newest(place) <= reached:
            assert process.exitcode is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run made no progress"
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert not place.result_file.exists()
        reached = _newest(place)
    left = Left(run, study)
    assert left.same_weights(expected)
    assert left.same_losses(expected)
    assert (left.metrics, left.validation) == (expected.metrics, expected.validation)
    assert not list(place.root.rglob(".*"))


def _newest(place: RunDirectory) -> int:
    return max((int(path.name.split("-")[1]) for path in place.checkpoints.glob("step-*.pt")), default=0)
