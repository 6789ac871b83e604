"""Plots: small pictures, each separate on a page, and together in one PNG.

Margins are fixed in inches instead of computed by a layout engine: this halves the drawing time of
a page with many pictures, and gives axes of equal size.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from forkdiv.report.svg import STYLE, Panels, merged, svg

Handle = Line2D | Patch

INCHES_PER_LETTER = 0.068  # inches, at the size of the labels
MAX_COLUMNS = 4
_RIGHT, _TOP, _BOTTOM = 0.18, 0.08, 0.45
_TITLE, _LINE = 0.34, 0.2  # inches of a title of two lines, and of a line of the legend


@dataclass(frozen=True)
class Plot:
    """`draw` fills a pair of axes; `alt_text` is the text alternative for screen readers.

    `size` is in inches including margins; `left` is the width reserved for the y axis labels.
    """

    caption: str
    alt_text: str
    draw: Callable[[Axes], None]
    size: tuple[float, float] = (3.5, 2.7)
    left: float = 0.6


Rows = Sequence[tuple[str, Sequence[Plot]]]  # each row of plots under its title


def room_for(names: Sequence[str]) -> float:
    """Returns the width in inches that the longest name needs beside an axis."""
    return 0.25 + INCHES_PER_LETTER * max(map(len, names), default=0)


def pictures(name: str, rows: Rows) -> Panels:
    """Returns every plot as SVG, so that narrow screens can stack them; `name` is a prefix that
    makes ids unique."""
    out: Panels = []
    for r, (title, plots) in enumerate(rows):
        row_pictures = []
        for p, plot in enumerate(plots):
            plot_figure = Figure(figsize=plot.size)
            plot.draw(_add_axes(plot_figure, plot, 0, 0))
            row_pictures.append((plot.caption, svg(plot_figure, f"{name}-{r}-{p}", plot.alt_text)))
        out.append((title, row_pictures))
    return merged(out)


def sheet(rows: Rows, handles: Sequence[Handle] = ()) -> Figure:
    """Returns one figure with all plots and a legend below; at most MAX_COLUMNS plots in a row."""
    lines = [
        [(title, plot) for plot in plots[at : at + MAX_COLUMNS]]
        for title, plots in rows
        for at in range(0, len(plots), MAX_COLUMNS)
    ]
    if lines and all(len(line) == 1 for line in lines):
        flat = [line[0] for line in lines]
        lines = [flat[at : at + MAX_COLUMNS] for at in range(0, len(flat), MAX_COLUMNS)]
    width = max((sum(plot.size[0] for _, plot in line) for line in lines), default=3.5)
    heights = [_TITLE + max(plot.size[1] for _, plot in line) for line in lines]
    legend_columns = _legend_columns(width, handles)
    legend_height = 0.1 + _LINE * math.ceil(len(handles) / legend_columns) if handles else 0.0
    with matplotlib.rc_context(STYLE):
        sheet_figure = Figure(figsize=(width, sum(heights) + legend_height))
        bottom = sum(heights) + legend_height
        for line, height in zip(lines, heights, strict=True):
            bottom, x = bottom - height, 0.0
            for title, plot in line:
                plot.draw(_add_axes(sheet_figure, plot, x, bottom + height - _TITLE - plot.size[1]))
                name = ", ".join(filter(None, (title, plot.caption)))
                _draw_title(sheet_figure, name, x + 0.1, bottom + height - _TITLE, plot.size[0])
                x += plot.size[0]
        if handles:
            sheet_figure.legend(
                handles=list(handles), loc="lower center", ncols=legend_columns, frameon=False
            )
    return sheet_figure


def _legend_columns(wide: float, handles: Sequence[Handle]) -> int:
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    fits = int(wide / (0.6 + INCHES_PER_LETTER * longest))
    return max(min(fits, len(handles)), 1)


def _add_axes(figure: Figure, plot: Plot, x: float, y: float) -> Axes:
    """Adds the axes of a plot with its lower left corner at `x`, `y` in inches."""
    wide, high = figure.get_size_inches()
    across, up = plot.size[0] - plot.left - _RIGHT, plot.size[1] - _BOTTOM - _TOP
    place = ((x + plot.left) / wide, (y + _BOTTOM) / high, across / wide, up / high)
    return figure.add_axes(place)


def _draw_title(figure: Figure, title: str, x: float, y: float, wide: float) -> None:
    """Draws a title with its lower left corner at `x`, `y` in inches."""
    letters = int(wide / INCHES_PER_LETTER) - 4
    text = textwrap.fill(" ".join(title.split()), letters, break_on_hyphens=False, max_lines=2)
    across, up = figure.get_size_inches()
    figure.text(x / across, y / up, text, va="bottom", parse_math=False)
