"""The design-sensitivity interval: its rule, its words, its JSON."""

from __future__ import annotations

import json
import math

import pytest

from isoflop.errors import InputError
from isoflop.fitting import fit
from isoflop.fitting.effects import Effect
from isoflop.fitting.points import judge
from isoflop.fitting.sensitivity import Sensitivity, sensitivity
from isoflop.fitting.shifts import Rerun


@pytest.fixture
def audited(study):
    """A study, its law, and what tilts of two choices and another seed say of it."""
    table = study(noise=0.0005, seed=2)
    law = fit(table, bootstrap=100)

    def make(**tilts):
        reruns = []
        for name, tilt in tilts.items():
            effects = []
            for number, (budget, group) in enumerate(table.groupby("flops")):
                for row in group.sort_values("params").iloc[2:5].itertuples():
                    change = tilt * (number - 2) * math.log(row.params / 1e8)
                    effects.append(Effect(budget, budget, row.params, change))
            reruns.append(Rerun(name, "seed" if name == "seed" else "batch", tuple(effects), 2.0))
        return law, sensitivity(table, judge(table), law, reruns, target=1e21)

    return make


def test_the_interval_is_moved_by_every_choice_but_the_seed(audited):
    law, found = audited(one=0.003, other=-0.001, seed=1e-5)
    moves = {shift.name: shift.a for shift in found.shifts}
    assert moves["one"].value < 0 < moves["other"].value
    low, high = law.exponents.a.low, law.exponents.a.high
    assert found.a.statistical == (low, high)
    assert found.a.design == pytest.approx((low + moves["one"].beyond, high + moves["other"].beyond))
    assert (found.a.most, found.a.conventions) == ("one", found.a.design)
    size = law.optimum(1e21).params
    ratio = found.params.design[1] / size.high
    assert ratio == pytest.approx(math.exp(max(0.0, *(each.params.beyond for each in found.shifts[:2]))))


def test_what_the_noise_explains_moves_nothing(audited):
    law, found = audited(one=0.0004, seed=0.003)
    assert found.a.most == ""
    assert found.a.design == (law.exponents.a.low, law.exponents.a.high)
    assert found.noise > 10 * found.law_noise
    assert any("no choice of training moves it beyond the noise" in each for each in found.sentences())


def test_it_reads_back_equal_and_says_who_moves_it_most(audited):
    _, found = audited(one=0.003, other=-0.001, seed=1e-4)
    assert Sensitivity.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    text = str(found)
    assert "moved most by one (" in text
    assert "N*(1e21) = " in text
    assert "15 cells" in text
    with pytest.raises(InputError, match="an audit's a must be valid"):
        Sensitivity.from_json({**found.to_json(), "a": 3})
