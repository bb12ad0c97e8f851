"""A whole study in order: plan, corpus, launch, fit, recommend, report.

Each step reads what the step before left in the study directory, so a study that was stopped anywhere is carried on
by calling `run` again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop import store, table_files
from isoflop.arms import Arm, arms, refuse_axes, studies
from isoflop.claims import Claims, hold
from isoflop.errors import CorruptFileError, InputError
from isoflop.facts import data_facts, prior_of
from isoflop.launching.base import Event
from isoflop.launching.causes import Cause
from isoflop.launching.profiles import LocalProfile, Profile, SlurmProfile
from isoflop.launching.states import pardon
from isoflop.machine import require
from isoflop.planning import ablation
from isoflop.planning import plan as planning
from isoflop.planning.ablation import ArmPlan
from isoflop.planning.plan import Plan
from isoflop.planning.probes import NONE
from isoflop.planning.runs import Run, trainable
from isoflop.results import Outcome as Outcome
from isoflop.results import read as read
from isoflop.store import StudyDirectory
from isoflop.study import Study

if TYPE_CHECKING:
    from isoflop.launching.slurm import Submitted
    from isoflop.planning.suggest import Suggestion
    from isoflop.tokens.shards import Corpus


@dataclass(frozen=True)
class Watcher:
    """Who is told how the work goes on; each callback may be left out."""

    corpus: Callable[[float, float, str], None] = lambda done, total, message: None
    planned: Callable[[Plan, list[Run]], None] = lambda plan, unfinished: None
    event: Callable[[Event], None] = lambda event: None


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


def plan(study: Study, directory: str | Path | None = None) -> Plan:
    """Lay out the runs of `study` (see `isoflop.planning.plan`): reads what is known of its data, writes nothing."""
    place = None if directory is None else StudyDirectory(Path(directory))
    probes = NONE if place is None else store.probes(place)
    if study.axes:
        parts = [_plan_arm(arm, place) for arm in arms(study)]
        return ablation.joined(study, prior_of(study), probes, parts)
    return planning.plan(study, data_facts(study, place), prior_of(study), probes)


def _plan_arm(arm: Arm, place: StudyDirectory | None) -> ArmPlan:
    """The plan of one arm; errors name it."""
    try:
        return ArmPlan(arm, planning.plan(arm.study, data_facts(arm.study, place), prior_of(arm.study)))
    except InputError as error:
        raise InputError(f"arm {arm.name}: {error}") from None


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
    refuse_axes(study, "a suggestion")
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
        planned,
        planned.prior,
        flops=flops,
        noise=study.grid.noise,
        target=study.grid.target,
        window=study.fit.window,
        progress=progress,
    )


def run(
    study: Study,
    directory: str | Path | None = None,
    profile: Profile | None = None,
    watcher: Watcher | None = None,
    patience: float = 10.0,
) -> Outcome:
    """Plan, make the corpus, train, fit, recommend and report; called again, it carries on.

    Runs that failed are tried again, but for those that diverged: they would do the same again.

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
    place = _place(study, directory)
    refuse_rehearsal(place)
    admit(study, place, profile or LocalProfile())
    watcher = watcher or Watcher()
    return execute(place, lambda: prepare(study, place, watcher), profile, watcher, patience)


def execute(
    place: StudyDirectory,
    prepared: Callable[[], Plan],
    profile: Profile | None,
    watcher: Watcher,
    patience: float = 10.0,
) -> Outcome:
    """Launch what is left of a plan, wait for it, fit and report: a study's and a rehearsal's alike.

    `prepared` writes everything that workers need and returns the plan; it is called while the study is held. The
    rest, and the errors, are `run`'s.
    """
    launch(place, prepared, profile, watcher, patience)
    return read(place.root)


def launch(
    place: StudyDirectory,
    prepared: Callable[[], Plan],
    profile: Profile | None,
    watcher: Watcher,
    patience: float = 10.0,
) -> None:
    """Launch what is left of a plan and wait for it; see `execute`."""
    from isoflop.launching.local import Local
    from isoflop.launching.tending import Slurm

    profile = profile or LocalProfile()
    devices = profile.devices if isinstance(profile, LocalProfile) else 0
    with hold(place.root, patience, devices) as crew:
        planned = prepared()
        unfinished = [run for run in planned.runs if place.run(run.id).result() is None]
        again = [run.id for run in unfinished if place.run(run.id).status().get("cause") != Cause.DIVERGED]
        pardon(place, Claims(place.root, crew), again)
        watcher.planned(planned, unfinished)
        if isinstance(profile, LocalProfile):
            local = Local(profile.processes, crew, profile.gpus, profile.devices_per_run)
            local.launch(place, unfinished, watcher.event)
    if not isinstance(profile, LocalProfile):
        Slurm(profile).launch(place, unfinished, watcher.event)


def submit(
    study: Study,
    profile: SlurmProfile,
    directory: str | Path | None = None,
    watcher: Watcher | None = None,
    canary: bool = False,
    patience: float = 60.0,
) -> Submitted:
    """Plan, make the corpus and put the runs that are left into a cluster's queue; returns at once.

    Raises
    ------
    InputError, RunError, CorruptFileError
        As `run` and `isoflop.launching.slurm.submit`.
    """
    from isoflop.launching import slurm

    place = _place(study, directory)
    admit(study, place, profile)
    with hold(place.root, patience):
        planned = prepare(study, place, watcher or Watcher(), verify=False)
        return slurm.submit(place, planned.runs, profile, canary=canary)


