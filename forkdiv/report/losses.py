"""Section "Samples that were not correct": their reasons, and pass@k if the unreadable samples were
correct."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import Grid
from forkdiv.report.headline import warning
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table, pass_at_text, truncated_text

UNREADABLE = ("errors", "truncated", "unparsable")
MAX_REASONS = 8  # a grader's reasons may be free text


@dataclass(frozen=True)
class Losses(Table):
    """`affected` counts the cells with errors, truncated and unparsable samples."""

    affected: dict[str, int]


def content(summary: Summary, grid: Grid) -> Content:
    table = losses(grid)
    cells, affected = len(table.rows), table.affected
    return [
        paragraph(
            f"Of {cells} cells, {affected['errors']} have samples without a verdict (errors, which "
            f"make a cell invalid), {affected['truncated']} have truncated and "
            f"{affected['unparsable']} unparsable samples. Truncated and unparsable samples count "
            "as not correct; “at best” is pass@k if all of them were correct."
        ),
        TableView(
            table,
            "Counts of samples by reason",
            "losses",
            label=f"Table of {cells} cells",
            is_folded=True,
            is_open=table.is_short or bool(warning(summary)),
            is_printed=True,
        ),
    ]


def losses(grid: Grid) -> Losses:
    """Returns the samples that were not correct by reason, and pass@k if the unreadable ones were
    correct. Each of the most frequent reasons has a column, the others share one."""
    total: Counter[str] = Counter()
    for cell in grid.cells:
        total.update(cell.lost)
    reasons = sorted(total, key=lambda reason: (-total[reason], reason))
    listed, unlisted = reasons[:MAX_REASONS], reasons[MAX_REASONS:]
    unlisted_title = [f"{len(unlisted)} other reasons"] if unlisted else []
    header = [*grid.columns, "samples", *UNREADABLE, *listed, *unlisted_title]
    for k in grid.ends:
        header += [f"pass@{k}", "at best"]
    rows = []
    for cell in grid.cells:
        counts = [cell.lost.get(reason, 0) for reason in listed]
        counts += [sum(cell.lost.get(reason, 0) for reason in unlisted)] if unlisted else []
        row = [*grid.row(cell), f"{cell.n_problems * cell.n_samples:,}", f"{cell.errors:,}"]
        row += [truncated_text(cell), f"{cell.unparsable:,}", *(f"{count:,}" for count in counts)]
        for k in grid.ends:
            best = cell.best_case_pass_at.get(k)
            row += [pass_at_text(cell, k), "" if best is None else f"{best:.3f}"]
        rows.append(row)
    affected = {
        kind: sum(1 for cell in grid.cells if _unreadable_counts(cell)[kind]) for kind in UNREADABLE
    }
    return Losses(header, rows, affected)


def _unreadable_counts(cell: Cell) -> dict[str, int]:
    counts = (cell.errors, cell.truncated, cell.unparsable)
    return dict(zip(UNREADABLE, counts, strict=True))


SECTION = Section("Samples that were not correct", content)
