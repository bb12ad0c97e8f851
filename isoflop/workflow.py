"""A whole study in order: plan, corpus, launch, fit, recommend, report.

Each step reads what the step before left in the study directory, so a study that was stopped anywhere is carried on
by calling `run` again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoflop import store
from isoflop.errors import InputError, MissingExtraError, NoAnswerError, RunError
from isoflop.flops import Shape
from isoflop.launching.base import Event, LocalProfile
from isoflop.launching.claims import hold
from isoflop.planning import plan as planning
from isoflop.planning import prior
from isoflop.planning.ledger import DataFacts, SourceFacts
from isoflop.planning.plan import Plan
from isoflop.planning.prior import Prior
from isoflop.planning.recipes import named
from isoflop.planning.runs import Run, trainable
from isoflop.store import StudyDirectory
from isoflop.study import Abstract, Study

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.law import Law
    from isoflop.planning.findings import Finding
    from isoflop.planning.forecast import Forecast
    from isoflop.planning.suggest import Suggestion
    from isoflop.recommendation import Recommendation
    from isoflop.tokens.shards import Corpus

#: How far beyond its largest budget a study is asked to look.
_NEXT = 10

#: Parameters below which a study says of itself that it is a smoke test.
_SMALL_MODELS = 1e6


@dataclass(frozen=True)
class Watcher:
    """Who is told how the work goes on; each callback may be left out."""

    corpus: Callable[[float, float, str], None] = lambda done, total, message: None
    planned: Callable[[Plan, list[Run]], None] = lambda plan, unfinished: None
    event: Callable[[Event], None] = lambda event: None


@dataclass(frozen=True)
class Outcome:
    """What a study came to. `law` and `recommendation` are None where `reason` says why there is none."""

    directory: Path
    points: pd.DataFrame
    law: Law | None
    recommendation: Recommendation | None
    reason: str | None
    report: Path

    @property
    def failed(self) -> list[str]:
        """Ids of the runs of the grid that failed."""
        failed = (self.points["state"] == "failed") & self.points["in_grid"]
        return [str(run) for run in self.points.loc[failed, "run"]]


def open_study(
    argument: str | Path, overrides: tuple[str, ...] = (), directory: str | Path | None = None
) -> tuple[Study, StudyDirectory]:
    """Read a study from its file or its directory, and say where it lives.

    A study file named `n` lives in `studies/n` of the working directory unless `directory` says otherwise.

    Raises
    ------
    InputError
        If there is no study there, or it breaks a rule.
    """
    path = Path(argument)
    if path.is_dir():
        if directory is not None and Path(directory).resolve() != path.resolve():
            raise InputError(f"a study directory must be its own --dir, but got {path} and {directory}")
        return Study.load(StudyDirectory(path).study_file, overrides), StudyDirectory(path)
    study = Study.load(path, overrides)
    return study, StudyDirectory(Path(directory) if directory is not None else Path("studies") / study.name)


def data_facts(study: Study, directory: StudyDirectory | None = None) -> DataFacts:
    """What is known of the study's data: from its corpus where that stands, else from its recipe.

    Raises
    ------
    InputError
        If the study names a corpus that is not there.
    """
    from isoflop.tokens import embedded
    from isoflop.tokens.shards import Corpus

    if study.data.abstract is not None:
        return _abstract_facts(study.data.abstract)
    if study.data.corpus is not None:
        corpus = Corpus.open(study.data.corpus)
        return _facts(corpus, corpus.digest)
    if directory is not None and Corpus.stands(directory.corpus):
        corpus = Corpus.open(directory.corpus)
        return _facts(corpus, corpus.fingerprint)
    return DataFacts(embedded.fingerprint(), embedded.VOCABULARY, unique_tokens=None)


def _facts(corpus: Corpus, name: str) -> DataFacts:
    return DataFacts(name, corpus.vocabulary, corpus.unique_tokens, held_out_tokens=corpus.held_out_tokens)


def _abstract_facts(data: Abstract) -> DataFacts:
    """What a study file tells of data that are not there; a source's tokens are part of what the data are."""
    if not data.sources:
        return DataFacts(f"abstract-{data.vocabulary}-{data.unique_tokens}", data.vocabulary, data.unique_tokens)
    sources = tuple(
        SourceFacts(
            name=name,
            unique_tokens=source.unique_tokens,
            share=source.share,
            tokens_per_second=source.tokens_per_second or 0.0,
            audio_share=source.audio_share,
            orders=source.orders,
        )
        for name, source in data.sources.items()
    )
    named = "-".join(f"{source.name}:{source.unique_tokens}x{source.share:g}" for source in sources)
    total = sum(source.unique_tokens for source in sources)
    return DataFacts(f"abstract-{data.vocabulary}-{named}", data.vocabulary, total, sources)


