"""Section "Answers that were not correct": their reasons, and pass@k had the unread ones been
correct."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import Grid
from forkdiv.report.headline import warning
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table, pass_said

UNREAD = ("errors", "truncated", "unparsable")
MOST_REASONS = 8  # a grader's reasons may be free text


@dataclass(frozen=True)
class Losses(Table):
    """`touched` counts the cells that have errors, truncated and unparsable answers."""

    touched: dict[str, int]


def content(summary: Summary, grid: Grid) -> Content:
    table = losses(grid)
    cells, touched = len(table.rows), table.touched
    return [
        paragraph(
            f"Of {cells} cells, {touched['errors']} have answers without a verdict (errors, which "
            f"make a cell invalid), {touched['truncated']} have truncated and "
            f"{touched['unparsable']} unparsable answers. The last two count as not correct; “at "
            "best” is what pass@k would be had all of them been correct."
        ),
        TableView(
            table,
            "Counts of answers by what went wrong",
            "losses",
            label=f"Table of {cells} cells",
            is_folded=True,
            is_open=table.is_short or bool(warning(summary)),
            is_printed=True,
        ),
    ]


def losses(grid: Grid) -> Losses:
    """Answers that were not correct, by reason, and pass@k had the unread ones been correct.

    The most frequent reasons have a column each, the others share one.
    """
    total: Counter[str] = Counter()
    for cell in grid.cells:
        total.update(cell.lost)
    kinds = sorted(total, key=lambda reason: (-total[reason], reason))
    kept, others = kinds[:MOST_REASONS], kinds[MOST_REASONS:]
    more = [f"{len(others)} other reasons"] if others else []
    header = [*grid.columns, "answers", *UNREAD, *kept, *more]
    for k in grid.ends:
        header += [f"pass@{k}", "at best"]
    rows = []
    for cell in grid.cells:
        counts = [cell.n_problems * cell.n_samples, *_unread(cell).values()]
        counts += [cell.lost.get(reason, 0) for reason in kept]
        counts += [sum(cell.lost.get(reason, 0) for reason in others)] if others else []
        row = [*grid.row(cell), *(f"{count:,}" for count in counts)]
        for k in grid.ends:
            best = cell.best_case_pass_at.get(k)
            row += [pass_said(cell, k), "" if best is None else f"{best:.3f}"]
        rows.append(row)
    touched = {kind: sum(1 for cell in grid.cells if _unread(cell)[kind]) for kind in UNREAD}
    return Losses(header, rows, touched)


def _unread(cell: Cell) -> dict[str, int]:
    counts = (cell.errors, cell.truncated, cell.unparsable)
    return dict(zip(UNREAD, counts, strict=True))


SECTION = Section("Answers that were not correct", content)
