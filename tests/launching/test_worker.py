"""A worker's process: the late publish nothing, the orphaned die, who is asked to stop does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from isoflop.claims import Claims, joined
from isoflop.launching.causes import Cause
from isoflop.launching.process import Worker, death


@pytest.fixture
def worker(pretended):
    """A worker of a study of four runs of four seconds, ready."""
    study = pretended(4, seconds=4)
    started = Worker.start(study.place.root, "cpu", 0, 1, None)
    heard(started, "ready")
    yield study, started
    started.kill(Cause.STOPPED)
    started.process.wait()
    started.close()


def heard(worker, kind, seconds=30):
    """Wait for a message of that kind and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for message in worker.messages() or []:
            if message["event"] == kind:
                return message
        time.sleep(0.02)
    raise AssertionError(f"no {kind}")


def test_it_stops_when_it_is_asked_to_and_goes_on_where_it_was(worker):
    study, process = worker
    run = study.plan.runs[0].id
    process.send({"run": run, "token": 1, "steps": None})
    step = heard(process, "progress")["step"]
    process.send({"stop": "time limit"})
    assert heard(process, "stopped") == {"event": "stopped", "run": run, "cause": "time limit"}
    process.send({"run": run, "token": 2, "steps": None})
    assert heard(process, "progress")["step"] > step
    heard(process, "finished")
    assert study.place.run(run).result()["resumed"] == 1


def test_a_signal_only_asks_and_ctrl_c_is_the_crews_business(worker):
    study, process = worker
    process.send({"run": study.plan.runs[0].id, "token": 1, "steps": None})
    heard(process, "progress")
    for number in (signal.SIGINT, signal.SIGUSR2):
        process.process.send_signal(number)
    heard(process, "progress")
    process.process.send_signal(signal.SIGTERM)
    assert heard(process, "stopped")["cause"] == "preempted"


def test_a_canary_stops_after_its_steps(worker):
    study, process = worker
    run = max(study.plan.runs, key=lambda run: run.steps)
    process.send({"run": run.id, "token": 1, "steps": 10})
    assert heard(process, "stopped")["cause"] == "stopped"
    assert study.place.run(run.id).result() is None


def test_one_that_was_replaced_writes_and_publishes_nothing(worker, tmp_path):
    study, process = worker
    run = study.plan.runs[0].id
    with joined(study.place.root) as crew:
        claims = Claims(study.place.root, crew)
        first = claims.take(run)
        process.send({"run": run, "token": first.token, "steps": None})
        heard(process, "progress")
        claims.end(first, "lost")
        claims.take(run)
        assert process.process.wait(timeout=10) == 1
    assert study.place.run(run).result() is None
    assert study.place.run(run).status()["state"] == "running"


def test_workers_die_with_their_crew_even_when_it_is_killed(pretended):
    study = pretended(4, seconds=30)
    script = f"""
import sys, time
from pathlib import Path
from isoflop.launching.process import Worker
worker = Worker.start(Path({str(study.place.root)!r}), "cpu", 0, 1, None)
print(worker.process.pid, flush=True)
time.sleep(60)
"""
    crew = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pid = int(crew.stdout.readline())
    crew.kill()
    crew.communicate()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < deadline:  # noqa: PTH110 (a link of a dead process)
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}/exe")  # noqa: PTH110


@pytest.mark.parametrize(
    ("code", "cause", "words"),
    [
        (-9, Cause.OUT_OF_MEMORY, "killed by signal 9"),
        (-15, Cause.PREEMPTED, "asked to end"),
        (-11, Cause.ERROR, "signal 11: oops"),
        (3, Cause.ERROR, "exit code 3: oops"),
    ],
)
def test_a_death_is_told_by_its_code(code, cause, words):
    assert death(code, "oops")[0] is cause
    assert words in death(code, "oops")[1]


def test_what_the_crew_hears_comes_line_by_line(worker):
    _, process = worker
    process.send({"run": "no-such-run", "token": 1, "steps": None})
    failed = heard(process, "failed")
    assert failed["cause"] == "error"
    assert json.dumps(failed)
