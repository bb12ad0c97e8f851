"""Launcher profiles: where runs execute, as a file.

A profile for SLURM says which classes of worker there are: what each asks the cluster for, and which runs it takes.
What it asks for goes by the names of submitit, which writes them as ``#SBATCH`` lines (`sbatch`). What submitit does
not know goes under ``sbatch``, by SLURM's own name.

>>> SlurmProfile.model_validate({"launcher": "slurm", "options": {"time": "1-00:00:00"}}).classes[0].options.minutes
1440
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from isoflop.errors import InputError
from isoflop.machine import cores
from isoflop.planning.runs import Run, rows_of_each
from isoflop.settings import Number, Section, Whole, explain, read_yaml

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<a>\d+)(?::(?P<b>\d+))?(?::(?P<c>\d+))?")
_MEMORY = re.compile(r"\d+(?:\.\d+)?[KMGT]?B?")
_FLAG = re.compile(r"[a-z][a-z0-9-]*")
_CLASS_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


#: What `devices_per_run` is, wherever it may be said.
_DEVICES = "GPUs (where there are none, processes) of one machine that train a run together"


class LocalProfile(Section):
    """A launcher profile for this machine."""

    launcher: Literal["local"] = Field("local", description="where runs execute")
    workers: Literal["auto"] | Annotated[int, Field(ge=1, strict=True)] = Field(
        "auto", description="worker processes, one thread each; auto: one for each core this process may use, or GPU"
    )
    gpus: Whole = Field(0, ge=0, description="GPUs of this machine that are shared out among the workers; 0: none")
    devices_per_run: Whole = Field(1, ge=1, description=_DEVICES)

    @classmethod
    def load(cls, path: Path | None) -> LocalProfile:
        """Read a profile of this machine, or the default where `path` is None."""
        profile = load_profile(path)
        if not isinstance(profile, LocalProfile):
            raise InputError(f"the launcher must be local, but got {profile.launcher!r} in {path}")
        return profile

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.gpus:
            _enough_gpus(self.processes, self.devices_per_run, self.gpus)
        return self

    @property
    def processes(self) -> int:
        """Worker processes on this machine."""
        return max(1, (self.gpus or cores()) // self.devices_per_run) if self.workers == "auto" else self.workers

    @property
    def devices(self) -> int:
        """Devices that they hold, all of them together."""
        return self.processes * self.devices_per_run

    def check(self, run: Run, planned: int = 1) -> None:
        """Refuse a run whose steps its devices do not divide, or planned on more GPUs than it gets: `InputError`."""
        _together(run, self.devices_per_run, planned if self.gpus else 1)


class Options(Section):
    """What a task asks the cluster for, by submitit's names; a task is one worker process or several on each node."""

    partition: str | None = Field(None, description="partition, or several with commas")
    account: str | None = Field(None, description="account that is charged")
    qos: str | None = Field(None, description="quality of service")
    time: str | None = Field(None, description="limit of a task, as SLURM writes it, quoted: '30', '04:00:00', '1-0'")
    nodes: Whole = Field(1, ge=1, description="nodes of a task; each has workers of its own")
    cpus_per_task: Whole | None = Field(None, ge=1, description="cores on each node")
    cpus_per_gpu: Whole | None = Field(None, ge=1, description="cores for each GPU")
    gpus_per_node: Whole | None = Field(None, ge=0, description="GPUs on each node, a worker for each")
    gpus_per_task: Whole | None = Field(None, ge=0, description="the same, where the cluster counts by task")
    mem: str | None = Field(None, description="memory on each node: 32GB")
    mem_per_gpu: str | None = Field(None, description="memory for each GPU")
    mem_per_cpu: str | None = Field(None, description="memory for each core")
    constraint: str | None = Field(None, description="features of the nodes")
    gres: str | None = Field(None, description="generic resources, where GPUs have a type: gpu:a100:1")
    exclude: str | None = Field(None, description="nodes not to use")
    nodelist: str | None = Field(None, description="nodes to use")
    exclusive: bool | None = Field(None, description="whether to have the nodes alone")
    mail_type: str | None = Field(None, description="when SLURM writes mail: END,FAIL")
    mail_user: str | None = Field(None, description="to whom")
    wckey: str | None = Field(None, description="SLURM's workload characterisation key")
    signal_delay_s: Whole = Field(90, ge=1, description="seconds before the time limit at which runs stop and save")
    setup: tuple[str, ...] = Field((), description="shell lines before the worker: module load …")
    teardown: tuple[str, ...] = Field((), description="shell lines after it")
    use_srun: bool = Field(True, description="whether srun starts the worker; needed for more than one node")
    srun_args: tuple[str, ...] = Field((), description="extra arguments of srun")
    sbatch: dict[str, str | int | bool] = Field({}, description="any other option, by SLURM's name: {reservation: x}")

    @field_validator("time", mode="before")
    @classmethod
    def _quoted(cls, value: Any) -> Any:
        if value is not None and not (isinstance(value, str) and _TIME.fullmatch(value)):
            raise ValueError(
                f"must be text like '04:00:00', quoted (YAML reads 4:00:00 as a number), but got {value!r}"
            )
        return value

    @field_validator("mem", "mem_per_gpu", "mem_per_cpu")
    @classmethod
    def _memory(cls, value: str | None) -> str | None:
        if value is not None and not _MEMORY.fullmatch(value):
            raise ValueError(f"must be a number with a unit like 32GB, but got {value!r}")
        return value

    @model_validator(mode="after")
    def _on_one_line(self) -> Self:
        for name, value in [*vars(self).items(), *self.sbatch.items()]:
            if isinstance(value, str) and not value.isprintable():
                raise ValueError(f"{name} must be on one line, but got {value!r}")
        for name in self.sbatch:
            if not _FLAG.fullmatch(name) or name in _OURS:
                raise ValueError(
                    f"sbatch must hold long options that isoflop does not set itself ({', '.join(sorted(_OURS))}), "
                    f"but got {name!r}"
                )
        if self.nodes > 1 and not self.use_srun:
            raise ValueError(f"use_srun must be true for more than one node, but got nodes {self.nodes}")
        return self

    @property
    def minutes(self) -> int | None:
        """The time limit in minutes, rounded up; None: the partition's."""
        if self.time is None:
            return None
        match = _TIME.fullmatch(self.time)
        assert match is not None  # noqa: S101 (the validator saw to it)
        days, parts = int(match["days"] or 0), [int(part) for part in match.group("a", "b", "c") if part is not None]
        # Days come with hours first; without, one number is minutes and two are minutes and seconds.
        if match["days"] is not None or len(parts) == 3:
            hours, minutes, seconds = (*parts, 0, 0)[:3]
        else:
            hours, (minutes, seconds) = 0, (*parts, 0)[:2]
        return days * 1440 + hours * 60 + minutes + (seconds > 0)

    @property
    def gpus(self) -> int:
        """GPUs on each node."""
        return self.gpus_per_node or self.gpus_per_task or 0


