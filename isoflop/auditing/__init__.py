"""A study's own uncertainty: its minima run again with other rates, another batch, another seed, and its law refitted.

::

    <study>/audit/      a study directory of its own: study.yaml, plan, corpus (the study's), runs/<id>/, claims/ …
                        variations.json   which run varies which, and how
    <study>/audit.json  what came of it (`isoflop.fitting.sensitivity`)

`prepare` says what is to be run, and what that costs; `audit` runs it through a launcher and reads it. Which cells are
run again follows from the law of the study's points, so that whoever is stopped and calls it again carries on; where
the law has moved on, cells are added.
"""

from __future__ import annotations

from isoflop import store, workflow
from isoflop.auditing.preparation import Prepared
from isoflop.auditing.preparation import prepare as prepare
from isoflop.auditing.reading import conventions, reruns
from isoflop.claims import hold
from isoflop.errors import RunError
from isoflop.fitting.sensitivity import Sensitivity, sensitivity
from isoflop.launching.parts import open_part, take_over
from isoflop.launching.profiles import Profile
from isoflop.planning.plan import Plan
from isoflop.workflow import Watcher

#: N* is asked for at so many times the largest budget, where nobody says otherwise.
_BEYOND = 10.0


def audit(
    prepared: Prepared,
    profile: Profile | None = None,
    watcher: Watcher | None = None,
    target: float | None = None,
    patience: float = 10.0,
) -> Sensitivity:
    """Run what is left of an audit, read it, write what it found and the report anew; called again, it carries on.

    Parameters
    ----------
    prepared
        See `prepare`.
    profile, watcher, patience
        As `isoflop.workflow.run`.
    target
        Training FLOPs at which N* is asked for; default ten times the largest budget.

    Raises
    ------
    InputError
        If the study cannot be run, or `target` is out of range.
    RunError
        If runs cannot be executed, or none of them is done.
    """
    study, place, part, watcher = prepared.study, prepared.place, prepared.part, watcher or Watcher()
    workflow.admit(study, place, profile, prepared.plan.runs)
    if not place.rehearsed and study.data.external is None:
        with hold(place.root, patience):
            workflow.make_corpus(study, place, watcher, verify=False)
    workflow.create(part)

    def written() -> Plan:
        store.write_json(part.variations_file, prepared.to_json())
        open_part(place, part, study)
        planned = prepared.plan
        for run in planned.runs:
            take_over(place, part, run)
        workflow.write_plan(study, part, planned)
        return planned

    if prepared.done < len(prepared.plan.runs):
        workflow.launch(part, written, profile, watcher, patience)
    if not prepared.done:
        raise RunError(f"an audit must have a finished run to be read, but {part.root} has none")
    found = read(prepared, target)
    store.write_json(place.audit_file, found.to_json())
    workflow.read(place.root)
    return found


def read(prepared: Prepared, target: float | None = None) -> Sensitivity:
    """What the finished runs of an audit say; `target` as for `audit`."""
    judged = prepared.judged
    wanted = _BEYOND * float(judged.budget.max()) if target is None else target
    return sensitivity(
        prepared.points,
        judged,
        prepared.law,
        reruns(prepared),
        target=wanted,
        counted=conventions(prepared),
        minima=prepared.minima,
    )
