"""Trunks: a branch is the run that it would have been, bit for bit; what is lost costs steps, not the result."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from isoflop.errors import CorruptFileError
from isoflop.planning import trunks as planning
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory, TrunkDirectory, write_json
from isoflop.training import checkpoints, recording
from isoflop.training.data import CorpusSource, Tokens, open_source
from isoflop.training.metrics import Progress
from isoflop.training.module import Cadence
from isoflop.training.run import run as train

CADENCE = Cadence(log=5, checkpoint=10)


class Reading:
    """A corpus that counts the steps that are read."""

    def __init__(self, corpus: CorpusSource) -> None:
        self.corpus, self.steps = corpus, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.corpus, name)

    def batches(self, run: Run) -> Callable[[int], Tokens]:
        batch = self.corpus.batches(run)

        def read(step: int) -> Tokens:
            self.steps += 1
            return batch(step)

        return read


@pytest.fixture
def source(small_corpus: Path) -> Reading:
    return Reading(open_source(small_corpus))


@pytest.fixture
def branches(planned: Callable[..., Run]) -> tuple[Run, Run, Run]:
    """Three runs of a trunk, shortest first; none branches off where a row of metrics ends."""
    return planned(steps=33, decay_steps=7), planned(steps=60, decay_steps=12), planned(steps=91, decay_steps=18)


def share(study: Path, runs: tuple[Run, ...]) -> TrunkDirectory:
    """Write the trunk of `runs`, as a plan is written."""
    (trunk,) = planning.trunks(runs)
    place = StudyDirectory(study).trunk(trunk.id)
    steps = dict(zip(trunk.branches, trunk.branch_steps, strict=True))
    write_json(place.trunk_file, {"id": trunk.id, "branches": steps})
    return place


class Trained:
    """A run trained to its end: the result, the weights and the optimiser's state, the metrics."""

    def __init__(self, run: Run, study: Path, source: Reading | None = None) -> None:
        place = StudyDirectory(study).run(run.id)
        self.state: list[torch.Tensor] = []

        def keep(progress: Progress) -> None:
            if progress.step == run.steps:
                newest = checkpoints.load_newest(place.checkpoints, run.id)
                assert newest is not None
                moments = [value for state in newest.optimizer["state"].values() for value in state.values()]
                self.state = [*newest.model.values(), *moments]

        self.result = train(run, study, source=source, on_progress=keep, cadence=CADENCE)
        self.metrics = place.metrics_file.read_text(encoding="utf-8")

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Trained)
        losses = [{key: value for key, value in each.result.items() if "loss" in key} for each in (self, other)]
        assert self.state
        assert other.state
        return (
            losses[0] == losses[1]
            and self.metrics == other.metrics
            and all(torch.equal(one, another) for one, another in zip(self.state, other.state, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def alone(tmp_path: Path, small_corpus: Path, source: Reading) -> Callable[[Run], Trained]:
    """Train a run by itself, from its start."""
    numbers = itertools.count()

    def make(run: Run) -> Trained:
        root = tmp_path / f"alone-{next(numbers)}"
        root.mkdir()
        (root / "corpus").symlink_to(small_corpus)
        trained = Trained(run, root, source)
        assert trained.result["shared_steps"] == 0
        return trained

    return make


@pytest.mark.parametrize(
    ("order", "shared"), [((2, 0, 1), [0, 26, 48]), ((0, 1, 2), [0, 26, 48]), ((1, 2, 0), [0, 48, 26])]
)
def test_branches_equal_runs_that_were_trained_alone_and_the_trunk_is_trained_once(
    study: Path,
    branches: tuple[Run, ...],
    source: Reading,
    alone: Callable[[Run], Trained],
    order: tuple[int, ...],
    shared: list[int],
) -> None:
    expected = {run.id: alone(run) for run in branches}
    trunk, source.steps = share(study, branches), 0
    for place, begun in zip(order, shared, strict=True):
        trained = Trained(branches[place], study, source)
        assert trained == expected[branches[place].id]
        assert trained.result["shared_steps"] == begun
        assert trained.result["resumed"] == 0
    # What the plan says: the stable part of the longest, and every decay.
    assert source.steps == sum(planning.own_steps(branches).values()) == 73 + 18 + 12 + 7
    assert trunk.stored() == {26, 48, 73}


def test_a_run_equals_itself_alone_only(
    branches: tuple[Run, ...], alone: Callable[[Run], Trained], planned: Callable[..., Run]
) -> None:
    assert alone(branches[0]) != alone(planned(steps=33, decay_steps=8))


def test_a_branch_that_is_added_later_starts_from_the_nearest(
    study: Path,
    branches: tuple[Run, ...],
    source: Reading,
    alone: Callable[[Run], Trained],
    planned: Callable[..., Run],
) -> None:
    share(study, branches[:2])
    for run in branches[:2]:
        Trained(run, study, source)
    late = planned(steps=45, decay_steps=9)
    trunk = share(study, (late, *branches))
    for run, begun in ((branches[2], 48), (late, 26)):
        trained = Trained(run, study, source)
        assert trained.result["shared_steps"] == begun
        assert trained == alone(run)
    # The run that branches off at 36 kept its own; the one that had passed there before could not.
    assert trunk.stored() == {26, 36, 48, 73}


@pytest.mark.parametrize("damage", ["delete", "flip", "truncate"])
def test_a_lost_or_corrupt_checkpoint_is_made_again_and_not_trusted(
    study: Path, branches: tuple[Run, ...], source: Reading, alone: Callable[[Run], Trained], damage: str
) -> None:
    trunk = share(study, branches)
    Trained(branches[2], study, source)
    (victim,) = trunk.checkpoints.glob("step-00000048-*")
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "delete":
        victim.unlink()
    else:
        victim.write_bytes(content if damage == "flip" else content[:-9])
    trained = Trained(branches[1], study, source)
    assert trained == alone(branches[1])
    assert trained.result["shared_steps"] == 26
    assert trained.result["corrupt_checkpoints"] == ([] if damage == "delete" else [victim.name])
    assert trunk.stored() == {26, 48, 73}
    assert all(path.name.startswith("step-") for path in trunk.checkpoints.iterdir())
    StudyDirectory(study).run(branches[1].id).result_file.unlink()
    # What it made anew is its own work, and stands.
    source.steps = 0
    assert Trained(branches[1], study, source).result["shared_steps"] == 26
    assert source.steps == branches[1].steps - 48


def test_a_checkpoint_of_another_trunk_is_refused_by_name(
    study: Path, branches: tuple[Run, ...], source: Reading, planned: Callable[..., Run]
) -> None:
    others = planned(seed=1, steps=33, decay_steps=7), planned(seed=1)
    trunk, foreign = share(study, branches), share(study, others)
    Trained(others[1], study, source)
    foreign.checkpoints.rename(trunk.checkpoints)
    with pytest.raises(CorruptFileError, match=rf"step-000000.*of the run {branches[1].trunk}, but is one of"):
        train(branches[1], study, source=source)


def interrupt(run: Run, study: Path, source: Reading, step: int) -> None:
    """Train `run` until somebody stops it at `step`, or the first row of metrics after it."""

    def stop(progress: Progress) -> None:
        if progress.step >= step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, study, source=source, on_progress=stop, cadence=CADENCE)


def test_a_run_goes_on_from_its_own_checkpoint_or_its_trunks_whichever_is_further(
    study: Path,
    branches: tuple[Run, ...],
    source: Reading,
    alone: Callable[[Run], Trained],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)
    share(study, branches)

    interrupt(branches[1], study, source, 15)
    Trained(branches[2], study, source)
    # From the trunk's 48, though its own stands at 10; then from its own at 50, which remembers.
    interrupt(branches[1], study, source, 50)
    assert StudyDirectory(study).run(branches[1].id).status()["step"] == 50
    source.steps = 0
    trained = Trained(branches[1], study, source)
    assert source.steps == 10
    assert (trained.result["shared_steps"], trained.result["resumed"]) == (48, 1)
    assert trained == alone(branches[1])


def test_who_stops_at_a_branch_goes_on_from_what_it_left_there_as_from_its_own(
    study: Path,
    branches: tuple[Run, ...],
    source: Reading,
    alone: Callable[[Run], Trained],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)
    share(study, branches)

    interrupt(branches[2], study, source, branches[1].branch_step)
    half_written = StudyDirectory(study).run(branches[2].id).checkpoints / "trunk" / ".step-00000080-0.pt.x"
    half_written.parent.mkdir(exist_ok=True)
    half_written.touch()
    source.steps = 0
    trained = Trained(branches[2], study, source)
    assert source.steps == branches[2].steps - branches[1].branch_step
    assert (trained.result["shared_steps"], trained.result["resumed"]) == (0, 1)
    assert trained == alone(branches[2])
    assert not half_written.exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_in_the_trunk_and_in_a_branch_they_end_in_the_same_bits(
    study: Path,
    source: Reading,
    planned: Callable[..., Run],
    alone: Callable[[Run], Trained],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = planned(steps=700, decay_steps=400, seed=seed), planned(steps=900, decay_steps=180, seed=seed)
    expected = [alone(run) for run in runs]
    trunk = share(study, runs)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["isoflop.training.run"])
    moments = random.Random(seed)
    for run, alone_one, begun in ((runs[1], expected[1], 0), (runs[0], expected[0], 300)):
        place = StudyDirectory(study).run(run.id)
        reached = 0
        for _ in range(2):
            process = context.Process(target=train, args=(run, study), kwargs={"cadence": CADENCE})
            process.start()
            deadline = time.monotonic() + 60
            while _newest(place.checkpoints) <= reached:
                assert process.exitcode is None, "the run ended before it could be killed"
                assert time.monotonic() < deadline, "the run made no progress"
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.1))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            assert not place.result_file.exists()
            reached = _newest(place.checkpoints)
        trained = Trained(run, study, source)
        assert trained == alone_one
        assert trained.result["shared_steps"] == begun
        left = {"run.json", "status.json", "metrics.csv", "validation.csv", "result.json"}
        assert {path.name for path in place.root.iterdir()} == left
    assert trunk.stored() == {300, 720}
    assert {path.name.split("-")[0] for path in trunk.checkpoints.iterdir()} == {"step"}


