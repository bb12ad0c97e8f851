"""Runs on two processes: the same as by one, to rounding, and stopped, killed and refused as those are."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from isoflop.errors import Diverged, InputError, Interrupted
from isoflop.planning.runs import Run
from isoflop.store import RunDirectory, StudyDirectory, write_json
from isoflop.training import checkpoints, recording
from isoflop.training.group import Job
from isoflop.training.metrics import Progress
from isoflop.training.module import Cadence
from isoflop.training.options import Options
from isoflop.training.run import run as train

CADENCE = Cadence(log=5, checkpoint=10)
#: Tokens between two validations: some 25 steps of two windows, no multiple of a chunk.
EVERY = 777
ALONE = Options(keep_weights=True, validate_every=EVERY)
DDP, FSDP = (replace(ALONE, devices=2, sharded=sharded) for sharded in (False, True))


@pytest.fixture(autouse=True)
def _one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def place_of(study: Path, run: Run) -> RunDirectory:
    return StudyDirectory(study).run(run.id)


def trained(
    run: Run, study: Path, options: Options
) -> tuple[dict[str, Any], dict[str, torch.Tensor], pd.DataFrame, pd.DataFrame]:
    """Result, weights, metrics and validations; trained anew, or carried on, at every call."""
    place = place_of(study, run)
    place.result_file.unlink(missing_ok=True)
    shutil.rmtree(place.weights, ignore_errors=True)
    result = train(run, study, options=options, cadence=CADENCE)
    kept = checkpoints.load_newest(place.weights, run.id)
    assert kept is not None
    return result, kept.model, pd.read_csv(place.metrics_file), pd.read_csv(place.validation_file)


def stop_at(step: int, error: BaseException | None = None) -> Callable[[Progress], None]:
    """Ask the run to stop once it has come so far."""

    def on_progress(progress: Progress) -> None:
        if progress.step >= step:
            raise error or Interrupted("time limit")

    return on_progress


def newest_step(study: Path, run: Run) -> int:
    newest = checkpoints.load_newest(place_of(study, run).checkpoints, run.id)
    return 0 if newest is None else newest.step


def children() -> list[int]:
    """The processes that this one has started and that live."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def assert_close(found: tuple, expected: tuple) -> None:
    """To 1e-5: the loss by type and source, the weights, the metrics and the validations on the way."""
    for name, value in expected[0].items():
        if name.startswith(("loss", "bits")):
            assert found[0][name] == pytest.approx(value, rel=0 if name.startswith("loss") else 1e-6, abs=1e-5)
    assert found[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        assert torch.equal(found[1][name], value) or (found[1][name] - value).abs().max() < 1e-5, name
    assert found[0]["spikes"] == expected[0]["spikes"]
    for mine, one in zip(found[2:], expected[2:], strict=True):
        # A small gradient's direction and so its norm tell rounding first; a type's loss in a row is of few tokens.
        near = {"gradient_norm": 1e-2}
        assert list(mine) == list(one)
        assert len(mine) == len(one) >= 2
        for name in one:
            np.testing.assert_allclose(mine[name], one[name], atol=1e-4, rtol=near.get(name, 1e-5), err_msg=name)


#: A rate at which the loss leaves where it came to, finite.
RISING = 3.0
#: Whatever a recipe may ask of optimiser and loss beside the default.
RECIPES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "cautious, muP, z-loss": {
        "optimizer": "cautious",
        "learning_rate": 0.005,
        "mup_width": 4,
        "embedding_rate": 2.0,
        "norm_rate": 0.3,
        "z_loss": 1e-3,
        "mask_documents": True,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("options", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_two_processes_end_as_one(study: Path, planned: Callable[..., Run], options: Options, recipe: str) -> None:
    run = planned(batch_size=4, **RECIPES[recipe])
    expected = trained(run, study, ALONE)
    # Micro-batches of one: two passes a step on each.
    found = trained(run, study, replace(options, micro_batch=1))
    assert_close(found, expected)
    assert (found[0]["devices"], found[0]["strategy"]) == (2, "fsdp" if options.sharded else "ddp")
    assert found[0]["validation_tokens"] == expected[0]["validation_tokens"] == 640


@pytest.mark.slow
@pytest.mark.parametrize("options", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_two_processes_end_as_one_where_each_compiles(
    study: Path, planned: Callable[..., Run], options: Options
) -> None:
    run = planned(batch_size=4, steps=20)
    assert_close(trained(run, study, replace(options, compile=True)), trained(run, study, ALONE))


@pytest.mark.slow
def test_a_run_is_carried_on_by_another_number_of_processes(
    study: Path, planned: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From two that share the weights out to one, to two with copies: each stopped by who watches."""
    run = planned(learning_rate=0.002, steps=400, decay_steps=80)
    other = tmp_path / "other"
    other.mkdir()
    (other / "corpus").symlink_to(study / "corpus")
    expected = trained(run, other, ALONE)
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)
    before = 0
    for options in (FSDP, ALONE):
        with pytest.raises(Interrupted, match="time limit"):
            train(run, study, options=options, cadence=CADENCE, on_progress=stop_at(before + 1))
        step = newest_step(study, run)
        assert step > before
        assert step % CADENCE.log == 0
        before = step
        assert children() == []
    found = trained(run, study, DDP)
    assert_close(found, expected)
    assert found[0]["resumed"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(("options", "rank"), [(DDP, 0), (FSDP, 1)], ids=["ddp", "fsdp"])
def test_a_killed_process_ends_the_run_which_then_goes_on(
    study: Path, planned: Callable[..., Run], tmp_path: Path, options: Options, rank: int
) -> None:
    run = planned(learning_rate=0.002, steps=600, decay_steps=120)
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if not killed and newest_step(study, run) and progress.step < run.steps:
            # In the order in which they were started.
            killed.extend(sorted(children()))
            os.kill(killed[rank], signal.SIGKILL)

    with pytest.raises(MemoryError, match=f"process {rank} of run {run.id} was killed by signal 9"):
        train(run, study, options=options, cadence=CADENCE, on_progress=kill)
    assert len(killed) == 2
    assert children() == []
    reached = newest_step(study, run)
    assert reached >= 10
    assert place_of(study, run).result() is None
    other = tmp_path / "other"
    other.mkdir()
    (other / "corpus").symlink_to(study / "corpus")
    found = trained(run, study, options)
    assert found[0]["resumed"] == 1
    assert_close(found, trained(run, other, ALONE))


@pytest.mark.slow
def test_two_processes_share_a_trunk_with_what_was_left_and_what_is_added(
    study: Path, planned: Callable[..., Run]
) -> None:
    """They start where another run was stopped, keep what others branch off from, and notice who is added."""
    long, other, late = (planned(learning_rate=0.002, steps=s, decay_steps=s // 10) for s in (2000, 1000, 1900))
    trunk = StudyDirectory(study).trunk(long.trunk)

    def share(*runs: Run) -> None:
        write_json(trunk.trunk_file, {"id": trunk.root.name, "branches": {run.id: run.branch_step for run in runs}})

    share(other, long)
    with pytest.raises(Interrupted):
        train(long, study, options=FSDP, cadence=CADENCE, on_progress=stop_at(1))
    left = newest_step(study, long)
    assert 0 < left < other.branch_step
    result = train(other, study, options=DDP, cadence=CADENCE)
    assert (result["shared_steps"], result["resumed"]) == (left, 0)
    assert trunk.stored() == {other.branch_step}
    train(long, study, options=DDP, cadence=CADENCE, on_progress=lambda progress: share(late, other, long))
    assert trunk.stored() == {run.branch_step for run in (other, late, long)}
    assert train(late, study, options=FSDP, cadence=CADENCE)["shared_steps"] == late.branch_step


@pytest.mark.slow
def test_what_one_process_raises_is_raised_and_what_watches_raises_ends_all(
    study: Path, planned: Callable[..., Run]
) -> None:
    wild = planned(learning_rate=3e38, warmup_steps=0, decay_steps=0)
    with pytest.raises(Diverged, match=f"run {wild.id} diverged"):
        train(wild, study, options=DDP)
    assert place_of(study, wild).status()["cause"] == "diverged"
    run = planned()
    with pytest.raises(KeyboardInterrupt):
        train(run, study, options=DDP, on_progress=stop_at(0, KeyboardInterrupt()))
    assert children() == []
    assert place_of(study, run).result() is None


@pytest.mark.slow
def test_a_loss_that_rises_ends_a_run_on_two_processes_where_it_ends_one(
    study: Path, planned: Callable[..., Run], tmp_path: Path
) -> None:
    """Each decides by itself, at the same step; what it tells names the last good one."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "corpus").symlink_to(study / "corpus")
    run = planned(learning_rate=RISING, steps=400, decay_steps=10, batch_size=2)
    with pytest.raises(Diverged, match="above its lowest mean") as alone:
        train(run, other, options=ALONE, cadence=CADENCE)
    for options in (DDP, FSDP):
        with pytest.raises(Diverged) as together:
            train(run, study, options=options, cadence=CADENCE)
        at = [str(error.value).split("; ")[0].rsplit(", at ")[1] for error in (alone, together)]
        assert at[0] == at[1]
        status = place_of(study, run).status()
        assert (status["state"], status["cause"], status["message"]) == ("failed", "diverged", str(together.value))
        assert children() == []
        shutil.rmtree(place_of(study, run).root)


def test_devices_that_do_not_divide_a_step_are_refused_before_anything_is_written(
    study: Path, planned: Callable[..., Run]
) -> None:
    run = planned(batch_size=3)
    with pytest.raises(InputError, match=f"each of a run's 2 devices, but run {run.id} has 3 in all"):
        train(run, study, options=DDP)
    assert [path.name for path in study.iterdir()] == ["corpus"]
    with pytest.raises(InputError, match="devices >= 1 must hold, but got 0"):
        Options(devices=0)


def test_a_job_is_read_back_equal(study: Path, planned: Callable[..., Run]) -> None:
    job = Job(planned(mixture=(("speech", 0.5),)), study.resolve(), CADENCE, "cpu", 2, FSDP)
    assert Job.from_json(job.to_json()) == job
