"""Trunks: who shares, where the branches leave, what is saved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isoflop.flops import Shape
from isoflop.planning.runs import Run
from isoflop.planning.trunks import own_steps, trunks

SHAPE = Shape(2, 16, 2, 2, 8, 64, 240, 128, tied_head=True)
RUN = Run(1e10, 1e10, SHAPE, 2, 1000, 64, 200, 0.01, 0.1, 0.9, 0.98, 1e-8, 1.0, 0, "data", 65_536)


def test_the_stable_part_is_trained_once():
    short, middle, long = RUN, replace(RUN, steps=2000, decay_steps=400), replace(RUN, steps=4000, decay_steps=800)
    alone = replace(RUN, seed=1)
    (trunk,) = trunks([long, alone, short, middle])
    assert trunk.branches == (short.id, middle.id, long.id)
    assert trunk.branch_steps == (800, 1600, 3200)
    assert trunk.saved_flops == pytest.approx(0.8 * short.flops + 0.8 * middle.flops)
    own = own_steps([long, alone, short, middle])
    assert own == {short.id: 200, middle.id: 400, long.id: 4000, alone.id: 1000}


def test_a_run_without_a_decay_leaves_its_trunk_a_step_before_its_end():
    short, long = replace(RUN, decay_steps=0), replace(RUN, steps=2000, decay_steps=400)
    assert [run.branch_step for run in (short, long)] == [999, 1600]
    assert own_steps([short, long]) == {short.id: 1, long.id: 2000}


def test_a_cosine_of_the_run_s_length_shares_nothing():
    cosine = [replace(RUN, steps=steps, decay_steps=steps - 64, decay="cosine") for steps in (1000, 2000)]
    assert trunks(cosine) == ()
    assert trunks([RUN, replace(RUN, steps=2000, decay_steps=400, warmup_steps=128)]) == ()
