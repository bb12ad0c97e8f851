"""The study directory: the only thing that planner, workers and analysis share.

::

    <study>/study.yaml  plan.parquet  plan.csv  corpus/  runs/<id>/  points.parquet  points.csv  law.json  report.html
            figures/    crews/  claims/  submissions/  code/  trunks/<id>/  rehearsal.json
            adopted/    choices.json
    runs/<id>/run.json  status.json  metrics.csv  validation.csv  checkpoints/  weights/  result.json  log/
              cancelled.json  outputs/  exchange/
    trunks/<id>/trunk.json  checkpoints/

Every file is written beside its place and renamed or linked into it, so a reader sees a whole file or none, and a
process killed at any moment leaves nothing half-written. A run is finished when, and only when, its `result.json`
stands, and that is written once: the first to publish wins.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from isoflop.claims import Claims, Observer, crews
from isoflop.errors import CorruptFileError, InputError
from isoflop.files import publish_json as publish_json
from isoflop.files import read_json as read_json
from isoflop.files import replacing as replacing
from isoflop.files import write_json as write_json
from isoflop.files import write_text as write_text
from isoflop.flops import Shape
from isoflop.names import validated_name
from isoflop.planning.runs import Run
from isoflop.table_files import read_table

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.law import Law
    from isoflop.study import Study

State = Literal["planned", "running", "done", "failed"]


@dataclass(frozen=True)
class RunDirectory:
    """What one run leaves on disk."""

    root: Path

    @property
    def run_file(self) -> Path:
        """The run itself, as planned."""
        return self.root / "run.json"

    @property
    def status_file(self) -> Path:
        """State, step and current loss, rewritten while the run goes on."""
        return self.root / "status.json"

    @property
    def metrics_file(self) -> Path:
        """Step, tokens, training loss, gradient norm, rate, spikes and losses by type, a row every few steps."""
        return self.root / "metrics.csv"

    @property
    def validation_file(self) -> Path:
        """Step, tokens and the held-out losses, a row for each validation: the run's loss curve."""
        return self.root / "validation.csv"

    @property
    def checkpoints(self) -> Path:
        """The newest checkpoints."""
        return self.root / "checkpoints"

    @property
    def weights(self) -> Path:
        """The final weights, where the study keeps them: one checkpoint without the optimiser's state."""
        return self.root / "weights"

    @property
    def outputs(self) -> Path:
        """What a trainer of the study's own keeps."""
        return self.root / "outputs"

    @property
    def exchange(self) -> Path:
        """The files through which a command that trains the run is spoken with."""
        return self.root / "exchange"

    @property
    def result_file(self) -> Path:
        """The loss and what it cost; its presence is what "done" means."""
        return self.root / "result.json"

    @property
    def log(self) -> Path:
        """The worker's output while it ran this run."""
        return self.root / "log"

    @property
    def cancelled_file(self) -> Path:
        """Stands where somebody asked that the run be left alone."""
        return self.root / "cancelled.json"

    def write_status(self, state: State, **details: Any) -> None:
        """Replace the status; `details` are plain values (step, loss, cause…)."""
        if state not in get_args(State):
            raise InputError(f"a state must be one of {', '.join(get_args(State))}, but got {state!r}")
        # Rewritten every second, and not believed where it cannot be read.
        write_json(self.status_file, {"state": state, "time": time.time(), **details}, durable=False)

    def status(self) -> dict[str, Any]:
        """The run's state: ``done`` if its result stands, else what was last written, else ``planned``.

        A status that cannot be read is no more than that: the run is taken as planned, and `cause` says so.
        """
        try:
            written: dict[str, Any] = read_json(self.status_file) if self.status_file.exists() else {}
        except CorruptFileError as error:
            written = {"cause": str(error)}
        if self.result_file.exists():
            return {"state": "done"}
        return {"state": "planned", **written}

    def publish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write the result, unless one stands; returns the one that does. So no writer can undo another's."""
        if publish_json(self.result_file, result):
            return result
        standing = self.result()
        return result if standing is None else standing

    def result(self) -> dict[str, Any] | None:
        """The result, or None while there is none; `CorruptFileError` if the file is not this run's result."""
        if not self.result_file.exists():
            return None
        result = read_json(self.result_file)
        loss = result.get("loss")
        if result.get("run") != self.root.name or not _is_finite(loss):
            raise CorruptFileError(
                f"{self.result_file} must hold the run {self.root.name} and a finite loss, but holds "
                f"{result.get('run')!r} and {loss!r}; delete it to train the run again"
            )
        return result


