"""Sweeps on a real SLURM cluster: what befalls them while they run. The other runs finish, and nothing hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from isoflop.claims import Claims, crews, device_hours
from isoflop.launching.causes import Cause
from isoflop.launching.states import states

from .conftest import until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def lives_of(study):
    """Processes of crews that are alive, by the task that they are."""
    observer = Claims(study.place.root).observer
    return {crew.job: crew.pid for crew in crews(study.place.root) if crew.job and observer.seems_alive(crew)}


def causes(study):
    """Why attempts ended, over all runs."""
    claims = Claims(study.place.root)
    ends = [claim.end or {} for run in study.plan.runs for claim in claims.history(run.id)]
    return Counter(end.get("cause", end.get("outcome")) for end in ends)


def running(study, count=1):
    until(lambda: study.states["running"] >= count, 40, f"{count} runs must be running, but {study.states}")


def test_a_node_that_vanishes_costs_its_runs_a_second_start(cluster, pretended, profile):
    study, path = pretended(8, seconds=6), profile(options={"time": "10", "cpus_per_task": 8})
    cluster.submit(study.place, path)
    running(study, 8)
    cluster.call("kill-node", "n1")
    try:
        study.wait(90, done=8)
    finally:
        cluster.call("up")
    assert causes(study) == {"done": 8, Cause.NODE_FAILURE: 2}


def test_a_node_that_vanishes_under_trunks_leaves_them_to_the_others(cluster, pretended, profile):
    study = pretended(12, seconds=6, shared=True)
    path = profile(classes=[{"workers": 1}], options={"time": "10", "cpus_per_task": 8})
    cluster.submit(study.place, path)
    # On each node a run of another trunk; those that share it wait.
    running(study, 4)
    assert study.states["running"] == 4
    cluster.call("kill-node", "n1")
    try:
        study.wait(120, done=12)
    finally:
        cluster.call("up")
    found = causes(study)
    assert found["done"] == 12
    assert found[Cause.NODE_FAILURE] >= 1
    assert set(found) == {"done", Cause.NODE_FAILURE}


def test_a_controller_that_forgets_a_job_and_reuses_its_number_is_not_believed(cluster, pretended, profile):
    study, path = pretended(8, seconds=2), profile()
    cluster.slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    submitted = cluster.submit(study.place, path)
    cluster.call("kill-controller")
    time.sleep(1)
    assert "queue could not be asked" not in cluster.isoflop("status", study.place.root, "--json")
    # What it had not saved yet is gone: its files are those from before the submission.
    state = Path(cluster.environment["DIR"]) / "state"
    for saved in state.glob("job_state*"):
        saved.unlink()
    cluster.call("start-controller")
    until(lambda: subprocess.run(["scontrol", "ping"], env=cluster.shell, check=False).returncode == 0, 30, "no answer")
    stranger = cluster.slurm(
        "sbatch", "--parsable", "--array=0-3", text="#!/bin/bash\n#SBATCH --output=/dev/null\nsleep 30\n"
    )
    assert stranger <= submitted["jobs"]["worker-0"]
    document = json.loads(cluster.isoflop("status", study.place.root, "--json"))
    assert document["states"] == {"planned": 8}
    assert document["queue"]["pending"] == document["queue"]["running"] == 0
    assert cluster.submit(study.place, path)["tasks"] == 4
    cluster.slurm("scontrol", "update", "PartitionName=main", "State=UP")
    study.wait(60, done=8)
    study.check_done_once()
    # And cancelling the study leaves the stranger's job alone.
    cluster.isoflop("cancel", study.place.root)
    assert any(task.startswith(f"{stranger}_") for task in cluster.tasks())


def test_a_preemption_in_the_first_seconds_costs_a_restart(cluster, pretended, profile):
    study, path = pretended(8, seconds=5), profile(options={"time": "10", "cpus_per_task": 8})
    cluster.submit(study.place, path)
    running(study, 8)
    script = "#!/bin/bash\n#SBATCH --output=/dev/null -p high --exclusive --nodes=2\nsleep 3\n"
    cluster.slurm("sbatch", "--parsable", text=script)
    study.wait(120, done=8)
    found = causes(study)
    assert found["done"] == 8
    assert found[Cause.PREEMPTED] >= 2
    assert set(found) == {"done", Cause.PREEMPTED}
    resumed = [run.run for run in states(study.place) if study.place.run(run.run).result()["resumed"]]
    assert resumed


def test_runs_longer_than_the_time_limit_are_carried_over_it(cluster, pretended, profile):
    study = pretended(4, seconds=45)
    path = profile(options={"time": "1", "mem": "300MB"}, classes=[{"workers": 4}], max_parallel=1)
    cluster.submit(study.place, path)
    study.wait(240, done=4)
    found = causes(study)
    assert found["done"] == 4
    assert found[Cause.TIME_LIMIT] >= 1
    assert set(found) == {"done", Cause.TIME_LIMIT}


def test_a_requeued_task_whose_first_process_still_writes(cluster, pretended, profile):
    study, path = pretended(4, seconds=4), profile(classes=[{"workers": 1}])
    cluster.submit(study.place, path)
    running(study, 4)
    task, crew = sorted(lives_of(study).items())[0]
    # It does not hear SLURM's signal, and goes on while SLURM believes it gone: its workers still write.
    os.kill(crew, signal.SIGSTOP)
    cluster.slurm("scontrol", "requeue", task)
    study.wait(90, done=4)
    cluster.wait(60)
    outcomes = study.outcomes()
    assert all(ends[-1] == "done" for ends in outcomes.values())
    assert all(ends.count("done") == 1 for ends in outcomes.values())


def test_a_dead_slurmd_leaves_the_job_running_here_and_elsewhere(cluster, pretended, profile):
    study, path = pretended(4, seconds=45), profile(options={"time": "10", "cpus_per_task": 8}, max_parallel=2)
    cluster.submit(study.place, path)
    running(study, 4)
    first = Counter(lives_of(study))
    # SLURM takes the node for dead after ten seconds and starts its job again, while the first goes on.
    os.kill(int((Path(cluster.environment["DIR"]) / "run" / "slurmd-n1.pid").read_text()), signal.SIGKILL)
    try:
        study.wait(90, done=4)
    finally:
        cluster.call("up")
    started = Counter(crew.job for crew in crews(study.place.root) if crew.job)
    assert set(started) == set(first)
    assert sorted(started.values()) == [1, 2]
    study.check_done_once()


def test_a_task_cancelled_from_outside_leaves_its_runs_to_the_others(cluster, pretended, profile):
    study, path = pretended(8, seconds=3), profile(classes=[{"workers": 1}])
    cluster.submit(study.place, path)
    running(study, 4)
    task = sorted(lives_of(study))[0]
    cluster.slurm("scancel", task)
    study.wait(60, done=8)
    assert task not in cluster.tasks()
    assert causes(study)["done"] == 8


def test_a_sweep_cancelled_from_outside_stays_so_until_it_is_submitted(cluster, pretended, profile):
    study, path = pretended(8, seconds=3), profile()
    cluster.submit(study.place, path)
    running(study, 8)
    cluster.clear()
    assert study.states == {"planned": 8}
    json.loads(cluster.isoflop("status", study.place.root, "--json"))
    assert cluster.tasks() == []
    assert cluster.submit(study.place, path)["tasks"] == 4
    study.wait(60, done=8)


def test_a_run_retried_while_its_tasks_wind_up_gets_a_task_of_its_own(cluster, pretended, profile):
    study = pretended(4, seconds=2)
    path = profile(options={"time": "10", "mem": "300MB", "teardown": ["sleep 20"]}, classes=[{"workers": 1}])
    cluster.submit(study.place, path)
    running(study, 4)
    one = study.plan.runs[0].id
    cluster.isoflop("cancel", study.place.root, one)
    study.wait(60, done=3, cancelled=1)
    until(lambda: not lives_of(study), 30, "every crew must end")
    # SLURM says that four tasks are running, but none of them takes a run any more.
    assert len([task for task in cluster.tasks() if "_" in task]) == 4
    assert json.loads(cluster.isoflop("retry", study.place.root, "--json"))["runs"] == [one]
    study.wait(60, done=4)


def test_runs_retried_while_their_tasks_are_ending_are_not_forgotten(cluster, pretended, profile):
    study, path = pretended(4, seconds=8), profile(classes=[{"workers": 1}])
    cluster.submit(study.place, path)
    for _ in range(3):
        running(study)
        cluster.isoflop("cancel", study.place.root, *[run.id for run in study.plan.runs])
        until(lambda: not study.states["running"], 30, "no run must be running")
        cluster.isoflop("retry", study.place.root)
    study.wait(90, done=4)
    # A result stands a moment before its claim is ended.
    until(lambda: causes(study)["done"] == 4, 10, "every claim must be ended")
    assert all((ends[-1], ends.count("done")) == ("done", 1) for ends in study.outcomes().values())


def test_cancel_and_retry(cluster, pretended, profile):
    study, path = pretended(8, seconds=3), profile()
    cluster.submit(study.place, path)
    running(study, 8)
    one = study.plan.runs[0].id
    assert json.loads(cluster.isoflop("cancel", study.place.root, one, "--json")) == {"cancelled": [one], "tasks": 0}
    study.wait(60, done=7, cancelled=1)
    cluster.wait(60)
    assert json.loads(cluster.isoflop("retry", study.place.root, "--json"))["runs"] == [one]
    study.wait(60, done=8)
    cluster.wait(60)

    longer = study.place
    for run in study.plan.runs:
        longer.run(run.id).result_file.unlink()
    cluster.submit(longer, path)
    running(study, 4)
    said = json.loads(cluster.isoflop("cancel", longer.root, "--json"))
    assert len(said["cancelled"]) == 8
    assert said["tasks"] == 5
    cluster.wait(60)
    assert study.states == {"cancelled": 8}
    assert cluster.submit(longer, path)["tasks"] == 0


def test_runs_that_raise_diverge_and_are_killed_end_as_their_causes_say(cluster, pretended, profile):
    path, every = profile(), {"done", "failed: diverged", "failed: error"}
    for seed in range(100):
        study = pretended(32, seconds=0.1, fail=0.45, seed=seed)
        expected = Counter(foretold(study.conditions, run.id) for run in study.plan.runs)
        if every <= set(expected):
            break
    assert every <= set(expected)
    cluster.submit(study.place, path)
    cluster.wait(120)
    found = states(study.place)
    assert Counter(run.state if run.state == "done" else f"{run.state}: {run.cause}" for run in found) == expected
    kinds = causes(study)
    assert {Cause.OUT_OF_MEMORY, Cause.DIVERGED, Cause.ERROR, Cause.PREEMPTED} <= set(kinds)
    failed = next(run for run in found if run.cause == "error")
    assert "simulated error" in failed.message
    assert "Traceback" in cluster.isoflop("logs", study.place.root, failed.run)
    # Neither a submission nor a look takes up what failed for good.
    assert cluster.submit(study.place, path)["tasks"] == 0


def foretold(conditions, run):
    """What becomes of a run, from the faults that its attempts are dealt and from the retries by cause."""
    kinds = {
        "crash": Cause.OUT_OF_MEMORY,
        "error": Cause.ERROR,
        "divergence": Cause.DIVERGED,
        "preemption": Cause.PREEMPTED,
    }
    counts: Counter[Cause] = Counter()
    for attempt in range(1, 100):
        fault = conditions.fault(run, attempt)
        if fault is None:
            return "done"
        cause = kinds[fault[0]]
        counts[cause] += 1
        if counts[cause] > cause.retries:
            return f"failed: {cause}"
    raise AssertionError


def test_a_full_disk_holds_the_sweep_up_and_no_longer(cluster, pretended, profile, tmp_path):
    study, path = pretended(8, seconds=2), profile()
    room = study.place.root
    saved = tmp_path / "saved"
    room.rename(saved)
    room.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", room], check=False)
    if mounted.returncode:
        pytest.skip("a small disk must be mounted, which this machine does not let us")
    try:
        subprocess.run(["cp", "-r", f"{saved}/.", room], check=True)
        cluster.submit(study.place, path)
        running(study, 4)
        filler = room / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        time.sleep(6)
        assert study.states["done"] < 8
        filler.unlink()
        study.wait(60, done=8)
        cluster.wait(60)
        assert set(causes(study)) <= {"done", Cause.DISK_FULL}
    finally:
        cluster.clear()
        subprocess.run(["umount", "-l", room], check=True)


def test_hours_that_are_spent_end_the_sweep(cluster, pretended, profile):
    study = pretended(16, seconds=60)
    path = profile(max_gpu_hours=0.08, lease=6)
    cluster.submit(study.place, path)
    cluster.wait(120)
    assert device_hours(study.place.root) <= 0.08
    assert causes(study)[Cause.HOURS] >= 8
    for crew in crews(study.place.root):
        (study.place.root / "crews" / f"{crew.id}.beat").write_text("9999999.0\n")
    assert "hours held must be less than max_gpu_hours" in cluster.isoflop(
        "submit", study.place.root, "--launcher", path, code=1
    )


def test_where_preempted_jobs_are_cancelled_the_next_look_submits_them_again(clusters, pretended, profile, monkeypatch):
    cluster = clusters(PREEMPT="CANCEL", GRACE=0)
    monkeypatch.setenv("SLURM_CONF", cluster.shell["SLURM_CONF"])
    # Four tasks of two workers each: four runs are still to be taken when all are cancelled.
    study, path = pretended(12, seconds=4), profile(options={"time": "10", "cpus_per_task": 8}, max_requeues=0)
    cluster.submit(study.place, path)
    running(study, 8)
    cluster.slurm(
        "sbatch", "--parsable", text="#!/bin/bash\n#SBATCH --output=/dev/null -p high --exclusive --nodes=4\nsleep 3\n"
    )
    until(lambda: not lives_of(study), 60, "the workers must be preempted")
    until(lambda: len(cluster.tasks()) <= 1, 60, "they must be cancelled")
    assert study.states["done"] < 8

    def looked():
        # SLURM may show a task as there for a second longer: then it is the next look.
        cluster.isoflop("status", study.place.root)
        return study.states == {"done": 12}

    until(looked, 90, "all must be done")
    assert cluster.isoflop("status", study.place.root, "--watch").count("12 done")
