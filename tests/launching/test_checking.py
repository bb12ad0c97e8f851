"""The check of a trainer passes one that keeps the contract, and names what another does not keep."""

from __future__ import annotations

import pytest

from isoflop import workflow
from isoflop.launching.checking import apart, cheapest, check

#: Its loss depends on every step; `KEEP`: checkpoints; `LEAK`: what an interruption costs it; `TELL`: steps a word.
CODE = """
import json, time
from isoflop.files import write_json

KEEP, TELL, LEAK = {keep}, {tell}, {leak}

def train(assignment):
    file = assignment.checkpoints / "state.json"
    state = json.loads(file.read_text()) if file.exists() else {{"step": 0, "sum": 0.0}}
    total = state["sum"] + (LEAK if state["step"] else 0.0)
    for done in range(state["step"] + 1, assignment.steps + 1):
        total += 1 / (done + assignment.seed + 1)
        time.sleep(0.01)
        if done % 10 == 0 and KEEP:
            write_json(file, {{"step": done, "sum": total}}, durable=False)
        if done % TELL == 0:
            assignment.progress(done, total)
    return {{"loss": total, "params": assignment.params}}
"""


def checked(own_trainer, tmp_path, keep=True, tell=5, leak=0.0, code=CODE):
    """What the check finds, by name of the check."""
    study = own_trainer.study(f"{own_trainer.code(code.format(keep=keep, tell=tell, leak=leak))}:train")
    places = apart(tmp_path / "check")
    for place in places:
        workflow.create(place)
        planned = workflow.prepare(study, place, workflow.Watcher())
    steps = []
    found = check(*places, cheapest(planned.runs), lambda done, total: steps.append(done / total))
    assert found.passed == all(each.passed for each in found.checks)
    assert found.to_json()["passed"] == found.passed
    return found, {each.name: each.passed for each in found.checks}, steps


def test_one_that_keeps_the_contract_passes_bit_for_bit(own_trainer, tmp_path):
    found, _, steps = checked(own_trainer, tmp_path)
    assert found.passed, str(found)
    assert len(found.checks) == 7
    assert "bit for bit" in str(found)
    assert "params 2,000 (told), tokens 25,000 (not told)" in str(found)
    assert max(steps) == 1.0


def test_one_that_begins_again_is_found_out(own_trainer, tmp_path):
    found, passed, _ = checked(own_trainer, tmp_path, keep=False)
    assert not passed["resumes after SIGKILL"]
    assert not passed["resumes after being asked to stop"]
    assert passed["ends as if it had never been interrupted"]
    assert "write checkpoints" in str(found)


@pytest.mark.parametrize(("leak", "good"), [(1e-4, True), (0.1, False)])
def test_one_that_ends_elsewhere_is_found_out(own_trainer, tmp_path, leak, good):
    found, passed, _ = checked(own_trainer, tmp_path, leak=leak)
    assert passed.pop("ends as if it had never been interrupted") is good
    assert all(passed.values())
    assert "the losses differ by" in str(found)


def test_one_that_tells_nothing_or_returns_nothing_is_found_out(own_trainer, tmp_path):
    found, passed, _ = checked(own_trainer, tmp_path, tell=10**6)
    assert list(passed.values()) == [True, True, False]
    assert "0 times before its last step" in str(found)
    broken = "def train(assignment):\n    return {{'accuracy': 1}}\n"
    found, passed, _ = checked(own_trainer, tmp_path / "broken", code=broken)
    assert list(passed.values()) == [False]
    assert "bad input: a trainer must return its loss" in str(found)
