"""SLURM's words about limits, as records; and sweeps of users who may not submit all at once."""

from __future__ import annotations

import signal

import pytest

from isoflop.claims import hold
from isoflop.errors import RunError
from isoflop.launching import cluster as commands
from isoflop.launching import slurm
from isoflop.launching.cluster import Limits, limits
from isoflop.launching.profiles import load_profile

CONFIG = """Configuration data as of 2026-11-22T20:00:00
AccountingStorageEnforce = associations,limits
MaxArraySize            = 1001
"""
#: `scontrol show assoc_mgr`, shortened: 15 of 20 jobs under the default account, 2 of 6 under the other, 2 of 9 of the
#: cluster's quality of service, none of 4 of another.
SAID = """Current Association Manager state

Association Records

ClusterName=c Account=root UserName= Partition= Priority=0 ID=1
    GrpJobs=N(0) GrpJobsAccrue=N(0)
    GrpSubmitJobs=3(2) GrpWall=N(0.00)
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs= MaxWallPJ=
ClusterName=c Account=speech UserName=ada(1000) Partition= Priority=0 ID=2
    ParentAccount= Lft=6 DefAssoc=Yes
    GrpSubmitJobs=N(15) GrpWall=N(0.00)
    MaxJobs=5(5) MaxJobsAccrue= MaxSubmitJobs=20(15) MaxWallPJ=
ClusterName=c Account=lab UserName=ada(1000) Partition= Priority=0 ID=4
    ParentAccount= Lft=3 DefAssoc=No
    GrpSubmitJobs=6(2) GrpWall=N(0.00)
    MaxJobs= MaxJobsAccrue= MaxSubmitJobs=20(2) MaxWallPJ=

QOS Records

QOS=normal(1)
    GrpJobs=N(0) GrpJobsAccrue=N(0) GrpSubmitJobs=N(2) GrpWall=N(0.00)
    User Limits
      1000
        MaxJobsPU=N(0) MaxJobsAccruePU=N(0) MaxSubmitJobsPU=9(2)
QOS=urgent(2)
    User Limits
      1000
        MaxJobsPU=N(0) MaxJobsAccruePU=N(0) MaxSubmitJobsPU=4(0)
"""


@pytest.fixture
def told(monkeypatch):
    """Have SLURM say that, to ada; what it is asked is kept."""
    asked = []

    def call(*command, text=None):
        asked.append(command)
        return CONFIG if command[:3] == ("scontrol", "show", "config") else SAID

    monkeypatch.setattr(commands, "_call", call)
    monkeypatch.setattr(commands.getpass, "getuser", lambda: "ada")
    return asked


@pytest.mark.parametrize(
    ("account", "qos", "jobs"),
    [(None, None, 5), ("speech", None, 5), ("lab", None, 4), ("speech", "urgent", 4), ("unknown", "unknown", None)],
)
def test_the_least_that_a_limit_leaves_counts(told, account, qos, jobs):
    assert limits(account, qos) == Limits(1001, jobs)


def test_where_limits_are_not_enforced_there_are_none(told, monkeypatch):
    monkeypatch.setattr(f"{__name__}.CONFIG", "MaxArraySize = 11\n")
    assert limits(None, None) == Limits(11, None)
    assert len(told) == 1


def test_who_cannot_be_told_is_not_limited(told, monkeypatch):
    def call(*command, text=None):
        if "assoc_mgr" in command:
            raise RunError("scontrol: no")
        return CONFIG

    monkeypatch.setattr(commands, "_call", call)
    assert limits(None, None) == Limits(1001, None)


def test_a_task_that_is_told_twice_to_end_still_learns_why(tmp_path, monkeypatch):
    asked = tmp_path / "scontrol"
    asked.write_text("#!/bin/sh\nkill -TERM $$\necho JobId=7 PreemptTime=2026-11-23T07:33:34\n")
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert commands.preempted("7_0")
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.slurm
@pytest.mark.slow
def test_a_user_who_may_have_six_jobs_gets_a_sweep_of_five_tasks_and_a_fit(clusters, pretended, profile, monkeypatch):
    cluster = clusters(ACCOUNTING=1)
    monkeypatch.setenv("SLURM_CONF", cluster.shell["SLURM_CONF"])
    cluster.slurm("sacctmgr", "-iQ", "modify", "user", "root", "set", "MaxSubmitJobs=6")
    cluster.slurm("scontrol", "update", "PartitionName=main", "State=DOWN")
    path = profile(classes=[{"workers": 1}], max_parallel=8)
    study = pretended(8)
    said = cluster.submit(study.place, path)
    assert (said["tasks"], list(said["jobs"])) == (5, ["worker-0", "fit"])
    assert limits(None, None).jobs == 0
    cluster.slurm("scontrol", "update", "PartitionName=main", "State=UP")
    study.wait(60, done=8)
    study.check_done_once()
    cluster.clear()
    # A limit that is not found is met: half the tasks do it all.
    for run in study.plan.runs:
        study.place.run(run.id).result_file.unlink()
    monkeypatch.setattr(commands, "limits", lambda account, qos: Limits(100, None))
    with hold(study.place.root):
        again = slurm.submit(study.place, study.plan.runs, load_profile(path))
    assert again.tasks == 4
    study.wait(60, done=8)
    cluster.clear()
