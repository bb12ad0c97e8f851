"""Every command that the README and the site's pages show is executed, in a folder laid out like a checkout.

A page is a script: its fenced blocks without a language, from the first line to the last, in a folder that is its own.
What is scaled down, and nothing else:

- A study that is *trained* (``run``; ``tune``, with as few trials as it takes) is one of six runs of a moment, or of
  four in two arms, under the same name; whatever looks at what training leaves (``status``, ``logs``, ``retry``,
  ``export``, ``corpus``) looks at that one, and a run that is named is replaced by the first of these, once it is sure
  that the study shown has a run of that name.
- What reads *losses* (``fit``, ``report``, ``recommend``, ``audit``) reads a rehearsal of the study shown, all its runs
  on losses of a known law: the six have none. ``rehearse`` pretends to take 0.2 seconds.
- Codecs whose weights nobody ships give way to the one that is fitted, and that one is small.
- ``make`` is asked what it would do (``make -n``).
- What needs a cluster or GPUs (`elsewhere`) has its options checked here; a test marked ``slurm`` does the tutorial
  for real.

Recordings and tables that pages name (``speech.csv``, ``sweep.csv`` …) are made here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

import isoflop
from isoflop import workflow
from isoflop.cli import main
from isoflop.planning.prior import published
from isoflop.study import Study

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "launchers" / "dev-slurm" / "cluster.sh"
#: Away from those of the tests of launching; each test process has ports of its own.
PORT = 20_000 + 30 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
SUBMIT = "docs/tutorials/submit.md"
PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
RATE = 16_000
#: A run by the beginning of its name.
RUN = re.compile(r"d\d+-l\d+-t\d+")
#: A study's directory.
STUDIES = re.compile(r"\bstudies/(demo|my-study)(?=[/\s]|$)")
#: A codec small enough for a few minutes of sound.
SMALL = [f"--codec-set={name}" for name in ("semantic_entries=16", "acoustic_entries=8", "acoustic_codebooks=2")]
#: What the six believe beforehand, where they choose their cells.
PRIOR = ["--set=grid.prior={budget: 1e8, params: 7000, exponent: 0.5}"]
#: What these read is what training leaves; the others read losses.
TRAINED = ("run", "status", "logs", "retry", "export", "corpus")
STUDY = {
    "data": {"corpus": "../corpora/small"},
    "model": {"sequence_length": 16},
    "recipe": {"base": "tiny", "tokens_per_step": 32, "warmup_steps": 4},
    "grid": {"budgets": [1e8, 2e8], "sizes": [12, 16, 24], "tolerance": 0.05, "min_cells": 3},
    "training": {"validation_tokens": 640, "keep_weights": True},
    "limits": {"epochs": 10},
}


def blocks(text: str, language: str = "") -> Iterator[str]:
    """The fenced blocks of a page that are in a language."""
    for match in re.finditer(r"^```([\w-]*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1] == language:
            yield match[2]


def commands(page: str) -> list[list[str]]:
    """The commands of a page in their order, as words; those of other programs than ours are left away."""
    found = []
    for block in blocks((ROOT / page).read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                if part.lstrip().startswith(("isoflop ", "make ")):
                    found.append(shlex.split(part, comments=True))
    return found


def elsewhere(words: list[str]) -> bool:
    """Whether a command needs SLURM, or GPUs."""
    profile = words[words.index("--launcher") + 1] if "--launcher" in words else ""
    return words[1] == "submit" or Path(profile).name.startswith(("slurm-", "profile", "local-gpus"))


def on_the_cluster(page: str, run: str) -> str:
    """The script of a page for a cluster that is there: the six runs are submitted, the rehearsal is read."""
    lines = []
    for line in "".join(blocks(page)).splitlines():
        verb = line.split()[1] if line.startswith("isoflop ") else ""
        if verb == "rehearse":
            line += " --seconds 1"
        elif verb == "submit":
            line = line.replace("grids/demo.yaml", "small/demo.yaml")
        elif verb in {"fit", "report", "recommend"}:
            line = STUDIES.sub(r"studies/\1-rehearsal", line)
        lines.append(RUN.sub(run, line))
    return "\n".join(lines)


@dataclass
class World:
    """A folder laid out like a checkout, and the command line in it."""

    root: Path
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def isoflop(self, *words: str) -> tuple[int, str]:
        """Exit code and output of the command line."""
        self.patch.chdir(self.root)
        self.patch.setattr(sys, "argv", ["isoflop", *words])
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        said = self.capture.readouterr()
        return int(str(code)), said.out + said.err

    def do(self, words: list[str]) -> tuple[int, str]:
        """A command of a page, scaled down as this module says."""
        if words[0] == "make":
            done = subprocess.run(
                ["make", "-n", *words[1:]], cwd=self.root, capture_output=True, text=True, check=False
            )
            return done.returncode, done.stdout + done.stderr
        verb, arguments = words[1], words[2:]
        if elsewhere(words):
            return self.isoflop(verb, *arguments, "--help")
        if verb == "rehearse":
            arguments = [*arguments, "--seconds=0.2"]
        elif verb == "tokenize":
            arguments = self.tokenized(arguments)
        elif verb in {"run", "tune"}:
            added = ["--trials=7"] if verb == "tune" else PRIOR if "--until" in arguments else []
            arguments = [self.small(arguments[0]), *arguments[1:], *added]
        elif verb in TRAINED:
            arguments = [self.named(each, arguments[0]) for each in arguments]
        elif verb != "plan":
            arguments = [STUDIES.sub(r"studies/\1-rehearsal", each) for each in arguments]
        return self.isoflop(verb, *arguments)

    def tokenized(self, arguments: list[str]) -> list[str]:
        """Without what names a codec with weights."""
        kept = list(arguments)
        for flag in ("--codec", "--codec-set"):
            if flag in kept:
                place = kept.index(flag)
                del kept[place : place + 2]
        return [*kept, *SMALL, "--workers=1"]

    def small(self, shown: str) -> str:
        """The six runs in place of the study shown, which must be one."""
        name = Study.load(self.root / shown).name
        return f"small/{name}.yaml"

    def named(self, word: str, directory: str) -> str:
        """A run of the six in place of one that the study shown has."""
        if word == "studies/demo/corpus":
            return "corpora/small"
        if not RUN.fullmatch(word):
            return word
        name = Path(directory).name
        file = self.root / ("grids/demo.yaml" if name == "demo" else f"{name}/study.yaml")
        assert [run.id for run in workflow.plan(Study.load(file)).runs if run.id.startswith(word)], word
        return min(path.name for path in (self.root / "studies" / name / "runs").iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pages begin with: what a checkout has, what users bring, and studies that were run."""
    root = tmp_path_factory.mktemp("world") / "checkout"
    for name in ("grids", "launchers"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "Makefile", root)
    (root / "pyproject.toml").touch()
    (root / "constraints.txt").touch()
    bring_speech(root)
    bring_points(root)
    for call in (
        ["tokenize", "speech.csv", "--out", "corpora/small", "--holdout", "0.3", "--workers", "1", *SMALL],
        ["run", "small/demo.yaml"],
        ["rehearse", "grids/demo.yaml", "--seconds", "0.2"],
        ["fit", "studies/demo-rehearsal", "--out", "law.json"],
    ):
        command = [sys.executable, "-P", "-m", "isoflop", *call]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    # Equal runs have equal ids, whatever their study is called: the same six are the other study's.
    shutil.copytree(root / "studies" / "demo", root / "studies" / "my-study")
    file = root / "studies" / "my-study" / "study.yaml"
    file.write_text(file.read_text().replace("name: demo", "name: my-study"))
    return root


