"""Probes: what follows from them, which one a run takes, and that a plan's hours and memory are theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isoflop.errors import InputError
from isoflop.flops import Shape
from isoflop.planning.hardware import Measured, accelerator, estimate, gpu_hours
from isoflop.planning.probes import NONE, Probe, Probes, of_sizes, one_of_each, settings_of
from isoflop.planning.runs import Run
from isoflop.study import Hardware

SHAPE = Shape(8, 768, 6, 6, 128, 3072, 144_644, 4096, tied_head=False)
RUN = Run(9e18, 9e18, SHAPE, 32, 48_244, 4824, 9649, 1e-3, 0.1, 0.9, 0.98, 1e-8, 1.0, 0, "data", 65_536, "bf16")
_H100 = accelerator("h100")
FLOPS = SHAPE.training_flops(RUN.tokens_per_step)
PROBE = Probe(
    SHAPE.label, dict(vars(SHAPE)), settings_of(RUN), 32, "gpu", "NVIDIA H100 80GB HBM3", 2, "ddp", 4, False, False,
    FLOPS / (2 * 989e12 * 0.4), 40 * 2**30, FLOPS, 0.8 * FLOPS, {"isoflop": "1"},
)  # fmt: skip


def test_a_probe_is_read_back_and_its_figures_agree():
    """Steps as long as two H100 take at an MFU of 0.4."""
    assert Probe.from_json(PROBE.to_json()) == PROBE
    assert PROBE.accelerator == "h100"
    assert PROBE.mfu() == pytest.approx(0.4)
    assert PROBE.mfu(causal=True) == pytest.approx(0.32)
    assert PROBE.tokens_per_second * PROBE.step_seconds == pytest.approx(RUN.tokens_per_step)
    assert PROBE.hours(RUN, RUN.steps) == pytest.approx(gpu_hours(RUN, _H100, 0.4))
    with pytest.raises(InputError, match="must have this version's fields"):
        Probe.from_json({"size": "x"})


@pytest.mark.parametrize(
    ("device", "known"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA L40S", "l40s"),
        ("AMD Instinct MI300X", None),
    ],
)
def test_devices_are_known_by_their_names(device, known):
    probe = replace(PROBE, device=device)
    assert probe.accelerator == known
    assert (probe.mfu() is None) is (known is None)


def test_a_run_takes_the_newest_probe_of_its_model_on_as_many_devices():
    newer = replace(PROBE, step_seconds=1.0, versions={"isoflop": "2"})
    probes = NONE.added(PROBE).added(newer)
    assert probes.of(RUN, devices=2) is newer
    assert probes.of(replace(RUN, steps=50_000, batch_size=16), devices=2, kind="gpu") is newer
    assert probes.of(RUN, devices=1) is None
    assert probes.of(RUN, devices=2, kind="cpu") is None
    assert probes.of(replace(RUN, precision="32"), devices=2) is None
    assert probes.of(replace(RUN, shape=replace(SHAPE, n_layers=4)), devices=2) is None
    # One that computes blocks again is another, and stands beside it.
    frugal = replace(newer, recompute=True)
    assert probes.added(frugal).of(RUN, devices=2, recompute=False) is newer
    assert probes.added(frugal).of(RUN, devices=2, recompute=True, compiled=False) is frugal
    # The same again takes its place.
    assert len(probes.added(replace(PROBE, step_seconds=3.0)).records) == 2
    assert Probes.from_json(probes.to_json()) == probes
    for wrong in ([1], {}, "x"):
        with pytest.raises(InputError, match="probes must be a list of records, but got"):
            Probes.from_json({"probes": wrong})


def test_hours_and_memory_of_a_plan_are_measured_where_they_were():
    machine = Hardware(accelerator="h100", gpus=2, gpus_per_run=2, mfu=0.2, micro_batch=1)
    other = replace(RUN, seed=1, shape=replace(SHAPE, n_layers=4))
    measured = NONE.added(PROBE).measured([RUN, other], devices=2, accelerator="h100")
    assert measured == {RUN.id: Measured(PROBE.hours(RUN, 1), 40 * 2**30, "ddp")}
    found = estimate([RUN, other], machine, measured=measured)
    assert found.gpu_hours == pytest.approx(gpu_hours(RUN, _H100, 0.4) + gpu_hours(other, _H100, 0.2))
    assert (found.measured_runs, found.memory_measured, found.memory_gib) == (1, True, 40)


def test_where_it_is_left_open_a_run_is_compiled_only_where_that_was_chosen():
    compiled, eager = replace(PROBE, compiled=True), replace(PROBE, step_seconds=3.0)
    both = NONE.added(eager).added(compiled)
    assert both.of(RUN, devices=2) is eager
    assert both.of(RUN, devices=2, compiled=True) is compiled
    assert NONE.added(compiled).of(RUN, devices=2) is None
    # Whatever is measured later of one way alone.
    later = both.added(replace(compiled, chosen=True)).added(replace(eager, step_seconds=2.0))
    found = later.of(RUN, devices=2)
    assert found is not None
    assert (found.compiled, found.chosen) == (True, True)
    assert later.measured([RUN], devices=2) == later.measured([RUN], devices=2, compiled=True)
    assert later.measured([RUN], devices=2) != later.measured([RUN], devices=2, compiled=False)


def test_to_compile_pays_for_long_runs():
    eager, compiled = replace(PROBE, step_seconds=2.0), replace(PROBE, step_seconds=1.5, start_seconds=30.0)
    assert [min((eager, compiled), key=lambda each: each.seconds(steps)) for steps in (59, 61)] == [eager, compiled]


def test_a_run_of_each_model_is_chosen_that_with_the_largest_step():
    wide = replace(RUN, shape=replace(SHAPE, d_model=1536, n_heads=12, n_kv_heads=12))
    runs = [RUN, wide, replace(RUN, batch_size=64), replace(wide, seed=3)]
    # A step of half as many sequences is half a step.
    assert list(one_of_each(runs).items()) == [(runs[2], 0.75 * RUN.steps), (wide, wide.steps)]
    assert of_sizes(runs, []) == runs
    assert of_sizes(runs, ["1536"]) == of_sizes(runs, [wide.shape.label]) == [wide, runs[3]]
    with pytest.raises(InputError, match=r"sizes must be the study's, 1536, 768, .*got '32'"):
        of_sizes(runs, ["32"])


def test_steps_that_runs_of_a_trunk_share_are_counted_once():
    """Of 1,000 and 2,000 steps with a fifth of decay the shorter takes 200 itself."""
    short, long = (replace(RUN, steps=steps, warmup_steps=10, decay_steps=steps // 5) for steps in (1000, 2000))
    assert short.trunk == long.trunk
    assert one_of_each([short, long]) == {short: 1100}
