"""A trainer of one's own, as a study names it: a small vision transformer on scikit-learn's handwritten digits.

    trainer: isoflop.training.digits:train      (grids/digits.yaml)

1,797 images of 8 × 8 pixels come with scikit-learn; every fifth is held out. The sizes are a table (`table` writes it):
width and depth are options of the trainer, parameters and FLOPs per sample are counted here, not by isoflop. A run
draws its images, with shifts, contrast and noise of their own, from its seed and the step alone, so that one that was
interrupted ends in the same weights.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoflop.errors import InputError, MissingExtraError
from isoflop.files import replacing

if TYPE_CHECKING:
    from isoflop.trainer import Assignment

SIDE, PATCH, CLASSES = 8, 4, 10
#: Peak rate × width.
_RATE = 0.12
#: Checkpoints of a run, each with a word on how it goes.
_CHECKPOINTS = 25
#: Of the images, every so manieth is held out; each is looked at with so many shifts and noises.
_HELD_OUT, _LOOKS = 5, 8


class Transformer(nn.Module):
    """A vision transformer: patches of 2 × 2 pixels, learned places, `depth` blocks of `width`, all to a class."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Linear(PATCH**2, width)
        self.places = nn.Parameter(torch.randn((SIDE // PATCH) ** 2, width) / width**0.5)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear((SIDE // PATCH) ** 2 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (n, 10) of images of shape (n, 8, 8)."""
        parts = images.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten(3).flatten(1, 2)
        x = self.patches(parts) + self.places
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).flatten(1))
        return logits


class _Block(nn.Module):
    """Attention and an MLP four times as wide, each on normalised input and added to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // 16)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norms[0](x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        added: Tensor = x + self.down(F.gelu(self.up(self.norms[1](x))))
        return added


def flops_per_sample(width: int, depth: int) -> int:
    """Training FLOPs of one image.

    Three times the forward pass's matmuls: p·(2·c·w + L·(24·w² + 4·p·w) + 20·w), with p = 16 patches of c = 4 pixels.
    """
    patches = (SIDE // PATCH) ** 2
    blocks = depth * (24 * width**2 + 4 * patches * width)
    return 3 * patches * (2 * PATCH**2 * width + blocks + 2 * width * CLASSES)


def sizes() -> list[dict[str, object]]:
    """The ladder: rows of ``recipe.ladder``, smallest first (``recipe: {ladder: isoflop.training.digits:sizes}``)."""
    rows: list[dict[str, object]] = []
    for width in (4, 6, 8, 10, 12, 14, 16, 20, 24):
        params = sum(weight.numel() for weight in Transformer(width, 2).parameters())
        cost = flops_per_sample(width, 2)
        row = {"name": f"vit-{width}", "params": params, "flops_per_sample": cost, "learning_rate": _RATE / width}
        rows.append({**row, "options": {"width": width, "depth": 2}})
    return rows


def train(assignment: Assignment) -> dict[str, float]:
    """Train one size; returns loss and accuracy on the held-out images. See `isoflop.trainer` for the contract."""
    images, labels, held_out, answers = _images()
    options = assignment.options
    torch.manual_seed(assignment.seed)
    model = Transformer(_whole(options, "width"), _whole(options, "depth"))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    file = assignment.checkpoints / "newest.pt"
    first, every = _resume(file, model, optimizer), math.ceil(assignment.steps / _CHECKPOINTS)
    for step in range(first, assignment.steps):
        for group in optimizer.param_groups:
            group["lr"] = assignment.rate(step)
        draw = np.random.default_rng([assignment.seed, step])
        chosen = draw.integers(len(images), size=assignment.batch_size)
        loss = F.cross_entropy(model(_looked_at(images[chosen], draw)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), assignment.planned.clip)
        optimizer.step()
        done = step + 1
        if done % every == 0 or done == assignment.steps:
            with replacing(file) as temporary:
                torch.save({"step": done, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, temporary)
            assignment.progress(done, loss.item())
    return {
        **_evaluate(model, held_out, answers),
        "params": sum(weight.numel() for weight in model.parameters()),
        "tokens": assignment.steps * assignment.batch_size,
    }


def _resume(file: Path, model: Transformer, optimizer: torch.optim.AdamW) -> int:
    """Load the newest checkpoint, if there is one; returns the steps that it has done."""
    if not file.exists():
        return 0
    saved = torch.load(file, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])


def _whole(options: dict[str, bool | int | float | str], name: str) -> int:
    value = options.get(name)
    if type(value) is not int or value < 1:
        raise InputError(f"options.{name} must be a whole number of 1 or more (recipe.ladder), but got {value!r}")
    return value


def _images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (n, 8, 8), about -1 to 1, and their digits: for training, and held out."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise MissingExtraError("scikit-learn", "digits") from None
    data = load_digits()
    images = torch.tensor(data.images / 8 - 1, dtype=torch.float32)
    labels = torch.tensor(data.target)
    held_out = torch.arange(len(images)) % _HELD_OUT == 0
    return images[~held_out], labels[~held_out], images[held_out], labels[held_out]


def _looked_at(images: Tensor, draw: np.random.Generator) -> Tensor:
    """`images`, each moved by up to a pixel either way, in a contrast and with a noise of its own."""
    n = len(images)
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    rows, columns = (torch.from_numpy(draw.integers(3, size=(n, 1)) + np.arange(SIDE)) for _ in range(2))
    moved = padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    contrast = torch.from_numpy(draw.uniform(0.6, 1.4, size=(n, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(draw.normal(0, 0.3, size=(n, SIDE, SIDE)).astype(np.float32))
    return moved * contrast + noise


@torch.no_grad()
def _evaluate(model: Transformer, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean loss and accuracy over the held-out images, each looked at several times, the same for all runs."""
    draw = np.random.default_rng(0)
    logits = torch.cat([model(_looked_at(images, draw)) for _ in range(_LOOKS)])
    answers = labels.repeat(_LOOKS)
    accuracy = (logits.argmax(1) == answers).double().mean().item()
    return {"loss": F.cross_entropy(logits.double(), answers).item(), "accuracy": accuracy}
