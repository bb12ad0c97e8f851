"""A study rehearsed: its own plan through the real launcher, with a trainer that only pretends and a known truth.

The losses are a law's, with noise; runs crash, err, diverge and are preempted as often as asked. What follows is what
would follow real runs: points, fit, recommendation, report. Then the law that was found is held against the one that
the losses were made of. So a grid, a cluster's profile and the whole way from one to the other are tried before a
GPU-hour is spent.

A rehearsal has a study directory of its own, marked by its `rehearsal.json`; all that comes of it says that it is
simulated, and no real run is ever taken up there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop import store, workflow
from isoflop.arms import refuse_axes
from isoflop.errors import InputError
from isoflop.facts import prior_of
from isoflop.fitting.words import percent
from isoflop.launching.profiles import Profile
from isoflop.launching.states import failures
from isoflop.launching.synthetic import Conditions, Pretence
from isoflop.planning import prior as priors
from isoflop.planning.plan import Plan
from isoflop.planning.prior import Exponents, Prior
from isoflop.planning.runs import Run
from isoflop.planning.simulation import Cells
from isoflop.store import StudyDirectory
from isoflop.study import Study
from isoflop.workflow import Outcome, Watcher

if TYPE_CHECKING:
    from isoflop.fitting.law import Law

#: Short names of surfaces; every published law's own name will do too.
SURFACES = {"soda": "soda-surface", "chinchilla": "besiroglu2024"}
#: Seconds that all runs of a study take together where nobody says otherwise.
SECONDS = 5.0


@dataclass(frozen=True)
class Comparison:
    """One quantity: its truth, what the study found with its 95 % interval, and whether that holds the truth."""

    truth: float
    value: float
    low: float
    high: float

    @property
    def held(self) -> bool:
        """Whether the interval holds the truth."""
        return self.low <= self.truth <= self.high

    def __str__(self) -> str:
        verdict = "recovered" if self.held else "MISSED"
        return f"truth {self.truth:.3f}, found {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]: {verdict}"


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal came to.

    Parameters
    ----------
    conditions
        What was pretended.
    truth
        Exponents of the optimum's line through the study's budgets, if the law that was pretended holds.
    outcome
        What the study made of the runs.
    failures
        Cause by run id, for the runs that failed.
    retried
        How many runs took more than one attempt.
    """

    conditions: Conditions
    truth: Exponents
    outcome: Outcome
    failures: dict[str, str]
    retried: int

    @property
    def exponents(self) -> dict[str, Comparison]:
        """a, b and ratio against their truth; empty where no law was found."""
        law = self.outcome.law
        return {} if law is None else compare(self.truth, law)

    @property
    def recovered(self) -> bool:
        """Whether there is a law and the truth of a, b and the ratio lies within its 95 % intervals."""
        found = self.exponents
        return bool(found) and all(each.held for each in found.values())

    @property
    def runs(self) -> dict[str, int]:
        """Number of runs `planned` and by state, ``done`` and ``failed`` always among them, and `retried`."""
        states = Counter(str(state) for state in self.outcome.points.loc[self.outcome.points["in_grid"], "state"])
        return {"planned": states.total(), "done": 0, "failed": 0, **states, "retried": self.retried}

    def to_json(self) -> dict[str, Any]:
        """Plain values; see the parameters."""
        outcome = self.outcome
        return {
            "simulated": True,
            "recovered": self.recovered,
            "surface": self.conditions.prior.name,
            "truth": asdict(self.truth),
            "exponents": {name: {**asdict(each), "held": each.held} for name, each in self.exponents.items()},
            "runs": self.runs,
            "failures": self.failures,
            "noise": self.conditions.noise,
            "fail": self.conditions.fail,
            "seed": self.conditions.seed,
            "reason": outcome.reason,
            "recommendation": outcome.recommendation.to_json() if outcome.recommendation else None,
            "directory": str(outcome.directory),
            "report": str(outcome.report),
        }

    def __str__(self) -> str:
        runs, pretended = self.runs, self.conditions
        lines = [
            f"SIMULATED: a rehearsal of {runs['planned']} runs, no model was trained; the truth is "
            f"{pretended.prior.name} with a noise of {percent(pretended.noise)}",
            f"{runs['done'] + runs['failed']} of {runs['planned']} runs accounted for: {runs['done']} done, "
            f"{runs['failed']} failed; {runs['retried']} needed a retry",
            *(f"{name:>5}  {each}" for name, each in self.exponents.items()),
        ]
        if self.outcome.law is None:
            lines.append(f"not recovered, for there is no law: {self.outcome.reason}")
        elif self.recovered:
            lines.append("the truth was recovered: a, b and b/a lie within the law's 95 % intervals")
        else:
            missed = ", ".join(name for name, each in self.exponents.items() if not each.held)
            lines.append(f"the truth was NOT recovered: outside the law's 95 % intervals: {missed}")
        return "\n".join(lines)


