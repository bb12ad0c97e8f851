from __future__ import annotations

import json

import numpy as np
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


def test_the_table_names_what_warns_and_says_what_fails(study):
    params, tokens = (each.reshape(-1) for each in np.meshgrid(np.geomspace(1e7, 2e9, 7), np.geomspace(2e8, 7e10, 9)))
    loss = 2.69 + 1606.4 / params**0.34 + 3210.7 / tokens**0.36
    loss *= np.exp(0.005 * np.log(params / 1e8) * np.log(tokens / 4e9))
    crossed = pd.DataFrame({"flops": 6 * params * tokens, "params": params, "tokens": tokens, "loss": loss})
    text = str(fit_groups({"good": study(noise=0.001, seed=1), "bad": crossed}, bootstrap=100))
    good, bad = text.split("\nbad ")
    assert "warn" not in good
    assert "      warn  minima, " in bad
    assert "      fail  headline: a by each method" in bad
    assert "\n      pass" not in text


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
