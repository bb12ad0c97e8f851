from __future__ import annotations

import json

import pandas as pd
import pytest

from isoflop.errors import InputError, NoAnswerError
from isoflop.fitting import fit
from isoflop.fitting.groups import fit_groups
from isoflop.tables import by_group, read_points


def test_a_law_a_group_and_the_groups_without_one_are_named(study):
    tables = {"good": study(noise=0.002), "bad": study(budgets=[1e18, 1e19])}
    laws = fit_groups(tables, bootstrap=100)
    assert list(laws) == ["good"]
    assert laws["good"] == fit(tables["good"], bootstrap=100)
    assert "2 of 2 budgets have one" in laws.failed["bad"]
    record = json.loads(json.dumps(laws.to_json(), allow_nan=False))
    assert list(record["groups"]) == ["good"]
    assert list(record["failed"]) == ["bad"]
    assert "bad   no law: " in str(laws)
    with pytest.raises(NoAnswerError, match="bad: a law needs 3 budgets"):
        fit_groups({"bad": tables["bad"]})
    with pytest.raises(InputError, match="bootstrap must be at least 100"):
        fit_groups(tables, bootstrap=3)


def test_gadres_exponents_under_both_conventions_of_n(shared):
    points = read_points(
        shared / "gadre" / "losses.csv",
        {"params_non_embedding": "params_no_embed"},
        tokens_from="6nd",
        where=["val=c4_val/shard-{0000000..0000010}.tar"],
    )
    laws = fit_groups(by_group(points, "dataset"), huber_delta=1e-3, bootstrap=100)
    published = {"c4_original": (0.509, 0.534), "rpj": (0.529, 0.586), "rw_original": (0.566, 0.606)}
    assert set(laws) == set(published)
    for name, law in laws.items():
        assert [each.convention for each in law.conventions] == ["total", "non_embedding"]
        for found, value in zip(law.conventions, published[name], strict=True):
            assert found.a == pytest.approx(value, abs=0.005)
        assert law.exponents.a.value == law.conventions[0].a
        assert {check.name: check.status for check in law.checks}["minima"] == "warn"


def test_a_published_experiment_by_splines(shared):
    table = pd.read_csv(shared / "porian" / "isoflops.csv")
    name = "rw|base|warm=long|decay=kaplan|count=standard|val"
    laws = fit_groups(by_group(table[table["exp"] == name], "exp"), minimum="akima", bootstrap=100)
    assert laws[name].method == "akima"
    assert laws[name].exponents.a.value == pytest.approx(0.7009, abs=0.005)
    assert laws[name].exponents.b.value == pytest.approx(0.2991, abs=0.005)
    assert "look at C = 1.25e+16 (edge), 2.5e+16 (interior)" in str(laws)
