"""The study directory: the only thing that planner, workers and analysis share.

::

    <study>/study.yaml  plan.parquet  plan.csv  corpus/  runs/<id>/  points.parquet  points.csv  law.json  report.html
            figures/    crews/  claims/  submissions/  code/  trunks/<id>/  rehearsal.json
            adopted/    choices.json  probes.json  audit.json  forecast.json  ablation.json
    runs/<id>/run.json  status.json  metrics.csv  validation.csv  checkpoints/  weights/  result.json  log/
              cancelled.json  outputs/  exchange/
    trunks/<id>/trunk.json  checkpoints/

Every file is written beside its place and renamed or linked into it, so a reader sees a whole file or none, and a
process killed at any moment leaves nothing half-written. A run is finished when, and only when, its `result.json`
stands, and that is written once: the first to publish wins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from isoflop.run_directory import Branch as Branch
from isoflop.run_directory import RunDirectory as RunDirectory
from isoflop.run_directory import TrunkDirectory as TrunkDirectory
from isoflop.table_files import read_table

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.law import Law
    from isoflop.fitting.sensitivity import Sensitivity
    from isoflop.planning.probes import Probes
    from isoflop.study import Study


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

    @property
    def search_file(self) -> Path:
        """What is searched, where the runs are the trials of a search."""
        return self.root / "search.json"

    @property
    def variations_file(self) -> Path:
        """Which run varies which, where the runs are an audit's."""
        return self.root / "variations.json"

    @property
    def is_part(self) -> bool:
        """Whether the runs here serve a study that they are no points of: a search's, or an audit's."""
        return self.search_file.exists() or self.variations_file.exists()

    @property
    def audit_file(self) -> Path:
        """What the audit of the study found."""
        return self.root / "audit.json"

    def corpus_of(self, study: Study) -> Path:
        """The token shards that the runs of `study` read: those that it names, or its own embedded ones."""
        return study.data.corpus or self.corpus

    def corpora_of(self, study: Study) -> tuple[Path, ...]:
        """All that any run of `study` reads: where it has axes, its arms' corpora; none where data are external."""
        from isoflop.arms import studies

        return tuple(dict.fromkeys(self.corpus_of(each) for each in studies(study) if each.data.external is None))

    def shards(self) -> Path:
        """The token shards that the runs of the study written here read."""
        from isoflop.study import Study

        return self.corpus_of(Study.load(self.study_file)) if self.study_file.exists() else self.corpus

    @property
    def probes_file(self) -> Path:
        """What was measured of the study's models, on which devices."""
        return self.root / "probes.json"

    @property
    def points_file(self) -> Path:
        """The points table, with a `.csv` beside it for people."""
        return self.root / "points.parquet"

    @property
    def law_file(self) -> Path:
        """The fitted law."""
        return self.root / "law.json"

    @property
    def ablation_file(self) -> Path:
        """What the arms of a study with axes came to."""
        return self.root / "ablation.json"

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
    def forecast_file(self) -> Path:
        """What was forecast of the study's runs, and what came."""
        return self.root / "forecast.json"

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


def probes(study: StudyDirectory) -> Probes:
    """What was measured of the study's models; `CorruptFileError` where the file is something else."""
    from isoflop.planning.probes import NONE, Probes

    if not study.probes_file.exists():
        return NONE
    try:
        return Probes.from_json(read_json(study.probes_file))
    except InputError as error:
        raise CorruptFileError(f"{study.probes_file}: {error}; isoflop probe makes it anew once it is gone") from error


def read_law(path: Path) -> Law:
    """Read the law at `path`; `CorruptFileError` names the file where it is none."""
    from isoflop.fitting.law import Law

    try:
        return Law.from_json(read_json(path))
    except InputError as error:
        raise CorruptFileError(f"{path}: {error}") from error


def read_audit(study: StudyDirectory) -> Sensitivity | None:
    """What an audit of the study found, None where there was none; `CorruptFileError` where the file is none."""
    from isoflop.fitting.sensitivity import Sensitivity

    if not study.audit_file.exists():
        return None
    try:
        return Sensitivity.from_json(read_json(study.audit_file))
    except InputError as error:
        raise CorruptFileError(f"{study.audit_file}: {error}; isoflop audit makes it anew once it is gone") from error


def points(directory: str | Path) -> pd.DataFrame:
    """Every run of the study at `directory`, in the grid or not, finished or not.

    A run that was interrupted is planned again: nothing is running where no crew is alive.

    Points that were adopted stand behind the study's own, with the digest of their table in `adopted`.

    Columns: ``run, state, in_grid, budget, flops, params, params_embedding, params_head, params_body, tokens, loss``
    (NaN while there is none), ``loss_*`` by token type and source, ``bits_per_audio_second``, ``trunk, seed, d_model,
    n_layers, steps, learning_rate``, and ``simulated`` for those of a rehearsal; where the study has axes
    ``axis_<name>`` with the label of each one's value, ``cell`` and ``held_out`` (`isoflop.fitting.ablation`). Runs of
    the grid come first, in its order.

    Raises
    ------
    InputError
        If there is no study at `directory`.
    CorruptFileError
        If a run's file or result is not what was written.
    """
    import pandas as pd

    # Late, as pandas: what only watches a study needs no arrays.
    from isoflop import adopted
    from isoflop.fitting.ablation import CELL, HELD_OUT, PREFIX

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
    arms = planned.columns[planned.columns.str.startswith(PREFIX)]
    if len(arms):
        own = own.merge(planned[["id", *arms, CELL, HELD_OUT]].rename(columns={"id": "run"}), on="run", how="left")
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
