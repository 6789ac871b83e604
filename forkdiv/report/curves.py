"""pass@k against k, with bands: of a study, and of one trial."""

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
from forkdiv.report.grid import Grid, cut, estimate, subset_title, subsets_of
from forkdiv.report.lines import K_LABEL, draw_line
from forkdiv.report.panels import MOST_SUBSETS, Panel, layout, left_out_of_curves, looks
from forkdiv.report.plot import Plot
from forkdiv.report.section import Content, Legend, Plots, Section, note
from forkdiv.report.svg import STYLE, Panels

MOST_COLUMNS = 6
SUBSET_LOOKS = {"all": ("#222222", "o"), "signed": ("#0072B2", "s"), "unsigned": ("#D55E00", "^")}
OTHER_LOOKS = [
    *(("#0072B2", "s"), ("#D55E00", "^"), ("#009E73", "D"), ("#CC79A7", "v")),
    *(("#8F6A00", "P"), ("#56B4E9", "X"), ("#777777", "*")),
]


def content(summary: Summary, grid: Grid) -> Content:
    has_exact = any(cell.exact_pass_at for cell in grid.cells)
    over_seeds = (
        f"Lines are means over {len(grid.seeds)} seeds, faint lines each seed; bands add the "
        "spread of the seeds (Student's t) to the interval of one seed."
    )
    return [
        Legend(
            partial(lines.legend, "legend", looks(grid)),
            dotted="exact, from the model's probabilities" if has_exact else "",
        ),
        note(
            f"Bands are {grid.percent} intervals: the darker at each k alone, the lighter, where "
            "there is one, for all k of its line at once. A claim about a whole line (“below the "
            "base from k=8 on”) needs the lighter.",
            over_seeds if len(grid.seeds) > 1 else "",
            left_out_of_curves(grid),
        ),
        Plots("pass_at_k", partial(pictures, grid), partial(figure, grid)),
    ]


def figure(grid: Grid) -> Figure:
    """Every panel in one figure, its legend below."""
    rows = layout(grid)
    if all(len(row) == 1 for row in rows):
        rows = [[panel for row in rows for panel in row]]
    each = max(len(rows[0]) if rows else 0, 1)
    long = math.ceil(each / MOST_COLUMNS)  # a long row goes on below
    columns, down = math.ceil(each / long), long * max(len(rows), 1)
    size = (max(2.6 * columns + 0.4, 4.5), 2.3 * down + 0.7)
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=size, layout="constrained")
        panels = made.subplots(down, columns, sharex=True, sharey=True, squeeze=False)
        for at, row in enumerate(rows):
            places = panels[at * long : (at + 1) * long].flatten()
            for axes, panel in zip(places, row, strict=False):
                _draw_panel(grid, panel, axes)
                _entitle(axes, panel)
                axes.label_outer()
            lowest = at == len(rows) - 1
            _hide(places[len(row) :], places[len(row) - columns : -columns] if lowest else [])
        _add_legend(made, grid)
    return made


def pictures(grid: Grid) -> Panels:
    """The panels as small pictures, so that a phone can stack them."""
    return plot.pictures(
        "curve",
        [
            (
                subset_title(row[0].subset),
                [
                    Plot(one.caption, _spoken(grid, one), partial(_draw_panel, grid, one))
                    for one in row
                ],
            )
            for row in layout(grid)
        ],
    )


def curve_figure(cells: Sequence[Cell], title: str) -> Figure:
    """pass@k of one trial with its band, one line per subset; exact values dotted."""
    subsets, others = subsets_of(cells), cycle(OTHER_LOOKS)
    drawn = {one: SUBSET_LOOKS.get(one) or next(others) for one in subsets[:MOST_SUBSETS]}
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = made.subplots()
        ks = set()
        for subset, (colour, marker) in drawn.items():
            for cell in [cell for cell in cells if cell.subset == subset]:
                points = {k: estimate(cell.pass_at, k) for k in cell.pass_at}
                ks |= set(points)
                draw_line(axes, points, {"color": colour, "marker": marker})
                _draw_exact(axes, [cell], colour)
        _dress(axes, sorted(ks))
        axes.set_title(title, parse_math=False, wrap=True)
        if drawn:
            _name_subsets(axes, drawn, len(subsets))
    return made


