"""Launcher profiles: those that ship, rules that are broken, options inherited."""

from __future__ import annotations

from pathlib import Path

import pytest
import submitit

from isoflop import workflow
from isoflop.errors import InputError
from isoflop.launching.profiles import LocalProfile, Options, SlurmProfile, load_profile, parse_profile
from isoflop.store import StudyDirectory

PROFILES = sorted((Path(__file__).parents[2] / "launchers").rglob("*.yaml"))
#: What submitit knows and isoflop sets itself, or what is only another name for something.
OURS = {
    "job_name",
    "comment",
    "dependency",
    "array_parallelism",
    "ntasks_per_node",
    "num_gpus",
    "additional_parameters",
    "stderr_to_stdout",
}


def slurm(**content):
    profile = parse_profile({"launcher": "slurm", **content}, "profile")
    assert isinstance(profile, SlurmProfile)
    return profile


def test_the_default_is_this_machine_with_a_worker_a_core():
    assert load_profile(None) == LocalProfile()
    assert LocalProfile().processes >= 1


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_loads(path):
    profile = load_profile(path)
    assert profile.processes >= 1 if isinstance(profile, LocalProfile) else profile.classes


def test_every_option_of_submitit_is_known_by_name():
    known = set(submitit.SlurmExecutor._valid_parameters())
    assert set(Options.model_fields) - {"sbatch"} == known - OURS


def test_what_is_said_nearer_wins():
    profile = slurm(
        options={"partition": "gpu", "time": "60", "gpus_per_node": 1, "setup": ["module load cuda"]},
        classes=[{"name": "small", "up_to_params": "1e8", "options": {"partition": "shared"}}, {"name": "large"}],
    )
    small, large = profile.classes
    assert (small.options.partition, small.options.gpus, small.options.minutes) == ("shared", 1, 60)
    assert large.options.partition == "gpu"
    assert (profile.fit.partition, profile.fit.gpus, profile.fit.minutes) == ("gpu", 0, 30)
    assert profile.fit.setup == ("module load cuda",)
    assert profile.class_of(10**8).name == "small"
    assert profile.class_of(10**8 + 1).name == "large"


def test_a_profile_survives_being_written_down():
    profile = slurm(options={"time": "1-0", "sbatch": {"reservation": "x"}}, classes=[{"name": "a", "workers": 3}])
    assert parse_profile(profile.model_dump(mode="json", exclude_none=True), "again") == profile


@pytest.mark.parametrize(
    ("time", "minutes"),
    [("30", 30), ("10:30", 11), ("04:00:00", 240), ("0:00:01", 1), ("1-0", 1440), ("2-01:30", 2970), ("1-0:0:1", 1441)],
)
def test_times_are_read_as_slurm_reads_them(time, minutes):
    assert Options(time=time).minutes == minutes