def prior_of(study: Study) -> Prior | None:
    """The prior that the study names, its law read where it is a file; None where it names none.

    Raises
    ------
    InputError
        If there is no such law.
    CorruptFileError
        If the file is not a law.
    """
    choice = study.grid.prior
    if choice is None or choice.law is None:
        return prior.chosen(choice)
    if not choice.law.is_file():
        raise InputError(f"grid.prior.law must be the law.json of a study, but {choice.law} does not exist")
    return prior.chosen(choice, store.read_law(choice.law))


def plan(study: Study, directory: str | Path | None = None) -> Plan:
    """Lay out the runs of `study` (see `isoflop.planning.plan`): reads what is known of its data, writes nothing."""
    place = None if directory is None else StudyDirectory(Path(directory))
    return planning.plan(study, data_facts(study, place), prior_of(study))


def forecasts(planned: Plan) -> list[tuple[Forecast, tuple[Finding, ...]]]:
    """What `planned` can be expected to tell under its prior and each that the study names beside it.

    Each forecast comes with what speaks against the grid under that prior. Empty where the study names no prior.
    """
    from isoflop.planning.findings import refusals
    from isoflop.planning.forecast import forecast

    grid = planned.settings.grid
    laws = [planned.prior] if planned.prior is not None else []
    laws += [prior.published(name) for name in grid.forecast_under]
    found = []
    for law in laws:
        made = forecast(planned, law, noise=grid.noise, window=planned.settings.fit.window)
        published = grid.generator == "rule"
        found.append((made, refusals(planned, law, made, ratio=grid.ratio_within, published=published)))
    return found


def suggestion(
    planned: Plan, gpu_hours: float | None = None, progress: Callable[[int, int], None] | None = None
) -> Suggestion:
    """The cheapest grid that tells as much as `planned`, or that which tells most for `gpu_hours` of its hardware.

    Raises
    ------
    InputError
        If the study names no prior; or hours are given, and they are not positive or the study names no hardware.
    NoAnswerError
        If no grid searched will do.
    """
    from isoflop.planning.hardware import flops_of_hours
    from isoflop.planning.suggest import suggest

    study = planned.settings
    if planned.prior is None:
        raise InputError(
            "grid.prior must be given for a suggestion, but got none (isoflop/data/laws has published ones)"
        )
    flops = None
    if gpu_hours is not None:
        if study.hardware is None:
            raise InputError(f"hardware must be given where hours are, but got {gpu_hours:g} hours alone")
        flops = flops_of_hours(gpu_hours, study.hardware, study.training.precision)
    return suggest(
        planned, planned.prior, flops=flops, noise=study.grid.noise, window=study.fit.window, progress=progress
    )


def run(
    study: Study,
    directory: str | Path | None = None,
    profile: LocalProfile | None = None,
    watcher: Watcher | None = None,
    patience: float = 10.0,
) -> Outcome:
    """Plan, make the corpus, train, fit, recommend and report; called again, it carries on.

    Parameters
    ----------
    study
        What to run.
    directory
        Its directory; default ``studies/<name>`` of the working directory.
    profile
        Where runs execute; default this machine, one worker a core.
    watcher
        Who is told how the work goes on.
    patience
        Seconds to wait for another launcher of this study to end.

    Raises
    ------
    InputError
        If the study cannot be planned, or its directory cannot be written.
    RunError
        If runs cannot be executed at all, or none of them is done. Single failed runs are named in the outcome.
    CorruptFileError
        If the corpus or a result is not what was written.
    """
    from isoflop.launching.local import Local

    place = StudyDirectory(Path(directory) if directory is not None else Path("studies") / study.name)
    _refuse_rehearsal(place)
    _require("torch", "lightning")
    if study.data.abstract is not None:
        raise InputError("data must be embedded or a corpus to be trained on, but got abstract (plan or rehearse it)")
    watcher = watcher or Watcher()
    planned = plan(study, place.root)
    for planned_run in planned.runs:  # a wrong study is refused before anything is written
        trainable(planned_run)
    create(place)
    with hold(place.lock_file, patience) as lock:
        _refuse_rehearsal(place)
        write_plan(study, place, planned)
        _make_corpus(study, place, watcher)
        # Now that the corpus is known, so is what the limits on its use leave of the grid.
        planned = plan(study, place.root)
        write_plan(study, place, planned)
        unfinished = [run for run in planned.runs if place.run(run.id).result() is None]
        watcher.planned(planned, unfinished)
        Local((profile or LocalProfile()).processes, lock).launch(place, unfinished, watcher.event)
        return read(place.root)


def _refuse_rehearsal(place: StudyDirectory) -> None:
    if place.rehearsed:
        raise InputError(f"a study must not be run in the directory of a rehearsal, but got {place.root}")


