"""Runs that a study did not make and counts as its own: points from elsewhere, adopted with where they come from.

::

    <study>/adopted/<digest>.parquet  .csv    the points
                    <digest>.json             which table they are from, by which conventions, what was left out

A table is adopted whole or not at all, and once: its digest names it, and rows that an earlier one holds are left out
with that reason. No run directory is made for them, so nothing can take them for runs that were trained here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop import files, table_files
from isoflop.errors import NoAnswerError
from isoflop.fitting.cost import SIX_ND_TOLERANCE

if TYPE_CHECKING:
    import pandas as pd

    from isoflop.fitting.columns import Floats

#: C that is this near to one of the study's budgets is of that budget.
_SAME_BUDGET = 0.05
#: Columns of a table that are kept beside the four numbers and `budget`; the rest is its owner's.
_KEPT = ("seed", "trunk", "loss_sigma", "unique_tokens", "learning_rate", "d_model", "n_layers", "steps")
_DIGITS = 12


@dataclass(frozen=True)
class Adoption:
    """What an adoption came to.

    Parameters
    ----------
    digest
        Names the points that were taken.
    source
        Name of the file that they came from.
    rows
        How many were taken.
    left_out
        Why others were not: row (from 0) and reason.
    flops_convention
        ``6nd`` where C = 6ND holds in every row, else ``counted``.
    again
        Whether the same points had been adopted before: then nothing was written.
    """

    digest: str
    source: str
    rows: int
    left_out: tuple[tuple[int, str], ...]
    flops_convention: str
    again: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


def adopt(directory: Path, table: pd.DataFrame, source: str, budgets: Sequence[float]) -> Adoption:
    """Write the points of `table` that a fit can use into the study at `directory`.

    Parameters
    ----------
    directory
        The study's.
    table
        A points table (`isoflop.tables.read_points`); `params` is the total.
    source
        Name of the file that it came from.
    budgets
        The study's, training FLOPs: a point that costs the same is of that budget.

    Raises
    ------
    NoAnswerError
        If no row can be adopted, with the reasons.
    InputError
        If the table's columns are no points table's.
    """
    from isoflop.fitting.points import judge

    judged = judge(table)
    left_out = {each.row: each.reason for each in judged.excluded}
    if not len(judged.row):
        raise _nothing(source, left_out)
    standing = read(directory)
    before = _keys(standing) if standing is not None else set()
    order = np.sort(judged.row)
    place = {int(row): at for at, row in enumerate(judged.row)}
    kept = [int(row) for row in order]
    points = table.iloc[kept].reset_index(drop=True)
    at = [place[row] for row in kept]
    digest = judged.digest[:_DIGITS]
    convention = _flops_convention(judged.flops, judged.params, judged.tokens)
    if (directory / f"{digest}.parquet").exists():
        return Adoption(digest, source, len(kept), tuple(sorted(left_out.items())), convention, again=True)
    known = [str(name) for name in points.columns]
    taken = points[[name for name in known if name in _KEPT or name.startswith("loss_")]]
    taken = taken.assign(
        budget=_budgets(judged.flops[at], judged.budget[at], budgets),
        flops=judged.flops[at],
        params=judged.params[at],
        tokens=judged.tokens[at],
        loss=judged.loss[at],
    )
    new = [key not in before for key in _row_keys(taken)]
    left_out.update({row: "adopted before" for row, fresh in zip(kept, new, strict=True) if not fresh})
    taken = taken[new].reset_index(drop=True)
    if not len(taken):
        raise _nothing(source, left_out)
    taken = taken.assign(run=[f"adopted-{digest}-{row}" for row, fresh in zip(kept, new, strict=True) if fresh])
    adoption = Adoption(digest, source, len(taken), tuple(sorted(left_out.items())), convention)
    # Points are adopted when their table stands: what is told of them stands before it.
    files.write_json(directory / f"{digest}.json", {**adoption.to_json(), "params_convention": "total"})
    table_files.write_table(directory / f"{digest}.parquet", taken)
    return adoption


def read(directory: Path) -> pd.DataFrame | None:
    """All adopted points, in the order of their digests, `adopted` being that digest; None where there are none.

    Raises
    ------
    CorruptFileError
        If a table is not what was written.
    """
    import pandas as pd

    found = []
    for path in sorted(directory.glob("*.parquet")):
        table = table_files.read_table(path, columns=("run", "budget", "flops", "params", "tokens", "loss"))
        found.append(table.assign(adopted=path.stem))
    return pd.concat(found, ignore_index=True) if found else None


def beside(own: pd.DataFrame | None, adopted: pd.DataFrame) -> pd.DataFrame:
    """The study's own points (None: it has no plan yet) and the adopted ones as one table, N the total for all."""
    import pandas as pd

    taken = adopted.assign(state="done", in_grid=True)
    both = taken if own is None else pd.concat([own.assign(adopted=""), taken], ignore_index=True)
    # The groups of parameters are known of the study's own alone, and so is who shares a trunk.
    own_trunk = both["trunk"] if "trunk" in both else pd.Series(pd.NA, index=both.index, dtype=object)
    return both.assign(params_total=both["params"], trunk=own_trunk.where(own_trunk.notna(), both["run"]))


def _nothing(source: str, left_out: Mapping[int, str]) -> NoAnswerError:
    return NoAnswerError(f"no row of {source} can be adopted: {'; '.join(sorted(set(left_out.values()))[:3])}")


def _flops_convention(flops: Floats, params: Floats, tokens: Floats) -> str:
    return "6nd" if np.abs(flops / (6 * params * tokens) - 1).max() <= SIX_ND_TOLERANCE else "counted"


def _budgets(flops: Floats, budget: Floats, known: Sequence[float]) -> Floats:
    """The study's budget where a point costs the same, else the table's."""
    own = np.array(known)
    nearest = own[np.abs(np.log(flops[:, None] / own[None, :])).argmin(axis=1)]
    near: Floats = np.where(np.abs(flops / nearest - 1) <= _SAME_BUDGET, nearest, budget)
    return near


def _row_keys(table: pd.DataFrame) -> list[tuple[float, ...]]:
    names = ["flops", "params", "tokens", "loss"]
    return [tuple(row) for row in table[names].to_numpy(dtype=float).tolist()]


def _keys(table: pd.DataFrame) -> set[tuple[float, ...]]:
    return set(_row_keys(table))