def test_workers_are_one_for_each_gpu_of_each_node():
    assert slurm(options={"gpus_per_node": 8, "nodes": 2}).classes[0].runs_at_once == 16
    assert slurm(classes=[{"workers": 3}]).classes[0].runs_at_once == 3
    assert slurm().classes[0].runs_at_once == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers: 0", "must be >= 1, but got 0"),
        ("wrokers: 2", "'wrokers'; did you mean 'workers'?"),
        ("launcher: slrum", "launcher must be 'local' or 'slurm', but got 'slrum'"),
        ("launcher: [slurm]", "launcher must be 'local' or 'slurm', but got"),
        ("[", "must be a readable YAML file"),
        ("launcher: slurm\noptions: {partitoin: gpu}", r"'classes\.0\.options\.partitoin'; did you mean 'partition'"),
        ("launcher: slurm\noptions: {time: 4:00:00}", "time: must be text like '04:00:00', quoted .* but got 14400"),
        ("launcher: slurm\noptions: {time: soon}", "time: must be text like '04:00:00', quoted .* but got 'soon'"),
        ("launcher: slurm\noptions: {mem: lots}", "mem: must be a number with a unit like 32GB, but got 'lots'"),
        ('launcher: slurm\noptions: {partition: "a\\nb"}', "partition must be on one line, but got"),
        ("launcher: slurm\noptions: {sbatch: {array: 0-3}}", "sbatch must hold long options .* but got 'array'"),
        ("launcher: slurm\noptions: {nodes: 2, use_srun: false}", "use_srun must be true for more than one node"),
        ("launcher: slurm\nclasses: []", "classes must have 1 or more valid entries"),
        ("launcher: slurm\nclasses: [{name: A b}]", "must be small letters, digits and '-', but got 'A b'"),
        ("launcher: slurm\nclasses: [{name: a}, {name: a}]", "classes must have distinct names, but got a, a"),
        ("launcher: slurm\nclasses: [{name: a}, {name: b}]", "up_to_params must be given for every class but the last"),
        (
            "launcher: slurm\nclasses: [{name: a, up_to_params: 9}, {name: b, up_to_params: 9}]",
            "up_to_params must increase",
        ),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path, text, message):
    path = tmp_path / "profile.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_profile(path)


def test_a_missing_profile_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.yaml"):
        load_profile(tmp_path / "nothing.yaml")


def test_a_run_that_no_class_takes_is_refused():
    with pytest.raises(
        InputError, match="the last class must take the largest model, but worker takes 1000 parameters"
    ):
        slurm(classes=[{"up_to_params": 1000}]).class_of(2000)


def test_several_devices_train_a_run_together():
    assert slurm(classes=[{"devices_per_run": 4, "options": {"gpus_per_node": 8}}]).classes[0].workers_per_node == 2
    assert slurm(classes=[{"devices_per_run": 4}]).classes[0].workers_per_node == 1
    profile = LocalProfile(gpus=4, devices_per_run=2)
    assert (profile.processes, profile.devices) == (2, 4)
    with pytest.raises(InputError, match=r"on one node, its own: .* must hold, but got 1, 16 and 8"):
        slurm(classes=[{"devices_per_run": 16, "options": {"gpus_per_node": 8, "nodes": 2}}])
    with pytest.raises(InputError, match=r"must hold, but got 2, 4 and 4"):
        parse_profile({"workers": 2, "gpus": 4, "devices_per_run": 4}, "profile")


def test_a_run_whose_steps_its_devices_do_not_divide_is_refused(small_study, small_corpus):
    run = workflow.plan(small_study()).runs[0]
    profile = slurm(classes=[{"name": "one", "up_to_params": 1, "devices_per_run": 1}, {"devices_per_run": 3}])
    for refusing in (profile, LocalProfile(devices_per_run=3)):
        with pytest.raises(InputError, match=f"each of a run's 3 devices, but run {run.id} has {run.batch_size}"):
            refusing.check(run)
    LocalProfile(devices_per_run=run.batch_size).check(run)


def test_a_run_that_was_planned_on_more_gpus_than_it_gets_is_refused(small_study, tmp_path):
    """Fewer have not the memory by which it was found to fit. On a CPU there is no such thing."""
    study = small_study(hardware={"accelerator": "h100", "gpus_per_run": 2})
    run = workflow.plan(study).runs[0]
    for refusing in (LocalProfile(gpus=1), slurm(classes=[{"options": {"gpus_per_node": 8}}])):
        with pytest.raises(InputError, match=rf"at least the 2 accelerators .* run {run.id} .*gpus_per_run.* is 1"):
            refusing.check(run, planned=2)
        with pytest.raises(InputError, match="at least the 2 accelerators"):
            workflow.admit(study, StudyDirectory(tmp_path / "study"), refusing)
    assert not (tmp_path / "study").exists()
    for taking in (LocalProfile(), LocalProfile(gpus=2, devices_per_run=2), slurm(classes=[{"options": {}}])):
        taking.check(run, planned=2)
