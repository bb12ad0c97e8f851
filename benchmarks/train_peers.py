"""What `train.py` compares with: the loop that one would write by hand, and Hugging Face's Trainer.

The Trainer has our model in it, or the Qwen3 of transformers from the same weights, which computes the same. All train
the model of `isoflop.training` on the tokens of a source, and do what a sweep has done: a row of metrics
every so many steps, checkpoints of which two are kept, clipping by norm, the rate by step, progress, the held-out loss
at the end. Ours alone sums the loss by type of token besides.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from isoflop.planning.runs import Run
from isoflop.training.data import Source
from isoflop.training.exporting import configuration, named_weights
from isoflop.training.loss import plain_loss
from isoflop.training.model import Decoder
from isoflop.training.module import Cadence

#: Whether Hugging Face's Trainer can be had: it needs a package that isoflop itself does not.
HAVE_TRAINER = importlib.util.find_spec("accelerate") is not None


def optimizer_of(model: nn.Module, planned: Run) -> AdamW:
    """The optimiser as a run has it: the matrices of blocks decay."""
    named = dict(model.named_parameters())
    free = [weight for name, weight in named.items() if "norm" in name or "embed" in name]
    others = [weight for name, weight in named.items() if not ("norm" in name or "embed" in name)]
    return AdamW(
        [{"params": others}, {"params": free, "weight_decay": 0.0}],
        lr=planned.learning_rate,
        betas=(planned.beta1, planned.beta2),
        eps=planned.epsilon,
        weight_decay=planned.weight_decay,
        fused=True,
    )


def held_out(model: Callable[[Tensor], Tensor], planned: Run, source: Source) -> float:
    """The held-out loss of a model that makes logits of tokens."""
    with torch.inference_mode():
        tokens = torch.from_numpy(source.validation(planned))
        return plain_loss(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].reshape(-1))[0].item()


def plain_loop(planned: Run, directory: Path, source: Source, cadence: Cadence) -> float:
    """The loop that one would write by hand; returns the held-out loss."""
    model = Decoder(planned.shape, planned.seed)
    optimizer = optimizer_of(model, planned)
    vocabulary = planned.shape.vocabulary
    parameters = list(model.parameters())
    batch, schedule = source.batches(planned), planned.schedule
    kept: list[Path] = []
    told = time.perf_counter()
    with (directory / "metrics.csv").open("w") as metrics:
        for step in range(planned.steps):
            for group in optimizer.param_groups:
                group["lr"] = planned.learning_rate * schedule.factor(step)
            tokens = torch.from_numpy(batch(step))
            loss, _ = plain_loss(model(tokens[:, :-1]).view(-1, vocabulary), tokens[:, 1:].reshape(-1))
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, planned.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done = step + 1
            if done % cadence.log == 0 or done == planned.steps:
                metrics.write(f"{done},{loss.item()},{norm.item()},{optimizer.param_groups[0]['lr']}\n")
                metrics.flush()
            if done % cadence.checkpoint == 0 or done == planned.steps:
                kept.append(directory / f"{done}.pt")
                buffer = io.BytesIO()
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}, buffer)
                with (directory / "new.pt").open("wb") as file:
                    file.write(buffer.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
                (directory / "new.pt").replace(kept[-1])
                if len(kept) > 2:
                    kept.pop(0).unlink()
            if time.perf_counter() - told > 1:
                told = time.perf_counter()
                (directory / "status.json").write_text(json.dumps({"step": done, "loss": loss.item()}))
    return held_out(model, planned, source)


class _WithLoss(nn.Module):
    """Our model as Hugging Face's Trainer calls one: from windows of tokens to their loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, labels: Tensor, shift_labels: Tensor) -> dict[str, Tensor]:
        """The loss of the tokens that come next."""
        return {"loss": plain_loss(self.model(input_ids).flatten(0, 1), shift_labels.view(-1))[0]}

    def state_dict(self, *given: Any, **named: Any) -> dict[str, Any]:
        """Without the head where that is the embedding's matrix, which safetensors would not write twice."""
        state = super().state_dict(*given, **named)
        return {name: value for name, value in state.items() if not name.endswith("head.weight")}


class _Sequences(torch.utils.data.Dataset[dict[str, Tensor]]):
    """The sequences of a run one by one, in its order, under the names that Hugging Face's models know.

    Their loss counts the tokens under ``labels``, and shifts none where ``shift_labels`` are given.
    """

    def __init__(self, planned: Run, source: Source) -> None:
        self.planned, self.read = planned, source.batches(planned)
        self.step, self.batch = -1, torch.empty(0)

    def __len__(self) -> int:
        return self.planned.steps * self.planned.batch_size

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        step, row = divmod(index, self.planned.batch_size)
        if step != self.step:
            self.step, self.batch = step, torch.from_numpy(self.read(step))
        tokens = self.batch[row]
        return {"input_ids": tokens[:-1], "labels": tokens[1:], "shift_labels": tokens[1:]}


def trainer(planned: Run, directory: Path, source: Source, cadence: Cadence) -> float:
    """Hugging Face's Trainer of our model; the held-out loss."""
    model = Decoder(planned.shape, planned.seed)
    _train(_WithLoss(model), planned, directory, source, cadence)
    return held_out(model, planned, source)


def trainer_of_qwen3(planned: Run, directory: Path, source: Source, cadence: Cadence, compiled: bool = False) -> float:
    """Hugging Face's Trainer of its own Qwen3, with its own loss, which starts from our weights; the held-out loss."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    settings = {name: value for name, value in configuration(planned).items() if name != "torch_dtype"}
    model = Qwen3ForCausalLM(Qwen3Config(**settings, use_cache=False))
    model.load_state_dict(named_weights(planned, Decoder(planned.shape, planned.seed).state_dict()), strict=False)
    _train(model, planned, directory, source, cadence, compiled)
    return held_out(lambda tokens: model(input_ids=tokens).logits, planned, source)


def _train(
    model: nn.Module, planned: Run, directory: Path, source: Source, cadence: Cadence, compiled: bool = False
) -> None:
    """Train `model` with a run's optimiser, rates, clipping, rows and checkpoints."""
    from accelerate.state import AcceleratorState
    from transformers import Trainer, TrainingArguments

    # Whether to compile is what the first Trainer of a process was asked, else.
    AcceleratorState._reset_state(reset_partial_state=True)

    class InOrder(Trainer):
        def _get_train_sampler(self, *given: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    optimizer, schedule = optimizer_of(model, planned), planned.schedule
    # It asks for the rate after the last step too.
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.factor(min(step, planned.steps - 1)))
    arguments = TrainingArguments(
        output_dir=str(directory),
        per_device_train_batch_size=planned.batch_size,
        max_steps=planned.steps,
        max_grad_norm=planned.clip,
        logging_steps=cadence.log,
        save_steps=cadence.checkpoint,
        save_total_limit=2,
        remove_unused_columns=False,
        report_to=[],
        torch_compile=compiled,
        use_cpu=True,
        seed=planned.seed,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        InOrder(
            model=model,
            args=arguments,
            train_dataset=_Sequences(planned, source),
            optimizers=(optimizer, rate),
        ).train()
