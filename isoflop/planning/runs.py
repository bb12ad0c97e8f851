"""A run: a cell of the grid made concrete, and its id.

The id is a readable stem and a hash of the canonical JSON of everything that changes the result and of nothing
else. So the same id means the same work, on any machine and under any launcher, and is never done twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

from isoflop.errors import InputError
from isoflop.flops import AnyShape, Listed, Shape
from isoflop.planning.schedule import Decay, Schedule

#: Bumped when new training code gives an unchanged run another loss: old results must not pass for new ones.
TRAINING_REVISION = 2

#: What locates a run in its grid without changing what is computed.
_PLACE = frozenset({"budget", "flops"})
#: What a run's branches do not share: its length and its decay.
_BRANCH = frozenset({"steps", "decay_steps"})

#: Added after runs had ids: left out of them at these values, so that those ids still name the same work.
_LATER: dict[str, Any] = {
    "optimizer": "adamw",
    "decay": "linear",
    "final_rate": 0.0,
    "mixture": (),
    "held_out_mixture": (),
    "embedding_rate": 1.0,
    "head_rate": 1.0,
    "norm_rate": 1.0,
    "initial_scale": 0.02,
    "mup_width": 0,
    "z_loss": 0.0,
    "mask_documents": False,
    "trainer": "",
    "options": (),
}
_LATER_IN_SHAPE: dict[str, Any] = {"mlp": "gated", "options": ()}

Precision = Literal["32", "bf16"]
Optimizer = Literal["adamw", "cautious"]


@dataclass(frozen=True)
class Run:
    """One training run: everything that `isoflop.training.run` needs to know.

    Parameters
    ----------
    budget
        The planned budget in training FLOPs, as the study file states it.
    flops
        Training FLOPs that the run will cost, by the study's convention (`isoflop.flops.Shape.training_flops`).
    shape
        The model: a decoder, or a row of a table of models that are not ours (trained by a trainer of the study's own).
    batch_size
        Sequences per step.
    steps, warmup_steps, decay_steps
        Optimiser steps: all, of the linear warm-up, of the decay (see `Schedule`).
    learning_rate
        Peak rate.
    weight_decay, beta1, beta2, epsilon, clip
        AdamW's constants, and the gradient norm beyond which gradients are scaled down.
    seed
        Of the initialisation and the data order.
    data
        Fingerprint of the corpus.
    validation_tokens
        Held-out tokens, from the first on, over which the loss is taken.
    precision
        ``32`` or ``bf16``.
    optimizer
        ``adamw``, or ``cautious``: the SODA authors' (`isoflop.training.optimisers.CautiousAdamC`).
    decay, final_rate
        Form of the schedule's decay, and the rate it ends in as a fraction of the peak.
    mixture
        Source and share of the tokens, where the study asks for shares; empty: each source by its tokens.
    held_out_mixture
        The same of the held-out tokens, where it is not that of the training tokens.
    embedding_rate, head_rate, norm_rate
        Peak rates of the embedding (and of a tied head), of an untied head and of the norms' scales, over
        `learning_rate`.
    initial_scale
        Standard deviation of the matrices' weights before training.
    mup_width
        The width at which muP equals the standard parametrisation; 0: standard.
    z_loss
        Factor of the mean squared log-partition, ln² Σ exp(logits), which is added to what is minimised (not to the
        loss that is reported).
    mask_documents
        Whether tokens attend to their own document alone.
    trainer, options
        What trains it where that is not isoflop's own training (`isoflop.study_trainer.TrainerChoice.identity`), and
        the names and plain values that it is given, sorted by name.
    """

    budget: float
    flops: float
    shape: AnyShape
    batch_size: int
    steps: int
    warmup_steps: int
    decay_steps: int
    learning_rate: float
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    clip: float
    seed: int
    data: str
    validation_tokens: int
    precision: Precision = "32"
    optimizer: Optimizer = "adamw"
    decay: Decay = "linear"
    final_rate: float = 0.0
    mixture: tuple[tuple[str, float], ...] = ()
    held_out_mixture: tuple[tuple[str, float], ...] = ()
    embedding_rate: float = 1.0
    head_rate: float = 1.0
    norm_rate: float = 1.0
    initial_scale: float = 0.02
    mup_width: int = 0
    z_loss: float = 0.0
    mask_documents: bool = False
    trainer: str = ""
    options: tuple[tuple[str, bool | int | float | str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "validation_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} >= 1 must hold, but got {getattr(self, name)}")
        for name in ("embedding_rate", "head_rate", "norm_rate", "initial_scale"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} > 0 must hold, but got {getattr(self, name)}")
        for name in ("mup_width", "z_loss"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} >= 0 must hold, but got {getattr(self, name)}")
        if self.optimizer not in get_args(Optimizer):
            raise InputError(f"optimizer must be one of {', '.join(get_args(Optimizer))}, but got {self.optimizer!r}")
        _ = self.schedule

    @property
    def schedule(self) -> Schedule:
        """The learning rate's course."""
        return Schedule(self.steps, self.warmup_steps, self.decay_steps, self.decay, self.final_rate)

    @property
    def branch_step(self) -> int:
        """Steps that the run has in common with a longer one of its trunk: up to its decay, all but one at most."""
        return min(self.schedule.decay_start, self.steps - 1)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimiser step."""
        return self.batch_size * self.shape.sequence_length

    @property
    def tokens(self) -> int:
        """Training tokens seen, D."""
        return self.steps * self.tokens_per_step

    @cached_property
    def id(self) -> str:
        """``d<width>-l<layers>-t<steps>-<hash>``: safe as a file name, equal for equal work."""
        return f"{self.shape.label}-t{self.steps}-{self._digest(_PLACE)}"

    @cached_property
    def trunk(self) -> str:
        """The id that runs share which are equal in everything but length; of another's trainer each is its own."""
        if self.trainer:
            return self.id
        return f"{self.shape.label}-{self._digest(_PLACE | _BRANCH)}"

    def _digest(self, without: frozenset[str]) -> str:
        work = {name: value for name, value in self._plain().items() if name not in without}
        work = {name: value for name, value in work.items() if _LATER.get(name, MISSING) != value}
        shape = {name: value for name, value in work["shape"].items() if _LATER_IN_SHAPE.get(name, MISSING) != value}
        # Another's trainer has a revision of its own, in its name.
        revision = {} if self.trainer else {"revision": TRAINING_REVISION}
        text = canonical_json({**work, "shape": shape, **revision})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _plain(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "shape": dict(vars(self.shape))}

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, `id` first; `from_dict` reads it back equal."""
        return {"id": self.id, "revision": TRAINING_REVISION, "trunk": self.trunk, **self._plain()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Run:
        """Read what `to_dict` wrote.

        Raises
        ------
        InputError
            If a field is missing or unknown, or the id is not that of the content. A run of another revision of the
            training code has another id than it would have now, which is not checked.
        """
        values = {name: value for name, value in record.items() if name not in {"id", "revision", "trunk"}}
        names = {field.name for field in fields(cls)}
        needed = names - set(_LATER)
        if not needed <= set(values) <= names:
            wrong = (needed - set(values)) | (set(values) - names)
            raise InputError(f"a run must have the fields {sorted(names)}, but differs in {sorted(wrong)}")
        for mixture in ("mixture", "held_out_mixture"):
            values[mixture] = tuple((str(name), float(share)) for name, share in values.get(mixture, ()))
        values["options"] = _pairs(values.get("options", ()))
        shape = values["shape"]
        if "params" in shape:
            values["shape"] = Listed(**{**shape, "options": _pairs(shape.get("options", ()))})
        else:
            values["shape"] = Shape(**shape)
        run = cls(**values)
        if record.get("revision") == TRAINING_REVISION and record.get("id") != run.id:
            raise InputError(f"a run's id must be that of its content, {run.id}, but got {record.get('id')}")
        return run


def _pairs(record: Any) -> tuple[tuple[str, bool | int | float | str], ...]:
    return tuple((str(name), value) for name, value in record)


def trainable(run: Run) -> Shape:
    """The shape of `run`, if isoflop's own training can train it; a plan may hold runs that it cannot.

    Raises
    ------
    InputError
        If the run is another trainer's, or the model is a row of a table.
    """
    if run.trainer:
        raise InputError(f"a run must be trained by its own trainer, but got one of {run.trainer}")
    if isinstance(run.shape, Listed):
        raise InputError(
            "models must be given by their shape to be trained without a trainer of your own (trainer:), but got the "
            f"listed {run.shape.name!r}"
        )
    return run.shape


def rows_of_each(run: Run, devices: int) -> int:
    """Sequences of a step of `run` on each of so many devices.

    Raises
    ------
    InputError
        If they do not divide the step.
    """
    if run.batch_size % devices:
        raise InputError(
            f"a step must have as many sequences for each of a run's {devices} devices, but run {run.id} has "
            f"{run.batch_size} in all"
        )
    return run.batch_size // devices


def canonical_json(value: Any) -> str:
    """JSON that is the same text for the same value in every process: sorted keys, no spaces, floats by `repr`.

    Raises
    ------
    TypeError
        For anything but dicts with text keys, lists, tuples, text, bool, int, float and None: a set or an object
        has no order or text that is the same across processes.
    ValueError
        For NaN and infinities, which JSON does not have.
    """
    _refuse_unordered(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


#: What JSON has a text for that is the same in every process.
_SCALARS = frozenset({str, bool, int, float, type(None)})


def _refuse_unordered(value: Any) -> None:
    if isinstance(value, dict):
        if not all(type(key) is str for key in value):
            raise TypeError(f"keys must be text, but got {sorted(map(repr, value))}")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            if type(item) not in _SCALARS:
                _refuse_unordered(item)
    elif type(value) not in _SCALARS:
        raise TypeError(f"canonical JSON holds plain values only, but got {type(value).__name__}: {value!r}")
