"""Section "Sampled and exact pass@k"."""

from __future__ import annotations

from dataclasses import dataclass

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, signed
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table, pass_at_text, readable_text


@dataclass(frozen=True)
class Agreements(Table):
    """`agree` counts the cells that agree; `worst` is the largest difference in standard errors."""

    agree: int
    worst: str


def content(summary: Summary, grid: Grid) -> Content:
    table = agreements(grid)
    cells = len(table.rows)
    if not cells:
        return [
            paragraph(
                "No cell has exact values: they need a task that lists its solutions, and a "
                "decoder that does not truncate the model's distribution."
            )
        ]
    return [
        paragraph(
            f"Sampled pass@k agrees with its exact value in {table.agree} of {cells} cells; the "
            f"largest difference is {table.worst} standard errors of sampling (s.e.)."
        ),
        TableView(
            table,
            "Sampled and exact pass@k",
            "exact",
            label=f"Table of {cells} cells",
            is_folded=True,
            is_open=table.is_short or table.agree < cells,
            is_printed=True,
        ),
    ]


def agreements(grid: Grid) -> Agreements:
    """Returns sampled and exact pass@k of the cells that have both."""
    header = list(grid.columns)
    for k in grid.ends:
        header += [f"sampled pass@{k}", f"exact pass@{k}"]
    rows, agree, worst = [], 0, 0.0
    for cell in grid.cells:
        agreement = cell.agreement
        if not agreement:
            continue
        agree += agreement.agrees
        worst = max(worst, abs(agreement.worst_z))
        row = grid.row(cell)
        for k in grid.ends:
            exact = cell.exact_pass_at.get(k)
            row += [pass_at_text(cell, k), "" if exact is None else f"{exact:.3f}"]
        z = f"{signed(agreement.worst_z, 1)} s.e. at k={agreement.at_k}"
        rows.append([*row, readable_text(cell), z, "yes" if agreement.agrees else "NO"])
    header += ["readable", "largest difference", "agrees"]
    return Agreements(header, rows, agree, f"{worst:.1f}")


SECTION = Section("Sampled and exact pass@k", content)
