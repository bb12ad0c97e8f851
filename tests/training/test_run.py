from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch.optim import AdamW

from isoflop.errors import CorruptFileError, Diverged, InputError, Interrupted, RunError
from isoflop.planning.runs import Run
from isoflop.store import RunDirectory, StudyDirectory, read_json
from isoflop.training import checkpoints, recording
from isoflop.training.data import open_source
from isoflop.training.metrics import Progress
from isoflop.training.model import Decoder
from isoflop.training.module import Cadence, TrainingModule
from isoflop.training.run import run as train

CADENCE = Cadence(log=5, checkpoint=10)
#: What a finished run leaves.
LEFT = {"run.json", "status.json", "metrics.csv", "validation.csv", "result.json"}


class Interruption(Exception):  # noqa: N818 - like KeyboardInterrupt
    """An interruption from outside."""


def place_of(study: Path, run: Run) -> RunDirectory:
    return StudyDirectory(study).run(run.id)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def finished(run: Run, study: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], str]:
    """Train to the end: the result, the weights, the metrics."""
    weights: dict[str, torch.Tensor] = {}

    def keep(progress: Progress) -> None:
        if progress.step == run.steps:
            newest = checkpoints.load_newest(place_of(study, run).checkpoints, run.id)
            assert newest is not None
            weights.update(newest.model)

    result = train(run, study, on_progress=keep, cadence=CADENCE)
    return result, weights, place_of(study, run).metrics_file.read_text(encoding="utf-8")


