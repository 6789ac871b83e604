"""Section "By majority": the chance that the most frequent answer is correct."""

from __future__ import annotations

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, estimate, thinned
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table

MOST_KS = 5


def content(summary: Summary, grid: Grid) -> Content | None:
    table = majority(grid)
    if not table:
        return None
    return [
        paragraph(
            "The chance that the most frequent answer among k samples is correct. A vote can only "
            "win where the right answer is also the most likely one, so it may fall where pass@k, "
            "beside it for the largest k, rises."
        ),
        TableView(table, "Majority of k samples", "majority"),
    ]


def majority(grid: Grid) -> Table | None:
    """The chance that the majority of k answers is correct, beside pass@k of the largest k."""
    told = [cell for cell in grid.cells if cell.valid and cell.majority_at]
    if not told:
        return None
    shared = set.intersection(*(set(cell.majority_at) for cell in told))
    ks = thinned(sorted(shared), MOST_KS)
    header = [*grid.columns, *(f"majority@{k}" for k in ks)]
    header += [f"pass@{k}" for k in ks[-1:]]
    rows = []
    for cell in told:
        row = [*grid.row(cell), *(f"{cell.majority_at[k]:.3f}" for k in ks)]
        found = [estimate(cell.pass_at, k) for k in ks[-1:]]
        rows.append([*row, *(f"{one.value:.3f}" if one else "" for one in found)])
    return Table(header, rows)


SECTION = Section("By majority", content)
