"""A plot: one small picture that stands alone on a page, or beside others in one PNG.

Margins are set in inches instead of found by a layout engine: that draws a page of many pictures
in half the time, and gives axes of equal size.
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

PER_LETTER = 0.068  # inches, at the size of the labels
MOST_COLUMNS = 4
_RIGHT, _TOP, _BOTTOM = 0.18, 0.08, 0.45
_TITLE, _LINE = 0.34, 0.2  # inches of a title of two lines, and of a line of the legend


@dataclass(frozen=True)
class Plot:
    """`draw` fills a pair of axes; `spoken` is what a screen reader says of it.

    `size` is in inches with all margins; `left` of its width are for the labels of the y axis.
    """

    caption: str
    spoken: str
    draw: Callable[[Axes], None]
    size: tuple[float, float] = (3.5, 2.7)
    left: float = 0.6


Rows = Sequence[tuple[str, Sequence[Plot]]]  # each row of plots under its title


def room_for(names: Sequence[str]) -> float:
    """Inches that the longest of these names takes beside an axis."""
    return 0.25 + PER_LETTER * max(map(len, names), default=0)


def pictures(name: str, rows: Rows) -> Panels:
    """Every plot as SVG, so that a phone can stack them; `name` keeps their ids apart."""
    out: Panels = []
    for r, (title, plots) in enumerate(rows):
        drawn = []
        for p, plot in enumerate(plots):
            made = Figure(figsize=plot.size)
            plot.draw(_place(made, plot, 0, 0))
            drawn.append((plot.caption, svg(made, f"{name}-{r}-{p}", plot.spoken)))
        out.append((title, drawn))
    return merged(out)


def sheet(rows: Rows, handles: Sequence[Handle] = ()) -> Figure:
    """Every plot in one figure, its legend below; no row has more than MOST_COLUMNS of them."""
    lines = [
        [(title, plot) for plot in plots[at : at + MOST_COLUMNS]]
        for title, plots in rows
        for at in range(0, len(plots), MOST_COLUMNS)
    ]
    if lines and all(len(line) == 1 for line in lines):
        flat = [line[0] for line in lines]
        lines = [flat[at : at + MOST_COLUMNS] for at in range(0, len(flat), MOST_COLUMNS)]
    wide = max((sum(plot.size[0] for _, plot in line) for line in lines), default=3.5)
    heights = [_TITLE + max(plot.size[1] for _, plot in line) for line in lines]
    across = _legend_columns(wide, handles)
    below = 0.1 + _LINE * math.ceil(len(handles) / across) if handles else 0.0
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(wide, sum(heights) + below))
        down = sum(heights) + below
        for line, height in zip(lines, heights, strict=True):
            down, x = down - height, 0.0
            for title, plot in line:
                plot.draw(_place(made, plot, x, down + height - _TITLE - plot.size[1]))
                name = ", ".join(filter(None, (title, plot.caption)))
                _entitle(made, name, x + 0.1, down + height - _TITLE, plot.size[0])
                x += plot.size[0]
        if handles:
            made.legend(handles=list(handles), loc="lower center", ncols=across, frameon=False)
    return made


def _legend_columns(wide: float, handles: Sequence[Handle]) -> int:
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    fits = int(wide / (0.6 + PER_LETTER * longest))
    return max(min(fits, len(handles)), 1)


def _place(figure: Figure, plot: Plot, x: float, y: float) -> Axes:
    """The axes of a plot whose lower left corner lies at `x`, `y` inches of the figure."""
    wide, high = figure.get_size_inches()
    across, up = plot.size[0] - plot.left - _RIGHT, plot.size[1] - _BOTTOM - _TOP
    place = ((x + plot.left) / wide, (y + _BOTTOM) / high, across / wide, up / high)
    return figure.add_axes(place)


def _entitle(figure: Figure, title: str, x: float, y: float, wide: float) -> None:
    """A title whose lower left corner lies at `x`, `y` inches."""
    letters = int(wide / PER_LETTER) - 4
    text = textwrap.fill(" ".join(title.split()), letters, break_on_hyphens=False, max_lines=2)
    across, up = figure.get_size_inches()
    figure.text(x / across, y / up, text, va="bottom", parse_math=False)