#: What isoflop writes itself.
_OURS = frozenset(
    {"array", "comment", "dependency", "job-name", "output", "error", "requeue", "no-requeue", "open-mode"}
)


class WorkerClass(Section):
    """Workers that ask the cluster for the same, and the runs that they take."""

    name: str = Field("worker", description="name: letters, digits, '-'")
    up_to_params: Number | None = Field(
        None, gt=0, description="largest model that they take, parameters in total; default: any"
    )
    workers: Whole | None = Field(
        None,
        ge=1,
        description="processes on each node, each with a run; default: one for each GPU (or run's GPUs), or one",
    )
    devices_per_run: Whole = Field(1, ge=1, description=_DEVICES)
    options: Options = Field(Options(), description="what a task asks for, over what the profile says")

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not _CLASS_NAME.fullmatch(value):
            raise ValueError(f"must be small letters, digits and '-', but got {value!r}")
        return value

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.options.gpus:
            _enough_gpus(self.workers_per_node, self.devices_per_run, self.options.gpus)
        return self

    @property
    def workers_per_node(self) -> int:
        """Processes on each node."""
        return self.workers or max(1, self.options.gpus // self.devices_per_run)

    @property
    def runs_at_once(self) -> int:
        """Processes of a task."""
        return self.workers_per_node * self.options.nodes


class SlurmProfile(Section):
    """A launcher profile for a SLURM cluster."""

    launcher: Literal["slurm"] = Field(description="where runs execute")
    options: Options = Field(Options(), description="what every task asks for")
    classes: tuple[WorkerClass, ...] = Field((WorkerClass(),), min_length=1, description="classes of worker")
    fit: Options = Field(Options(time="00:30:00"), description="what the job asks for that fits when the runs are done")
    max_parallel: Whole = Field(64, ge=1, description="most tasks of the study at once")
    max_gpu_hours: Number | None = Field(
        None, gt=0, description="hours of one GPU (of one worker, where there is none) that the study may hold in all"
    )
    max_requeues: Whole = Field(100, ge=0, description="most times that a task is put back into the queue")
    array_limit: Whole | None = Field(
        None, ge=1, description="most tasks of one array; default: the cluster's MaxArraySize"
    )
    lease: Number = Field(60.0, gt=0, description="seconds of silence after which a worker is taken for dead")
    prefix: tuple[str, ...] = Field(
        (), description="what a container needs before the command: [apptainer, exec, IMAGE]"
    )
    python: str | None = Field(
        None, description="the interpreter there; default: this one, or python3 where there is a prefix"
    )

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, content: Any) -> Any:
        """Fill each class's options, and the fit's, with the profile's: what is said nearer wins."""
        if not isinstance(content, dict) or not isinstance(common := content.get("options", {}), dict):
            return content
        classes = content.get("classes", [{}])
        filled = {**content}
        if isinstance(classes, list | tuple) and all(isinstance(entry, dict) for entry in classes):
            filled["classes"] = [{**entry, "options": _over(common, entry.get("options", {}))} for entry in classes]
        for_fit = {name: common[name] for name in ("partition", "account", "qos", "setup", "sbatch") if name in common}
        filled["fit"] = _over({**for_fit, "time": "00:30:00"}, content.get("fit", {}))
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [entry.name for entry in self.classes]
        if len(set(names)) < len(names):
            raise ValueError(f"classes must have distinct names, but got {', '.join(names)}")
        limits = [entry.up_to_params for entry in self.classes]
        if None in limits[:-1]:
            raise ValueError(f"up_to_params must be given for every class but the last, but got {limits}")
        bounds = [limit for limit in limits if limit is not None]
        if any(before >= after for before, after in pairwise(bounds)):
            raise ValueError(f"up_to_params must increase from class to class, but got {limits}")
        return self

    def class_of(self, params: int) -> WorkerClass:
        """The first class that takes a model of `params` parameters.

        Raises
        ------
        InputError
            If none does.
        """
        for entry in self.classes:
            if entry.up_to_params is None or params <= entry.up_to_params:
                return entry
        raise InputError(
            f"the last class must take the largest model, but {self.classes[-1].name} takes {limit_text(self)} "
            f"parameters and a run has {params:,}"
        )

    def check(self, run: Run, planned: int = 1) -> None:
        """Refuse a run that no class takes, or that its class's devices are not for: `InputError`."""
        entry = self.class_of(run.shape.parameters.total)
        _together(run, entry.devices_per_run, planned if entry.options.gpus else 1)