def _name_subsets(axes: Axes, drawn: Mapping[str, tuple[str, str]], known: int) -> None:
    """A legend of the subsets, whose names may be anything: no mathematics, nothing too long."""
    handles = [Line2D([], [], color=colour, marker=marker) for colour, marker in drawn.values()]
    made = axes.legend(handles, [" "] * len(drawn), loc="best", frameon=False)
    for text, subset in zip(made.get_texts(), drawn, strict=True):
        text.set_parse_math(False)
        text.set_text(cut(subset_title(subset)))
    if len(drawn) < known:
        made.set_title(f"the first {len(drawn)} of {known} subsets")


def _entitle(axes: Axes, panel: Panel) -> None:
    name = f"{cut(subset_title(panel.subset))}, {panel.caption}"
    axes.set_title(textwrap.fill(name, 36, break_on_hyphens=False), parse_math=False)


def _hide(unused: Iterable[Axes], above: Iterable[Axes]) -> None:
    """Panels that a line does not need; those above them then tell the k."""
    for axes in unused:
        axes.set_visible(False)
    for axes in above:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(K_LABEL)


def _add_legend(figure: Figure, grid: Grid) -> None:
    handles = lines.handles(looks(grid))
    if any(cell.exact_pass_at for cell in grid.cells):
        handles.append(Line2D([], [], color="#555555", ls=":", lw=0.9, label="exact"))
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


def _spoken(grid: Grid, panel: Panel) -> str:
    """What a screen reader says of a panel."""
    said = []
    for setting, look in panel.lines:
        found = {k: grid.pass_at(setting, panel.temperature, panel.subset, k) for k in grid.ends}
        values = [f"{one.value:.2f} at k={k}" for k, one in found.items() if one]
        said += [f"{look['label']} {', '.join(values)}"] if values else []
    where = f"{subset_title(panel.subset)}, {panel.caption}"
    return f"pass@k against k on {where}. {'; '.join(said) or 'No valid result'}."


def _draw_panel(grid: Grid, panel: Panel, axes: Axes) -> None:
    """Base and settings, mean over seeds with its bands, each seed faint."""
    for setting, look in panel.lines:
        place = (setting, panel.temperature, panel.subset)
        cells = [cell for cell in grid.at(*place) if cell.valid]
        ks = sorted({k for cell in cells for k in cell.pass_at})
        at_once = {k: grid.pass_at_once(*place, k) for k in ks}
        draw_line(axes, {k: grid.pass_at(*place, k) for k in ks}, look, at_once)
        for cell in cells if len(cells) > 1 else []:
            each = {k: one.value for k in ks if (one := estimate(cell.pass_at, k))}
            axes.plot(list(each), list(each.values()), color=look["color"], lw=0.5, alpha=0.5)
        _draw_exact(axes, cells, look["color"])
    _dress(axes, grid.ks)


def _draw_exact(axes: Axes, cells: Sequence[Cell], colour: Any) -> None:
    exact: dict[int, list[float]] = {}
    for cell in cells:
        for k, value in cell.exact_pass_at.items():
            exact.setdefault(k, []).append(value)
    means = {k: float(np.mean(values)) for k, values in sorted(exact.items())}
    axes.plot(list(means), list(means.values()), color=colour, linestyle=":", linewidth=0.9)


def _dress(axes: Axes, ks: Sequence[int]) -> None:
    lines.dress_k(axes, ks)
    axes.set(ylabel="pass@k", ylim=(-0.03, 1.03))


SECTION = Section("pass@k", content)