@dataclass(frozen=True)
class TrunkDirectory:
    """What runs that share their stable part leave on disk for each other; checkpoints stay when the runs are done."""

    root: Path

    @property
    def trunk_file(self) -> Path:
        """The runs that share it, as planned."""
        return self.root / "trunk.json"

    @property
    def checkpoints(self) -> Path:
        """One for each step at which a run branches off."""
        return self.root / "checkpoints"

    def branches(self) -> dict[str, int]:
        """The step at which each of its runs branches off, by run id; empty where no two runs share it.

        Raises
        ------
        CorruptFileError
            If the file is not what was written.
        """
        if not self.trunk_file.exists():
            return {}
        branches = read_json(self.trunk_file).get("branches")
        if not isinstance(branches, dict) or not all(type(step) is int for step in branches.values()):
            raise CorruptFileError(
                f"{self.trunk_file} must hold the steps of branches by run, but holds {branches!r}; "
                "`isoflop run` writes it anew"
            )
        return branches

    def stored(self) -> frozenset[int]:
        """Steps of the checkpoints that stand, by their names alone."""
        names = (_STORED.match(path.name) for path in self.checkpoints.glob("step-*"))
        return frozenset(int(name[1]) for name in names if name)


#: How the name of a checkpoint begins.
_STORED = re.compile(r"step-(\d{8,})[-.]")


@dataclass(frozen=True)
class Branch:
    """Where a run branches off: the id of its trunk, and the step."""

    trunk: str
    step: int


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class StudyDirectory:
    """Where each file of a study lives. Constructing one touches nothing."""

    root: Path

    @property
    def study_file(self) -> Path:
        """The study file as it was last run."""
        return self.root / "study.yaml"

    @property
    def plan_file(self) -> Path:
        """All runs and dropped cells, with a `.csv` beside it for people."""
        return self.root / "plan.parquet"

    @property
    def corpus(self) -> Path:
        """The embedded corpus, if the study uses it."""
        return self.root / "corpus"

    @property
    def rehearsal_file(self) -> Path:
        """What a rehearsal pretends; where it stands, nothing here was trained."""
        return self.root / "rehearsal.json"

    @property
    def rehearsed(self) -> bool:
        """Whether this is a rehearsal's directory."""
        return self.rehearsal_file.exists()

    def corpus_of(self, study: Study) -> Path:
        """The token shards that the runs of `study` read: those that it names, or its own embedded ones."""
        return study.data.corpus or self.corpus

    def shards(self) -> Path:
        """The token shards that the runs of the study written here read."""
        from isoflop.study import Study

        return self.corpus_of(Study.load(self.study_file)) if self.study_file.exists() else self.corpus

    @property
    def points_file(self) -> Path:
        """The points table, with a `.csv` beside it for people."""
        return self.root / "points.parquet"

    @property
    def law_file(self) -> Path:
        """The fitted law."""
        return self.root / "law.json"

    @property
    def report_file(self) -> Path:
        """The report."""
        return self.root / "report.html"

    @property
    def figures(self) -> Path:
        """The report's figures as PNG."""
        return self.root / "figures"

    @property
    def adopted(self) -> Path:
        """Points from elsewhere that count as the study's own (`isoflop.adopted`)."""
        return self.root / "adopted"

    @property
    def choices_file(self) -> Path:
        """What `isoflop next` proposed, in order."""
        return self.root / "choices.json"

    @property
    def submissions(self) -> Path:
        """What was submitted to a cluster, a folder for each submission."""
        return self.root / "submissions"

    @property
    def code(self) -> Path:
        """The code that submitted jobs run, a folder for each version."""
        return self.root / "code"

    def run(self, run_id: str) -> RunDirectory:
        """The directory of one run."""
        return RunDirectory(self.root / "runs" / validated_name(run_id))

    def trunk(self, trunk_id: str) -> TrunkDirectory:
        """The directory of one trunk."""
        return TrunkDirectory(self.root / "trunks" / validated_name(trunk_id))

    def branches(self) -> dict[str, Branch]:
        """Where each run branches off, by run id, for those that share a trunk; errors as `TrunkDirectory.branches`."""
        trunks = sorted(path.parent.name for path in self.root.glob("trunks/*/trunk.json"))
        return {run: Branch(trunk, step) for trunk in trunks for run, step in self.trunk(trunk).branches().items()}

    def run_ids(self) -> list[str]:
        """Ids of every run on disk, sorted, in the grid or not; a folder without its run file is none."""
        return sorted(path.parent.name for path in self.root.glob("runs/*/run.json"))

    @property
    def worked_on(self) -> bool:
        """Whether a crew seems to be alive: certain on this machine, a guess by its last beat on others."""
        observer = Observer(self.root)
        return any(observer.seems_alive(crew) for crew in crews(self.root))

    def worker_of(self, run_id: str, observer: Observer) -> bool:
        """Whether a crew that seems to be alive holds the run."""
        claim = Claims(self.root, observer=observer).latest(run_id)
        return claim is not None and claim.end is None and observer.seems_alive(claim.crew)

    def load_run(self, run_id: str) -> Run:
        """The run as planned; `CorruptFileError` if its file is missing or not its own."""
        path = self.run(run_id).run_file
        record = read_json(path)
        try:
            run = Run.from_dict(record)
        except InputError as error:
            raise CorruptFileError(f"{path} is not a run of this version of isoflop: {error}") from error
        if record.get("id") != run_id:
            raise CorruptFileError(f"{path} must hold the run {run_id}, but holds {record.get('id')}")
        return run