def _place(study: Study, directory: str | Path | None) -> StudyDirectory:
    return StudyDirectory(Path(directory) if directory is not None else Path("studies") / study.name)


def admit(
    study: Study, place: StudyDirectory, profile: Profile | None = None, runs: Sequence[Run] | None = None
) -> None:
    """Refuse what cannot be run (None: by whichever profile), before anything is written; then make its directory.

    `runs` are those that are to be run; None: all of the study's plan.
    """
    if place.is_part:
        raise InputError(
            f"a study must have a directory of its own, but {place.root} holds the runs of a search or of an audit"
        )
    if not place.rehearsed:
        if study.trainer is None or study.trainer.lightning is not None:
            require("train", "torch", "lightning")
        if study.trainer is None:
            require("loggers", *(name for name in study.training.logger if name != "csv"))
        if any(each.data.abstract is not None for each in studies(study)):
            raise InputError(
                "data must be embedded or a corpus to be trained on, but got abstract (plan or rehearse it)"
            )
        for planned_run in plan(study, place.root).runs if runs is None else runs:
            if study.trainer is None:
                trainable(planned_run)
                if profile is not None:
                    profile.check(planned_run, study.hardware.gpus_per_run if study.hardware else 1)
    create(place)


def prepare(study: Study, place: StudyDirectory, watcher: Watcher, verify: bool = True) -> Plan:
    """Write everything that workers need: the study, its runs, the corpus; call it while holding the study.

    Where the runs execute elsewhere, `verify` spares this machine the reading of every token: the workers do it.
    """
    planned = plan(study, place.root)
    write_plan(study, place, planned)
    if place.rehearsed or not place.corpora_of(study):
        return planned
    made = make_corpus(study, place, watcher, verify)
    if made:
        # Now that the corpus is known, so is what the limits on its use leave of the grid.
        planned = plan(study, place.root)
        write_plan(study, place, planned)
    return planned


def refuse_rehearsal(place: StudyDirectory) -> None:
    """Keep a study that is to be trained out of the directory of a rehearsal, where workers only pretend."""
    if place.rehearsed:
        raise InputError(f"a study must not be run in the directory of a rehearsal, but got {place.root}")


def create(place: StudyDirectory) -> None:
    """Make the study directory; `InputError` if it cannot be written."""
    try:
        place.root.mkdir(parents=True, exist_ok=True)
        with store.replacing(place.root / ".writable"):
            pass
        (place.root / ".writable").unlink(missing_ok=True)  # another process may try at this moment too
    except OSError as error:
        raise InputError(f"the study directory must be writable, but got {place.root}: {error.strerror}") from None


def make_corpus(study: Study, place: StudyDirectory, watcher: Watcher, verify: bool) -> bool:
    """Build the embedded corpus where it is absent, check those that runs will read; returns whether it was built."""
    from isoflop.tokens import embedded
    from isoflop.tokens.shards import Corpus

    folders = place.corpora_of(study)
    absent = place.corpus in folders and not Corpus.stands(place.corpus)
    if absent:
        embedded.build(place.corpus, watcher.corpus)
    fingerprints = {folder: _opened(folder, verify).fingerprint for folder in folders}
    if fingerprints.get(place.corpus, embedded.fingerprint()) != embedded.fingerprint():
        raise InputError(
            f"{place.corpus} must have been made by this Python and voice library, but its fingerprint is "
            f"{fingerprints[place.corpus]} and theirs is {embedded.fingerprint()}; delete it or use another --dir"
        )
    return absent


def _opened(folder: Path, verify: bool) -> Corpus:
    from isoflop.tokens.shards import Corpus

    corpus = Corpus.open(folder)
    if verify:
        corpus.check()
    return corpus


def write_plan(study: Study, place: StudyDirectory, planned: Plan) -> None:
    """Write what is to be run: the study, its runs, the trunks that they share, and the table of the plan last."""
    store.write_text(place.study_file, study.to_yaml())
    for run in planned.runs:
        if not _stands(place, run):
            store.write_json(place.run(run.id).run_file, run.to_dict(), durable=False)
    shared = {trunk.id for trunk in planned.trunks}
    for path in place.root.glob("trunks/*/trunk.json"):
        # No two runs of the grid share it any more; its checkpoints stay.
        if path.parent.name not in shared:
            path.unlink(missing_ok=True)
    for trunk in planned.trunks:
        branches = dict(zip(trunk.branches, trunk.branch_steps, strict=True))
        store.write_json(place.trunk(trunk.id).trunk_file, {"id": trunk.id, "branches": branches}, durable=False)
    table_files.write_rows(place.plan_file, planned.rows())


def _stands(place: StudyDirectory, run: Run) -> bool:
    """Whether the run's file is there and whole: its name is the digest of its content."""
    try:
        return place.load_run(run.id) is not None
    except CorruptFileError:
        return False
