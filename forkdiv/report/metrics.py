"""Section "Other metrics": those that are registered beside pass@k, with their limits."""

from __future__ import annotations

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, thinned
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table

MAX_KS = 4


def content(summary: Summary, grid: Grid) -> Content | None:
    table = metrics(grid)
    if table is None:
        return None
    return [
        paragraph(
            f"Metrics of other packages, computed from the same counts as pass@k: means over the "
            f"problems with {grid.percent} intervals at each k alone."
        ),
        TableView(table, "Other metrics", "metrics"),
    ]


def metrics(grid: Grid) -> Table | None:
    """One row per cell and metric; None if no cell has any."""
    cells = [cell for cell in grid.cells if cell.valid and cell.metrics]
    if not cells:
        return None
    shared = set.intersection(*(set(by_k) for cell in cells for by_k in cell.metrics.values()))
    ks = thinned(sorted(shared), MAX_KS)
    rows = [
        [
            *grid.row(cell),
            name,
            *(f"{by_k[k].value:.3f} ({by_k[k].low:.3f} to {by_k[k].high:.3f})" for k in ks),
        ]
        for cell in cells
        for name, by_k in cell.metrics.items()
    ]
    return Table([*grid.columns, "metric", *(f"at k={k}" for k in ks)], rows)


SECTION = Section("Other metrics", content)
