"""Curves of pass@k by k with bands, for a study and for one trial."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from forkdiv.core.results import Cell, Summary
from forkdiv.report import lines, plot
from forkdiv.report.grid import Grid, estimate, shortened, subset_title, subsets_of
from forkdiv.report.guess import SHOWN_FROM, shown_cells
from forkdiv.report.lines import K_LABEL, draw_line
from forkdiv.report.panels import MAX_SUBSETS, Panel, curves_omitted, layout, looks
from forkdiv.report.plot import Plot
from forkdiv.report.section import Content, Legend, Plots, Section, note
from forkdiv.report.svg import STYLE, Panels

MAX_COLUMNS = 6
SUBSET_LOOKS = {"all": ("#222222", "o"), "signed": ("#0072B2", "s"), "unsigned": ("#D55E00", "^")}
OTHER_LOOKS = [
    *(("#0072B2", "s"), ("#D55E00", "^"), ("#009E73", "D"), ("#CC79A7", "v")),
    *(("#8F6A00", "P"), ("#56B4E9", "X"), ("#777777", "*")),
]


def content(summary: Summary, grid: Grid) -> Content:
    has_exact = any(cell.exact_pass_at for cell in grid.cells)
    seed_note = (
        f"Lines are means over {len(grid.seeds)} seeds, faint lines are single seeds; bands "
        "combine the spread of the seeds (Student's t) with the interval of one seed."
    )
    return [
        Legend(
            partial(lines.legend, "legend", looks(grid)),
            dotted="exact, from the model's probabilities" if has_exact else "",
        ),
        note(
            f"Bands are {grid.percent} intervals: the dark band is pointwise (for each k "
            "separately), the light band, if there is one, is simultaneous (for all k of the line "
            "together). Use the light band for statements about a whole line, such as “below the "
            "base from k=8”.",
            seed_note if len(grid.seeds) > 1 else "",
            "Thin dash-dotted lines are the guess baseline, see “Guessing”."
            if shown_cells(grid)
            else "",
            curves_omitted(grid),
        ),
        Plots("pass_at_k", partial(pictures, grid), partial(figure, grid)),
    ]


def figure(grid: Grid) -> Figure:
    """Returns a figure of all panels with a legend below."""
    rows = layout(grid)
    if all(len(row) == 1 for row in rows):
        rows = [[panel for row in rows for panel in row]]
    widest = max(len(rows[0]) if rows else 0, 1)
    lines_per_row = math.ceil(widest / MAX_COLUMNS)  # long rows are wrapped
    columns, line_count = math.ceil(widest / lines_per_row), lines_per_row * max(len(rows), 1)
    size = (max(2.6 * columns + 0.4, 4.5), 2.3 * line_count + 0.7)
    with matplotlib.rc_context(STYLE):
        curves_figure = Figure(figsize=size, layout="constrained")
        panels = curves_figure.subplots(
            line_count, columns, sharex=True, sharey=True, squeeze=False
        )
        for row_number, row in enumerate(rows):
            places = panels[row_number * lines_per_row : (row_number + 1) * lines_per_row].flatten()
            for axes, panel in zip(places, row, strict=False):
                _draw_panel(grid, panel, axes)
                _set_title(axes, panel)
                axes.label_outer()
            lowest = row_number == len(rows) - 1
            _hide(places[len(row) :], places[len(row) - columns : -columns] if lowest else [])
        _add_legend(curves_figure, grid)
    return curves_figure


def pictures(grid: Grid) -> Panels:
    """Returns the panels as small pictures, so that narrow screens can stack them."""
    return plot.pictures(
        "curve",
        [
            (
                subset_title(row[0].subset),
                [
                    Plot(panel.caption, _alt_text(grid, panel), partial(_draw_panel, grid, panel))
                    for panel in row
                ],
            )
            for row in layout(grid)
        ],
    )


def curve_figure(cells: Sequence[Cell], title: str) -> Figure:
    """Returns a figure of pass@k of one trial with its band: one line for each subset, with exact
    values dotted."""
    subsets, other_looks = subsets_of(cells), cycle(OTHER_LOOKS)
    subset_looks = {
        subset: SUBSET_LOOKS.get(subset) or next(other_looks) for subset in subsets[:MAX_SUBSETS]
    }
    with matplotlib.rc_context(STYLE):
        trial_figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = trial_figure.subplots()
        ks = set()
        for subset, (colour, marker) in subset_looks.items():
            for cell in [cell for cell in cells if cell.subset == subset]:
                points = {k: estimate(cell.pass_at, k) for k in cell.pass_at}
                ks |= set(points)
                draw_line(axes, points, {"color": colour, "marker": marker})
                _draw_exact(axes, [cell], colour)
        _set_axes(axes, sorted(ks))
        axes.set_title(title, parse_math=False, wrap=True)
        if subset_looks:
            _name_subsets(axes, subset_looks, len(subsets))
    return trial_figure


def _name_subsets(axes: Axes, subset_looks: Mapping[str, tuple[str, str]], known: int) -> None:
    """Adds a legend of the subsets. Their names are user data: not parsed as mathematics, and
    shortened."""
    handles = [
        Line2D([], [], color=colour, marker=marker) for colour, marker in subset_looks.values()
    ]
    legend = axes.legend(handles, [" "] * len(subset_looks), loc="best", frameon=False)
    for text, subset in zip(legend.get_texts(), subset_looks, strict=True):
        text.set_parse_math(False)
        text.set_text(shortened(subset_title(subset)))
    if len(subset_looks) < known:
        legend.set_title(f"the first {len(subset_looks)} of {known} subsets")


def _set_title(axes: Axes, panel: Panel) -> None:
    name = f"{shortened(subset_title(panel.subset))}, {panel.caption}"
    axes.set_title(textwrap.fill(name, 36, break_on_hyphens=False), parse_math=False)


def _hide(unused: Iterable[Axes], above: Iterable[Axes]) -> None:
    """Hides unused panels; the panels above them then show the labels of k."""
    for axes in unused:
        axes.set_visible(False)
    for axes in above:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(K_LABEL)


def _add_legend(figure: Figure, grid: Grid) -> None:
    handles = lines.handles(looks(grid))
    if any(cell.exact_pass_at for cell in grid.cells):
        handles.append(Line2D([], [], color="#555555", ls=":", lw=0.9, label="exact"))
    if shown_cells(grid):
        handles.append(Line2D([], [], color="#555555", ls="-.", lw=0.9, label="guess baseline"))
    if not handles:
        return
    longest = max(len(str(handle.get_label())) for handle in handles)
    across = max(int(figure.get_figwidth() / (0.6 + 0.066 * longest)), 1)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(across, len(handles)),
        frameon=False,
    )


def _alt_text(grid: Grid, panel: Panel) -> str:
    """Returns the text alternative of a panel."""
    parts = []
    for setting, look in panel.lines:
        values_by_k = {
            k: grid.pass_at(setting, panel.temperature, panel.subset, k) for k in grid.ends
        }
        values = [f"{value.value:.2f} at k={k}" for k, value in values_by_k.items() if value]
        parts += [f"{look['label']} {', '.join(values)}"] if values else []
    place = f"{subset_title(panel.subset)}, {panel.caption}"
    return f"pass@k against k on {place}. {'; '.join(parts) or 'No valid result'}."


def _draw_panel(grid: Grid, panel: Panel, axes: Axes) -> None:
    """Draws base and settings: the mean over seeds with its bands, and each seed as a faint
    line."""
    for setting, look in panel.lines:
        place = (setting, panel.temperature, panel.subset)
        cells = [cell for cell in grid.at(*place) if cell.valid]
        ks = sorted({k for cell in cells for k in cell.pass_at})
        simultaneous = {k: grid.pass_at_simultaneous(*place, k) for k in ks}
        draw_line(axes, {k: grid.pass_at(*place, k) for k in ks}, look, simultaneous)
        for cell in cells if len(cells) > 1 else []:
            values = {k: value.value for k in ks if (value := estimate(cell.pass_at, k))}
            axes.plot(list(values), list(values.values()), color=look["color"], lw=0.5, alpha=0.5)
        _draw_exact(axes, cells, look["color"])
        _draw_guess(axes, cells, look["color"])
    _set_axes(axes, grid.ks)


def _draw_exact(axes: Axes, cells: Sequence[Cell], colour: Any) -> None:
    exact: dict[int, list[float]] = {}
    for cell in cells:
        for k, value in cell.exact_pass_at.items():
            exact.setdefault(k, []).append(value)
    means = {k: float(np.mean(values)) for k, values in sorted(exact.items())}
    axes.plot(list(means), list(means.values()), color=colour, linestyle=":", linewidth=0.9)


def _draw_guess(axes: Axes, cells: Sequence[Cell], colour: Any) -> None:
    """Draws the mean guess baseline of the cells, if it matters at the largest k."""
    baselines = [cell.guess.pass_at for cell in cells if cell.guess]
    if not baselines:
        return
    ks = sorted(set.intersection(*map(set, baselines)))
    means = [float(np.mean([baseline[k].value for baseline in baselines])) for k in ks]
    if means and means[-1] >= SHOWN_FROM:
        axes.plot(ks, means, color=colour, linestyle="-.", linewidth=0.9)


def _set_axes(axes: Axes, ks: Sequence[int]) -> None:
    lines.set_k_axis(axes, ks)
    axes.set(ylabel="pass@k", ylim=(-0.03, 1.03))


SECTION = Section("pass@k", content)
