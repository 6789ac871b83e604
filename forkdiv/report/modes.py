"""Section "By how the response is told": pass@k given the mode of the response."""

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
            f"A response is told in one of these modes: {', '.join(table.names)}. Choosing the "
            "mode is a decision of its own, and the model makes it: a value below is conditional "
            "on the mode that the model itself chose, not what it would be had the mode been set. "
            "pass@k given a mode needs k samples of that mode of a problem, so it rests only on "
            "the problems that have them, and these differ from row to row. Shares are of all "
            "samples; what they leave to 1 was told in no mode that could be read."
        ),
        TableView(table, "pass@k given the mode", "modes"),
    ]


def modes(grid: Grid) -> Modes | None:
    """pass@k given how a response is told; None where every response is told alike."""
    told = [cell for cell in grid.cells if cell.modes]
    if all(_is_alike(cell) for cell in told):
        return None
    header = [*grid.columns, "mode", "share of samples"]
    ks = _mode_ks(grid, told)
    for k in ks:
        header += [f"pass@{k} given the mode", f"problems with {k} or more"]
    rows = []
    for cell in told:
        for name, mode in cell.modes.items():
            row = [*grid.row(cell), name, f"{mode.share:.3f}"]
            for k in ks:
                entry = mode.pass_at.get(k)
                row += [f"{entry.value:.3f}", str(entry.problems)] if entry else ["none", "0"]
            rows.append(row)
    names = list(dict.fromkeys(name for cell in told for name in cell.modes))
    return Modes(header, rows, names)


def _is_alike(cell: Cell) -> bool:
    """Whether all samples of a cell are told in one mode; rounding errors do not count."""
    return len(cell.modes) == 1 and all(mode.share > 1 - 1e-9 for mode in cell.modes.values())


def _mode_ks(grid: Grid, told: list[Cell]) -> list[int]:
    """The ends, and between them the largest k at which most modes still rest on at least half
    of their cell's problems: no problem has as many samples of each mode as of both."""
    behind = {
        k: [
            k in mode.pass_at and 2 * mode.pass_at[k].problems >= cell.n_problems
            for cell in told
            for mode in cell.modes.values()
        ]
        for k in grid.ks
    }
    between = [k for k, enough in behind.items() if 2 * sum(enough) > len(enough)]
    return sorted({*grid.ends, *between[-1:]})


SECTION = Section("By how the response is told", content)
