"""The named recipes, every constant with its reason.

``tiny`` trains the demo's models on a CPU core, ``marin-2025`` is what the SODA authors ran, ``chinchilla`` a cosine
matched to every run's length.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import replace
from importlib.resources import files

from isoflop.errors import InputError
from isoflop.planning.recipe import Recipe, Walk
from isoflop.study_recipe import RecipeChoice, Size

_LADDERS = files("isoflop").joinpath("data", "ladders")


def published_ladder(name: str) -> tuple[Size, ...]:
    """The ladder in `isoflop/data/ladders/<name>.csv`, smallest first; `InputError` names the known ones."""
    known = sorted(file.name.removesuffix(".csv") for file in _LADDERS.iterdir())
    if name not in known:
        raise InputError(f"a published ladder must be one of {', '.join(known)}, but got {name!r}")
    text = _LADDERS.joinpath(f"{name}.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(Size(name=row.pop("name"), **{key: int(value) for key, value in row.items()}) for row in rows)


RECIPES: dict[str, Recipe] = {
    # For models of 1e4 to 1e5 parameters on one CPU core; each constant was chosen on the embedded corpus or on the
    # synthetic one that preceded it.
    "tiny": Recipe(
        name="tiny",
        n_layers=2,
        # Many tiny heads cost attention half the step's time at these widths.
        heads=2,
        min_head_size=16,
        width_step=4,
        widest=1024,
        # SODA's.
        mlp_ratio=4,
        # Larger batches leave too few steps at these budgets and spoil the curves; a batch rule with steps in it puts
        # kinks in the profiles.
        tokens_per_step=256,
        # Of 0.06, 0.1, 0.2, 0.3 and 0.45, on the embedded corpus at 2.5e10 and 1.2e11 FLOPs: lower rates cost 0.05 to
        # 0.3 nats, higher ones are no better at the larger budget and leave rougher profiles.
        rate_times_width=0.2,
        # About a tenth of the demo's shortest run; absolute, so that runs of one size share their stable part.
        warmup_steps=32,
        # SODA's (arXiv 2602.16687): linear decay to zero over the last fifth.
        decay_fraction=0.2,
        weight_decay=0.1,
        beta1=0.9,
        beta2=0.98,
        epsilon=1e-8,
        clip=1.0,
    ),
    # The rules of the SODA authors' grid (arXiv 2602.16687 and its code, after Marin's IsoFLOP sweeps of 2025): Qwen3
    # blocks with an untied head.
    "marin-2025": Recipe(
        name="marin-2025",
        # Their L = round(d/(64 + 4·log2 d − 7)).
        layer_width=57.0,
        layer_width_log2=4.0,
        head_size=128,
        width_step=128,
        widest=8192,
        # Every 128 up to a forward budget of 9e18, every 256 beyond; theirs are stated as forward FLOPs.
        walk=Walk(start=128, stop=2048, step=128, coarse_step=256, coarse_above=2.7e19),
        mlp_ratio=4,
        # A power of two of sequences, so that a run takes 2^15 to 2^16 steps: it puts kinks in the profiles (at 9e18
        # the batch is 32, 128, 64, 32 … 8).
        target_steps=2**16,
        min_batch=8,
        rate_times_width=0.33,
        rate_batch_exponent=0.5,
        max_rate=0.01,
        warmup_fraction=0.1,
        decay_fraction=0.2,
        max_steps=399_999,
        # Cautious AdamC: updates whose sign disagrees with the gradient's are masked, weight decay scaled by lr/lr_max
        # (`isoflop.training.optimisers.CautiousAdamC` has the formulas).
        optimizer="cautious",
        weight_decay=0.1,
        beta1=0.95,
        beta2=0.98,
        beta2_batch=128.0,
        epsilon=1e-15,
        clip=1.0,
    ),
    # Hoffmann et al. 2022 (arXiv 2203.15556) as far as they say, Gopher's rules (Rae et al. 2021, arXiv 2112.11446,
    # Table 1) where they do not.
    "chinchilla": Recipe(
        name="chinchilla",
        ladder=published_ladder("chinchilla"),
        # Two matrices, GELU: their dense block has no gate.
        mlp="plain",
        mlp_ratio=4,
        # Half a million tokens, between Gopher's 0.25M for small and 2M for large models; one for all, so that no
        # profile has a kink.
        tokens_per_step=2**19,
        # Gopher's table has 6e-4 at d = 512 and 768, 2e-4 at 1536 and 2048, 1.2e-4 at 4096: 0.3 to 0.5 over d.
        rate_times_width=0.4,
        warmup_steps=1500,
        # Their section B: a cosine as long as the run, by a factor of ten; a longer one leaves runs undertrained.
        decay="cosine",
        decay_fraction=1.0,
        final_rate=0.1,
        # AdamW as in their section 4.1; its β2 and weight decay are common for such models, they do not say.
        weight_decay=0.1,
        beta1=0.9,
        beta2=0.95,
        epsilon=1e-8,
        clip=1.0,
    ),
}

#: What a study gives takes the place of the base's other way to say it.
_REPLACES = {
    "tokens_per_step": "target_steps",
    "heads": "head_size",
    "head_size": "heads",
    "warmup_steps": "warmup_fraction",
    "rate_times_width": "learning_rate",
}


def named(choice: RecipeChoice) -> Recipe:
    """The recipe of that name with the study's changes; `InputError` names the nearest known one."""
    if choice.base not in RECIPES:
        nearest = difflib.get_close_matches(choice.base, RECIPES, n=1, cutoff=0.0)
        raise InputError(f"recipe must be a known one, but got {choice.base!r}; did you mean {nearest[0]!r}?")
    changes = choice.changes()
    for given, other in _REPLACES.items():
        if given in changes:
            changes.setdefault(other, 0)
    if choice.ladder is not None:
        changes["ladder"] = choice.ladder
    elif choice.published_ladder is not None:
        changes["ladder"] = published_ladder(choice.published_ladder)
    if choice.name is not None:
        changes["name"] = choice.name
    return replace(RECIPES[choice.base], **changes)  # type: ignore[arg-type]
