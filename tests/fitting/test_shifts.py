"""Shifts: known effects on studies of known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from isoflop.fitting import fit
from isoflop.fitting.effects import Effect
from isoflop.fitting.points import judge
from isoflop.fitting.shifts import Counted, Move, Rerun, examine


def cells(table):
    """The three middle sizes of each budget."""
    return [row for _, group in table.groupby("flops") for row in group.sort_values("params").iloc[2:5].itertuples()]


def rerun(table, name, kind, change, factor=1.0):
    effects = [Effect(row.flops, row.flops, row.params, change(row)) for row in cells(table)]
    return Rerun(name, kind, tuple(effects), factor)


def shifts(table, *reruns, counted=(), target=1e21):
    law = fit(table, bootstrap=100)
    response, found = examine(table, judge(table), law, reruns, counted, target)
    return law, response, {each.name: each for each in found}


def off(row):
    """Ln of the best rate over the study's."""
    return 0.3 * math.log(row.params / 3e7)


def test_wrong_rates_are_seen_and_their_shift_is_what_they_cause(study):
    right, wrong = study(), study()
    wrong["loss"] *= np.exp(0.03 * np.array([off(row) for row in wrong.itertuples()]) ** 2)
    steps = {"rate ×½": -math.log(2), "rate ×2": math.log(2)}
    reruns = [
        rerun(
            wrong,
            name,
            "rate",
            lambda row, step=step: 0.03 * ((step - off(row)) ** 2 - off(row) ** 2),
            math.exp(step),
        )
        for name, step in steps.items()
    ]
    law, response, found = shifts(wrong, *reruns)
    truth = fit(right, bootstrap=100).exponents
    assert abs(law.exponents.a.value - truth.a.value) > 0.02
    assert found["best rate"].a.value == pytest.approx(truth.a.value - law.exponents.a.value, rel=0.05)
    assert found["best rate"].ratio.value == pytest.approx(truth.ratio.value - law.exponents.ratio.value, rel=0.05)
    assert response.by_params == pytest.approx(0.3)
    assert list(found) == ["rate ×½", "rate ×2", "best rate"]


def test_a_tilt_moves_the_minima_by_its_slope_over_the_curvature(study):
    table = study(noise=0.0)
    tilt = rerun(table, "batch ×2", "batch", lambda row: 0.002 * math.log(row.params))
    law, _, found = shifts(table, tilt, target=1e19)
    assert found["batch ×2"].params.value == pytest.approx(-0.002 / (2 * law.minima[2].bend), rel=0.1)
    assert found["batch ×2"].loss == pytest.approx(0.002 * np.mean(np.log([row.params for row in cells(table)])))


def test_noise_makes_moves_that_do_not_count(study):
    generator = np.random.default_rng(5)
    table = study(noise=0.002)
    seeds = rerun(table, "another seed", "seed", lambda row: 0.002 * math.sqrt(2) * generator.standard_normal())
    batch = rerun(table, "batch ×2", "batch", lambda row: 0.002 * math.sqrt(2) * generator.standard_normal())
    _, _, found = shifts(table, seeds, batch)
    for name in ("a", "b", "ratio", "params"):
        move = found["batch ×2"].of(name)
        assert move.noise > 0
        assert abs(move.beyond) < 3 * move.noise
    assert Move(0.5, 0.3).beyond == pytest.approx(0.4)
    assert Move(-0.5, 0.3).beyond == pytest.approx(-0.4)
    assert Move(0.2, 0.3).beyond == 0


def test_what_changes_nothing_is_said_to_be_unheeded(study):
    table = study()
    none = [rerun(table, name, "rate", lambda row: 0.0, factor) for name, factor in (("×½", 0.5), ("×2", 2.0))]
    _, response, found = shifts(table, *none, Rerun("batch ×2", "batch", (), 2.0, ("it diverged",)))
    assert response is None
    assert "does not heed it" in found["×2"].note
    assert found["×2"].a is None
    assert "no loss changed with the rate" in found["best rate"].note
    assert found["batch ×2"].note == "it diverged"


def test_conventions_are_those_of_the_law(study):
    table = study()
    table["params_total"] = table["params"]
    table["params_non_embedding"] = table["params"] - 3e6
    causal = Counted("counted otherwise", (6 * table["params"] * table["tokens"] * 1.1).to_numpy(), "total")
    law, _, found = shifts(table, counted=[causal])
    (own, other) = law.conventions
    assert other.convention == "non_embedding"
    assert found["N non embedding"].a.value == pytest.approx(other.a - own.a, abs=1e-9)
    # A factor on every C is another unit: nothing moves, N* at the same work neither.
    assert found["C counted otherwise"].a.value == pytest.approx(0, abs=1e-9)
    assert found["C counted otherwise"].params.value == pytest.approx(0, abs=1e-6)
