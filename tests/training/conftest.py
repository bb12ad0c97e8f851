"""A study directory with the small corpus, and runs on it that take a second."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from isoflop.flops import Shape
from isoflop.planning.runs import Run
from isoflop.tokens.shards import Corpus


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def study(tmp_path: Path, small_corpus: Path) -> Path:
    """A study directory with that corpus."""
    root = tmp_path / "study"
    root.mkdir()
    (root / "corpus").symlink_to(small_corpus)
    return root


@pytest.fixture
def planned(small_corpus: Path) -> Callable[..., Run]:
    """Make a run of 60 short steps on that corpus; keywords replace fields."""

    def make(**changes: object) -> Run:
        vocabulary = Corpus.open(small_corpus).vocabulary
        shape = Shape(2, 8, 2, 1, 4, 32, vocabulary, sequence_length=16, tied_head=True)
        run = Run(
            budget=1e9,
            flops=shape.training_flops(60 * 2 * 16),
            shape=shape,
            batch_size=2,
            steps=60,
            warmup_steps=6,
            decay_steps=12,
            learning_rate=0.02,
            weight_decay=0.1,
            beta1=0.9,
            beta2=0.98,
            epsilon=1e-8,
            clip=1.0,
            seed=0,
            data="small-corpus",
            validation_tokens=640,
        )
        return replace(run, **changes)  # type: ignore[arg-type]

    return make


class Peak(TorchDispatchMode):
    """The most bytes alive at once of all that operators return; what they use within themselves is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.bytes, self.peak = set[int](), 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata not in self.alive:
                self.alive.add(storage._cdata)
                self.bytes += storage.nbytes()
                self.peak = max(self.peak, self.bytes)
                weakref.finalize(storage, self.freed, storage._cdata, storage.nbytes())
        return result

    def freed(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.bytes -= size


@pytest.fixture
def peak() -> type[Peak]:
    """Tracks the memory of what runs under it; on fake tensors it takes none."""
    return Peak
