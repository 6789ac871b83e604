"""Distinct correct solutions among k samples: what pass@k, which needs only one, cannot see."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import ROUNDING, Grid, estimate, subset_title
from forkdiv.report.lines import draw_line, dress_k, handles, legend
from forkdiv.report.panels import Panel, looks, near_rows, only_near
from forkdiv.report.plot import Plot, Rows
from forkdiv.report.section import Content, Legend, Plots, Section, TableView, note, paragraph
from forkdiv.report.tables import Table


def told(grid: Grid) -> list[Cell]:
    """The cells that count solutions; none where no problem has a second one, since the count
    then is pass@k."""
    cells = [cell for cell in grid.cells if cell.distinct_at]
    return [] if all(map(_is_pass_at, cells)) else cells


def content(summary: Summary, grid: Grid) -> Content | None:
    solutions = table(grid)
    if not solutions.rows:
        return None
    lines_drawn = looks(grid)
    return [
        paragraph(
            "How many different correct solutions to expect among k samples of one problem. pass@k "
            "needs only one and cannot see the others disappear."
        ),
        Legend(partial(legend, "distinct-legend", lines_drawn)),
        note(
            f"Mean over the problems, with {grid.percent} intervals at each k alone. A long-dashed "
            "line is the number of solutions there are, where the task lists them.",
            only_near(grid),
        ),
        *Plots.of("distinct", plots(grid), handles(lines_drawn)),
        TableView(solutions, "Distinct correct solutions", "distinct"),
    ]


def plots(grid: Grid) -> Rows:
    """One plot per panel of the curves at the temperature nearest 1."""
    cells = told(grid)
    if not cells:
        return []
    ks = sorted({k for cell in cells for k in cell.distinct_at})
    return [
        (
            subset_title(row[0].subset),
            [
                Plot(panel.caption, _spoken(grid, panel, ks), partial(_draw, grid, panel, ks))
                for panel in row
            ],
        )
        for row in near_rows(grid)
        if row
    ]


def valid_solutions(grid: Grid, panel: Panel) -> float | None:
    """The mean number of valid solutions per problem, where the task lists them."""
    found = [
        cell.valid_solutions
        for setting, _ in panel.lines
        for cell in grid.at(setting, panel.temperature, panel.subset)
        if cell.valid_solutions is not None
    ]
    return sum(found) / len(found) if found else None


def table(grid: Grid) -> Table:
    """Every cell at the smallest and the largest k, and its change to the base."""
    cells = told(grid)
    ks = [set(cell.distinct_at) for cell in cells]
    shared = set.intersection(*ks) if ks else set()
    ends = sorted({min(shared), max(shared)}) if shared else []
    header = [*grid.columns, "valid solutions"]
    for k in ends:
        header += [f"distinct among {k}", f"change at {k}"]
    rows = []
    for cell in cells:
        known = cell.valid_solutions
        row = [*grid.row(cell), "" if known is None else f"{known:.3g}"]
        for k in ends:
            value, change = estimate(cell.distinct_at, k), estimate(cell.distinct_delta, k)
            row.append(f"{value.value:.2f}" if value else "")
            row.append("{} ({})".format(*change.parts(2)) if change else "")
        rows.append(row)
    return Table(header, rows)


def _is_pass_at(cell: Cell) -> bool:
    found = [(estimate(cell.distinct_at, k), estimate(cell.pass_at, k)) for k in cell.distinct_at]
    return all(one and other and abs(one.value - other.value) < ROUNDING for one, other in found)


def _draw(grid: Grid, panel: Panel, ks: Sequence[int], axes: Axes) -> None:
    for setting, look in panel.lines:
        place = (setting, panel.temperature, panel.subset)
        draw_line(axes, {k: grid.distinct(*place, k) for k in ks}, look)
    dress_k(axes, ks)
    most = valid_solutions(grid, panel)
    if most is not None:
        axes.axhline(most, color="#222222", linewidth=1, linestyle=(0, (6, 2)))
        axes.text(
            0.02,
            most,
            "valid solutions",
            transform=axes.get_yaxis_transform(),
            va="bottom",
            size=7.5,
        )
    axes.set(ylabel="distinct solutions", ylim=(0, max(axes.get_ylim()[1], 1.15 * (most or 0))))


def _spoken(grid: Grid, panel: Panel, ks: Sequence[int]) -> str:
    said = []
    for setting, look in panel.lines:
        found = grid.distinct(setting, panel.temperature, panel.subset, ks[-1])
        said += [f"{look['label']} {found.value:.2f}"] if found else []
    where = f"{subset_title(panel.subset)}, {panel.caption}"
    return f"Distinct correct solutions among {ks[-1]} samples, {where}. {'; '.join(said)}."


SECTION = Section("Distinct solutions", content)
