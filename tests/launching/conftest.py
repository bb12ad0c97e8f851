"""Real SLURM clusters on this machine, and studies whose runs only pretend to train."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from isoflop import store, table_files, workflow
from isoflop.claims import Claims
from isoflop.launching.profiles import SlurmProfile, parse_profile
from isoflop.launching.states import states
from isoflop.launching.synthetic import Conditions
from isoflop.planning import prior
from isoflop.planning.plan import Plan
from isoflop.store import StudyDirectory
from isoflop.study import Study

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "launchers" / "dev-slurm" / "cluster.sh"
#: Ports of the first cluster of this process; each takes 30, each test process 300.
FIRST_PORT = 21_000 + 300 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@dataclass
class Cluster:
    """A cluster of four nodes of eight cores."""

    environment: dict[str, str]
    #: What the commands that tests start see.
    shell: dict[str, str] = field(default_factory=dict)

    def call(self, *arguments: str) -> str:
        """Run the cluster's script."""
        done = subprocess.run([CLUSTER, *arguments], env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def slurm(self, *command: str, text: str | None = None) -> str:
        """Run one of SLURM's commands."""
        done = subprocess.run(command, env=self.shell, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def isoflop(self, *arguments: object, code: int = 0) -> str:
        """Run the command line in a process of its own; its standard output, or its errors where it fails."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "isoflop", *map(str, arguments)],
            env=self.shell,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def submit(self, place: StudyDirectory, profile: Path) -> dict:
        """``isoflop submit``."""
        return json.loads(self.isoflop("submit", place.root, "--launcher", profile, "--json"))

    def tasks(self) -> list[str]:
        """Ids of what is in the queue and has not ended, workers and fits."""
        return self.slurm("squeue", "--noheader", "--array", "--format=%i").split()

    def wait(self, seconds: float) -> None:
        """Wait until the queue is empty."""
        until(lambda: not self.tasks(), seconds, f"the queue must be empty within {seconds} s, but: {self.tasks()}")

    def clear(self) -> None:
        """Empty the queue."""
        self.slurm("scancel", "--user", "root")
        self.wait(60)


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for `condition`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.fixture(scope="session")
def clusters() -> Iterator[Callable[..., Cluster]]:
    """Start a cluster; knobs by name. All are stopped in the end."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("a cluster of one's own needs root and Debian")
    started: list[Cluster] = []

    def start(**knobs: object) -> Cluster:
        # munge wants a path that all may enter, and short: pytest's own are neither.
        folder = Path(tempfile.mkdtemp(prefix="isoflop-slurm-"))
        folder.chmod(0o755)
        port = FIRST_PORT + 30 * len(started)
        named = {"DIR": folder, "PORT": port, "ACCOUNTING": 0, "MAX_ARRAY": 10, **knobs}
        cluster = Cluster({**os.environ, **{name: str(value) for name, value in named.items()}})
        started.append(cluster)
        cluster.call("up")
        cluster.shell = {
            **os.environ,
            "SLURM_CONF": str(folder / "etc" / "slurm.conf"),
            "PYTHONPATH": str(ROOT),
        }
        return cluster

    yield start
    for cluster in started:
        cluster.call("down")
        shutil.rmtree(cluster.environment["DIR"])


@pytest.fixture(scope="module")
def cluster_of_module(clusters: Callable[..., Cluster]) -> Cluster:
    """One cluster for a module's tests: no accounting, arrays of ten tasks."""
    return clusters()


@pytest.fixture
def cluster(cluster_of_module: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The same with an empty queue before and after, and seen by this process."""
    monkeypatch.setenv("SLURM_CONF", cluster_of_module.shell["SLURM_CONF"])
    yield cluster_of_module
    cluster_of_module.clear()


@dataclass
class Pretended:
    """A study whose runs pretend."""

    place: StudyDirectory
    plan: Plan
    conditions: Conditions

    @property
    def states(self) -> Counter[str]:
        """Runs by state."""
        return Counter(run.state for run in states(self.place))

    def wait(self, seconds: float, **expected: int) -> None:
        """Wait until every run is in one of the expected states, each as often as it says."""
        until(lambda: self.states == expected, seconds, f"expected {expected} within {seconds} s")

    def outcomes(self) -> dict[str, list[str]]:
        """How each attempt at each run ended; ``open`` for one that has not."""
        claims = Claims(self.place.root)
        history = {run.id: claims.history(run.id) for run in self.plan.runs}
        return {
            run: ["open" if claim.end is None else claim.end["outcome"] for claim in found]
            for run, found in history.items()
        }

    def check_done_once(self) -> None:
        """Every run is done, and was worked on once."""
        assert self.states == {"done": len(self.plan.runs)}
        # A result stands a moment before its claim is ended.
        until(lambda: all("open" not in ends for ends in self.outcomes().values()), 10, "every claim must be ended")
        assert set(map(tuple, self.outcomes().values())) == {("done",)}


@pytest.fixture
def pretended(tmp_path: Path) -> Callable[..., Pretended]:
    """Make a study of some runs that take that many seconds each, in four trunks if they are to share any."""

    def make(runs: int = 8, seconds: float = 0.2, fail: float = 0.0, seed: int = 0, shared: bool = False) -> Pretended:
        budgets = [1e9 * (1 + 0.03 * number) for number in range(-(-runs // 4))]
        study = Study.parse(
            {
                "name": "pretended",
                "data": {"abstract": {"vocabulary": 40, "unique_tokens": 1e12}},
                "model": {"sequence_length": 16},
                "recipe": {
                    "base": "tiny",
                    "tokens_per_step": 32,
                    "warmup_steps": 4,
                    # A decay all the way leaves nothing stable to share.
                    "decay_fraction": 0.2 if shared else 1.0,
                },
                "grid": {"budgets": budgets, "sizes": [8, 12, 16, 24], "tolerance": 0.05, "min_cells": 1},
                "training": {"validation_tokens": 640},
            }
        )
        planned = workflow.plan(study)
        assert len(planned.runs) == 4 * len(budgets)
        assert len(planned.trunks) == 4 * shared
        place = StudyDirectory(tmp_path / "study")
        conditions = Conditions(prior.published("soda-surface"), planned.cost, 0.003, fail, seed, seconds / 1e9)
        store.write_json(place.rehearsal_file, conditions.to_json())
        store.write_text(place.study_file, study.to_yaml())
        for run in planned.runs:
            store.write_json(place.run(run.id).run_file, run.to_dict())
        table_files.write_table(place.plan_file, planned.table())
        return Pretended(place, planned, conditions)

    return make


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., Path]:
    """Write a profile for the cluster; keywords replace sections."""

    def make(**sections: object) -> Path:
        content = {
            "launcher": "slurm",
            "options": {"time": "10", "cpus_per_task": 2, "mem": "300MB"},
            "classes": [{"workers": 2}],
            "fit": {"cpus_per_task": 1},
            "max_parallel": 4,
            **sections,
        }
        path = tmp_path / "profile.yaml"
        path.write_text(yaml.safe_dump(content))
        assert isinstance(parse_profile(content, "profile"), SlurmProfile)
        return path

    return make


@dataclass
class OwnTrainer:
    """A folder with a study and the code of its trainer, and where the study lives."""

    folder: Path
    place: StudyDirectory

    def study(self, trainer: object, **sections: object) -> Study:
        """Write the study file, and load it: eight sizes, three budgets, 6ND FLOPs a sample."""
        sizes = [round(2000 * 1.4**number) for number in range(8)]
        content = {
            "name": "own",
            "trainer": trainer,
            "data": {"external": "made-up"},
            "recipe": {
                "base": "tiny",
                "tokens_per_step": 100,
                "learning_rate": 0.01,
                "warmup_steps": 0,
                "ladder": [{"name": f"m{n}", "params": n, "flops_per_sample": 6 * n} for n in sizes],
            },
            "grid": {"budgets": [3e8, 6e8, 1.2e9], "tolerance": 0.05},
            **sections,
        }
        path = self.folder / "study.yaml"
        path.write_text(yaml.safe_dump(content))
        return Study.load(path)

    def code(self, text: str) -> str:
        """Write a module with a name of its own; returns the name."""
        name = f"own_{secrets.token_hex(6)}"
        (self.folder / f"{name}.py").write_text(text)
        return name


@pytest.fixture
def own_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnTrainer:
    """A place for a study with a trainer of its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "code"
    folder.mkdir()
    return OwnTrainer(folder, StudyDirectory(tmp_path / "studies" / "own"))
