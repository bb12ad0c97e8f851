from __future__ import annotations

import numpy as np
import pytest

from isoflop.fitting.adequacy import examine_surface
from isoflop.fitting.parametric import fit_surface


def examined(table):
    columns = [table[name].to_numpy() for name in ("params", "tokens", "loss")]
    return examine_surface(fit_surface(*columns), *columns, np.ones(len(table)))


def test_of_a_form_that_is_right_one_in_ten_is_suspected(study):
    values = [examined(study(noise=0.003, sizes=9, seed=seed)).p_value for seed in range(80)]
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.08)
    assert np.mean(np.array(values) < 0.5) == pytest.approx(0.5, abs=0.2)


def test_a_form_that_is_not_the_surfaces_is_seen_and_its_size_is_told(study):
    table = study(noise=0.001, sizes=9)
    wave = 0.004 * np.sin(1.5 * np.log(table["tokens"]))
    found = examined(table.assign(loss=table["loss"] * np.exp(wave)))
    assert found.p_value < 0.01
    assert 0.0005 < found.smooth < 0.004


def test_repeats_tell_the_noise_by_themselves(study):
    found = examined(study(noise=0.003, sizes=5, repeats=3))
    assert found.pure == pytest.approx(0.003, rel=0.25)
    assert found.pure_freedom == 5 * 5 * 2
    assert examined(study(noise=0.003)).pure_freedom == 0


def test_rounding_is_no_lack_of_fit_and_one_wild_run_is_none(study):
    assert examined(study()).p_value == 1
    table = study(noise=0.002, sizes=9)
    table.loc[20, "loss"] *= 1.2
    assert examined(table).p_value > 0.01
