"""Which trials come next: a function of results alone; and how near few trials come to a dense scan's best."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from isoflop import workflow
from isoflop.errors import InputError
from isoflop.tuning import search as choosing
from isoflop.tuning.cells import chosen
from isoflop.tuning.optimum import Status
from isoflop.tuning.search import Search
from isoflop.tuning.space import parsed
from isoflop.tuning.storage import Trial, opened

SCAN = Path(__file__).parents[1] / "golden" / "tune_scan.csv"


@pytest.fixture
def cell(small_study):
    return chosen(workflow.plan(small_study()), ["4e8:16"])[0]


def play(path, cell, search, losses_at):
    """Search with losses that are known at once."""
    with opened(path, [each.name for each in search.dimensions]) as journal:
        while (due := choosing.due(search, trials := journal.trials(cell))) > len(trials):
            while len(trials) < due:
                proposed = choosing.proposal(search, trials)
                journal.add(cell, proposed.dimensions, proposed.values, search.seed)
                trials = journal.trials(cell)
            for trial in trials:
                if trial.state == "open":
                    ended = Trial(cell.name, trial.number, trial.values, "done", losses_at(trial.values))
                    journal.end(cell, ended)
    return trials


def known(best, curvature=0.05):
    return lambda values: (3 * math.exp(curvature * math.log(values["lr"] / best) ** 2),)


@pytest.fixture(scope="module")
def scan():
    """Losses by rate factor and seed."""
    lines = [line for line in SCAN.read_text().splitlines() if not line.startswith("#")]
    found = defaultdict(list)
    for row in csv.DictReader(lines):
        found[float(row["factor"])].append(float(row["loss"]))
    return dict(sorted(found.items()))


@pytest.mark.parametrize("seed", range(8))
def test_a_quarter_of_a_dense_scan_s_runs_come_within_half_of_its_best(cell, scan, tmp_path, seed):
    """Replayed on real losses of the demo's corpus; between the scan's rates they are interpolated."""
    factors, table = np.log(list(scan)), np.log(list(scan.values()))
    search = Search(parsed("lr"), trials=6, seeds=2, seed=seed)
    assert search.trials * search.seeds <= table.size / 4

    def losses_at(values):
        return tuple(math.exp(np.interp(math.log(values["lr"]), factors, column)) for column in table.T)

    trials = play(tmp_path / "journal.log", cell, search, losses_at)
    assert len(trials) == 6
    found = choosing.found(search, trials)
    best = math.exp(factors[table.mean(axis=1).argmin()])
    assert found.status is Status.INTERIOR
    assert 1 / 1.5 <= found.values["lr"].value / best <= 1.5


def test_an_optimum_beyond_the_range_is_looked_for_once(cell, tmp_path):
    search = Search(parsed("lr"), trials=6, seeds=1)
    trials = play(tmp_path / "one.log", cell, search, known(14.0))
    assert len(trials) == 9
    assert max(trial.values["lr"] for trial in trials[:6]) <= 8
    assert [trial.values["lr"] for trial in trials[6:]] == pytest.approx(
        [8 * 4 ** (n / 6) for n in (1, 3, 5)], rel=1e-3
    )
    assert choosing.found(search, trials).status is Status.INTERIOR
    assert choosing.found(search, trials).values["lr"].value == pytest.approx(14, rel=1e-3)
    far = play(tmp_path / "two.log", cell, search, known(200.0))
    assert len(far) == 9
    assert choosing.found(search, far).status is Status.EDGE


def test_generations_begin_when_the_one_before_has_ended(cell, tmp_path):
    search = Search(parsed("lr"), trials=10, seeds=1)
    trials = play(tmp_path / "journal.log", cell, search, known(1.0))
    assert choosing.ends(search, trials) == [6, 8, 10]
    opened_one = [*trials[:7], Trial(cell.name, 7, {"lr": 1.0}, "open")]
    assert choosing.due(search, opened_one) == 8
    assert choosing.due(search, trials[:8]) == 10
    assert choosing.begun(search, trials[:7]) == 8
    assert [choosing.first_of(search, trials, number) for number in (0, 5, 6, 7, 8)] == [0, 0, 6, 6, 8]
    wide = Search(parsed("lr"), trials=10, seeds=1, together=4)
    assert choosing.ends(wide, ()) == [6, 10]


def test_a_first_generation_has_a_trial_in_each_stratum(cell):
    search = Search(parsed("lr,weight_decay"), trials=20, seeds=1)
    first = [choosing.proposal(search, [None] * number).values for number in range(search.spread)]
    for each in search.dimensions:
        places = sorted(math.log(one[each.name] / each.low) / math.log(each.high / each.low) for one in first)
        assert places == pytest.approx([(number + 0.5) / 12 for number in range(12)])


def test_a_search_too_small_for_its_parabola_is_refused():
    with pytest.raises(InputError, match="trials must be 4 or more, for a parabola in 1 and its noise, but got 3"):
        Search(parsed("lr"), trials=3)
    assert Search.usual_trials(parsed("lr")) == 8
