"""What the points of a study say: its law and what to train next, or its arms side by side; and what was forecast."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import isoflop
from isoflop import store
from isoflop.errors import CorruptFileError, InputError, NoAnswerError
from isoflop.facts import prior_of
from isoflop.planning.foretold import NOTHING, Foretold
from isoflop.planning.recipes import named
from isoflop.planning.runs import canonical_json
from isoflop.store import StudyDirectory
from isoflop.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.ablation import Ablation
    from isoflop.fitting.law import Law
    from isoflop.planning.foretold import Promise
    from isoflop.planning.prior import Prior
    from isoflop.recommendation import Recommendation
    from isoflop.recommendation.ladder import Ladder
    from isoflop.recommendation.resources import Machine

#: How far beyond its largest budget a study is asked to look.
_NEXT = 10

#: Why a study with axes has no law.
NO_LAW = "a study with axes compares its arms and fits no law"


@dataclass(frozen=True)
class Interpretation:
    """What points say.

    Parameters
    ----------
    law, recommendation
        None where `reason` says why.
    ablation
        Of a study with axes, in their place.
    foretold
        What was forecast of the study, and what came.
    forecast
        The same as it is kept; None where nothing was forecast.
    """

    law: Law | None = None
    recommendation: Recommendation | None = None
    reason: str | None = None
    ablation: Ablation | None = None
    foretold: Foretold = NOTHING
    forecast: dict[str, Any] | None = None


def interpret(study: Study, place: StudyDirectory, points: pd.DataFrame) -> Interpretation:
    """Fit and recommend, or compare arms; writes nothing."""
    from isoflop.fitting import fit
    from isoflop.recommendation import recommend

    try:
        if study.axes:
            return Interpretation(reason=NO_LAW, ablation=compared(study, points))
        law = fit(points, window=study.fit.window)
    except NoAnswerError as error:
        return Interpretation(reason=str(error))
    largest = float(points.loc[points["in_grid"], "budget"].max())
    next_one = recommend(law, flops=_NEXT * largest, ladder=ladder(study, place), machine=_machine(study))
    foretold, forecast = _foretold(study, place, points, law)
    return Interpretation(law, next_one, foretold=foretold, forecast=forecast)


def keep(found: Interpretation, place: StudyDirectory) -> None:
    """Write what was found into the study directory; what there is not any more is removed there."""
    documents = (
        (place.law_file, None if found.law is None else found.law.to_json()),
        (place.ablation_file, None if found.ablation is None else found.ablation.to_json()),
        (place.forecast_file, found.forecast),
    )
    for path, document in documents:
        if document is None:
            path.unlink(missing_ok=True)
        else:
            store.write_json(path, document)


def compared(study: Study, points: pd.DataFrame) -> Ablation:
    """The arms of a study with axes side by side; `NoAnswerError` while no run of them is done."""
    from isoflop.fitting.ablation import compare
    from isoflop.planning.ablation import factors

    return compare(points, factors(study), study.name)


def ladder(study: Study, place: StudyDirectory) -> Ladder | None:
    """The shapes of a study's recipe, with how it trains them; None while no run tells the vocabulary."""
    from isoflop.recommendation.ladder import Ladder

    runs = place.run_ids()
    if not runs:
        return None
    return Ladder(named(study.recipe), place.load_run(runs[0]).shape.vocabulary, study.model)


def _machine(study: Study) -> Machine | None:
    """What the study's hardware is to a recommendation; as many of its accelerators as the model needs."""
    from isoflop.recommendation.resources import Machine

    hardware = study.hardware
    return None if hardware is None else Machine(hardware.accelerator, None, hardware.mfu, hardware.price)


def _foretold(
    study: Study, place: StudyDirectory, points: pd.DataFrame, law: Law
) -> tuple[Foretold, dict[str, Any] | None]:
    """What was forecast of the study, and what came; and both as they are kept."""
    from isoflop.fitting.points import judge
    from isoflop.planning.choice import Finished
    from isoflop.planning.foretold import score

    lacking = ""
    try:
        prior = prior_of(study)
    except (InputError, CorruptFileError) as error:
        # The law that was believed in may be gone: what came is reported all the same.
        prior, lacking = None, str(error)
    if prior is not None and "adopted" in points:
        # A forecast is of a grid, and this law is of other points too.
        prior, lacking = None, "the law is of adopted points too, which no plan of this study has"
    grid = points[points["in_grid"]]
    digest, promise = "", None
    if prior is not None:
        digest, promise = _promise(study, place, grid, prior)
    choices = store.read_json(place.choices_file)["choices"] if place.choices_file.exists() else []
    judged = judge(points)
    done = Finished(judged.budget, judged.flops, judged.params, judged.tokens, judged.loss)
    found = replace(score(promise, choices, law, done), lacking=lacking)
    if promise is None:
        return found, None
    return found, {"digest": digest, "forecast": asdict(promise), "came": found.to_json()}


def _promise(study: Study, place: StudyDirectory, grid: pd.DataFrame, prior: Prior) -> tuple[str, Promise]:
    """What is forecast of the study's grid, under a digest of all that it depends on: simulated once."""
    from isoflop.planning.foretold import Promise

    asked = {
        "isoflop": isoflop.__version__,
        "runs": sorted(grid["run"]),
        "prior": asdict(prior),
        "noise": study.grid.noise,
        "window": study.fit.window,
    }
    digest = hashlib.sha256(canonical_json(asked).encode()).hexdigest()
    before = store.read_json(place.forecast_file) if place.forecast_file.exists() else {}
    if before.get("digest") == digest:
        return digest, Promise(**before["forecast"])
    return digest, Promise.of_points(grid, prior, noise=study.grid.noise, window=study.fit.window)
