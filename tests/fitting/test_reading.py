"""Points read without intervals say what their law says."""

from __future__ import annotations

import numpy as np
import pytest

from isoflop.errors import NoAnswerError
from isoflop.fitting import fit
from isoflop.fitting.points import judge
from isoflop.fitting.reading import read
from isoflop.fitting.shifts import way_of


def told(table, law, target=1e21):
    found = read(judge(table), way_of(law), target)
    return [found.a, found.b, found.ratio, found.params]


@pytest.mark.parametrize(
    ("leads", "noise", "options"),
    [
        ("parametric", 0.002, {}),
        ("parametric", 0.002, {"pins": {"E": 2.69}}),
        ("parabola", 0.001, {}),
        ("parabola", 0.001, {"window": "all"}),
        ("akima", 0.001, {"minimum": "akima"}),
    ],
)
def test_points_say_what_their_law_says(study, leads, noise, options):
    table = study(noise=noise, seed=3, width=60.0)
    if leads != "parametric":
        # The ends of the profiles are raised: no surface of the form has them so.
        far = np.abs(np.log(table["params"]) - np.log(table["params"]).groupby(table["flops"]).transform("mean"))
        table["loss"] *= np.exp(0.1 * (far > 1.5))
    law = fit(table, bootstrap=100, **options)
    assert law.method == leads
    mine = law.exponents
    said = [mine.a.value, mine.b.value, mine.ratio.value, law.optimal_params(1e21)]
    assert told(table, law) == pytest.approx(said, rel=1e-6)


def test_points_without_enough_minima_say_nothing(study):
    table = study(offset=0.01)
    way = way_of(fit(study(seed=1, noise=0.01), minimum="akima", bootstrap=100))
    with pytest.raises(NoAnswerError, match="0 of 5 budgets have a minimum"):
        read(judge(table), type(way)(False, 5, "parabola", way.surface), 1e21)
