"""What a study came to: its points fitted, recommended on and reported, finished or not.

`read` takes what stands in a study directory and writes points, law and report; `watch` does it again and again while
the study runs, and fits anew only where another run is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from isoflop import store, table_files
from isoflop.errors import RunError
from isoflop.interpretation import Interpretation, interpret, keep
from isoflop.launching.causes import Cause
from isoflop.launching.states import RunState, Survey, failed_because, survey
from isoflop.store import StudyDirectory
from isoflop.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.ablation import Ablation
    from isoflop.fitting.law import Law
    from isoflop.planning.foretold import Foretold
    from isoflop.recommendation import Recommendation
    from isoflop.reporting.content import Content, Progress, Work

Format = Literal["html", "md", "png"]

#: What a study that was run is reported as.
FORMATS: tuple[Format, ...] = ("html", "png")

#: Parameters below which a study says of itself that it is a smoke test.
_SMALL_MODELS = 1e6

#: States in which a run still goes on, or may.
_OPEN = frozenset({"planned", "queued", "running"})


@dataclass(frozen=True)
class Outcome:
    """What a study came to. `law` and `recommendation` are None where `reason` says why there is none.

    Of a study with axes there is an `ablation` in their place. `report` and `figures` are the places of the page and of
    its figures, `written` the files that were written.
    """

    directory: Path
    points: pd.DataFrame
    said: Interpretation
    report: Path
    figures: Path
    written: tuple[Path, ...]

    @property
    def law(self) -> Law | None:
        """The fitted law."""
        return self.said.law

    @property
    def recommendation(self) -> Recommendation | None:
        """What to train next by it."""
        return self.said.recommendation

    @property
    def reason(self) -> str | None:
        """Why there is no law."""
        return self.said.reason

    @property
    def ablation(self) -> Ablation | None:
        """The arms of a study with axes, side by side."""
        return self.said.ablation

    @property
    def foretold(self) -> Foretold:
        """What was forecast, and what came."""
        return self.said.foretold

    @property
    def provisional(self) -> bool:
        """Whether runs of the grid are still missing."""
        return bool(((self.points["state"] != "done") & self.points["in_grid"]).any())

    @property
    def failed(self) -> list[str]:
        """Ids of the runs of the grid that failed."""
        failed = (self.points["state"] == "failed") & self.points["in_grid"]
        return [str(run) for run in self.points.loc[failed, "run"]]


def read(directory: str | Path, formats: Collection[Format] = FORMATS, out: Path | None = None) -> Outcome:
    """Fit, recommend and report on what a study directory holds, finished or not; writes points, law and report.

    Parameters
    ----------
    directory
        The study's.
    formats
        What the report is written as: ``html`` (report.html), ``md`` (report.md, with its pictures), ``png``
        (figures/).
    out
        Where the report goes; then nothing is written into the study directory. Default: that.

    Raises
    ------
    RunError
        If no run is done.
    CorruptFileError
        If the plan, a run or a result is not what was written.
    """
    place = StudyDirectory(Path(directory))
    points = store.points(place.root)
    if not (points["in_grid"] & (points["state"] == "done")).any():
        raise RunError(
            f"a study must have a finished run to be read, but {place.root} has none: {failed_because(place)}"
        )
    return _read(place, points, formats, out)


def watch(
    directory: str | Path,
    formats: Collection[Format] = FORMATS,
    out: Path | None = None,
    seconds: float = 5.0,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Write the report anew every `seconds` until no run is left to wait for; the last one does not reload itself.

    Whoever is stopped while watching leaves such a page, too. The errors are `read`'s, but for runs that are done:
    there need be none.
    """
    place = StudyDirectory(Path(directory))
    outcome = None
    try:
        while True:
            points = store.points(place.root)
            waiting = place.plan_file.exists() and any(run.state in _OPEN for run in survey(place).grid)
            outcome = _read(place, points, formats, out, before=outcome, refresh=seconds if waiting else None)
            tell(outcome)
            if not waiting:
                return outcome
            time.sleep(seconds)
    except KeyboardInterrupt:
        if outcome is not None:
            _read(place, store.points(place.root), formats, out, before=outcome)
        raise


def _read(
    place: StudyDirectory,
    points: pd.DataFrame,
    formats: Collection[Format],
    out: Path | None,
    before: Outcome | None = None,
    refresh: float | None = None,
) -> Outcome:
    study = Study.load(place.study_file)
    if before is not None and _done(before.points) == _done(points):
        found = before.said
    else:
        found = interpret(study, place, points)
    if out is None:
        table_files.write_table(place.points_file, points)
        keep(found, place)
    content = _content(study, place, points, found, refresh)
    target = StudyDirectory(place.root if out is None else out)
    written = _write(content, target, formats)
    return Outcome(place.root, points, found, target.report_file, target.figures, tuple(written))


def _done(points: pd.DataFrame) -> list[tuple[str, float]]:
    """The runs that a fit can see."""
    table = points[(points["state"] == "done") & points["in_grid"]]
    return list(zip(table["run"], table["loss"], strict=True))