def _newest(folder: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in folder.glob("step-*.pt")), default=0)


def test_what_a_run_that_was_cancelled_left_of_the_trunk_is_a_beginning_for_the_others(
    study: Path,
    branches: tuple[Run, ...],
    source: Reading,
    alone: Callable[[Run], Trained],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)
    trunk = share(study, branches)
    interrupt(branches[2], study, source, 43)
    left = StudyDirectory(study).run(branches[2].id)
    assert trunk.stored() == {26}
    assert _newest(left.checkpoints) == 40
    source.steps = 0
    trained = Trained(branches[1], study, source)
    assert trained.result["shared_steps"] == 40
    assert source.steps == 20
    assert trained == alone(branches[1])
    assert trained.result["resumed"] == 0
    # Whoever left it carries on as if nothing had been: from its branch's checkpoint, which is further by now.
    assert Trained(branches[2], study, source) == alone(branches[2])


@pytest.mark.parametrize("trouble", ["rows", "corrupt", "decay"])
def test_what_another_run_left_is_used_only_if_it_is_whole_and_of_the_stable_part(
    study: Path,
    branches: tuple[Run, ...],
    source: Reading,
    alone: Callable[[Run], Trained],
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)
    share(study, branches)
    victim, heir = (branches[0], branches[1]) if trouble == "decay" else (branches[2], branches[1])
    # The shortest decays from 26 on: what it has at 30 is of no use to others.
    interrupt(victim, study, source, 30 if trouble == "decay" else 43)
    left = StudyDirectory(study).run(victim.id)
    begun = 26
    if trouble == "rows":
        left.metrics_file.unlink()
    elif trouble == "corrupt":
        newest = max(left.checkpoints.glob("step-*.pt"))
        newest.write_bytes(newest.read_bytes()[:-9])
        begun = 30
    trained = Trained(heir, study, source)
    assert trained.result["shared_steps"] == begun
    assert trained.result["corrupt_checkpoints"] == ([newest.name] if trouble == "corrupt" else [])
    assert trained == alone(heir)


def test_who_trains_the_trunk_notices_a_branch_that_is_added_meanwhile(
    study: Path,
    branches: tuple[Run, ...],
    source: Reading,
    alone: Callable[[Run], Trained],
    planned: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)
    late = planned(steps=45, decay_steps=9)
    trunk = share(study, branches)

    def add(progress: Progress) -> None:
        if progress.step >= 15:
            share(study, (late, *branches))

    train(branches[2], study, source=source, on_progress=add, cadence=CADENCE)
    assert trunk.stored() == {26, 36, 48, 73}
    trained = Trained(late, study, source)
    assert trained.result["shared_steps"] == 36
    assert trained == alone(late)
