"""Section "Results by response mode": pass@k given the mode of the response."""

from __future__ import annotations

from dataclasses import dataclass

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import Grid
from forkdiv.report.section import Content, Section, TableView, paragraph
from forkdiv.report.tables import Table


@dataclass(frozen=True)
class Modes(Table):
    names: list[str]


def content(summary: Summary, grid: Grid) -> Content | None:
    table = modes(grid)
    if not table:
        return None
    return [
        paragraph(
            f"Each response has one of these modes: {', '.join(table.names)}. The values are "
            "conditional on the mode that the model itself chose; they would differ if the mode "
            "were prescribed. pass@k given a mode needs k samples of that mode for a problem, so "
            "it uses only the problems that have them, and these differ between rows. Shares are "
            "relative to all samples; if they do not sum to 1, the other samples have no readable "
            "mode."
        ),
        TableView(table, "pass@k given the mode", "modes"),
    ]


def modes(grid: Grid) -> Modes | None:
    """Returns pass@k given the response mode; None if every cell has a single mode."""
    with_modes = [cell for cell in grid.cells if cell.modes]
    if all(_has_single_mode(cell) for cell in with_modes):
        return None
    header = [*grid.columns, "mode", "share of samples"]
    ks = _mode_ks(grid, with_modes)
    for k in ks:
        header += [f"pass@{k} given the mode", f"problems with {k} or more"]
    rows = []
    for cell in with_modes:
        for name, mode in cell.modes.items():
            row = [*grid.row(cell), name, f"{mode.share:.3f}"]
            for k in ks:
                entry = mode.pass_at.get(k)
                row += [f"{entry.value:.3f}", str(entry.problems)] if entry else ["none", "0"]
            rows.append(row)
    names = list(dict.fromkeys(name for cell in with_modes for name in cell.modes))
    return Modes(header, rows, names)


def _has_single_mode(cell: Cell) -> bool:
    """Returns whether all samples of a cell have one mode, up to rounding errors."""
    return len(cell.modes) == 1 and all(mode.share > 1 - 1e-9 for mode in cell.modes.values())


def _mode_ks(grid: Grid, with_modes: list[Cell]) -> list[int]:
    """Returns the smallest and the largest k, and the largest k at which most modes still use at
    least half of the problems of their cell: a problem has fewer samples of one mode than of all
    modes together."""
    supported = {
        k: [
            k in mode.pass_at and 2 * mode.pass_at[k].problems >= cell.n_problems
            for cell in with_modes
            for mode in cell.modes.values()
        ]
        for k in grid.ks
    }
    supported_ks = [k for k, support in supported.items() if 2 * sum(support) > len(support)]
    return sorted({*grid.ends, *supported_ks[-1:]})


SECTION = Section("Results by response mode", content)