def read_law(path: Path) -> Law:
    """Read the law at `path`; `CorruptFileError` names the file where it is none."""
    from isoflop.fitting.law import Law

    try:
        return Law.from_json(read_json(path))
    except InputError as error:
        raise CorruptFileError(f"{path}: {error}") from error


def points(directory: str | Path) -> pd.DataFrame:
    """Every run of the study at `directory`, in the grid or not, finished or not.

    A run that was interrupted is planned again: nothing is running where no crew is alive.

    Points that were adopted stand behind the study's own, with the digest of their table in `adopted`.

    Columns: ``run, state, in_grid, budget, flops, params, params_embedding, params_head, params_body, tokens, loss``
    (NaN while there is none), ``loss_*`` by token type and source, ``bits_per_audio_second``, ``trunk, seed, d_model,
    n_layers, steps, learning_rate``, and ``simulated`` for those of a rehearsal. Runs of the grid come first, in its
    order.

    Raises
    ------
    InputError
        If there is no study at `directory`.
    CorruptFileError
        If a run's file or result is not what was written.
    """
    import pandas as pd

    from isoflop import adopted  # late, as pandas: what only watches a study needs no arrays

    study = StudyDirectory(Path(directory))
    taken = adopted.read(study.adopted)
    if not study.plan_file.exists():
        if taken is None:
            raise InputError(f"a study directory must hold {study.plan_file.name}, but {study.root} does not")
        return adopted.beside(None, taken)
    planned = read_table(study.plan_file, columns=("id", "dropped"))
    observer = Observer(study.root)
    grid = [str(run_id) for run_id in planned.loc[planned["dropped"] == "", "id"]]
    outside = [run_id for run_id in study.run_ids() if run_id not in set(grid)]
    own = pd.DataFrame([_point(study, run_id, run_id in set(grid), observer) for run_id in [*grid, *outside]])
    return own if taken is None else adopted.beside(own, taken)


def _point(study: StudyDirectory, run_id: str, in_grid: bool, observer: Observer) -> dict[str, Any]:
    run = study.load_run(run_id)
    directory = study.run(run_id)
    result = directory.result() or {}
    state = directory.status()["state"]
    params = run.shape.parameters
    return {
        "run": run_id,
        "state": "planned" if state == "running" and not study.worker_of(run_id, observer) else state,
        "in_grid": in_grid,
        "budget": run.budget,
        "flops": run.flops,
        "params": params.total,
        "params_embedding": params.embedding,
        "params_head": params.head,
        "params_body": params.body,
        "tokens": run.tokens,
        "loss": result.get("loss", math.nan),
        **{name: value for name, value in result.items() if name.startswith(("loss_", "bits_"))},
        "trunk": run.trunk,
        "seed": run.seed,
        "d_model": run.shape.d_model,
        "n_layers": run.shape.n_layers if isinstance(run.shape, Shape) else 0,
        "steps": run.steps,
        "learning_rate": run.learning_rate,
        **({"simulated": True} if study.rehearsed or result.get("simulated") else {}),
    }
