"""A LightningModule with its data module trains under the contract, and ends bit-equal wherever it was interrupted."""

from __future__ import annotations

import functools

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from isoflop.errors import InputError
from isoflop.flops import Listed
from isoflop.planning.runs import Run
from isoflop.trainer import Assignment, outcome
from isoflop.training.foreign import trained_by

#: Steps of a run; an epoch is eight of them.
STEPS = 60


class Net(lightning.LightningModule):
    """A line with dropout: its losses depend on every random number drawn."""

    def __init__(self, rate, interval="step"):
        super().__init__()
        self.interval = interval
        self.rate, self.line, self.lost = rate, torch.nn.Linear(4, 1), torch.nn.Dropout(0.2)

    def training_step(self, batch, index):
        x, y = batch
        return torch.nn.functional.mse_loss(self.line(self.lost(x)), y)

    def validation_step(self, batch, index):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.line(x), y)
        self.log("val_loss", loss)
        self.log("loss_first", loss / 2)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate(min(step, STEPS - 1)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": self.interval}}


class Points(lightning.LightningDataModule):
    """Sixty-four points of a plane, in batches of eight, shuffled."""

    def setup(self, stage):
        draw = torch.Generator().manual_seed(1)
        x = torch.randn(64, 4, generator=draw)
        self.points = TensorDataset(x, x.sum(1, keepdim=True))

    def train_dataloader(self):
        return DataLoader(self.points, batch_size=8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.points, batch_size=64)


def build(assignment, interval="step"):
    return Net(assignment.rate, interval), Points()


def assignment(folder, progress=lambda step, loss: None):
    run = Run(
        budget=1e6,
        flops=1e6,
        shape=Listed("plane", 5, 30.0, 1, 1),
        batch_size=8,
        steps=STEPS,
        warmup_steps=5,
        decay_steps=10,
        learning_rate=0.05,
        weight_decay=0.0,
        beta1=0.9,
        beta2=0.99,
        epsilon=1e-8,
        clip=1.0,
        seed=3,
        data="plane",
        validation_tokens=64,
        precision="32",
        trainer="lightning:x:build",
    )
    for name in ("checkpoints", "outputs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Assignment(run, folder / "checkpoints", folder / "outputs", progress=progress)


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:The `srun` command is available"),
]


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_it_ends_bit_equal_wherever_it_was_interrupted(tmp_path, interval):
    """Whether the module steps its schedule by steps or by epochs."""
    build = functools.partial(globals()["build"], interval=interval)
    told = []
    whole = trained_by(build)(assignment(tmp_path / "whole", lambda step, loss: told.append((step, loss))))
    assert [step for step, _ in told] == list(range(1, STEPS + 1))
    assert whole["loss"] < 2.0
    assert whole["loss_first"] == pytest.approx(whole["loss"] / 2)
    assert outcome(assignment(tmp_path / "whole").planned, whole)["params"] == 5
    for moment in (8, 20, STEPS - 1):
        seen = []

        def stop(step, loss, moment=moment, seen=seen):
            seen.append((step, loss))
            if step == moment:
                raise KeyError("stop")

        folder = tmp_path / f"{moment}"
        with pytest.raises(KeyError):
            trained_by(build)(assignment(folder, stop))
        again = []
        result = trained_by(build)(assignment(folder, lambda step, loss, again=again: again.append((step, loss))))
        assert again[0][0] == 8 * ((moment - 1) // 8) + 1
        assert seen == told[:moment]
        assert again == told[again[0][0] - 1 :]
        assert result == whole


def test_another_seed_is_another_run(tmp_path):
    first = trained_by(build)(assignment(tmp_path / "a"))
    other = assignment(tmp_path / "b")
    object.__setattr__(other.planned, "seed", 4)
    assert trained_by(build)(other)["loss"] != first["loss"]


def test_what_is_no_module_with_its_data_is_refused(tmp_path):
    for built in (None, Net(float), (Net(float), 3), (Points(), Points())):
        with pytest.raises(InputError, match="must return a LightningModule and a LightningDataModule, but got"):
            trained_by(lambda assignment, built=built: built)(assignment(tmp_path))