def compare(truth: Exponents, law: Law) -> dict[str, Comparison]:
    """Hold the exponents of `law` against their truth."""
    return {
        name: Comparison(getattr(truth, name), found.value, found.low, found.high)
        for name, found in (("a", law.exponents.a), ("b", law.exponents.b), ("ratio", law.exponents.ratio))
    }


def surface(name: str | None, study: Study) -> Prior:
    """The law to take for the truth: a published one by name, or that of a law file; None takes the study's own prior.

    Without a prior of its own that is SODA's surface.

    Raises
    ------
    InputError
        If there is no law of that name.
    CorruptFileError
        If the file is no law.
    """
    if name is None:
        return prior_of(study) or priors.published(SURFACES["soda"])
    path = Path(name)
    if path.suffix == ".json":
        if not path.is_file():
            raise InputError(f"a surface must be a published law or a law file, but {path} does not exist")
        return priors.from_law(store.read_law(path), path.name)
    return priors.published(SURFACES.get(name, name))


def home(place: StudyDirectory) -> StudyDirectory:
    """Where a rehearsal of the study at `place` lives: there if that is one, else in a directory beside it."""
    return place if place.rehearsed else StudyDirectory(place.root.with_name(f"{place.root.name}-rehearsal"))


def conditions(
    planned: Plan,
    truth: Prior,
    *,
    noise: float | None = None,
    fail: float = 0.0,
    seed: int = 0,
    seconds: float = SECONDS,
) -> Conditions:
    """What a rehearsal of `planned` pretends.

    Parameters
    ----------
    planned
        The study's plan.
    truth
        The law that losses are made of.
    noise
        Sd of one run's ln loss; None takes what the study expects (``grid.noise``).
    fail
        Probability that an attempt at a run meets a fault.
    seed
        Of noise and faults.
    seconds
        What all runs take together.

    Raises
    ------
    InputError
        If a number is out of range, or the study has axes.
    """
    refuse_axes(planned.settings, "a rehearsal")
    return Conditions(
        prior=truth,
        cost=Cells.of(planned).cost,
        noise=planned.settings.grid.noise if noise is None else noise,
        fail=fail,
        seed=seed,
        seconds_per_flop=seconds / planned.flops,
    )


def rehearse(
    planned: Plan,
    directory: Path,
    pretended: Conditions,
    *,
    profile: Profile | None = None,
    watcher: Watcher | None = None,
    patience: float = 10.0,
) -> Rehearsal:
    """Launch, fit, recommend and report as a real study would; called again, it carries on.

    Runs that fail are tried again as those of a study are (`isoflop.launching.causes`), those that diverged never: they
    are reported, and the fit goes with what is there.

    Parameters
    ----------
    planned
        What to rehearse.
    directory
        The rehearsal's own.
    pretended
        See `conditions`.
    profile, watcher, patience
        As `isoflop.workflow.run`.

    Raises
    ------
    InputError
        If the directory is that of a real study, or of a rehearsal under other conditions.
    RunError
        If runs cannot be executed at all, or none of them is done.
    """
    place = StudyDirectory(directory)
    _refuse_another(place, pretended)
    workflow.create(place)

    def prepared() -> Plan:
        _refuse_another(place, pretended)
        store.write_json(place.rehearsal_file, pretended.to_json())
        workflow.write_plan(planned.settings, place, planned)
        return planned

    outcome = workflow.execute(place, prepared, profile, watcher or Watcher(), patience)
    return Rehearsal(
        conditions=pretended,
        truth=pretended.prior.exponents(np.array(planned.budgets), pretended.cost),
        outcome=outcome,
        failures=failures(place),
        retried=sum(_attempts(place, run) > 1 for run in planned.runs),
    )


def _refuse_another(place: StudyDirectory, pretended: Conditions) -> None:
    if not place.rehearsed:
        if place.study_file.exists() or place.run_ids():
            raise InputError(f"a rehearsal must have a directory of its own, but got that of a study, {place.root}")
        return
    before = Conditions.load(place.rehearsal_file)
    changed = [name for name, value in vars(before).items() if value != getattr(pretended, name)]
    if changed:
        raise InputError(
            f"a rehearsal must be carried on as it was begun, but {place.root} has another {' and '.join(changed)}; "
            "delete it or use another directory"
        )


def _attempts(place: StudyDirectory, run: Run) -> int:
    result = place.run(run.id).result()
    return Pretence.load(place.run(run.id)).attempts if result is None else int(result["attempts"])
