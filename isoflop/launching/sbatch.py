"""The batch script of a part of a submission, as a pure function: profile in, text out.

submitit writes the options (it knows what SLURM calls them, and how to quote them); its pickles and its bookkeeping are
not used, because the study directory keeps the state. What the task executes is a crew (`isoflop.launching.task`), from
the snapshot of the code.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoflop.errors import MissingExtraError
from isoflop.launching.profiles import Options, SlurmProfile

if TYPE_CHECKING:
    import submitit


def render(
    profile: SlurmProfile,
    options: Options,
    *,
    name: str,
    comment: str,
    tasks: int | None,
    at_once: int = 1,
    module: str,
    arguments: Sequence[str],
    code: Path,
    log: Path,
) -> str:
    """The script of one array, or of a single job where `tasks` is None.

    Parameters
    ----------
    profile
        Prefix and interpreter.
    options
        What each task asks for.
    name, comment
        The job's.
    tasks, at_once
        Tasks of the array, and how many of them at once.
    module, arguments
        The Python module that the job executes, and its arguments.
    code
        The package that it imports.
    log
        Folder of the output.

    Raises
    ------
    MissingExtraError
        If submitit is not installed.
    """
    python = profile.python or ("python3" if profile.prefix else sys.executable)
    command = shlex.join([*profile.prefix, python, "-P", "-m", module, *arguments])
    parameters = {**_parameters(options), "job_name": name, "comment": comment}
    parameters["array_parallelism"] = at_once
    parameters["setup"] = [*options.setup, f"export PYTHONPATH={shlex.quote(str(code))}"]
    return _writer(log, parameters, tasks)._make_submission_file_text(f"{command}\ncode=$?", "")


def _parameters(options: Options) -> dict[str, Any]:
    """What submitit is told, by its names."""
    given = options.model_dump(
        exclude={"sbatch", "time", "nodes", "signal_delay_s"}, exclude_none=True, exclude_defaults=True
    )
    cores = options.cpus_per_task
    return {
        **given,
        # Said even where it is None, or submitit would write its own five minutes.
        "time": options.minutes,
        "nodes": options.nodes,
        "ntasks_per_node": 1,
        "signal_delay_s": lead(options),
        "wckey": options.wckey,
        "stderr_to_stdout": True,
        # srun does not take the cores over from sbatch (SLURM 22.05 and later).
        "srun_args": [*options.srun_args, *([f"--cpus-per-task={cores}"] if cores else [])],
        "teardown": [*options.teardown, "exit $code"],
        "additional_parameters": {**options.sbatch, "requeue": True},
    }


def lead(options: Options) -> int:
    """Seconds before the end of a task at which it is told: the profile's, or a third of a very short limit."""
    limit = options.minutes
    return options.signal_delay_s if limit is None else min(options.signal_delay_s, limit * 20)


def _writer(log: Path, parameters: dict[str, Any], tasks: int | None) -> submitit.SlurmExecutor:
    try:
        import submitit
    except ImportError:
        raise MissingExtraError("submitit", "slurm") from None

    class Writer(submitit.SlurmExecutor):
        """submitit's way with options, on machines without SLURM too."""

        @classmethod
        def affinity(cls) -> int:
            return 1

    writer = Writer(log)
    writer.update_parameters(**parameters)
    writer.parameters["map_count"] = tasks
    return writer
