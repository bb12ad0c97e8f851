"""A plan: the runs of a study, the cells that were dropped, and what both add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from isoflop.errors import InputError
from isoflop.fitting.cost import CostModel
from isoflop.flops import Shape
from isoflop.planning import hardware
from isoflop.planning.conventions import Conventions, conventions
from isoflop.planning.costs import ladder_cost
from isoflop.planning.feasibility import Dropped, Planner
from isoflop.planning.grid import lay_out, shortfall
from isoflop.planning.hardware import Disk, Estimate
from isoflop.planning.ledger import DataFacts, Entry
from isoflop.planning.prior import Prior, chosen
from isoflop.planning.probes import NONE, Probes
from isoflop.planning.recipes import named
from isoflop.planning.runs import Run
from isoflop.planning.trunks import Trunk, own_steps, trunks
from isoflop.study import Study

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Plan:
    """What a study will train.

    Parameters
    ----------
    study
        Its name.
    data
        What is known of what the models read.
    runs, dropped
        In the grid's order: by budget, then by size, then by seed.
    settings
        The study file that was planned.
    prior
        What the grid was laid out by; None where the study names none.
    probes
        What was measured of its models.
    """

    study: str
    data: DataFacts
    runs: tuple[Run, ...]
    dropped: tuple[Dropped, ...]
    settings: Study
    prior: Prior | None
    probes: Probes = NONE

    @property
    def flops(self) -> float:
        """Training FLOPs of all runs, each from its start, by the study's convention."""
        return sum(run.flops for run in self.runs)

    @property
    def saved_flops(self) -> float:
        """Those of them that are not spent, because runs of a trunk share its stable part."""
        return sum(trunk.saved_flops for trunk in self.trunks)

    @property
    def budgets(self) -> tuple[float, ...]:
        """Planned budgets, training FLOPs, ascending."""
        return self.settings.grid.budgets

    def at(self, budget: float) -> list[Run]:
        """The runs at one budget."""
        return [run for run in self.runs if run.budget == budget]

    def epochs(self, run: Run) -> float | None:
        """Passes of `run` over the source that it reads most often; None while not known."""
        return self.data.epochs(run.tokens)

    @cached_property
    def cost(self) -> CostModel:
        """C(N, D) along the planned sizes, by the study's convention."""
        grid = self.settings.grid
        return ladder_cost((run.shape for run in self.runs), grid.convention, grid.attention)

    @cached_property
    def trunks(self) -> tuple[Trunk, ...]:
        """The stable parts that runs share."""
        return trunks(self.runs)

    @cached_property
    def own_steps(self) -> dict[str, int]:
        """Steps that each run takes itself, by id: where it shares a trunk, from its branch on (the longest all)."""
        return own_steps(self.runs)

    @cached_property
    def conventions(self) -> Conventions:
        """How far apart the conventions of N and C are on this grid."""
        grid = self.settings.grid
        return conventions(self.runs, grid.convention, grid.attention, self.prior, self.cost)

    @cached_property
    def ledger(self) -> list[Entry]:
        """What the longest run reads of each source; empty while the data are not known."""
        return self.data.entries(max(run.tokens for run in self.runs))

    @cached_property
    def estimate(self) -> Estimate | None:
        """Hours, cost and memory on the study's hardware; None where it names none."""
        machine, asked = self.settings.machine, self.settings.training
        if machine is None:
            return None
        where: dict[str, str | bool] = {"accelerator": machine.accelerator, "recompute": asked.recompute}
        measured = self.probes.measured(self.runs, devices=machine.gpus_per_run, compiled=asked.compile, **where)
        return hardware.estimate(self.runs, machine, asked.recompute, measured)

    @cached_property
    def accelerator_hours(self) -> dict[str, float]:
        """Hours of all runs on each known accelerator, at its assumed MFU."""
        return hardware.hours_on_each(self.runs)

    @cached_property
    def disk(self) -> Disk:
        """Disk for checkpoints, of as many runs as the hardware trains at once and of trunks, and for token shards."""
        machine = self.settings.hardware
        at_once = 1 if machine is None else machine.at_once
        unique = self.data.unique_tokens
        stream = sum(source.unique_tokens * source.orders for source in self.data.sources) or unique
        if self.settings.data.external is not None:
            stream = None
        keep_weights = self.settings.training.keep_weights
        return hardware.disk(self.runs, stream, self.data.vocabulary, at_once, keep_weights)

    def to_json(self) -> dict[str, Any]:
        """Plain values: ``runs``, ``dropped``, ``totals``, ``data`` and what follows from them, ``notes``."""
        return {
            "study": self.study,
            "runs": [self._record(run) for run in self.runs],
            "dropped": [asdict(cell) for cell in self.dropped],
            "totals": {
                "runs": len(self.runs),
                "dropped": len(self.dropped),
                "flops": self.flops,
                "trained_flops": self.flops - self.saved_flops,
                "tokens": sum(run.tokens for run in self.runs),
                "runs_by_budget": [len(self.at(budget)) for budget in self.budgets],
            },
            "data": self.data.to_json(),
            "ledger": [asdict(entry) for entry in self.ledger],
            "conventions": self.conventions.to_json(),
            "trunks": {"shared": [asdict(trunk) for trunk in self.trunks], "saved_flops": self.saved_flops},
            "hardware": None if self.estimate is None else asdict(self.estimate),
            "accelerator_hours": self.accelerator_hours,
            "disk": asdict(self.disk),
            "prior": None if self.prior is None else asdict(self.prior),
            "notes": self.notes(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """A record for each run and each dropped cell; `dropped` holds the reason, empty for a run."""
        rows: list[dict[str, Any]] = []
        for run in self.runs:
            record = self._record(run)
            params = record.pop("params")
            rows.append({**record, **{f"params_{name}": count for name, count in params.items()}, "dropped": ""})
        rows += [
            {"budget": cell.budget, "size": cell.size, "d_model": cell.d_model, "dropped": cell.reason}
            for cell in self.dropped
        ]
        return rows

    def table(self) -> pd.DataFrame:
        """The `rows` as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def notes(self) -> list[str]:
        """What a reader should know that the numbers do not say."""
        return [
            *shortfall(self.settings.grid, self.runs),
            *([] if self.prior is None else self.prior.notes(self.cost)),
            *self._data_notes(),
            *self._trunk_notes(),
            *self._hardware_notes(),
            *self._shape_notes(),
            *self.conventions.sentences(),
        ]

    def _data_notes(self) -> list[str]:
        if self.data.unique_tokens is None and self.settings.data.external is not None:
            return ["How often a run repeats data is not known: give data.external.samples."]
        if self.data.unique_tokens is None:
            return ["The corpus is not made yet: how often a run repeats data is known once it is."]
        notes = []
        for entry in self.ledger:
            source = "" if len(self.ledger) == 1 else f" of {entry.source}"
            verdict = "no run repeats data" if entry.epochs <= 1 else "runs beyond 1 repeat data"
            sound = f", {entry.audio_hours:,.0f} hours of audio" if entry.audio_hours else ""
            notes.append(
                f"The longest run sees {entry.epochs:.3g} of the {entry.unique_tokens:,} unique tokens{source}{sound}: "
                f"{verdict}."
            )
        limit = self.settings.limits.epochs
        over = [run for run in self.runs if (self.epochs(run) or 0) > limit]
        if over:
            notes.append(
                f"{len(over)} runs make more than {limit:g} epochs (limits.epochs) and are kept, as "
                "limits.beyond_epochs asks: repeated data teach less than new, so their losses are too high."
            )
        return notes

    def _trunk_notes(self) -> list[str]:
        if not self.trunks:
            alone = "each differs from all others in more than its length"
            why = alone if self.settings.trainer is None else "the study's own trainer trains each by itself"
            return [f"No two runs share a trunk: {why}."]
        members = sum(len(trunk.branches) for trunk in self.trunks)
        trained, fewer = self.flops - self.saved_flops, self.saved_flops / self.flops
        return [
            f"{members} of {len(self.runs)} runs share {len(self.trunks)} trunks: they are equal in everything but "
            "length, so their losses share noise.",
            "Each trunk is trained once, with a decay branch for each of its runs, for the same losses: "
            f"{trained:.3g} FLOPs instead of {self.flops:.3g}, {fewer:.0%} fewer. It fixes rate and batch over D: "
            "where the best of them change with D, the shorter or the longer branches are at a loss.",
        ]

    def _hardware_notes(self) -> list[str]:
        gib = hardware.GIB
        shards = "" if self.disk.shards is None else f" and {self.disk.shards / gib:.3g} GiB for token shards"
        trunks = f", {self.disk.trunks / gib:.3g} GiB for trunks (kept)" if self.disk.trunks else ""
        weights = f", {self.disk.weights / gib:.3g} GiB for the final weights (kept)" if self.disk.weights else ""
        space = f"Disk: {self.disk.checkpoints / gib:.3g} GiB for checkpoints{trunks}{weights}{shards}."
        found = self.estimate
        if found is None:
            hours = ", ".join(f"{name} {each:,.3g}" for name, each in self.accelerator_hours.items())
            assumed = f"Accelerator-hours at the MFU assumed of each (name yours: hardware): {hours}."
            return [assumed, *self._probe_notes(), space]
        cost = "" if found.cost is None else f", at a cost of {found.cost:,.{0 if found.cost >= 100 else 2}f}"
        room = "" if found.available_gib is None else f" of {found.available_gib:.3g}"
        return [
            f"On {found.accelerator} {_by_what(found, len(self.runs))}: "
            f"{found.gpu_hours:,.3g} accelerator-hours{cost}; {found.makespan_hours:,.3g} hours until the last run is "
            f"done on {found.gpus} of them, the longest run {found.longest_hours:,.3g} hours.",
            f"The largest run needs {found.memory_gib:.3g}{room} GiB of each accelerator"
            f"{' (measured)' if found.memory_measured else ''}.",
            *_together(found),
            space,
        ]

    def _probe_notes(self) -> list[str]:
        """What was measured on which device, where the study names none."""
        notes = []
        for device, devices in sorted({(probe.device, probe.devices) for probe in self.probes.records}):
            found = self.probes.measured(self.runs, devices=devices, device=device)
            hours = sum(found[run.id].hours * self.own_steps[run.id] for run in self.runs if run.id in found)
            if found:
                notes.append(
                    f"Measured on {device}, {devices} a run (isoflop probe): {hours:,.3g} device-hours for "
                    f"{len(found)} of {len(self.runs)} runs."
                )
        return notes

    def _shape_notes(self) -> list[str]:
        few = [budget for budget in self.budgets if len({run.shape for run in self.at(budget)}) < _ENOUGH]
        if not few:
            return []
        return [f"Fewer than {_ENOUGH} sizes at {', '.join(f'{budget:.3g}' for budget in few)} FLOPs (grid.min_cells)."]

    def _record(self, run: Run) -> dict[str, Any]:
        params, tuned = run.shape.parameters, self.settings.recipe.tuned
        shape = vars(run.shape) if isinstance(run.shape, Shape) else {"d_model": run.shape.d_model}
        return {
            "id": run.id,
            "budget": run.budget,
            "flops": run.flops,
            "size": run.shape.label,
            "params": {
                "total": params.total,
                "non_embedding": params.non_embedding,
                "body_and_head": params.body_and_head,
            },
            "tokens": run.tokens,
            "epochs": self.epochs(run),
            **shape,
            "vocabulary": run.shape.vocabulary,
            "sequence_length": run.shape.sequence_length,
            "batch_size": run.batch_size,
            "steps": run.steps,
            "warmup_steps": run.warmup_steps,
            "decay_steps": run.decay_steps,
            "decay": run.decay,
            "final_rate": run.final_rate,
            "learning_rate": run.learning_rate,
            "optimizer": run.optimizer,
            "beta2": run.beta2,
            "seed": run.seed,
            "trunk": run.trunk,
            "own_steps": self.own_steps[run.id],
            "trained_flops": run.flops * self.own_steps[run.id] / run.steps,
            **({} if tuned is None else {"beyond_tuning": tuned.beyond(run.shape.d_model, run.learning_rate)}),
        }


def _by_what(found: Estimate, runs: int) -> str:
    """Whether the hours were measured."""
    said = f"at an MFU of {found.mfu:.0%} ({'measured' if found.mfu_measured else 'assumed'})"
    if found.measured_runs == runs:
        return "as measured (isoflop probe)"
    return f"as measured for {found.measured_runs} of {runs} runs, else {said}" if found.measured_runs else said


def _together(found: Estimate) -> list[str]:
    """How several accelerators train a run, where they do."""
    if found.gpus_per_run == 1:
        return []
    ways = {"ddp": "with a copy of the weights on each (DDP)", "fsdp": "with the weights shared out (FSDP2)"}
    said = [f"{found.strategies[way]} runs {words}" for way, words in ways.items() if way in found.strategies]
    return [f"On {found.gpus_per_run} accelerators each: {', '.join(said)}."]


#: Sizes of a profile below which its minimum is hardly told from its neighbours.
_ENOUGH = 5
#: Cells that are planned; a study of more is a slip of the pen.
_MOST_CELLS = 100_000


def plan(study: Study, data: DataFacts, prior: Prior | None = None, probes: Probes | None = None) -> Plan:
    """Lay out the runs of `study` on `data`: pure, no I/O; the same input gives the same plan and the same ids.

    Parameters
    ----------
    study
        What is asked for.
    data
        What is known of what the models read.
    prior
        What to lay the grid out by; None takes the one that the study names (which must then not be a file).
    probes
        What was measured of its models; it changes no run.

    Raises
    ------
    InputError
        If the recipe is unknown or cannot build a size, the validation tokens cannot be had, there are more than
        100,000 cells, or fewer than ``grid.min_cells`` sizes are left at a budget (with each dropped cell's reason).
    """
    _check_validation(study, data)
    prior = prior or chosen(study.grid.prior)
    planner = Planner(study, named(study.recipe), data)
    runs: dict[str, Run] = {}
    dropped: list[Dropped] = []
    for number, cell in enumerate(lay_out(planner, prior)):
        if number == _MOST_CELLS:
            raise InputError(f"a grid must have at most {_MOST_CELLS:,} cells, but got more (budgets × sizes × seeds)")
        if isinstance(cell, Dropped):
            dropped.append(cell)
        elif cell.id in runs:
            reason = f"the same work as the cell at {runs[cell.id].budget:.3g} FLOPs"
            dropped.append(Dropped(cell.budget, cell.shape.label, cell.shape.d_model, reason))
        else:
            runs[cell.id] = cell
    _refuse_thin_budgets(study, list(runs.values()), dropped)
    if not runs:
        raise InputError(
            "a grid of chosen cells must have some, but got none (isoflop next STUDY --add chooses the first)"
        )
    return Plan(study.name, data, tuple(runs.values()), tuple(dropped), study, prior, probes or NONE)


def _check_validation(study: Study, data: DataFacts) -> None:
    tokens, length = study.training.validation_tokens, study.model.sequence_length
    if tokens % length:
        raise InputError(
            f"training.validation_tokens must be a multiple of model.sequence_length, but got {tokens} and {length}"
        )
    if data.held_out_tokens is not None and tokens >= data.held_out_tokens:
        raise InputError(
            f"training.validation_tokens must be less than the corpus's held-out tokens, {data.held_out_tokens}, "
            f"but got {tokens}"
        )


def _refuse_thin_budgets(study: Study, runs: Sequence[Run], dropped: Sequence[Dropped]) -> None:
    if study.grid.generator == "chosen":
        # Cells are chosen one by one: a lone one tells of its surface.
        return
    sizes: dict[float, set[Any]] = {budget: set() for budget in study.grid.budgets}
    for run in runs:
        sizes[run.budget].add(run.shape)
    for budget, left in sizes.items():
        if len(left) < study.grid.min_cells:
            reasons = "; ".join(f"{cell.size}: {cell.reason}" for cell in dropped if cell.budget == budget)
            raise InputError(
                f"every budget must have at least {study.grid.min_cells} feasible sizes (grid.min_cells), but "
                f"{budget:.3g} FLOPs has {len(left)}: {reasons or 'no more were asked for'}"
            )
