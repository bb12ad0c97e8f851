from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from isoflop.errors import CorruptFileError, InputError, Interrupted
from isoflop.planning.recipes import published_ladder
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory
from isoflop.training import checkpoints, exporting
from isoflop.training.model import Decoder
from isoflop.training.module import Cadence
from isoflop.training.options import Options
from isoflop.training.run import run as train

KEEP = Options(keep_weights=True)


def decoder_of(run: Run) -> Decoder:
    return Decoder(run.shape, run.seed, initial_scale=run.initial_scale, mup_width=run.mup_width)  # type: ignore[arg-type]


def tokens_of(run: Run, rows: int, length: int) -> torch.Tensor:
    return torch.randint(0, run.shape.vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("changes", [{}, {"mup_width": 4, "initial_scale": 0.3}])
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_a_trained_run_with_equal_logits(
    study: Path, planned: Callable[..., Run], tmp_path: Path, changes: dict[str, float], tied: bool
) -> None:
    run = planned(**changes)
    run = replace(run, shape=replace(run.shape, tied_head=tied))
    train(run, study, options=KEEP)
    place = StudyDirectory(study).run(run.id)
    assert not place.checkpoints.exists()
    checkpoint = exporting.export(StudyDirectory(study), run.id, tmp_path / "model")
    assert (checkpoint.step, checkpoint.optimizer) == (run.steps, {})
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors"}

    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert isinstance(theirs, Qwen3ForCausalLM)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert sum(weight.numel() for weight in theirs.parameters()) == run.shape.parameters.total
    ours, tokens = decoder_of(run), tokens_of(run, 3, 16)
    ours.load_state_dict(checkpoint.model)
    with torch.no_grad():
        expected = ours(tokens)
        torch.testing.assert_close(theirs(tokens).logits, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert expected.std() > 0.1


@pytest.mark.slow
def test_the_suite_s_smallest_model_has_transformers_logits(planned: Callable[..., Run]) -> None:
    """135M, V = 144,644, untied, within 1e-4."""
    row = published_ladder("soda-suite")[0].model_dump(exclude_none=True, exclude={"name", "options"})
    run = planned()
    shape = replace(run.shape, **row, vocabulary=144_644, sequence_length=4096, tied_head=False)
    run = replace(run, shape=shape)
    ours, tokens = decoder_of(run), tokens_of(run, 1, 48)
    with torch.device("meta"):
        theirs = Qwen3ForCausalLM(Qwen3Config(**exporting.configuration(run)))
    theirs.load_state_dict(exporting.named_weights(run, ours.state_dict()), assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(theirs.config)  # its buffers are not in the state
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=0, atol=1e-4)


def test_a_run_that_goes_on_is_exported_from_its_newest_checkpoint(
    study: Path, planned: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isoflop.training.recording.STATUS_SECONDS", 0.0)
    run = planned()

    def stop(progress: object) -> None:
        raise Interrupted("time limit")

    with pytest.raises(Interrupted):
        train(run, study, on_progress=stop, cadence=Cadence(log=20, checkpoint=40))
    assert exporting.export(StudyDirectory(study), run.id, tmp_path / "model").step == 20
    with pytest.raises(InputError, match=r"must be a folder without a model, but .*model has one"):
        exporting.export(StudyDirectory(study), run.id, tmp_path / "model")


def test_what_cannot_be_exported_is_refused(study: Path, planned: Callable[..., Run], tmp_path: Path) -> None:
    run, out = planned(), tmp_path / "model"
    train(run, study)
    with pytest.raises(InputError, match=f"{run.id} has none .*training.keep_weights"):
        exporting.export(StudyDirectory(study), run.id, out)
    plain = replace(run, shape=replace(run.shape, mlp="plain"))
    train(plain, study, options=KEEP)
    with pytest.raises(InputError, match="must have a gated MLP to be exported as Qwen3, but got 'plain'"):
        exporting.export(StudyDirectory(study), plain.id, out)
    with pytest.raises(CorruptFileError, match=r"run\.json"):
        exporting.export(StudyDirectory(study), "d8-l2-t60-0123456789ab", out)
    other = replace(run, seed=1)
    train(other, study, options=KEEP)
    place = StudyDirectory(study)
    kept = checkpoints.load_newest(place.run(other.id).weights, other.id)
    assert kept is not None
    checkpoints.save(place.run(run.id).weights, kept)
    with pytest.raises(CorruptFileError, match=f"must be a checkpoint of the run {run.id}, but is one of {other.id}"):
        exporting.export(place, run.id, out)
    assert not out.exists()


def test_the_configuration_is_json_of_the_shape(planned: Callable[..., Run]) -> None:
    config = json.loads(json.dumps(exporting.configuration(planned())))
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (2, 1, 4)
    assert config["model_type"] == "qwen3"
