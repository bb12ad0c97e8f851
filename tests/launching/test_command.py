"""A command as a trainer: told by its arguments and a file, heard through files, dead with its worker."""

from __future__ import annotations

import os
import signal
import time

import pytest

from isoflop import workflow
from isoflop.errors import InputError, Interrupted, RunError
from isoflop.launching.own import run as execute
from isoflop.launching.process import Worker
from isoflop.planning.runs import Run
from isoflop.store import read_json

#: Counts to its steps, 20 ms each; ignores nothing, and leaves its process id.
SCRIPT = """
import json, os, sys, time
told = json.load(open(sys.argv[1]))
pause = float(sys.argv[2])
checkpoint = os.path.join(told["checkpoints"], "step")
first = int(open(checkpoint).read()) if os.path.exists(checkpoint) else 0
open(os.path.join(told["outputs"], "pid"), "w").write(str(os.getpid()))
with open(told["progress"], "a") as progress:
    for done in range(first + 10, told["steps"] + 1, 10):
        time.sleep(pause)
        open(checkpoint, "w").write(str(done))
        progress.write(f"{done} {9 - done / told['steps']}\\n")
        progress.flush()
json.dump({"loss": 2 + 1 / told["params"], "tokens": told["tokens"], "first": first}, open(told["result"], "w"))
"""


@pytest.fixture
def command(own_trainer):
    """Make a study whose trainer is that script, in files beside it; returns the study and its first run."""
    (own_trainer.folder / "train.py").write_text(SCRIPT)

    def make(words=("{python}", "train.py", "{assignment}", "{options.pause}"), pause=0.0):
        study = own_trainer.study({"command": list(words), "options": {"pause": pause}})
        return study, workflow.plan(study).runs[0]

    return make


def sh(command, own_trainer, line, **options):
    """Execute the first run with a line of shell as the command."""
    study, planned = command(("sh", "-c", line), **options)
    return execute(planned, own_trainer.place.root, trainer=study.trainer)


def test_it_trains_and_is_heard(command, own_trainer):
    study, planned = command()
    result = execute(planned, own_trainer.place.root, trainer=study.trainer)
    assert result["loss"] == 2 + 1 / planned.shape.parameters.total
    assert (result["tokens"], result["first"]) == (planned.tokens, 0)
    place = own_trainer.place.run(planned.id)
    steps = [int(line.split(",")[0]) for line in place.metrics_file.read_text().splitlines()[1:]]
    assert steps == list(range(10, planned.steps + 1, 10))
    assert not place.exchange.exists()


def test_it_is_stopped_and_goes_on_from_its_own_checkpoint(command, own_trainer):
    study, planned = command(pause=0.05)

    def stop(progress):
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        execute(planned, own_trainer.place.root, trainer=study.trainer, on_progress=stop)
    place = own_trainer.place.run(planned.id)
    assert not alive(int((place.outputs / "pid").read_text()))
    assert execute(planned, own_trainer.place.root, trainer=study.trainer)["first"] >= 10


def test_it_dies_with_its_worker(command, own_trainer):
    study, planned = command(pause=5.0)
    workflow.create(own_trainer.place)
    workflow.prepare(study, own_trainer.place, workflow.Watcher())
    worker = Worker.start(own_trainer.place.root, "cpu", 0, 1, None)
    worker.send({"run": planned.id, "token": 1, "steps": None})
    note = own_trainer.place.run(planned.id).outputs / "pid"
    within(60, lambda: note.exists() and note.read_text())
    pid = int(note.read_text())
    assert alive(pid)
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait()
    worker.close()
    within(10, lambda: not alive(pid))


def within(seconds, condition):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    return os.path.exists(f"/proc/{pid}/exe")  # noqa: PTH110 (a link of a dead process)


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("exit 3 # {result}", RunError, "sh ended with exit code 3"),
        ("kill -TERM $$ # {result}", RunError, "sh ended with signal 15"),
        ("kill -KILL $$ # {result}", MemoryError, "killed by signal 9"),
        ("true # {result}", InputError, r"must write its result to \{result\}, but there is none"),
        ("echo nonsense > '{result}'", InputError, "must write its result as JSON"),
        ("echo '[1]' > '{result}'", InputError, "but got loss = list"),
        ("""echo '{{"loss": 2.5, "tokens": 7}}' > '{result}'""", InputError, "tokens must be within 1% of the plan's"),
        ("echo ten > '{progress}'; sleep 5 # {result}", InputError, "must be STEP LOSS, but got 'ten'"),
    ],
)
def test_what_goes_wrong_is_told(command, own_trainer, line, error, message):
    with pytest.raises(error, match=message):
        sh(command, own_trainer, line)
    (run_id,) = own_trainer.place.run_ids()
    assert own_trainer.place.run(run_id).result() is None


def test_a_step_alone_and_doubled_braces_will_do(command, own_trainer):
    line = """echo 5 >> '{progress}'; echo '{{"loss": {steps}}}' > '{result}'"""
    assert sh(command, own_trainer, line)["loss"] == 250
    (run_id,) = own_trainer.place.run_ids()
    assert own_trainer.place.run(run_id).metrics_file.read_text().splitlines()[1].startswith("5,500,,")


def test_words_stay_words_whatever_is_in_them(command, own_trainer):
    """There is no shell: what an option holds is never read as anything else."""
    (own_trainer.folder / "echo.py").write_text(
        "import json, sys; json.dump({'loss': 1.0, 'word': sys.argv[2]}, open(sys.argv[1], 'w'))"
    )
    study = own_trainer.study(
        {"command": ["{python}", "echo.py", "{result}", "{options.word}"], "options": {"word": "$(touch x); {run} *"}}
    )
    planned = workflow.plan(study).runs[0]
    result = execute(planned, own_trainer.place.root, trainer=study.trainer)
    assert result["word"] == "$(touch x); {run} *"
    assert sorted(path.name for path in own_trainer.folder.iterdir()) == ["echo.py", "study.yaml", "train.py"]


def test_a_program_that_is_not_there_is_refused_before_anything_starts(command, own_trainer):
    for program in ("no-such-program", "./train.py"):
        study, planned = command((program, "{result}"))
        with pytest.raises(InputError, match=f"must begin with a program that can be executed, but '{program}'"):
            execute(planned, own_trainer.place.root, trainer=study.trainer)


def test_all_of_the_run_is_in_the_file_that_it_may_read(command, own_trainer):
    study, planned = command(("sh", "-c", "cp '{assignment}' '{outputs}/told.json'; exit 1"))
    with pytest.raises(RunError):
        execute(planned, own_trainer.place.root, trainer=study.trainer)
    told = read_json(own_trainer.place.run(planned.id).outputs / "told.json")
    assert Run.from_dict(told["planned"]) == planned
    assert (told["size"], told["params"], told["steps"]) == ("m2000", 2000, planned.steps)
    assert told["options"] == {"pause": 0.0}
