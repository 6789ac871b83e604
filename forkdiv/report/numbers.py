"""Section "All numbers": pass@k of every cell and its change to the base."""

from __future__ import annotations

from collections.abc import Sequence

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, estimate
from forkdiv.report.section import Content, Download, Part, Section, TableView, note
from forkdiv.report.tables import (
    WILSON,
    Table,
    change_text,
    pass_at_text,
    readable_text,
    truncated_text,
)


def content(summary: Summary, grid: Grid) -> Content:
    table = numbers(grid)
    caption = f"pass@k and its change to the base, with {grid.percent} limits"
    parts: list[Part] = [
        TableView(table, caption, "numbers", is_printed=True),
        Download(long(grid), "every-number"),
    ]
    if any(WILSON in text for row in table.rows for text in row):
        parts.append(
            note(
                "† Fewer than ten problems contribute to the spread, for example because nearly "
                "all have equal results; then no method gives exact limits. These are Wilson "
                f"limits: conservative, with a coverage above {grid.percent}. No limits account "
                "for a rare kind of problem that is missing from the sample."
            )
        )
    return parts


def numbers(grid: Grid, ends: Sequence[int] | None = None) -> Table:
    """Returns pass@k and its change to the base at every k, or at `ends`: one row for each cell,
    base first."""
    ends = grid.ks if ends is None else ends
    header = list(grid.columns)
    for k in ends:
        header += [f"pass@{k}", f"change at {k}"]
    rows = []
    for cell in grid.cells:
        row = grid.row(cell)
        for k in ends:
            row += [pass_at_text(cell, k), change_text(cell, k)]
        rows.append([*row, readable_text(cell), truncated_text(cell), str(cell.unparsable)])
    return Table([*header, "readable", "truncated", "unparsable"], rows)


def long(grid: Grid) -> Table:
    """Returns the values of `numbers` in long format: one row for each cell and k."""
    header = [*grid.columns, "k", "pass@k", "low", "high", "change", "change low", "change high"]
    header.append("readable")
    rows = []
    for cell in grid.cells:
        for k in cell.pass_at:
            row = [*grid.row(cell), str(k)]
            for value in (estimate(cell.pass_at, k), estimate(cell.delta_to_base, k)):
                row += (
                    [repr(v) for v in (value.value, value.low, value.high)] if value else [""] * 3
                )
            rows.append([*row, repr(cell.readable_share) if cell.valid else ""])
    return Table(header, rows)


SECTION = Section("All numbers", content)
