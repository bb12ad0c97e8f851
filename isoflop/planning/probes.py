"""What was measured of a study's models on real devices: the time of a step, and memory, in the place of estimates.

``isoflop probe`` writes the records (`isoflop.launching.probing`); a plan takes its hours and memory from them where
there are any, and a run its micro-batch, its strategy and whether it is compiled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from isoflop.errors import InputError
from isoflop.planning import hardware
from isoflop.planning.hardware import Measured, Strategy
from isoflop.planning.runs import Run
from isoflop.planning.trunks import own_steps

#: What of a run decides how long its steps take, beside its shape.
_OF_THE_RUN = ("precision", "optimizer", "mask_documents")
#: What a later probe of the same takes the place of.
_KEY = ("shape", "settings", "device", "devices", "recompute", "compiled", "versions")


@dataclass(frozen=True)
class Probe:
    """Some real steps of one model on one kind of device.

    Parameters
    ----------
    size, shape, settings
        The model by name, its numbers, and precision, optimiser and mask.
    batch_size
        Sequences of a step.
    kind, device, devices
        ``cpu`` or ``gpu``, the device in words, and how many trained together.
    strategy, micro_batch
        How (`hardware.strategy`), and sequences of one forward pass on each, which fit.
    recompute, compiled
        As the study asks; where it leaves open whether to compile, each way has a probe.
    step_seconds, peak_bytes
        Of a step, the mean after the warm-up; and at most in use on one device (of a CPU: of one process, the
        libraries' own among them).
    flops, causal_flops
        Of a step, with attention in full and causal.
    versions
        Of isoflop and torch.
    start_seconds
        What the first steps took beyond their time: to read what was compiled before, mostly.
    chosen
        Whether both ways were tried, and this was faster over the study's runs of the model, or the only one.
    """

    size: str
    shape: dict[str, Any]
    settings: dict[str, Any]
    batch_size: int
    kind: str
    device: str
    devices: int
    strategy: Strategy
    micro_batch: int
    recompute: bool
    compiled: bool
    step_seconds: float
    peak_bytes: int
    flops: float
    causal_flops: float
    versions: dict[str, str]
    start_seconds: float = 0.0
    chosen: bool = False

    @property
    def accelerator(self) -> str | None:
        """The known accelerator that the device is, by name; None where it is none."""
        if self.kind == "cpu":
            return "cpu"
        words = self.device.lower().replace("-", " ").split()
        known = {name: name.removesuffix("-80").removeprefix("rtx-") for name in hardware.accelerators()}
        return next((name for name, word in known.items() if word in words), None)

    @property
    def tokens_per_second(self) -> float:
        """Of all devices together."""
        return self.batch_size * int(self.shape["sequence_length"]) / self.step_seconds

    def mfu(self, causal: bool = False) -> float | None:
        """Share of the devices' peak that goes into counted FLOPs; None where the device's peak is not known."""
        if self.accelerator is None:
            return None
        peak = hardware.accelerator(self.accelerator).peak(self.settings["precision"])
        return (self.causal_flops if causal else self.flops) / (self.step_seconds * self.devices * peak)

    def hours(self, run: Run, steps: int) -> float:
        """Device-hours of so many steps of `run`, at this probe's tokens a second."""
        return steps * run.tokens_per_step / self.tokens_per_second * self.devices / 3600

    def seconds(self, steps: float) -> float:
        """A run of so many steps of the batch that was measured, the start among them."""
        return self.start_seconds + steps * self.step_seconds

    def to_json(self) -> dict[str, Any]:
        """Plain values, with what follows from them."""
        derived = {"tokens_per_second": self.tokens_per_second, "mfu": self.mfu(), "mfu_causal": self.mfu(causal=True)}
        return {**asdict(self), **derived}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read what `to_json` gave; `InputError` where it is something else."""
        derived = {"tokens_per_second", "mfu", "mfu_causal"}
        try:
            return cls(**{name: value for name, value in record.items() if name not in derived})
        except TypeError as error:
            raise InputError(f"a probe must have this version's fields: {error}") from None

    def of(self, run: Run) -> bool:
        """Whether it is of the model of `run`."""
        return self.shape == dict(vars(run.shape)) and self.settings == settings_of(run)


def settings_of(run: Run) -> dict[str, Any]:
    """What of `run` decides how long its steps take, beside its shape."""
    return {name: getattr(run, name) for name in _OF_THE_RUN}


@dataclass(frozen=True)
class Probes:
    """The probes of a study, the newest last."""

    records: tuple[Probe, ...] = ()

    def of(self, run: Run, *, devices: int, compiled: bool | None = None, **where: str | bool) -> Probe | None:
        """The newest of the model of `run` on so many devices; None: none.

        Parameters
        ----------
        run, devices
            What, and on how many.
        compiled
            Whether it must be; None: as was chosen when both ways were tried, else not.
        where
            The `accelerator`, the `device` or the `kind` that it must be, and whether to `recompute`.
        """
        found = [
            probe
            for probe in reversed(self.records)
            if probe.devices == devices
            and probe.of(run)
            and all(getattr(probe, name) == value for name, value in where.items())
        ]
        if compiled is None:
            found = [probe for probe in found if probe.chosen] or [probe for probe in found if not probe.compiled]
        else:
            found = [probe for probe in found if probe.compiled == compiled]
        return found[0] if found else None

    def measured(
        self, runs: Sequence[Run], *, devices: int, compiled: bool | None = None, **where: str | bool
    ) -> dict[str, Measured]:
        """What is known of each of `runs` on so many devices (see `of`), by run id."""
        found = {run: self.of(run, devices=devices, compiled=compiled, **where) for run in runs}
        return {
            run.id: Measured(probe.hours(run, 1), probe.peak_bytes, probe.strategy)
            for run, probe in found.items()
            if probe is not None
        }

    def added(self, probe: Probe) -> Probes:
        """These and another, which takes the place of one of the same."""
        key = [getattr(probe, name) for name in _KEY]
        others = [known for known in self.records if [getattr(known, name) for name in _KEY] != key]
        return Probes((*others, probe))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"probes": [probe.to_json() for probe in self.records]}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read what `to_json` gave; `InputError` where it is something else."""
        entries = record.get("probes", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f"probes must be a list of records, but got {entries!r}")
        return cls(tuple(Probe.from_json(entry) for entry in entries))


#: Nothing was measured.
NONE = Probes()


def of_sizes(runs: Sequence[Run], sizes: Sequence[str]) -> list[Run]:
    """Those of `runs` that are of `sizes`, names or widths; all where none is given.

    Raises
    ------
    InputError
        If a size is none of the study's.
    """
    known = {name for run in runs for name in (run.shape.label, str(run.shape.d_model))}
    for size in sizes:
        if size not in known:
            raise InputError(f"sizes must be the study's, {', '.join(sorted(known))}, but got {size!r}")
    return [run for run in runs if not sizes or {run.shape.label, str(run.shape.d_model)} & set(sizes)]


def one_of_each(runs: Sequence[Run]) -> dict[Run, float]:
    """A run of each distinct model, the one with most sequences a step, and the mean steps of all that are of it.

    The smallest model first. Steps that runs of a trunk share count for the longest of them, and one of fewer sequences
    as that part of a step.
    """
    steps = own_steps(runs)
    models = defaultdict[Any, list[Run]](list)
    for run in runs:
        models[run.shape, *settings_of(run).values()].append(run)
    found: dict[Run, float] = {}
    for each in sorted(models.values(), key=lambda each: each[0].shape.parameters.total):
        largest = max(each, key=lambda run: run.batch_size)
        found[largest] = sum(steps[run.id] * run.batch_size for run in each) / largest.batch_size / len(each)
    return found
