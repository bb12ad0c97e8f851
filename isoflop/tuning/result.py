"""What a search came to: the trials, each cell's optimum, the recipe's rules, and the recipe that has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import isoflop
from isoflop import store
from isoflop.errors import NoAnswerError
from isoflop.flops import Shape
from isoflop.plain import plain
from isoflop.planning.recipes import named
from isoflop.store import StudyDirectory
from isoflop.study_recipe import RecipeChoice, Tuned
from isoflop.tuning import search as choosing
from isoflop.tuning.cells import Cell
from isoflop.tuning.optimum import Optimum, Status
from isoflop.tuning.rules import Rule, constants, rules
from isoflop.tuning.search import Search
from isoflop.tuning.space import Dimension
from isoflop.tuning.storage import Trial


@dataclass(frozen=True)
class Tuning:
    """A search that has ended.

    Parameters
    ----------
    study
        The study's name.
    search
        What was searched.
    cells
        Where.
    trials, optima
        By cell.
    rules
        Empty where `reason` says why there are none.
    recipe
        The recipe section that has them; None where there are none.
    """

    study: str
    search: Search
    cells: tuple[Cell, ...]
    trials: dict[str, list[Trial]]
    optima: dict[str, Optimum]
    rules: tuple[Rule, ...]
    recipe: RecipeChoice | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinite ends of intervals are for the writer to make null."""
        return {
            "study": self.study,
            "search": self.search.to_json(),
            "trials": [self._record(cell, trial) for cell in self.cells for trial in self.trials[cell.name]],
            "optima": {name: found.to_json() for name, found in self.optima.items()},
            "rules": [rule.to_json() for rule in self.rules],
            "recipe": None if self.recipe is None else self.recipe.model_dump(mode="json", exclude_none=True),
            "reason": self.reason or None,
        }

    def _record(self, cell: Cell, trial: Trial) -> dict[str, Any]:
        runs = cell.runs(trial.values, self.search.seeds)
        made = runs if isinstance(runs, tuple) else ()
        return {
            "cell": cell.name,
            "number": trial.number,
            "values": trial.values,
            "learning_rate": made[0].learning_rate if made else None,
            "state": trial.state,
            "losses": list(trial.losses),
            "reason": trial.reason,
            "runs": [run.id for run in made],
        }

    def __str__(self) -> str:
        ended = [trial for known in self.trials.values() for trial in known]
        lines = [f"{self.study}: {len(ended)} trials of {self.search.seeds} runs at {len(self.cells)} cells"]
        for cell in self.cells:
            found = self.optima[cell.name]
            by_name: dict[str, Dimension] = {each.name: each for each in self.search.dimensions}
            said = ", ".join(
                f"{name} {by_name[name].shown(each.value)}"
                + (f" [{_ends(by_name[name].shown, each.low, each.high)}]" if found.status is Status.INTERIOR else "")
                for name, each in found.values.items()
            )
            what = "optimum" if found.status is Status.INTERIOR else "no optimum, best"
            flat = f"; {', '.join(found.flat)} within the noise" if found.flat else ""
            lines.append(
                f"{cell.name}: {what} {said}{flat}; loss {found.loss:.4g}, noise {found.noise:.2%}; {found.status}"
            )
        lines += [str(rule) for rule in self.rules]
        if self.reason:
            lines.append(f"no rules: {self.reason}")
        return "\n".join(lines)


def _ends(shown: Any, low: float, high: float) -> str:
    # β2 is searched by 1 − β2, so its ends change places.
    ends = (shown(low), shown(high))
    return ", ".join(ends if float(ends[0]) <= float(ends[1]) else reversed(ends))


def recipe_file(place: StudyDirectory) -> Path:
    """Where the tuned recipe of the tuning directory `place` stands."""
    return place.root / "recipe.yaml"


def write(place: StudyDirectory, tuned: Tuning) -> None:
    """Write the recipe, if there is one, and everything that it comes from, to the tuning directory `place`."""
    store.write_json(place.root / "tuning.json", plain(tuned.to_json()))
    path = recipe_file(place)
    if tuned.recipe is None:
        path.unlink(missing_ok=True)
        return
    content = yaml.safe_dump(
        tuned.recipe.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
    )
    lines = [
        f"# {line}\n"
        for line in [f"Written by isoflop tune. In a study file: recipe: {{file: {path.name}}}", *map(str, tuned.rules)]
    ]
    store.write_text(path, "".join(lines) + content)


def concluded(study: str, search: Search, cells: Sequence[Cell], trials: dict[str, list[Trial]]) -> Tuning:
    """Read a search that has ended."""
    optima = {cell.name: choosing.found(search, trials[cell.name]) for cell in cells}
    try:
        found = rules(cells, optima)
    except NoAnswerError as error:
        return Tuning(study, search, tuple(cells), trials, optima, (), None, str(error))
    return Tuning(study, search, tuple(cells), trials, optima, found, _recipe(study, search, cells, trials, found))


def _recipe(
    study: str, search: Search, cells: Sequence[Cell], trials: dict[str, list[Trial]], found: Sequence[Rule]
) -> RecipeChoice:
    """The study's recipe with the constants of the rules `found`, named anew, and where it comes from."""
    before = cells[0].planner.study.recipe
    changes = constants(found, named(before), cells)
    done = [(cell, trial) for cell in cells for trial in trials[cell.name] if trial.state == "done"]
    runs = [run for cell, trial in done for run in _runs(cell, trial, search.seeds)]
    widths = [run.shape.d_model for run in runs if isinstance(run.shape, Shape)] or [run.shape.d_model for run in runs]
    tuned = Tuned(
        widths=(min(widths), max(widths)),
        tokens=(min(run.tokens for run in runs), max(run.tokens for run in runs)),
        rates=(min(run.learning_rate for run in runs), max(run.learning_rate for run in runs)),
        trials=len(done),
        seeds=search.seeds,
        data=cells[0].planner.data.fingerprint,
        source=f"isoflop {isoflop.__version__}, isoflop tune of the study {study}",
    )
    kept = before.model_dump(exclude_none=True, exclude={"tuned", "name", *_replaced(changes)})
    return RecipeChoice.model_validate({**kept, **changes, "name": f"{study}-tuned", "tuned": tuned.model_dump()})


def _runs(cell: Cell, trial: Trial, seeds: int) -> list[Any]:
    made = cell.runs(trial.values, seeds)
    return list(made) if isinstance(made, tuple) else []


def _replaced(changes: dict[str, float | int]) -> set[str]:
    """Keys of the section that say in another way what `changes` say."""
    return {"target_steps"} if "tokens_per_step" in changes else set()
