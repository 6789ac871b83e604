"""Section "Majority vote": the probability that the most frequent answer is correct."""

from __future__ import annotations

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, estimate, thinned
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table

MAX_KS = 5


def content(summary: Summary, grid: Grid) -> Content | None:
    table = majority(grid)
    if not table:
        return None
    return [
        paragraph(
            "The probability that the most frequent answer among k samples is correct. A majority "
            "vote succeeds only if the right answer is also the most likely one, so it can "
            "decrease while pass@k (shown for the largest k) increases."
        ),
        TableView(table, "Majority of k samples", "majority"),
    ]


def majority(grid: Grid) -> Table | None:
    """Returns the probability that the majority of k answers is correct, and pass@k for the
    largest k."""
    with_majority = [cell for cell in grid.cells if cell.valid and cell.majority_at]
    if not with_majority:
        return None
    shared = set.intersection(*(set(cell.majority_at) for cell in with_majority))
    ks = thinned(sorted(shared), MAX_KS)
    header = [*grid.columns, *(f"majority@{k}" for k in ks)]
    header += [f"pass@{k}" for k in ks[-1:]]
    rows = []
    for cell in with_majority:
        row = [*grid.row(cell), *(f"{cell.majority_at[k]:.3f}" for k in ks)]
        pass_at = [estimate(cell.pass_at, k) for k in ks[-1:]]
        rows.append([*row, *(f"{value.value:.3f}" if value else "" for value in pass_at)])
    return Table(header, rows)


SECTION = Section("Majority vote", content)