def _content(
    study: Study,
    place: StudyDirectory,
    points: pd.DataFrame,
    found: Interpretation,
    refresh: float | None,
) -> Content:
    from isoflop.reporting.content import Content

    # A study whose runs are all adopted has none to be planned or done.
    seen = survey(place) if place.plan_file.exists() else Survey((), 0.0, 0)
    results = {run.run: place.run(run.run).result() or {} for run in seen.runs}
    missing = any(run.state != "done" for run in seen.grid)
    return Content(
        study_name=study.name,
        points=points,
        law=found.law,
        recommendation=found.recommendation,
        reason=found.reason,
        ablation=found.ablation,
        notes=() if study.axes else tuple(_notes(points[points["in_grid"]])),
        work={run.run: _work(run, results[run.run], study) for run in seen.runs},
        progress=_progress(seen, study, refresh) if missing or refresh is not None else None,
        study_text=place.study_file.read_text(encoding="utf-8"),
        made_with=tuple(_made_with(study, place, seen, list(results.values()))),
        window=study.fit.window,
        foretold=tuple(found.foretold.sentences()),
        audit=store.read_audit(place),
    )


def _work(run: RunState, result: dict[str, Any], study: Study) -> Work:
    from isoflop.reporting.content import Work

    seconds = result.get("seconds")
    hardware = study.hardware
    cost = None
    if seconds is not None and hardware is not None and hardware.price is not None and not result.get("simulated"):
        cost = seconds / 3600 * hardware.gpus_per_run * hardware.price
    tokens = result.get("tokens", run.tokens * run.step / run.steps)
    return Work(
        state=run.state,
        step=run.step,
        steps=run.steps,
        flops=run.flops * tokens / run.tokens,
        seconds=seconds,
        device=str(result.get("device", "")),
        cost=cost,
        reason=run.reason if run.cause or run.message else "",
    )


def _progress(seen: Survey, study: Study, refresh: float | None) -> Progress:
    from isoflop.reporting.content import Progress

    price = None if study.hardware is None else study.hardware.price
    advice = {run.run: Cause(run.cause).advice for run in seen.grid if run.cause in set(Cause)}
    return Progress(
        spent_flops=seen.spent_flops,
        planned_flops=seen.planned_flops,
        device_hours=seen.hours,
        seconds_left=seen.seconds_left,
        cost=None if price is None else seen.hours * price,
        advice=advice,
        refresh=refresh,
        written=time.time(),
    )


def _made_with(
    study: Study, place: StudyDirectory, seen: Survey, results: list[dict[str, Any]]
) -> list[tuple[str, str]]:
    """Versions, devices, data and hours, so far as results tell them."""
    versions = sorted(
        {f"{name} {version}" for result in results for name, version in result.get("versions", {}).items()}
    )
    devices = sorted({str(result["device"]) for result in results if "device" in result})
    told = [("recipe", study.recipe.base)]
    if seen.runs:
        told.insert(0, ("data", place.load_run(seen.runs[0].run).data))
    if versions:
        told.append(("trained with", ", ".join(versions)))
    if devices:
        told.append(("on", ", ".join(devices)))
    if seen.hours:
        told.append(("device-hours held", f"{seen.hours:.3g}"))
    if seen.hours and study.hardware is not None and study.hardware.price is not None and not place.rehearsed:
        told.append(("cost of these hours", f"{seen.hours * study.hardware.price:,.2f}"))
    return told


def _write(content: Content, target: StudyDirectory, formats: Collection[Format]) -> list[Path]:
    """Write the report as asked; returns the files."""
    from isoflop.reporting.figures import NAMES, PAGE_NAMES, draw, write_figures
    from isoflop.reporting.markdown import write_markdown
    from isoflop.reporting.page import write_report

    pictured = bool({"png", "md"} & set(formats))
    drawings = draw(content, NAMES if pictured else PAGE_NAMES)
    written: list[Path] = []
    if "html" in formats:
        write_report(target.report_file, content, drawings)
        written.append(target.report_file)
    if pictured:
        written += write_figures(target.figures, drawings)
    if "md" in formats:
        path = target.report_file.with_suffix(".md")
        write_markdown(path, content, [each for each in written if each.suffix == ".png"])
        written.append(path)
    return written


def _notes(points: pd.DataFrame) -> list[str]:
    """What a reader of the report should know about how its points came to be; of a rehearsal's the report says it."""
    if "simulated" in points:
        return []
    notes = []
    done = int((points["state"] == "done").sum())
    if done < len(points):
        notes.append(f"Provisional: {done} of {len(points)} runs are done; the others are not in the fit.")
    if points["params"].max() < _SMALL_MODELS:
        notes.append(
            "This is a smoke test on small models: it shows that every step works on real tokens. At these sizes the "
            "design (schedule, rate, batch, what counts as N) moves the exponents by more than the intervals say."
        )
    if points["trunk"].nunique() < len(points):
        notes.append(
            "All runs read the same data in the same order, and those of one trunk are the same run up to their "
            "decays. The intervals heed what a trunk's runs share, not what the order of the data does to all."
        )
    return notes
