"""Which rows and columns of a long table a reader sees first."""

from __future__ import annotations

from dataclasses import replace

from forkdiv.report.glance import few_ks
from forkdiv.report.grid import Grid, nearest_1, subset_title
from forkdiv.report.tables import OPEN_ROWS, First, Table

MOST_FIRST = 24
LEFT_OUT = ("temperature", "seed", "subset", "fork")  # where they do not differ


def read_first(grid: Grid, table: Table) -> Table:
    """The table with what to read first: the rows at the temperature nearest 1; of them, where
    they are many, those on all problems. Columns in which these do not differ are left out, so
    that a phone can show the others; what they hold is said."""
    rows, said = table.rows, []
    near = f"{nearest_1(grid.temperatures):g}" if grid.temperatures else ""
    whole = grid.subsets[0] if grid.subsets else ""
    for column, wanted, words in (
        ("temperature", near, f"at temperature {near}"),
        ("subset", whole, f"on {subset_title(whole)}"),
    ):
        if column not in table.header:
            continue
        at = table.header.index(column)
        if len(rows) > OPEN_ROWS:
            rows = [row for row in rows if row[at] == wanted]
        said += [words] if rows and {row[at] for row in rows} == {wanted} else []
    if not rows or len(rows) > MOST_FIRST:
        return table
    hidden = _between(grid) if table.header[-1] == "unparsable" else set()
    kept = [
        at
        for at, name in enumerate(table.header)
        if name not in hidden and (name not in LEFT_OUT or len({row[at] for row in rows}) > 1)
    ]
    first = First(
        [table.header[at] for at in kept],
        [[row[at] for at in kept] for row in rows],
        "".join(f", {one}" for one in said),
    )
    return replace(table, first=first)


def _between(grid: Grid) -> set[str]:
    """The columns of the k that a reader need not see at once."""
    few = few_ks(grid.ks)
    return {f"{word}{k}" for k in grid.ks if k not in few for word in ("pass@", "change at ")}