def _together(run: Run, devices: int, planned: int) -> None:
    # More are fine; fewer have not the memory by which the run was found to fit.
    if devices < planned:
        raise InputError(
            f"devices_per_run of the launcher must be at least the {planned} accelerators on which run {run.id} was "
            f"planned (hardware.gpus_per_run), but is {devices}"
        )
    rows_of_each(run, devices)


def _enough_gpus(workers: int, devices_per_run: int, gpus: int) -> None:
    # One worker may have all GPUs of a node and use the first: as many as there are runs is what counts.
    if workers * devices_per_run > gpus and devices_per_run > 1:
        raise ValueError(
            "a run's devices must be on one node, its own: workers × devices_per_run <= GPUs of the node must hold, "
            f"but got {workers}, {devices_per_run} and {gpus}"
        )


def limit_text(profile: SlurmProfile) -> str:
    """The size up to which the last class goes."""
    limit = profile.classes[-1].up_to_params
    return "any number of" if limit is None else f"{limit:.4g}"


Profile = LocalProfile | SlurmProfile


def _over(common: Any, own: Any) -> Any:
    return {**common, **own} if isinstance(common, dict) and isinstance(own, dict) else own


def load_profile(path: Path | None) -> Profile:
    """Read a launcher profile, or this machine's where `path` is None; `InputError` states the broken rule."""
    if path is None:
        return LocalProfile()
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"a launcher profile must be a readable YAML file, but got {path}: {error}") from None
    return parse_profile({} if content is None else content, str(path))


def parse_profile(content: Any, source: str) -> Profile:
    """Validate plain values; `InputError` lists every broken rule with its value."""
    kind = content.get("launcher", "local") if isinstance(content, dict) else "local"
    kinds: dict[Any, type[LocalProfile] | type[SlurmProfile]] = {"local": LocalProfile, "slurm": SlurmProfile}
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(f"{source}: launcher must be 'local' or 'slurm', but got {kind!r}")
    try:
        return kinds[kind].model_validate(content)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error, kinds[kind])}") from None