def bring_speech(root: Path) -> None:
    """A manifest of words that are chords, an article, and the studies that train on them."""
    generator = np.random.default_rng(0)
    pitches = {"low": 120, "mid": 200, "high": 320, "up": 450, "top": 600}
    time = np.arange(round(0.3 * RATE)) / RATE
    rows = ["path,text,id"]
    (root / "clips").mkdir()
    for number in range(100):
        words = generator.choice(list(pitches), 5)
        tones = [np.sin(2 * np.pi * pitches[word] * time) for word in words]
        wave = 0.4 * np.concatenate([tone * np.hanning(len(time)) for tone in tones])
        soundfile.write(root / "clips" / f"{number}.wav", wave + 0.01 * generator.standard_normal(len(wave)), RATE)
        rows.append(f"clips/{number}.wav,{' '.join(words)},{'some-id' if number == 3 else f'clip-{number}'}")
    (root / "speech.csv").write_text("\n".join(rows) + "\n")
    articles = [
        {"id": name, "text": "low and mid and high, up and top"} for name in ("first", *map(str, range(2, 100)))
    ]
    (root / "articles.jsonl").write_text("".join(json.dumps(each) + "\n" for each in articles))
    (root / "small").mkdir()
    for name in ("demo", "digits", "my-study"):
        (root / "small" / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **STUDY}))
    shares = {"text_share": {"key": "data.text_share", "values": [0, 0.5]}}
    grid = {**STUDY["grid"], "budgets": [1e8], "sizes": [16], "seeds": 2}
    content = {"name": "text-share", **STUDY, "grid": grid, "axes": shares}
    (root / "small" / "text-share.yaml").write_text(yaml.safe_dump(content))


