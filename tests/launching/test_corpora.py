"""Corpora made by tasks of a real SLURM cluster: the same bytes as made here, whoever dies."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from isoflop.errors import InputError
from isoflop.launching import corpora
from isoflop.launching.profiles import SlurmProfile, parse_profile
from isoflop.tokens.shards import Corpus

from .conftest import until

SMALL = [f"--codec-set={name}" for name in ("semantic_entries=8", "acoustic_entries=8", "acoustic_codebooks=2")]


@pytest.fixture
def call(tmp_path):
    """Twelve songs with what is sung, and how to tokenise them: arguments up to the folder of the corpus."""
    folder = tmp_path / "songs"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(12):
        with wave.open(str(folder / f"{number:02}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((3000 * generator.standard_normal(16_000)).astype("<i2").tobytes())
        (folder / f"{number:02}.txt").write_text(f"song number {number}")
    return ["tokenize", folder, *SMALL, "--clips-per-shard", 2, "--holdout", 0.25, "--json", "--out"]


def files_of(directory: Path) -> dict[str, bytes]:
    """What a corpus consists of."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.slurm
@pytest.mark.slow
def test_tasks_make_what_one_machine_makes_and_carry_on_where_others_died(cluster, profile, call, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    json.loads(cluster.isoflop(*call, here))
    path = profile(classes=[{"workers": 1}], max_parallel=3)
    cluster.slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    said = json.loads(cluster.isoflop(*call, there, "--launcher", path))
    assert (said["submitted"]["tasks"], said["shards_left"], said["tokenized"]) == (3, 6, 0)
    # Called again while they wait, it submits no more; a task that is gone is replaced.
    again = json.loads(cluster.isoflop(*call, there, "--launcher", path))["submitted"]
    assert (again["tasks"], again["waiting"]) == (0, 3)
    cluster.slurm("scancel", f"{said['submitted']['job']}_1")
    until(lambda: len(cluster.tasks()) == 2, 20, "the task must be gone")
    again = json.loads(cluster.isoflop(*call, there, "--launcher", path))["submitted"]
    assert (again["tasks"], again["waiting"]) == (1, 2)
    cluster.slurm("scontrol", "update", "PartitionName=main", "State=UP")
    until(lambda: Corpus.stands(there), 90, "the corpus must be made")
    cluster.wait(60)
    assert files_of(there) == files_of(here)
    done = json.loads(cluster.isoflop(*call, there, "--launcher", path))
    assert (done["tokenized"], done["shards_left"], done["submitted"]["tasks"]) == (12, 0, 0)
    logs = "".join(log.read_text() for log in tmp_path.glob("there.tasks/*/log/*.out"))
    assert "0 shards are left" in logs


def test_a_corpus_that_nobody_began_is_refused(tmp_path):
    profile = parse_profile({"launcher": "slurm"}, "profile")
    assert isinstance(profile, SlurmProfile)
    with pytest.raises(InputError, match="a tokenisation must have begun"):
        corpora.submit(tmp_path, profile)
    assert not list(tmp_path.iterdir())
