"""Processes that work for one parent: what they see, what they say, how they fail."""

from __future__ import annotations

import pytest

from isoflop.errors import InputError, RunError
from isoflop.tokens import processes
from isoflop.tokens.processes import Task

#: What the processes here do: write which GPU they see into a file, and say so; or fail.
MODULE = """
import os, sys
from isoflop.errors import InputError
from isoflop.tokens import processes

def main(argument):
    tell = processes.tied()
    with processes.answering():
        if argument == "refuse":
            raise InputError("it must not be asked to refuse")
        if argument == "stumble":
            sys.exit("it fell")
        with open(argument, "w") as file:
            file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "any"))
        tell()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "pretended_work.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return "pretended_work"


def test_each_sees_the_gpu_that_is_its_own(module, tmp_path):
    devices = {"a": "0", "b": "GPU-1234", "c": None}
    tasks = [
        Task(name, module, str(tmp_path / name), tmp_path / f"{name}.log", device) for name, device in devices.items()
    ]
    told = []
    processes.run(tasks, 2, told.append)
    assert sum(told) == 3
    assert {name: (tmp_path / name).read_text() for name in devices} == {"a": "0", "b": "GPU-1234", "c": "any"}


def test_an_answer_is_told_in_its_own_words_and_a_fall_with_the_last_ones(module, tmp_path):
    with pytest.raises(InputError, match=r"^it must not be asked to refuse$"):
        processes.run([Task("the work", module, "refuse", tmp_path / "log")], 1, lambda count: None)
    with pytest.raises(RunError, match=r"^the work ended with status 1: it fell$"):
        processes.run([Task("the work", module, "stumble", tmp_path / "log")], 1, lambda count: None)
