"""The rows and columns of a long table that are shown first."""

from __future__ import annotations

from dataclasses import replace

from forkdiv.report.glance import three_ks
from forkdiv.report.grid import Grid, nearest_1, subset_title
from forkdiv.report.tables import MAX_OPEN_ROWS, FirstRows, Table

MAX_FIRST_ROWS = 24
CONSTANT_COLUMNS = ("temperature", "seed", "subset", "fork")  # hidden if constant


def read_first(grid: Grid, table: Table) -> Table:
    """Returns the table with its first rows: those at the temperature nearest 1 and, if there are
    many, on all problems. Columns with a single value are hidden, so that narrow screens can show
    the others; the caption states their value. A table that has its own first rows keeps them."""
    if table.first:
        return table
    rows, conditions = table.rows, []
    temperature = f"{nearest_1(grid.temperatures):g}" if grid.temperatures else ""
    subset = grid.subsets[0] if grid.subsets else ""
    for column, value, condition in (
        ("temperature", temperature, f"at temperature {temperature}"),
        ("subset", subset, f"on {subset_title(subset)}"),
    ):
        if column not in table.header:
            continue
        column_index = table.header.index(column)
        if len(rows) > MAX_OPEN_ROWS:
            rows = [row for row in rows if row[column_index] == value]
        conditions += [condition] if rows and {row[column_index] for row in rows} == {value} else []
    if not rows or len(rows) > MAX_FIRST_ROWS:
        return table
    hidden = _hidden_columns(grid) if table.header[-1] == "unparsable" else set()
    shown = [
        column_index
        for column_index, name in enumerate(table.header)
        if name not in hidden
        and (name not in CONSTANT_COLUMNS or len({row[column_index] for row in rows}) > 1)
    ]
    first = FirstRows(
        [table.header[column_index] for column_index in shown],
        [[row[column_index] for column_index in shown] for row in rows],
        "".join(f", {condition}" for condition in conditions),
    )
    return replace(table, first=first)


def _hidden_columns(grid: Grid) -> set[str]:
    """Returns the columns of the k that are not shown first."""
    shown_ks = three_ks(grid.ks)
    return {f"{word}{k}" for k in grid.ks if k not in shown_ks for word in ("pass@", "change at ")}
