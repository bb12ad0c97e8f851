"""A run as its recipe would have it with some of its constants changed: another rate, batch, β2, weight decay or seed.

What is changed is planned as every run is, so its id says what it is, and a variation that changes nothing is the run
itself. Tuning tries such runs at a few cells (`isoflop.tuning`), an audit at a study's minima (`isoflop.auditing`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from isoflop.planning.feasibility import Dropped, Planner
from isoflop.planning.runs import Run


def varied(planner: Planner, base: Run, values: Mapping[str, float], seed: int) -> Run | Dropped:
    """The run of the cell of `base` with other hyperparameters, on as many tokens, or why there is none.

    Parameters
    ----------
    planner
        The study's.
    base
        A run of it.
    values
        ``lr`` and ``batch`` as factors of the recipe's rate and of the run's batch, ``beta2`` as 1 − β2,
        ``weight_decay`` itself; those not named are the recipe's. A rule that goes by the batch goes by the new one.
    seed
        Of the run.
    """
    recipe, length = planner.recipe, base.shape.sequence_length
    batch = round(values.get("batch", 1.0) * base.batch_size)
    rate = recipe.peak_rate(base.shape, batch, base.tokens) * values.get("lr", 1.0)
    changed = replace(
        recipe,
        ladder=(),
        # Whatever rules the recipe has, here each constant is what is asked.
        learning_rate=rate,
        rate_tokens_exponent=0.0,
        rate_width_exponent=0.0,
        max_rate=math.inf,
        tokens_per_step=batch * length,
        target_steps=0,
        batch_exponent=0.0,
        min_batch=1,
        beta2=1 - values["beta2"] if "beta2" in values else recipe.second_moment(batch),
        beta2_batch=0.0,
        weight_decay=values.get("weight_decay", recipe.weight_decay),
    )
    grid = planner.study.grid.model_copy(update={"meet": "steps"})
    study = planner.study.model_copy(update={"grid": grid})
    return replace(planner, recipe=changed, study=study).run(base.budget, base.shape, seed)
