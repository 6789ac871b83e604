"""Decision points from a learnability table: the tokens that cannot be learned as a rule."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from forkdiv.core.errors import refuse
from forkdiv.core.records import Example
from forkdiv.data.token_table import CARD, LEFT_TO_THE_BASE, TOKENS, digest
from forkdiv.forks.sites import (
    END,
    Positions,
    Site,
    SiteSet,
    Step,
    fork_id,
    problem_groups,
    shared_prefixes,
)

LEFT = frozenset(kind.name.lower() for kind in LEFT_TO_THE_BASE)
REMEDY = "set audit.table to the folder that `forkdiv learnability` names for this data"


@dataclass(frozen=True)
class TableSiteSet(SiteSet):
    """The sites of a table, with all positions; `left` (positions,) is True at those that are left
    to the base."""

    positions: Positions
    left: NDArray[np.bool_]


def table_sites(folder: Path, examples: Sequence[Example]) -> TableSiteSet:
    """Returns the tokens that the table in `folder` leaves to the base.

    Raises UserError for a folder without a table, and for the table of other data.
    """
    table = _read(folder, examples)
    start, end = (table[name].to_numpy() for name in ("start", "end"))
    entropy = table["base_entropy"].to_numpy()
    positions = Positions(table["row"].to_numpy(), start, end, entropy)
    left = np.array([kind in LEFT for kind in table["class"].to_pylist()], dtype=bool)
    ids = table["id"].to_numpy()
    sites: list[Site] = []
    for rows in problem_groups(examples):
        sites += _problem_sites(examples, rows, positions, ids, left)
    sites.sort(key=lambda site: (site.row, site.at))
    return TableSiteSet("learnability", sites, frozenset(range(len(examples))), positions, left)


def _problem_sites(
    examples: Sequence[Example],
    rows: Sequence[int],
    positions: Positions,
    ids: NDArray[np.int32],
    left: NDArray[np.bool_],
) -> Iterator[Site]:
    """Yields the sites of the rows of one problem; rows with the same prefix share a fork."""
    slices = {row: positions.slice_of(row) for row in rows}
    steps = {row: _steps(examples[row].response, positions, ids, slices[row]) for row in rows}
    for depth, rows_here in shared_prefixes(steps):
        shown: dict[str, int] = {}
        for row in rows_here:
            text = steps[row][depth].text
            shown[text] = shown.get(text, 0) + 1
        for row in rows_here:
            at, step = slices[row].start + depth, steps[row][depth]
            if left[at]:
                example = examples[row]
                yield Site(
                    row=row,
                    problem_id=example.problem_id,
                    fork=fork_id(example, example.response[: step.at]),
                    at=step.at,
                    taken=step.text,
                    shown=shown,
                    branches=tuple(sorted(shown)),
                    entropy=float(positions.entropy[at]),
                )


def _steps(response: str, positions: Positions, ids: NDArray[np.int32], own: slice) -> list[Step]:
    """Returns the tokens of a response, each from its first character that is not white space."""
    steps = []
    for token, start, end in zip(
        ids[own].tolist(), positions.start[own].tolist(), positions.end[own].tolist(), strict=True
    ):
        text = response[start:end]
        visible = text.lstrip() or text
        steps.append(Step(token, visible if text else END, end - len(visible)))
    return steps


def _read(folder: Path, examples: Sequence[Example]) -> pa.Table:
    try:
        card = json.loads((folder / CARD).read_text())
        same = card["digest"] == digest(examples)
        table = pq.read_table(folder / TOKENS)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise refuse(
            "audit.table is not a learnability table",
            f"{folder} ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            f"a folder with {CARD} and {TOKENS}",
            REMEDY,
        ) from error
    if not same:
        raise refuse(
            "audit.table is the learnability table of other data",
            f"{folder}, a table of {card['rows']:,} rows; the data has {len(examples):,}",
            "the table of these rows, all of them and in their order",
            REMEDY,
        )
    return table
