"""Section "Sampled against exact": pass@k from samples beside its exact value."""

from __future__ import annotations

from dataclasses import dataclass

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, signed
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table, pass_said


@dataclass(frozen=True)
class Agreements(Table):
    """`agree` counts the cells that do; `worst` is the largest difference in standard errors."""

    agree: int
    worst: str


def content(summary: Summary, grid: Grid) -> Content:
    table = agreements(grid)
    cells = len(table.rows)
    if not cells:
        return [
            paragraph(
                "No cell has exact values: they hold only where the task can list its solutions "
                "and the decoder leaves the model's distribution whole."
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
    """Sampled beside exact pass@k, for the cells where both are known."""
    header = list(grid.columns)
    for k in grid.ends:
        header += [f"sampled pass@{k}", f"exact pass@{k}"]
    rows, agree, worst = [], 0, 0.0
    for cell in grid.cells:
        found = cell.agreement
        if not found:
            continue
        agree += found.agrees
        worst = max(worst, abs(found.worst_z))
        row = grid.row(cell)
        for k in grid.ends:
            exact = cell.exact_pass_at.get(k)
            row += [pass_said(cell, k), "" if exact is None else f"{exact:.3f}"]
        z = f"{signed(found.worst_z, 1)} s.e. at k={found.at_k}"
        rows.append([*row, z, "yes" if found.agrees else "NO"])
    return Agreements([*header, "largest difference", "agrees"], rows, agree, f"{worst:.1f}")


SECTION = Section("Sampled against exact", content)
