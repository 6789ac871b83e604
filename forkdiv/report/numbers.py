"""Section "All numbers": pass@k of every cell and its change to the base."""

from __future__ import annotations

from collections.abc import Sequence

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, estimate
from forkdiv.report.section import Content, Download, Part, Section, TableView, note
from forkdiv.report.tables import WILSON, Table, change_said, pass_said


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
                "† Here fewer than ten problems make up the spread, as where (nearly) all come "
                "out alike, and no method gives limits that hold just as often as they say. These "
                f"are of Wilson's kind: cautious, they hold more often than {grid.percent} of the "
                "time. Neither they nor the others can know of a rare kind of problem that was "
                "not drawn at all."
            )
        )
    return parts


def numbers(grid: Grid, ends: Sequence[int] | None = None) -> Table:
    """pass@k and its change to the base at every k, or at `ends`: one row per cell, base first."""
    ends = grid.ks if ends is None else ends
    header = list(grid.columns)
    for k in ends:
        header += [f"pass@{k}", f"change at {k}"]
    rows = []
    for cell in grid.cells:
        row = grid.row(cell)
        for k in ends:
            row += [pass_said(cell, k), change_said(cell, k)]
        rows.append([*row, str(cell.truncated), str(cell.unparsable)])
    return Table([*header, "truncated", "unparsable"], rows)


def long(grid: Grid) -> Table:
    """The numbers of `numbers` one by one, for other programs: a row per cell and k."""
    header = [*grid.columns, "k", "pass@k", "low", "high", "change", "change low", "change high"]
    rows = []
    for cell in grid.cells:
        for k in cell.pass_at:
            row = [*grid.row(cell), str(k)]
            for one in (estimate(cell.pass_at, k), estimate(cell.delta_to_base, k)):
                row += [repr(v) for v in (one.value, one.low, one.high)] if one else [""] * 3
            rows.append(row)
    return Table(header, rows)


SECTION = Section("All numbers", content)