def bring_points(root: Path) -> None:
    """Tables of points on Chinchilla's surface, under the names that pages give them."""
    surface = published("besiroglu2024").surface
    assert surface is not None

    def points(budgets: np.ndarray, seed: int) -> pd.DataFrame:
        generator = np.random.default_rng(seed)
        flops = np.repeat(budgets, 7)
        best = (surface.alpha * surface.A / (surface.beta * surface.B)) ** (1 / (surface.alpha + surface.beta))
        best *= (flops / 6) ** (surface.beta / (surface.alpha + surface.beta))
        params = best * np.tile(np.geomspace(0.3, 3, 7), len(budgets))
        tokens = flops / (6 * params)
        loss = surface.loss(params, tokens) * np.exp(0.002 * generator.standard_normal(len(flops)))
        return pd.DataFrame({"flops": flops, "params": params, "tokens": tokens, "loss": loss})

    sweep = points(np.geomspace(1e18, 1e20, 5), 0)
    points(np.geomspace(2e20, 4e20, 2), 1).to_csv(root / "later.csv", index=False)
    sweep.drop(columns="tokens").to_csv(root / "no-tokens.csv", index=False)
    table = sweep.rename(columns={"loss": "eval/loss"})
    table.assign(Name=[f"run-{n}" for n in table.index], State="finished").to_csv(root / "wandb.csv", index=False)
    foreign = sweep.rename(columns={"flops": "Training FLOP", "params": "Model Size", "loss": "nll"})
    both = [foreign.assign(dataset="speech"), foreign.assign(dataset="text", nll=foreign["nll"] * 1.1)]
    pd.concat(both).to_csv(root / "sweep.csv", index=False)


@pytest.fixture
def world(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> World:
    shutil.copytree(made, tmp_path / "checkout", symlinks=True)
    return World(tmp_path / "checkout", capsys, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_commands_of_a_page_do_what_they_say(page, world):
    heard = ""
    for words in commands(page):
        code, said = world.do(words)
        assert code == 0, f"{page}: {shlex.join(words)}\nexit code {code}\n{said}"
        heard += said
    for shown in blocks((ROOT / page).read_text(encoding="utf-8"), "text"):
        assert shown in heard, f"{page} shows what is not printed any more:\n{shown}"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/how-to/points.md"])
def test_the_python_of_a_page_runs(page, world, monkeypatch, capsys):
    """`isoflop.run` reads the rehearsal in place of training for minutes."""
    monkeypatch.chdir(world.root)
    monkeypatch.setattr(isoflop, "run", lambda study: workflow.read(Path("studies") / f"{study.name}-rehearsal"))
    (code,) = blocks((ROOT / page).read_text(encoding="utf-8"), "python")
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out


def test_the_python_of_the_reference_is_the_readmes():
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/reference/api.md")]
    assert len({block for page in pages for block in blocks(page, "python")}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "isoflop advise",
        "isoflop plan grids/demo.yaml --forecasts",
        "isoflop plan grids/none.yaml",
        "isoflop submit grids/demo.yaml --launcher launchers/slurm-gpu.yaml --bird",
        "isoflop tokenize none.csv --out corpora/none",
        "make tea",
    ],
)
def test_a_command_that_is_wrong_is_found(command, world):
    """What this module is for: a verb, an option, a file, a target that are not there."""
    assert world.do(command.split())[0] == 2


@pytest.mark.slow
@pytest.mark.slurm
def test_the_tutorial_of_submitting_works_on_a_cluster(world):
    """As a shell would do it, from starting a cluster to stopping it; trained are the six runs."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("a cluster of one's own needs root and Debian")
    shutil.rmtree(world.root / "studies")
    shell = world.root / "bin" / "isoflop"
    shell.parent.mkdir()
    shell.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m isoflop "$@"\n')
    shell.chmod(0o755)
    run = min(each.id for each in workflow.plan(Study.load(world.root / "small" / "demo.yaml")).runs)
    # munge wants a path that all may enter, and short.
    with tempfile.TemporaryDirectory(prefix="isoflop-slurm-") as folder:
        Path(folder).chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{shell.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "DIR": folder,
            "PORT": str(PORT),
            "ACCOUNTING": "0",
        }
        try:
            done = subprocess.run(
                ["bash", "-euxc", on_the_cluster((ROOT / SUBMIT).read_text(encoding="utf-8"), run)],
                cwd=world.root,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        finally:
            subprocess.run([CLUSTER, "down"], env=environment, check=True, capture_output=True)
    points = isoflop.points(world.root / "studies" / "demo")
    assert list(points["state"]) == ["done"] * 6
    assert "the truth was recovered" in done.stdout
