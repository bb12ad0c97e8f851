"""Run ids: equal work, equal id; other work, other id."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from isoflop.errors import InputError
from isoflop.flops import Listed, Shape
from isoflop.planning.runs import Run, canonical_json, trainable

RUN = Run(
    budget=2.5e10,
    flops=2.4999e10,
    shape=Shape(2, 16, 2, 2, 8, 64, 240, 128, tied_head=True),
    batch_size=2,
    steps=775,
    warmup_steps=64,
    decay_steps=155,
    learning_rate=0.00625,
    weight_decay=0.1,
    beta1=0.9,
    beta2=0.98,
    epsilon=1e-8,
    clip=1.0,
    seed=0,
    data="some-data",
    validation_tokens=65_536,
)


def test_the_id_is_the_same_in_every_process_and_version():
    assert RUN.id == "d16-l2-t775-e7f5703176fd"
    script = "import json, sys; from isoflop.planning.runs import Run; print(Run.from_dict(json.load(sys.stdin)).id)"
    other = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(RUN.to_dict()), capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == RUN.id


@pytest.mark.parametrize(
    "change",
    [
        {"shape": replace(RUN.shape, d_mlp=48)},
        {"batch_size": 4},
        {"steps": 776},
        {"warmup_steps": 63},
        {"decay_steps": 154},
        {"learning_rate": 0.006},
        {"weight_decay": 0.0},
        {"beta2": 0.99},
        {"seed": 1},
        {"data": "other-data"},
        {"validation_tokens": 1024},
        {"precision": "bf16"},
        {"optimizer": "cautious"},
        {"decay": "cosine"},
        {"final_rate": 0.1},
        {"mixture": (("speech", 0.95), ("text", 0.05))},
        {"embedding_rate": 2.0},
        {"head_rate": 2.0},
        {"norm_rate": 2.0},
        {"initial_scale": 0.01},
        {"mup_width": 16},
        {"z_loss": 1e-4},
        {"mask_documents": True},
        {"shape": replace(RUN.shape, mlp="plain")},
        {"shape": Listed("other", 10**6, 7e6, 240, 128)},
    ],
)
def test_what_changes_the_result_changes_the_id(change):
    assert replace(RUN, **change).id != RUN.id


def test_the_id_is_the_one_that_runs_had_before_fields_were_added():
    """Of this revision of the training code: whatever is added later is left out of the id at its default."""
    assert RUN.id == "d16-l2-t775-e7f5703176fd"
    assert RUN.trunk == "d16-l2-9da4ae7a3823"
    added = {"optimizer", "decay", "final_rate", "mixture", "embedding_rate", "head_rate", "norm_rate"}
    added |= {"initial_scale", "mup_width", "z_loss", "mask_documents"}
    old = {name: value for name, value in RUN.to_dict().items() if name not in added}
    old["shape"] = {name: value for name, value in old["shape"].items() if name != "mlp"}
    assert Run.from_dict(old) == RUN


def test_a_listed_model_s_run_round_trips_and_is_named_by_it():
    run = replace(RUN, shape=Listed("base.en", 10**6, 7e6, 240, 128))
    assert run.id.startswith("base.en-t775-")
    assert Run.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_a_row_of_a_table_can_be_planned_but_not_trained():
    for run in (RUN, replace(RUN, optimizer="cautious"), replace(RUN, shape=replace(RUN.shape, mlp="plain"))):
        assert trainable(run) == run.shape
    with pytest.raises(InputError, match=r"without a trainer of your own .* but got the listed 'other'"):
        trainable(replace(RUN, shape=Listed("other", 10**6, 7e6, 240, 128)))


def test_where_a_run_stands_in_its_grid_does_not_change_the_id():
    assert replace(RUN, budget=3e10, flops=2.6e10).id == RUN.id


def test_runs_that_differ_in_length_alone_share_their_trunk():
    assert replace(RUN, steps=1000, decay_steps=200).trunk == RUN.trunk
    assert replace(RUN, warmup_steps=32).trunk != RUN.trunk


def test_round_trip():
    for run in (RUN, replace(RUN, mixture=(("speech", 0.95), ("text", 0.05)))):
        assert Run.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_a_record_that_was_changed_by_hand_is_refused():
    with pytest.raises(InputError, match=f"must be that of its content, .*{RUN.id}"):
        Run.from_dict({**RUN.to_dict(), "seed": 1})
    with pytest.raises(InputError, match="differs in \\['clip'\\]"):
        Run.from_dict({name: value for name, value in RUN.to_dict().items() if name != "clip"})


@pytest.mark.parametrize("value", [{1, 2}, object(), {1: "a"}, np.float64(1.0), b"x", {"a": [np.int64(1)]}])
def test_what_has_no_fixed_text_is_refused(value):
    with pytest.raises(TypeError):
        canonical_json(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_does_not_have_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


def test_tokens_and_impossible_runs():
    assert RUN.tokens == 775 * 2 * 128
    with pytest.raises(InputError, match="batch_size >= 1 must hold, but got 0"):
        replace(RUN, batch_size=0)
    with pytest.raises(InputError, match="optimizer must be one of adamw, cautious, but got 'sgd'"):
        replace(RUN, optimizer="sgd")
    with pytest.raises(InputError, match="head_rate > 0 must hold, but got 0"):
        replace(RUN, head_rate=0.0)
    with pytest.raises(InputError, match="z_loss >= 0 must hold, but got -1"):
        replace(RUN, z_loss=-1.0)