def losses(result: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in result.items() if name.startswith("loss")}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell the progress after every chunk."""
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)


def test_a_run_leaves_its_result_status_and_metrics(study: Path, planned: Callable[..., Run]) -> None:
    run = planned()
    seen: list[Progress] = []
    result = train(run, study, on_progress=seen.append, cadence=CADENCE)
    place = place_of(study, run)
    assert files(place.root) == LEFT
    assert place.result() == result
    assert place.status()["state"] == read_json(place.status_file)["state"] == "done"
    assert StudyDirectory(study).load_run(run.id) == run
    assert {key: result[key] for key in ("run", "tokens", "steps", "resumed", "validation_tokens", "threads")} == {
        "run": run.id,
        "tokens": 60 * 2 * 16,
        "steps": 60,
        "resumed": 0,
        "validation_tokens": 640,
        "threads": 1,
    }
    assert result["flops"] == run.flops
    assert result["params"]["total"] == run.shape.parameters.total
    assert set(losses(result)) == {
        f"loss{kind}" for kind in ("", "_text", "_control", "_semantic", "_acoustic_1", "_acoustic_2", "_acoustic")
    }
    assert result["tokens_per_second"] == pytest.approx(run.tokens / result["seconds"])
    metrics = pd.read_csv(place.metrics_file)
    assert metrics["step"].tolist() == list(range(5, 61, 5))
    assert metrics["tokens"].tolist() == [step * 32 for step in range(5, 61, 5)]
    assert metrics["learning_rate"].tolist() == [0.02 * run.schedule.factor(step - 1) for step in range(5, 61, 5)]
    assert metrics["loss"].iloc[-1] < metrics["loss"].iloc[0] - 0.3
    assert seen[-1].step == seen[-1].steps == 60
    assert seen[-1].loss == metrics["loss"].iloc[-1]


def test_the_loss_is_that_of_the_final_weights_on_the_held_out_tokens(study: Path, planned: Callable[..., Run]) -> None:
    run = planned()
    result, weights, _ = finished(run, study)
    model = Decoder(run.shape, run.seed)
    model.load_state_dict(weights)
    tokens = torch.from_numpy(open_source(study / "corpus").validation(run))
    with torch.no_grad():
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert result["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_checkpoints_that_a_kill_left_beside_a_result_are_removed(study: Path, planned: Callable[..., Run]) -> None:
    run = planned()
    result, place = train(run, study), place_of(study, run)
    place.checkpoints.mkdir()
    (place.checkpoints / "step-00000060-0123456789abcdef.pt").write_bytes(b"?")
    assert train(run, study) == result
    assert not place.checkpoints.exists()


def test_a_finished_run_is_not_trained_again(study: Path, planned: Callable[..., Run]) -> None:
    run = planned()
    result = train(run, study)
    before = {path: path.stat().st_mtime_ns for path in place_of(study, run).root.iterdir()}
    assert train(run, study, source=None, on_progress=pytest.fail) == result
    assert {path: path.stat().st_mtime_ns for path in place_of(study, run).root.iterdir()} == before


def test_asked_to_stop_it_does_so_at_a_row_with_a_checkpoint_and_goes_on_as_if_it_had_not(
    study: Path, planned: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isoflop.training.recording.STATUS_SECONDS", 0.0)
    run = planned()
    other = tmp_path / "other"
    other.mkdir()
    (other / "corpus").symlink_to(study / "corpus")
    expected = train(run, other, cadence=Cadence(log=20, checkpoint=40))

    def stop(progress: Progress) -> None:
        raise Interrupted("time limit")

    with pytest.raises(Interrupted, match="time limit"):
        train(run, study, on_progress=stop, cadence=Cadence(log=20, checkpoint=40))
    newest = checkpoints.load_newest(place_of(study, run).checkpoints, run.id)
    assert newest is not None
    assert newest.step == 20
    assert losses(train(run, study, cadence=Cadence(log=20, checkpoint=40))) == losses(expected)
    assert place_of(study, run).metrics_file.read_text() == place_of(other, run).metrics_file.read_text()


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(("stops", "resumed"), [((3,), 0), ((10,), 1), ((24, 25), 1), ((60,), 1), ((17, 38, 60), 3)])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    study: Path, tmp_path: Path, planned: Callable[..., Run], stops: tuple[int, ...], resumed: int
) -> None:
    run = planned()
    other = tmp_path / "other"
    other.mkdir()
    (other / "corpus").symlink_to(study / "corpus")
    expected = finished(run, other)
    for stop in stops:
        interrupt_at(stop, run, study)
        assert place_of(study, run).status()["state"] == "running"
    if stops[-1] == 60:
        # All steps are done: what is left is the validation, and the weights are in the checkpoint.
        newest = checkpoints.load_newest(place_of(study, run).checkpoints, run.id)
        assert newest is not None
        told: list[Progress] = []
        result, weights = train(run, study, on_progress=told.append, cadence=CADENCE), newest.model
        assert [progress.step for progress in told] == [60]
        metrics = place_of(study, run).metrics_file.read_text(encoding="utf-8")
    else:
        result, weights, metrics = finished(run, study)
    assert losses(result) == losses(expected[0])
    assert all(torch.equal(weights[name], value) for name, value in expected[1].items())
    assert metrics == expected[2]
    assert result["resumed"] == resumed


def wait_for(condition: Callable[[], bool], process: multiprocessing.process.BaseProcess) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.exitcode is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run made no progress"
        time.sleep(0.005)


#: Whatever a recipe may ask of optimiser, loss and precision beside the default.
RECIPES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "cautious, muP, z-loss, masks": {
        "optimizer": "cautious",
        "learning_rate": 0.005,
        "mup_width": 4,
        "embedding_rate": 2.0,
        "norm_rate": 0.3,
        "z_loss": 1e-3,
        "mask_documents": True,
    },
    "bf16, cosine": {"precision": "bf16", "decay": "cosine", "decay_steps": 494, "final_rate": 0.1},
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_twice_at_any_of_five_moments_a_run_ends_in_the_same_weights_and_loss(
    study: Path, tmp_path: Path, planned: Callable[..., Run], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(**{"steps": 500, "decay_steps": 100, **RECIPES[recipe]})
    expected = finished(run, study)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["isoflop.training.run"])
    moments = random.Random(recipe)
    for number in range(5):
        other = tmp_path / f"killed-{number}"
        other.mkdir()
        (other / "corpus").symlink_to(study / "corpus")
        place, reached = place_of(other, run), 0
        for step in sorted(moments.sample(range(350), 2)):
            process = context.Process(target=train, args=(run, other), kwargs={"cadence": CADENCE})
            process.start()
            least = max(step, reached + 1)
            wait_for(lambda place=place, least=least: _newest_step(place) >= least, process)
            time.sleep(moments.uniform(0, 0.05))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert not place.result_file.exists()
            reached = _newest_step(place)
        result, weights, metrics = finished(run, other)
        assert losses(result) == losses(expected[0])
        assert all(torch.equal(weights[name], value) for name, value in expected[1].items())
        assert metrics == expected[2]
        assert result["resumed"] == 2
        # What the killed processes were writing is gone as well.
        assert files(place.root) == LEFT


def _newest_step(place: RunDirectory) -> int:
    return max((int(path.name.split("-")[1]) for path in place.checkpoints.glob("step-*.pt")), default=0)


@pytest.mark.usefixtures("often")
def test_a_corrupt_newest_checkpoint_costs_steps_but_not_the_result(
    study: Path, tmp_path: Path, planned: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    run, place = planned(), place_of(study, planned())
    other = tmp_path / "other"
    other.mkdir()
    (other / "corpus").symlink_to(study / "corpus")
    expected = finished(run, other)
    interrupt_at(30, run, study)
    newest = max(place.checkpoints.glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1] + b"!")
    result, weights, metrics = finished(run, study)
    assert losses(result) == losses(expected[0])
    assert all(torch.equal(weights[name], value) for name, value in expected[1].items())
    assert metrics == expected[2]
    assert [str(newest) in message for message in caplog.messages] == [True]


@pytest.mark.usefixtures("often")
def test_a_checkpoint_of_another_run_is_refused_by_name(study: Path, planned: Callable[..., Run]) -> None:
    run, other = planned(), planned(seed=1)
    interrupt_at(30, other, study)
    place_of(study, run).root.mkdir()
    place_of(study, other).checkpoints.rename(place_of(study, run).checkpoints)
    with pytest.raises(CorruptFileError, match=rf"step-00000030-.*of the run {run.id}, but is one of {other.id}"):
        train(run, study)
    assert place_of(study, run).result() is None


def interrupt_at(step: int, run: Run, study: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step >= step:
            raise Interruption

    with pytest.raises(Interruption):
        train(run, study, on_progress=interrupt, cadence=CADENCE)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"data": "another-corpus"}, {}, "planned on, another-corpus, but got small-corpus"),
        ({}, {"vocabulary": 99}, "model, 99, but has"),
        ({}, {"sequence_length": 20_000}, r"must hold sequence_length \+ 1 = 20001 tokens, but holds \d+"),
    ],
    ids=["corpus", "vocabulary", "sequence"],
)
def test_tokens_that_a_run_cannot_be_trained_on_are_refused_and_nothing_is_written(
    study: Path, planned: Callable[..., Run], fields: dict[str, Any], shape: dict[str, Any], message: str
) -> None:
    run = planned(**fields)
    with pytest.raises(InputError, match=message):
        train(replace(run, shape=replace(run.shape, **shape)), study)
    assert [path.name for path in study.iterdir()] == ["corpus"]


@pytest.mark.parametrize("steps", [60, 1])
def test_divergence_ends_the_run_with_its_cause(study: Path, planned: Callable[..., Run], steps: int) -> None:
    # In one step the training loss has no time to show it, the held-out loss does.
    run = planned(learning_rate=3e38, steps=steps, warmup_steps=0, decay_steps=0)
    with pytest.raises(Diverged, match=f"run {run.id} diverged") as error:
        train(run, study)
    assert isinstance(error.value, RunError)
    status = place_of(study, run).status()
    assert (status["state"], status["cause"], status["message"]) == ("failed", "diverged", str(error.value))
    assert place_of(study, run).result() is None


@pytest.fixture
def heeding() -> Iterator[None]:
    """Heed Ctrl-C as a terminal's commands do; a shell's background jobs, and so perhaps these tests, ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("often", "heeding")
