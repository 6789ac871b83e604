"""Distinct correct solutions among k samples, which pass@k does not measure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import ROUNDING, Grid, estimate, subset_title
from forkdiv.report.lines import draw_line, handles, legend, set_k_axis
from forkdiv.report.panels import Panel, drawn_temperature, looks, near_rows
from forkdiv.report.plot import Plot, Rows
from forkdiv.report.section import Content, Legend, Plots, Section, TableView, note, paragraph
from forkdiv.report.tables import Table


def informative_cells(grid: Grid) -> list[Cell]:
    """Returns the cells with counts of solutions; none if every problem has at most one solution,
    because the count then equals pass@k."""
    cells = [cell for cell in grid.cells if cell.distinct_at]
    return [] if all(map(_is_pass_at, cells)) else cells


def content(summary: Summary, grid: Grid) -> Content | None:
    solutions = table(grid)
    if not solutions.rows:
        return None
    lines_drawn = looks(grid)
    return [
        paragraph(
            "The expected number of different correct solutions among k samples of one problem. "
            "pass@k needs only one correct sample, so it does not show the loss of the others."
        ),
        Legend(partial(legend, "distinct-legend", lines_drawn)),
        note(
            f"Mean over the problems, with pointwise {grid.percent} intervals. A long-dashed line "
            "is the number of valid solutions, if the task lists them.",
            drawn_temperature(grid),
        ),
        *Plots.of("distinct", plots(grid), handles(lines_drawn)),
        TableView(solutions, "Distinct correct solutions", "distinct"),
    ]


def plots(grid: Grid) -> Rows:
    """Returns one plot for each panel of the curves at the temperature nearest 1."""
    cells = informative_cells(grid)
    if not cells:
        return []
    ks = sorted({k for cell in cells for k in cell.distinct_at})
    return [
        (
            subset_title(row[0].subset),
            [
                Plot(panel.caption, _alt_text(grid, panel, ks), partial(_draw, grid, panel, ks))
                for panel in row
            ],
        )
        for row in near_rows(grid)
        if row
    ]


def valid_solutions(grid: Grid, panel: Panel) -> float | None:
    """Returns the mean number of valid solutions per problem; None if the task does not list
    them."""
    counts = [
        cell.valid_solutions
        for setting, _ in panel.lines
        for cell in grid.at(setting, panel.temperature, panel.subset)
        if cell.valid_solutions is not None
    ]
    return sum(counts) / len(counts) if counts else None


def table(grid: Grid) -> Table:
    """Returns every cell at the first and the last k, with its change to the base."""
    cells = informative_cells(grid)
    ks = [set(cell.distinct_at) for cell in cells]
    shared = set.intersection(*ks) if ks else set()
    ends = sorted({min(shared), max(shared)}) if shared else []
    header = [*grid.columns, "valid solutions"]
    for k in ends:
        header += [f"distinct among {k}", f"change at {k}"]
    rows = []
    for cell in cells:
        valid = cell.valid_solutions
        row = [*grid.row(cell), "" if valid is None else f"{valid:.3g}"]
        for k in ends:
            value, change = estimate(cell.distinct_at, k), estimate(cell.distinct_delta, k)
            row.append(f"{value.value:.2f}" if value else "")
            row.append("{} ({})".format(*change.parts(2)) if change else "")
        rows.append(row)
    return Table(header, rows)


def _is_pass_at(cell: Cell) -> bool:
    pairs = [(estimate(cell.distinct_at, k), estimate(cell.pass_at, k)) for k in cell.distinct_at]
    return all(
        count and value and abs(count.value - value.value) < ROUNDING for count, value in pairs
    )


def _draw(grid: Grid, panel: Panel, ks: Sequence[int], axes: Axes) -> None:
    for setting, look in panel.lines:
        place = (setting, panel.temperature, panel.subset)
        draw_line(axes, {k: grid.distinct(*place, k) for k in ks}, look)
    set_k_axis(axes, ks)
    valid = valid_solutions(grid, panel)
    if valid is not None:
        axes.axhline(valid, color="#222222", linewidth=1, linestyle=(0, (6, 2)))
        axes.text(
            0.02,
            valid,
            "valid solutions",
            transform=axes.get_yaxis_transform(),
            va="bottom",
            size=7.5,
        )
    axes.set(ylabel="distinct solutions", ylim=(0, max(axes.get_ylim()[1], 1.15 * (valid or 0))))


def _alt_text(grid: Grid, panel: Panel, ks: Sequence[int]) -> str:
    parts = []
    for setting, look in panel.lines:
        count = grid.distinct(setting, panel.temperature, panel.subset, ks[-1])
        parts += [f"{look['label']} {count.value:.2f}"] if count else []
    place = f"{subset_title(panel.subset)}, {panel.caption}"
    return f"Distinct correct solutions among {ks[-1]} samples, {place}. {'; '.join(parts)}."


SECTION = Section("Distinct solutions", content)
