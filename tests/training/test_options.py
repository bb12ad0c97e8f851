from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isoflop.errors import InputError, Interrupted
from isoflop.planning import hardware
from isoflop.planning.probes import Probe, settings_of
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory
from isoflop.training import checkpoints, module, options, recording
from isoflop.training import loss as losses
from isoflop.training.metrics import Progress
from isoflop.training.model import Decoder
from isoflop.training.module import Cadence
from isoflop.training.options import Options
from isoflop.training.run import run as train


def trained(run: Run, study: Path, asked: Options) -> tuple[float, dict[str, torch.Tensor]]:
    """The held-out loss and the final weights; trained anew at every call."""
    place = StudyDirectory(study).run(run.id)
    place.result_file.unlink(missing_ok=True)
    shutil.rmtree(place.weights, ignore_errors=True)
    result = train(run, study, options=replace(asked, keep_weights=True))
    kept = checkpoints.load_newest(place.weights, run.id)
    assert kept is not None
    assert kept.optimizer == {}
    return result["loss"], kept.model


@pytest.mark.parametrize("chunked", [True, False])
def test_micro_batches_of_1_2_4_agree(
    study: Path, planned: Callable[..., Run], chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 60 steps: the loss to 1e-5, whichever way it is taken."""
    if chunked:
        monkeypatch.setattr(losses, "CHUNKED_VOCABULARY", 2)
        monkeypatch.setattr(hardware, "CHUNK_LOGITS", 400)
    run = planned(batch_size=4, z_loss=1e-4)
    seen: list[int] = []
    kept = losses.Decoder.stream

    def stream(decoder: losses.Decoder, tokens: torch.Tensor) -> torch.Tensor:
        seen.append(len(tokens))
        return kept(decoder, tokens)

    monkeypatch.setattr(losses.Decoder, "stream", stream)
    found = []
    for micro_batch in (0, 4, 2, 1, 3):
        seen.clear()
        found.append(trained(run, study, Options(micro_batch=micro_batch))[0])
        rows = {0: [4], 4: [4], 2: [2, 2], 1: [1] * 4, 3: [2, 2]}[micro_batch]
        assert seen[: 60 * len(rows)] == 60 * rows
    assert found == [pytest.approx(found[0], abs=1e-5)] * 5


def test_parts_of_a_step_differ_from_the_whole_by_rounding_alone(
    study: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In double precision: over so many steps at such a rate, single precision's rounding grows to 1e-4 and more."""
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    monkeypatch.setattr(module, "Decoder", lambda *given, **named: Decoder(*given, **named).double())
    run = planned(batch_size=3, steps=400, decay_steps=80, learning_rate=0.025)
    (whole, weights), *others = (trained(run, study, Options(micro_batch=size)) for size in (0, 1, 2))
    assert weights["embedding.weight"].dtype == torch.float64
    for loss, parts in others:
        assert loss == pytest.approx(whole, abs=1e-9)
        assert all((parts[name] - weight).abs().max() < 1e-7 for name, weight in weights.items())


def test_where_memory_ends_there_are_more_passes_than_asked_for(planned: Callable[..., Run]) -> None:
    run = planned(batch_size=8)
    sizes = [Options(micro_batch=size) for size in (0, 1, 3, 8, 100)]
    assert [size.passes(run) for size in sizes] == [1, 8, 3, 1, 1]
    assert [size.passes(run, times=4) for size in sizes] == [4, 8, 8, 4, 4]
    with pytest.raises(InputError, match="micro_batch >= 0 must hold, but got -1"):
        Options(micro_batch=-1)


def test_devices_share_a_step_and_its_passes(planned: Callable[..., Run]) -> None:
    run = planned(batch_size=8)
    assert [Options(micro_batch=2, devices=devices).passes(run) for devices in (1, 2, 4, 8)] == [4, 2, 1, 1]
    assert Options(devices=4).passes(run, times=8) == 2


def test_a_run_is_executed_as_it_fitted_when_it_was_probed(planned: Callable[..., Run]) -> None:
    run = planned(batch_size=8)
    probe = Probe("d8", {}, settings_of(run), 8, "gpu", "H100", 2, "fsdp", 1, False, False, 1.0, 1, 1.0, 1.0, {})
    asked = Options(devices=2)
    assert asked.as_probed(probe) == replace(asked, micro_batch=1, sharded=True, compile=False)
    # A device's whole part of a step fitted: nothing is to be split.
    whole = replace(probe, micro_batch=4, strategy="ddp", compiled=True)
    assert asked.as_probed(whole) == replace(asked, sharded=False, compile=True)
    fewer = Options(devices=2, micro_batch=2, compile=True)
    assert fewer.as_probed(replace(probe, micro_batch=2)) == replace(fewer, sharded=True)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_recomputing_gives_the_same_weights_bit_for_bit(
    study: Path, planned: Callable[..., Run], precision: str
) -> None:
    run = planned(precision=precision, mask_documents=True)
    (loss, weights), (again, others) = (trained(run, study, Options(recompute=choice)) for choice in (False, True))
    assert loss == again
    assert all(torch.equal(weights[name], others[name]) for name in weights)


# Of torch's own look at what enters a block.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("way", ["whole", "blocks", "chunked"])
def test_compiled_they_give_the_same_loss(
    study: Path, planned: Callable[..., Run], way: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and run as they are: a compiler would take its seconds. Weights keep their names."""
    monkeypatch.setattr(options, "BACKEND", "aot_eager")
    if way == "blocks":
        monkeypatch.setattr(options, "WHOLE_LAYERS", 0)
    if way == "chunked":
        for each in (losses, options):
            monkeypatch.setattr(each, "CHUNKED_VOCABULARY", 2)
        monkeypatch.setattr(hardware, "CHUNK_LOGITS", 400)
    run = planned(steps=20, precision=precision, z_loss=1e-4)
    (loss, weights), (compiled, others) = (trained(run, study, Options(compile=choice)) for choice in (False, True))
    assert compiled == pytest.approx(loss, abs=1e-5)
    assert set(weights) == set(others)


def stop_half_way(progress: Progress) -> None:
    """Stop a run of twenty steps."""
    if progress.step >= 10:
        raise Interrupted("half-way")


# Of what torch's compiler imports, and of its own look at what enters a block.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize(("layers", "graphs"), [(8, 1), (1, 2)], ids=["whole", "blocks"])
def test_compiled_for_real_a_run_ends_the_same_bit_for_bit_whatever_stopped_it(
    study: Path,
    planned: Callable[..., Run],
    tmp_path: Path,
    layers: int,
    graphs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(options, "WHOLE_LAYERS", layers)
    monkeypatch.setattr(recording, "STATUS_SECONDS", 0.0)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torchinductor_somebody"))
    run = planned(steps=20, mask_documents=True)
    loss, weights = trained(run, study, Options())
    found = []
    for half in (False, True):
        torch._dynamo.utils.counters.clear()
        if half:
            StudyDirectory(study).run(run.id).result_file.unlink()
            with pytest.raises(Interrupted):
                train(run, study, options=Options(compile=True), cadence=Cadence(5, 10), on_progress=stop_half_way)
            torch._dynamo.utils.counters.clear()
        found.append(trained(run, study, Options(compile=True)))
        # All, or a block and what follows the last; but no validation.
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert found[0][0] == found[1][0] == pytest.approx(loss, abs=1e-5)
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in weights)
    (kept,) = tmp_path.glob("isoflop-compiled-*")
    assert list(kept.iterdir())
    assert kept.stat().st_mode & 0o077 == 0


def test_what_was_compiled_is_not_read_from_where_others_may_write(
    study: Path, planned: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    place = tmp_path / f"isoflop-compiled-{os.getuid()}"
    place.mkdir()
    place.chmod(0o777)
    refused = re.escape(f"{place} is another's or open to others")
    with pytest.raises(InputError, match=refused):
        train(planned(), study, options=Options(compile=True))
    place.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    for target in (tmp_path / "elsewhere", tmp_path / "nowhere"):
        place.symlink_to(target)
        with pytest.raises(InputError, match=refused):
            train(planned(), study, options=Options(compile=True))
        place.unlink()


@pytest.mark.parametrize(
    ("every", "steps", "expected"),
    [
        (0, 60, ()),
        (300, 60, (10, 19, 29, 38, 47, 57)),
        (300, 47, (10, 19, 29, 38)),
        (320, 60, (10, 20, 30, 40, 50)),
        (10, 5, (1, 2, 3, 4)),
        (10**9, 60, ()),
    ],
)
def test_validations_are_at_token_counts_that_do_not_depend_on_the_length(
    planned: Callable[..., Run], every: int, steps: int, expected: tuple[int, ...]
) -> None:
    run = planned(steps=steps, warmup_steps=1, decay_steps=1)
    assert Options(validate_every=every).validations(run) == expected


def test_negative_options_are_refused() -> None:
    with pytest.raises(InputError, match="validate_every >= 0 must hold, but got -1"):
        Options(validate_every=-1)