def _require(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")


def create(place: StudyDirectory) -> None:
    """Make the study directory; `InputError` if it cannot be written."""
    try:
        place.root.mkdir(parents=True, exist_ok=True)
        with store.replacing(place.root / ".writable"):
            pass
        (place.root / ".writable").unlink()
    except OSError as error:
        raise InputError(f"the study directory must be writable, but got {place.root}: {error.strerror}") from None


def _make_corpus(study: Study, place: StudyDirectory, watcher: Watcher) -> None:
    """Build the embedded corpus where it is absent; check every byte of the corpus that the runs will read."""
    from isoflop.tokens import embedded
    from isoflop.tokens.shards import Corpus

    if study.data.embedded and not Corpus.stands(place.corpus):
        embedded.build(place.corpus, watcher.corpus)
    corpus = Corpus.open(place.corpus_of(study))
    corpus.verify()
    if study.data.embedded and corpus.fingerprint != embedded.fingerprint():
        raise InputError(
            f"{place.corpus} must have been made by this Python and voice library, but its fingerprint is "
            f"{corpus.fingerprint} and theirs is {embedded.fingerprint()}; delete it or use another --dir"
        )


def write_plan(study: Study, place: StudyDirectory, planned: Plan) -> None:
    """Write what is to be run: the study, its runs, and the table of the plan last."""
    store.write_text(place.study_file, study.to_yaml())
    for run in planned.runs:
        store.write_json(place.run(run.id).run_file, run.to_dict())
    store.write_table(place.plan_file, planned.table())


def read(directory: str | Path) -> Outcome:
    """Fit, recommend and report on what a study directory holds, finished or not; writes points, law and report.

    Raises
    ------
    RunError
        If no run is done.
    """
    from isoflop.fitting import fit
    from isoflop.recommendation import recommend
    from isoflop.reporting.figures import write_figures
    from isoflop.reporting.page import write_report

    place = StudyDirectory(Path(directory))
    study = Study.load(place.study_file)
    points = store.points(place.root)
    store.write_table(place.points_file, points)
    planned = points[points["in_grid"]]
    if not (planned["state"] == "done").any():
        causes = "; ".join(f"{run}: {cause}" for run, cause in failures(place).items()) or "none has been run"
        raise RunError(f"a study must have a finished run to be read, but {place.root} has none: {causes}")
    law, recommendation, reason = None, None, None
    try:
        law = fit(points, window=study.fit.window)
    except NoAnswerError as error:
        reason = str(error)
        for outdated in (place.law_file, place.figures / "optimum.png"):
            outdated.unlink(missing_ok=True)
    else:
        store.write_json(place.law_file, law.to_json())
        recommendation = recommend(law, flops=_NEXT * float(planned["budget"].max()), ladder=_ladder(study, place))
    write_figures(place.figures, points, law, recommendation)
    write_report(
        place.report_file,
        study_name=study.name,
        points=points,
        law=law,
        recommendation=recommendation,
        reason=reason,
        notes=_notes(planned),
    )
    return Outcome(place.root, points, law, recommendation, reason, place.report_file)


def _ladder(study: Study, place: StudyDirectory) -> list[Shape]:
    vocabulary = place.load_run(place.run_ids()[0]).shape.vocabulary
    shapes = named(study.recipe).every_shape(vocabulary, study.model)
    return [shape for shape in shapes if isinstance(shape, Shape)]


def _notes(points: pd.DataFrame) -> list[str]:
    """What a reader of the report should know about how its points came to be; of a rehearsal's the report says it."""
    if "simulated" in points:
        return []
    notes = []
    if points["params"].max() < _SMALL_MODELS:
        notes.append(
            "This is a smoke test on small models: it shows that every step works on real tokens. At these sizes the "
            "design (schedule, rate, batch, what counts as N) moves the exponents by more than the intervals say."
        )
    if points["trunk"].nunique() < len(points):
        notes.append(
            "All runs read the same data in the same order, and those of one size start from the same weights: their "
            "losses share noise that the intervals do not see."
        )
    return notes


def status(directory: str | Path) -> list[dict[str, Any]]:
    """Every run of a study: its point, the `step` it has come to, the training loss there, the cause if it failed."""
    place = StudyDirectory(Path(directory))
    rows = []
    for point in store.points(place.root).to_dict("records"):
        written = place.run(point["run"]).status()
        step = point["steps"] if point["state"] == "done" else written.get("step", 0)
        row = {str(key): value for key, value in point.items()}
        rows.append({**row, "step": step, "train_loss": written.get("loss"), "cause": written.get("cause")})
    return rows


def failures(place: StudyDirectory) -> dict[str, str]:
    """Cause by run id, for the runs of the grid that failed."""
    rows = status(place.root)
    return {row["run"]: row["cause"] or "unknown" for row in rows if row["state"] == "failed" and row["in_grid"]}
