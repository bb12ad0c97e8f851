"""Hardware estimates: hand counts, orders that must hold, every accelerator whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isoflop.errors import InputError
from isoflop.flops import Listed, Shape
from isoflop.planning.hardware import (
    accelerator,
    accelerators,
    available,
    disk,
    estimate,
    flops_of_hours,
    gpu_hours,
    hours_on_each,
    makespan,
    memory,
    run_memory,
    strategy,
    strategy_on,
)
from isoflop.planning.runs import Run
from isoflop.study import Hardware

SODA = Shape(8, 768, 6, 6, 128, 3072, 144_644, 4096, tied_head=False)
RUN = Run(9e18, 9e18, SODA, 32, 48_244, 4824, 9649, 1e-3, 0.1, 0.9, 0.98, 1e-8, 1.0, 0, "data", 65_536, "bf16")


def test_the_named_accelerators_are_whole():
    assert set(accelerators()) == {"a100-80", "h100", "h200", "b200", "l40s", "rtx-4090", "cpu"}
    for device in accelerators().values():
        assert 0 < device.mfu < 1
        assert device.bf16 > device.fp32 > 0
        assert device.source
    assert available(accelerator("cpu")) is None
    with pytest.raises(InputError, match="'h1000'; did you mean 'h100'"):
        accelerator("h1000")


def test_memory_of_the_parameters_is_sixteen_bytes_a_weight():
    listed = Listed("x", 10**9, 6e9, 100, 128)
    assert memory(listed, 4, "32").total == 16e9
    assert memory(listed, 4, "bf16").total == 18e9
    assert memory(listed, 4, "32", shards=8).total == 2e9


def test_logits_are_counted_whole_or_by_the_chunk():
    """A vocabulary of 144,644 is chunked: whole, its logits would take 7.7 GiB a sequence of 4,096 in bf16."""
    assert memory(replace(SODA, vocabulary=1000), 2, "32").logits == 12 * 2 * 4096 * 1000
    assert memory(replace(SODA, vocabulary=1000), 2, "bf16").logits == 14 * 2 * 4096 * 1000
    # A sixteenth of them at once, and of few tokens 2^25.
    assert memory(SODA, 8, "32").logits == 8 * memory(SODA, 1, "32").logits == 8 * 4 * 256 * 144_644
    assert memory(SODA, 1, "bf16").logits == 6 * 256 * 144_644 + 2 * 144_644 * 768
    assert memory(replace(SODA, sequence_length=1024), 1, "32").logits == 4 * 231 * 144_644
    assert memory(replace(SODA, sequence_length=2), 1, "32").logits == 4 * 2 * 144_644


def test_activations_go_with_the_sequences():
    found = memory(SODA, 1, "bf16")
    assert memory(SODA, 2, "bf16").activations == 2 * found.activations
    assert memory(replace(SODA, mlp="plain"), 1, "bf16").activations < found.activations
    for precision in ("32", "bf16"):
        kept, again = (memory(SODA, 4, precision, recompute=choice).activations for choice in (False, True))
        assert kept / 5 < again < kept / 2


def test_hours_are_flops_over_what_the_device_does():
    device = accelerator("h100")
    assert gpu_hours(RUN, device, 0.5) == pytest.approx(9e18 / (989e12 * 0.5) / 3600, rel=0.01)
    assert gpu_hours(replace(RUN, precision="32"), device) > gpu_hours(RUN, device)
    machine = Hardware(accelerator="h100", mfu=0.5)
    assert flops_of_hours(gpu_hours(RUN, device, 0.5), machine, "bf16") == pytest.approx(9e18, rel=0.01)
    with pytest.raises(InputError, match="hours must be positive, but got 0"):
        flops_of_hours(0, machine, "bf16")


def test_the_longest_run_comes_first():
    assert makespan([3, 3, 2, 2, 2], 2) == 7
    assert makespan([5, 1, 1], 1) == 7
    assert makespan([5, 1, 1], 9) == 5


def test_an_estimate_adds_up():
    runs = [RUN, replace(RUN, steps=24_122, decay_steps=4825, warmup_steps=2412)]
    found = estimate(runs, Hardware(accelerator="h100", gpus=4, gpus_per_run=2, price=3.0, mfu=0.4))
    assert found.gpu_hours == pytest.approx(1.5 * gpu_hours(RUN, accelerator("h100"), 0.4))
    assert found.longest_hours == pytest.approx(found.gpu_hours / 3)
    assert found.makespan_hours == found.longest_hours
    assert found.cost == pytest.approx(3 * found.gpu_hours)
    assert found.mfu_measured
    assert found.memory_run == RUN.id


def test_hours_on_every_device_are_those_of_its_runs():
    found = hours_on_each([RUN, replace(RUN, precision="32")])
    assert set(found) == set(accelerators())
    for name, device in accelerators().items():
        alone = gpu_hours(RUN, device) + gpu_hours(replace(RUN, precision="32"), device)
        assert found[name] == pytest.approx(alone)


def test_a_trunk_is_paid_for_once_and_kept():
    """Half as long: its branch costs a fifth of its steps, and a checkpoint of 12 bytes a weight."""
    short = replace(RUN, steps=24_122, decay_steps=4825)
    machine = Hardware(accelerator="h100", mfu=0.4)
    alone = gpu_hours(RUN, accelerator("h100"), 0.4)
    assert estimate([RUN, short], machine).gpu_hours == pytest.approx(1.1 * alone, rel=1e-4)
    assert hours_on_each([short, RUN])["h100"] == pytest.approx(1.1 * gpu_hours(RUN, accelerator("h100")), rel=1e-4)
    assert disk([RUN, short], None, 100, 1).trunks == 2 * 12 * SODA.parameters.total
    assert disk([RUN], None, 100, 1).trunks == 0


def test_weights_are_shared_out_where_they_must_be_or_as_asked():
    whole = memory(SODA, 4, "bf16").total
    for room, expected in ((None, "ddp"), (1.01 * whole, "ddp"), (0.99 * whole, "fsdp")):
        assert strategy(RUN, 8, micro_batch=4, room=room) == expected
        assert strategy(RUN, 1, micro_batch=4, room=room) == "single"
        assert strategy(RUN, 8, micro_batch=4, room=room, sharded=True) == "fsdp"
        assert strategy(RUN, 8, micro_batch=4, room=room, sharded=False) == "ddp"
    # No more sequences at once than a device has of a step: 32 / 16.
    assert strategy(RUN, 16, micro_batch=4, room=1.01 * memory(SODA, 2, "bf16").total) == "ddp"


def test_a_plan_shares_out_what_does_not_fit_one_device():
    huge = replace(RUN, shape=replace(SODA, d_model=4096, n_heads=32, n_kv_heads=32, d_mlp=16384, n_layers=32))
    machine = Hardware(accelerator="h100", gpus=8, gpus_per_run=8)
    assert [strategy_on(run, machine) for run in (RUN, huge)] == ["ddp", "fsdp"]
    parts = run_memory(huge, machine)
    assert parts.optimizer == 8 * huge.shape.parameters.total / 8
    assert estimate([RUN, huge], machine).strategies == {"ddp": 1, "fsdp": 1}
    assert estimate([RUN], Hardware(accelerator="h100")).strategies == {"single": 1}


def test_final_weights_take_four_bytes_each_where_they_are_kept():
    assert disk([RUN, replace(RUN, seed=1)], None, 100, 1, keep_weights=True).weights == 2 * 4 * SODA.parameters.total
    assert disk([RUN], None, 100, 1).weights == 0


def test_disk_by_the_dtype_of_a_token_and_the_weights_at_once():
    small = disk([RUN], 10**9, 65_536, 1)
    large = disk([RUN, RUN, RUN], 10**9, 65_537, 2)
    assert (small.shards, large.shards) == (2 * 10**9, 4 * 10**9)
    assert large.checkpoints == 2 * small.checkpoints == 2 * 2 * 12 * SODA.parameters.total
    assert disk([RUN], None, 100, 1).shards is None
