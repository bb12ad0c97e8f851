"""The journal: killed at any moment, it goes on with the same trials."""

from __future__ import annotations

import json

import pytest

from isoflop import workflow
from isoflop.errors import CorruptFileError
from isoflop.tuning.cells import chosen
from isoflop.tuning.space import parsed
from isoflop.tuning.storage import Trial, opened

DIMENSIONS = parsed("lr,weight_decay")
NAMES = ("lr", "weight_decay")
FIRST = [{"lr": 0.5, "weight_decay": 0.1}, {"lr": 2.0, "weight_decay": 0.05}, {"lr": 1.0, "weight_decay": 0.3}]


@pytest.fixture
def cell(small_study):
    return chosen(workflow.plan(small_study()), ["4e8:16"])[0]


def search(path, cell, drawn=3):
    """Some trials that end, then some that TPE draws."""
    with opened(path, NAMES) as journal:
        for number, values in enumerate(FIRST):
            if len(journal.trials(cell)) == number:
                journal.add(cell, DIMENSIONS, values, seed=7)
        for trial in journal.trials(cell)[: len(FIRST)]:
            if trial.state == "open":
                journal.end(cell, Trial(cell.name, trial.number, trial.values, "done", (3.0 + trial.number,)))
        while len(journal.trials(cell)) < len(FIRST) + drawn:
            journal.add(cell, DIMENSIONS, None, seed=7)
        return journal.trials(cell)


def test_a_journal_cut_off_anywhere_goes_on_with_the_same_trials(cell, tmp_path):
    path = tmp_path / "journal.log"
    whole = search(path, cell)
    assert [trial.values for trial in whole[:3]] == FIRST
    assert [trial.state for trial in whole] == ["done"] * 3 + ["open"] * 3
    assert len({trial.values["lr"] for trial in whole}) == 6
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    assert all(json.loads(line) for line in lines)
    cut = tmp_path / "cut.log"
    for number, line in enumerate(lines):
        # A kill falls between two lines; a power cut may leave a half one.
        cut.write_bytes(b"".join(lines[:number]) + line[: (number % 3) * len(line) // 3])
        assert search(cut, cell) == whole, number


def test_how_a_trial_ended_is_read_back(cell, tmp_path):
    with opened(tmp_path / "journal.log", NAMES) as journal:
        for values in FIRST:
            journal.add(cell, DIMENSIONS, values, seed=0)
        one, two, three = journal.trials(cell)
        ended = [
            Trial(cell.name, 0, one.values, "pruned", (), "loss 9"),
            Trial(cell.name, 1, two.values, "diverged", (), "NaN"),
            Trial(cell.name, 2, three.values, "failed", (), "bad input"),
        ]
        for trial in ended:
            journal.end(cell, trial)
    with opened(tmp_path / "journal.log", NAMES) as journal:
        assert journal.trials(cell) == ended


def test_what_is_no_journal_is_named(cell, tmp_path):
    path = tmp_path / "journal.log"
    path.write_text("not\njson\n")
    with pytest.raises(CorruptFileError, match=r"journal\.log must be the journal of a search"), opened(path, NAMES):
        pass
