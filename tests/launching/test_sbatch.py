"""Batch scripts: golden files for every profile that ships, and that nothing in a profile gets out of its line.

After a deliberate change: `.venv/bin/python tests/launching/test_sbatch.py` rewrites them; the commit says why.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from isoflop.launching.profiles import SlurmProfile, load_profile, parse_profile
from isoflop.launching.sbatch import lead, render

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "sbatch"
PROFILES = [
    path for path in sorted((ROOT / "launchers").rglob("*.yaml")) if isinstance(load_profile(path), SlurmProfile)
]


def scripts(path: Path) -> dict[str, str]:
    """The script of each class and of the fit, by file name."""
    profile = load_profile(path)
    assert isinstance(profile, SlurmProfile)
    profile = profile.model_copy(update={"python": profile.python or "python3"})
    name = path.parent.name if path.name == "profile.yaml" else path.stem
    return {f"{name}-{entry.name}.sh": script(profile, entry.options) for entry in profile.classes} | {
        f"{name}-fit.sh": script(profile, profile.fit, tasks=None)
    }


def script(profile: SlurmProfile, options=None, tasks: int | None = 10, **changes) -> str:
    return render(
        profile,
        options or profile.classes[0].options,
        **{
            "name": "isoflop-study",
            "comment": "isoflop:0123:20260101-000000-abcdef:worker-0",
            "tasks": tasks,
            "at_once": profile.max_parallel,
            "module": "isoflop.launching.task",
            "arguments": ["/studies/my study", "20260101-000000-abcdef", "worker-0"],
            "code": Path("/studies/my study/code/0123"),
            "log": Path("/studies/my study/log"),
            **changes,
        },
    )


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_renders_as_it_did(path):
    for name, text in scripts(path).items():
        assert (GOLDEN / name).read_text() == text, f"{name} changed: see this module's docstring"


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_script_is_one_that_bash_can_read(path):
    for name, text in scripts(path).items():
        read = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
        assert (read.returncode, read.stderr) == (0, ""), f"{name}: {read.stderr}"


def slurm(**content):
    return parse_profile({"launcher": "slurm", "python": "python3", **content}, "profile")


def test_names_with_spaces_and_worse_stay_one_word():
    evil = "it's; rm -rf / $(reboot)"
    text = script(slurm(prefix=["run", evil]), arguments=[evil], code=Path(f"/{evil}"))
    assert text.count(shlex.quote(evil)) == 2
    assert f"export PYTHONPATH={shlex.quote('/' + evil)}" in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_without_a_limit_the_partitions_holds():
    assert "--time" not in script(slurm())
    assert "#SBATCH --time=90" in script(slurm(options={"time": "01:30:00"}))


def test_the_warning_comes_early_enough_on_short_limits():
    assert lead(slurm(options={"time": "60"}).classes[0].options) == 90
    assert lead(slurm(options={"time": "1"}).classes[0].options) == 20
    assert lead(slurm().classes[0].options) == 90


def test_the_exit_code_is_the_commands_whatever_comes_after():
    profile = slurm(options={"use_srun": False, "teardown": ["true"], "setup": ["python3() { return 7; }"]})
    done = subprocess.run(["bash"], input=script(profile), text=True, check=False)
    assert done.returncode == 7


def test_an_array_has_so_many_tasks_at_once():
    assert "#SBATCH --array=0-9%4" in script(slurm(max_parallel=4))
    assert "--array" not in script(slurm(), tasks=None)


if __name__ == "__main__":
    for profile_path in PROFILES:
        for file, content in scripts(profile_path).items():
            (GOLDEN / file).write_text(content)