def test_ctrl_c_is_a_keyboard_interrupt_and_leaves_the_handlers_as_they_were(
    study: Path, planned: Callable[..., Run]
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]

    def press(progress: Progress) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(planned(), study, on_progress=press)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)] == handlers
    assert train(planned(), study)["steps"] == 60


@pytest.mark.usefixtures("often")
def test_a_request_to_end_reaches_who_asked_for_it_and_ends_nothing_by_itself(
    study: Path, planned: Callable[..., Run]
) -> None:
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))

    def ask(progress: Progress) -> None:
        signal.raise_signal(signal.SIGTERM)

    try:
        assert train(planned(), study, on_progress=ask)["steps"] == 60
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(asked) >= 6
    assert set(asked) == {signal.SIGTERM}


def test_a_cluster_s_ranks_are_none_of_a_run_s_business(
    study: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = losses(train(planned(), study))
    place_of(study, planned()).result_file.unlink()
    for name, value in {"JOB_ID": "7", "JOB_NAME": "sweep", "NTASKS": "2", "PROCID": "1", "LOCALID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert losses(train(planned(), study)) == expected
    assert len(place_of(study, planned()).metrics_file.read_text(encoding="utf-8").splitlines()) == 3


def test_many_runs_leave_nothing_behind_in_the_process(
    study: Path, planned: Callable[..., Run], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    source, generator = open_source(study / "corpus"), torch.get_rng_state()
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    resident = {}
    for seed in range(12):
        train(planned(seed=seed), study, source=source)
        if seed in (3, 11):
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
            resident[seed] = pages * resource.getpagesize()
    assert not [thing for thing in gc.get_objects() if type(thing) in (TrainingModule, Decoder, AdamW)]
    # A run that stayed would be some hundred kB each time.
    assert resident[11] - resident[3] < 5e5
    assert torch.equal(torch.get_rng_state(), generator)
    assert {name: logging.getLogger(name).level for name in levels} == levels
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in study.iterdir()} == {"corpus", "runs"}


def test_the_package_itself_loads_no_torch() -> None:
    code = "import sys, isoflop.training; print(sorted({'torch', 'lightning', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
