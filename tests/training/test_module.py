from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from isoflop.errors import InputError, Interrupted
from isoflop.planning.runs import Run
from isoflop.store import StudyDirectory
from isoflop.training import checkpoints, module
from isoflop.training.data import Tokens, open_source
from isoflop.training.metrics import Progress
from isoflop.training.model import Decoder
from isoflop.training.module import Cadence, Chunks, TrainingModule
from isoflop.training.run import run as train


@given(
    start=st.integers(0, 300),
    left=st.integers(0, 300),
    size=st.integers(1, 12),
    log=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 600), max_size=4),
)
def test_chunks_cover_every_step_once_and_are_cut_at_every_row_and_branch(
    start: int, left: int, size: int, log: int, cuts: list[int]
) -> None:
    chunks = list(Chunks(start, start + left, size, log, (cuts[:2], cuts[2:])))
    assert [step for chunk in chunks for step in range(*chunk)] == list(range(start, start + left))
    assert all(0 < stop - first <= size for first, stop in chunks)
    stops = {stop for _, stop in chunks}
    assert all(step in stops for step in range(start + 1, start + left) if step % log == 0 or step in cuts)


@pytest.mark.parametrize(("log", "checkpoint"), [(0, 10), (10, 0), (10, 25), (10, 5)])
def test_a_checkpoint_falls_on_a_row(log: int, checkpoint: int) -> None:
    with pytest.raises(InputError, match=f"got log={log}, checkpoint={checkpoint}"):
        Cadence(log, checkpoint)


def trained(run: Run, study: Path, **options: object) -> dict[str, torch.Tensor]:
    """The weights after the last step."""
    weights: dict[str, torch.Tensor] = {}

    def keep(progress: Progress) -> None:
        if progress.step == run.steps:
            newest = checkpoints.load_newest(StudyDirectory(study).run(run.id).checkpoints, run.id)
            assert newest is not None
            weights.update(newest.model)

    train(run, study, on_progress=keep, **options)  # type: ignore[arg-type]
    return weights


def test_a_run_equals_a_plain_loop_bit_for_bit(study: Path, planned: Callable[..., Run]) -> None:
    run = planned()
    model = Decoder(run.shape, run.seed)
    free = [weight for name, weight in model.named_parameters() if "norm" in name or "embedding" in name]
    decayed = [weight for name, weight in model.named_parameters() if not ("norm" in name or "embedding" in name)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
        eps=1e-8,
        fused=True,
    )
    batch = open_source(study / "corpus").batches(run)
    for step in range(run.steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min((step + 1) / 6, 1.0, (60 - step) / 13)
        tokens = torch.from_numpy(batch(step))
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    weights = trained(run, study)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_the_cuts_leave_no_trace_in_the_weights(
    study: Path, planned: Callable[..., Run], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(precision=precision)
    whole = trained(run, study)
    StudyDirectory(study).run(run.id).result_file.unlink()
    monkeypatch.setattr(module, "CHUNK_STEPS", 1)
    single = trained(run, study, cadence=Cadence(log=7, checkpoint=14))
    assert all(torch.equal(whole[name], single[name]) for name in whole)


#: Of what a recipe and a study may ask, everything that is not the default.
OPTIONS = {
    "optimizer": "cautious",
    "epsilon": 1e-15,
    "embedding_rate": 2.0,
    "head_rate": 0.5,
    "norm_rate": 0.3,
    "initial_scale": 0.05,
    "mup_width": 4,
    "z_loss": 1e-3,
    "mask_documents": True,
}


def test_a_run_with_every_option_learns_and_is_resumed_bit_for_bit(
    study: Path, planned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(**OPTIONS)
    run = replace(run, shape=replace(run.shape, mlp="plain", tied_head=False))
    whole = trained(run, study)
    place = StudyDirectory(study).run(run.id)
    result = place.result()
    metrics = place.metrics_file.read_text().splitlines()
    assert float(metrics[-1].split(",")[2]) < np.log(run.shape.vocabulary) - 0.5

    place.result_file.unlink()
    monkeypatch.setattr("isoflop.training.recording.STATUS_SECONDS", 0.0)

    def stop(progress: Progress) -> None:
        raise Interrupted("time limit")

    for step in (20, 40):
        with pytest.raises(Interrupted):
            train(run, study, on_progress=stop, cadence=Cadence(log=20, checkpoint=40))
        newest = checkpoints.load_newest(place.checkpoints, run.id)
        assert newest is not None
        assert newest.step == step
    resumed = trained(run, study, cadence=Cadence(log=20, checkpoint=40))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    again = place.result()
    assert result is not None
    assert again is not None
    assert {name: again[name] for name in again if "loss" in name} == {
        name: result[name] for name in result if "loss" in name
    }


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_what_is_learnt(study: Path, planned: Callable[..., Run], option: str) -> None:
    plain = planned(steps=8, warmup_steps=2, decay_steps=2)
    plain = replace(plain, shape=replace(plain.shape, tied_head=False))
    changed = replace(plain, **{option: 1e-3 if option == "epsilon" else OPTIONS[option]})
    one, other = trained(plain, study), trained(changed, study)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_decay_is_for_the_matrices_of_blocks_and_an_untied_head(
    small_corpus: Path, planned: Callable[..., Run]
) -> None:
    source, run = open_source(small_corpus), planned()
    for tied in (True, False):
        shaped = replace(run, shape=replace(run.shape, tied_head=tied))
        training = TrainingModule(shaped, source, Cadence(), None)
        names = {id(weight): name for name, weight in training.decoder.named_parameters()}
        decayed, free = (
            {names[id(weight)] for weight in group["params"]} for group in training.configure_optimizers().param_groups
        )
        assert decayed | free == set(names.values())
        assert free == {name for name in names.values() if "norm" in name or name == "embedding.weight"}
        assert ("head.weight" in decayed) is not tied


class Chain:
    """Tokens of a Markov chain with known entropy: each of 8 is followed by one of two, 3 times in 4 by the first."""

    names = ("chain",)
    vocabulary = 8
    types = ("text",)
    token_types = np.zeros(8, dtype=np.uint8)
    audio_rate = 0.0
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))

    def windows(self, rows: int, s: int, seed: int) -> Tokens:
        generator = np.random.default_rng(seed)
        tokens = np.empty((rows, s + 1), dtype=np.int64)
        tokens[:, 0] = generator.integers(0, 8, rows)
        for place in range(s):
            tokens[:, place + 1] = (3 * tokens[:, place] + 1 + (generator.random(rows) < 0.25)) % 8
        return tokens

    def batches(self, run: Run) -> Callable[[int], Tokens]:
        return lambda step: self.windows(run.batch_size, run.shape.sequence_length, step)

    def validation(self, run: Run) -> Tokens:
        s = run.shape.sequence_length
        return self.windows(run.validation_tokens // s, s, 10**6)

    def origins(self, run: Run) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        return ("chain",), np.zeros(run.validation_tokens // run.shape.sequence_length, dtype=np.int64)


def test_training_reaches_the_entropy_of_a_known_source(tmp_path: Path, planned: Callable[..., Run]) -> None:
    run = planned(data="chain", steps=250, decay_steps=125, batch_size=8, validation_tokens=20_000)
    result = train(replace(run, shape=replace(run.shape, vocabulary=8)), tmp_path, source=Chain())
    # Sampling error of the validation loss: 0.48 / sqrt(20,000) = 0.0034.
    assert result["loss"] == pytest.approx(Chain.entropy, abs=0.02)
