"""Heat maps of the change to the base over temperatures, all with one colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from forkdiv.core.config.axis_names import title
from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, estimate, shortened, signed, subset_title
from forkdiv.report.panels import drawn_subsets, heat_omitted
from forkdiv.report.section import Content, Html, Plots, Section, note
from forkdiv.report.setting import Setting
from forkdiv.report.svg import STYLE, Panels, hover, merged, svg

DIVERGING = matplotlib.colormaps["RdBu"]  # distinguishable with colour blindness


@dataclass(frozen=True)
class HeatMap:
    """The rows of one heat map from bottom to top: each with name, setting and subset. The columns
    are the temperatures."""

    title: str
    row_title: str
    rows: Sequence[tuple[str, Setting, str]]


def content(summary: Summary, grid: Grid) -> Content:
    return [
        note(
            "Fine-tuned minus base on the same problems: blue is above the base, red is below. A "
            f"star and bold text mark a change whose {grid.percent} interval excludes 0. Each "
            "interval is for one cell; among many cells, a few stars are expected by chance.",
            heat_omitted(grid),
        ),
        Html(partial(_legend, grid)),
        Plots(
            "delta_heatmap",
            partial(pictures, grid),
            partial(figure, grid),
            layout="wide" if is_wide(grid) else "",
        ),
    ]


def _legend(grid: Grid) -> Markup:
    caption = "<figcaption>change to the base</figcaption>"
    return Markup('<figure class="bar">' + caption + "{}</figure>").format(colour_bar(grid))


def layout(grid: Grid) -> list[HeatMap]:
    """Returns one map for each subset, with the settings as rows; for a single setting, one map
    with the subsets as rows."""
    subsets = drawn_subsets(grid)
    if len(grid.settings) == 1:
        (only,) = grid.settings
        rows = [(shortened(subset_title(subset), 24), only, subset) for subset in reversed(subsets)]
        return [HeatMap(only.label, "subset of the problems", rows)]
    row_title = ", ".join(title(axis) for axis in grid.axes)
    return [
        HeatMap(
            subset_title(subset),
            row_title,
            [(", ".join(setting.texts), setting, subset) for setting in grid.settings],
        )
        for subset in subsets
    ]


def figure(grid: Grid) -> Figure:
    """Returns a figure of all heat maps: one row for each map, columns for the smallest and the
    largest k."""
    maps, ks = layout(grid), grid.ends
    rows, columns = max(len(maps), 1), max(len(ks), 1)
    wide, high = _size(grid)
    with matplotlib.rc_context(STYLE):
        size = (max(wide * columns + 0.9, 4.5), high * rows + 0.3)
        all_maps = Figure(figsize=size, layout="constrained")
        panels = all_maps.subplots(rows, columns, squeeze=False)
        for row, heat_map in zip(panels, maps, strict=False):
            for axes, k in zip(row, ks, strict=False):
                _draw(axes, grid, heat_map, k)
                axes.set_title(
                    f"{shortened(heat_map.title)}: pass@{k} against the base", parse_math=False
                )
        if not ks:
            panels[0, 0].text(0.5, 0.5, "no valid result", ha="center")
        colours = all_maps.colorbar(_scale(grid), ax=panels, shrink=0.8, aspect=40)
        colours.set_label("change to the base (* interval excludes 0)")
        colours.outline.set_visible(False)
        colours.ax.grid(False)
    return all_maps


def pictures(grid: Grid) -> Panels:
    """Returns each heat map as a separate picture."""
    out: Panels = []
    for m, heat_map in enumerate(layout(grid)):
        row = []
        for k in grid.ends:
            heat_figure = Figure(figsize=_size(grid), layout="constrained")
            _draw(heat_figure.subplots(), grid, heat_map, k)
            row.append(
                (
                    f"change in pass@{k}",
                    svg(heat_figure, f"heat-{m}-{k}", _alt_text(grid, heat_map, k)),
                )
            )
        out.append((heat_map.title, row))
    return merged(out)


def is_wide(grid: Grid) -> bool:
    """Returns whether the pictures are too wide for three in a row."""
    return _size(grid)[0] > 3.5


def colour_bar(grid: Grid) -> Markup:
    bar_figure = Figure(figsize=(3.4, 0.72), layout="constrained")
    bar = bar_figure.colorbar(_scale(grid), cax=bar_figure.subplots(), orientation="horizontal")
    bar.set_label("change in pass@k")
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    return svg(bar_figure, "colours", "Colour scale: red below the base, white equal, blue above")


def _size(grid: Grid) -> tuple[float, float]:
    """Returns width and height of one heat map in inches."""
    rows = [row for heat_map in layout(grid)[:1] for row in heat_map.rows]
    names = max((len(name) for name, _, _ in rows), default=0)
    wide = max(0.62 * len(grid.temperatures) + 0.9 + 0.07 * max(names - 4, 0), 3.4)
    return wide, max(0.32 * len(rows) + 0.9, 1.7)


def _scale(grid: Grid) -> ScalarMappable:
    """Returns one scale for all panels, centred at 0 and not so narrow that noise looks large."""
    changes = [
        abs(change.value)
        for cell in grid.cells
        for k in grid.ends
        if (change := estimate(cell.delta_to_base, k))
    ]
    limit = max([0.1, *changes])
    return ScalarMappable(Normalize(-limit, limit), DIVERGING)


def _draw(axes: Axes, grid: Grid, heat_map: HeatMap, k: int) -> None:
    scale = _scale(grid)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for y, (name, setting, subset) in enumerate(heat_map.rows):
        for x, temperature in enumerate(grid.temperatures):
            change = grid.change(setting, temperature, subset, k)
            face = scale.to_rgba(np.array([change.value]))[0] if change else (0.93, 0.93, 0.93, 1.0)
            red, green, blue = (float(part) for part in face[:3])
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            box = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, ec="white")
            axes.add_patch(box)
            axes.text(
                x,
                y,
                f"{signed(change.value, 2)}{'*' if change.direction else ''}" if change else "none",
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontweight="bold" if change and change.direction else "normal",
            )
            if change:
                text = "{} ({})".format(*change.parts(3))
                hover(axes, x, y, f"{name}, temperature {temperature:g}: {text}")
    columns, row_count = len(grid.temperatures), len(heat_map.rows)
    axes.set(xlabel="temperature", ylabel=heat_map.row_title)
    axes.set(xlim=(-0.5, max(columns, 1) - 0.5), ylim=(-0.5, max(row_count, 1) - 0.5))
    axes.set_xticks(range(columns), [f"{each:g}" for each in grid.temperatures])
    axes.set_yticks(range(row_count), [name for name, _, _ in heat_map.rows], parse_math=False)
    axes.tick_params(length=0)
    for y in _group_starts([setting for _, setting, _ in heat_map.rows]):
        axes.axhline(y - 0.5, color="#222222", linewidth=0.8)


def _group_starts(settings: Sequence[Setting]) -> list[int]:
    """Returns the rows at which the first of several axes has a new value."""
    return [
        at
        for at, (previous, current) in enumerate(pairwise(settings), 1)
        if len(current.axes) > 1 and previous.values[0] != current.values[0]
    ]


def _alt_text(grid: Grid, heat_map: HeatMap, k: int) -> str:
    """Returns the text alternative of a heat map."""
    parts = [
        f"{name} at temperature {temperature:g}: {signed(change.value, 2)}"
        for name, setting, subset in heat_map.rows
        for temperature in grid.temperatures
        if (change := grid.change(setting, temperature, subset, k))
    ]
    rows = f", rows by {heat_map.row_title}" if heat_map.row_title else ""
    title_text = f"Change of pass@{k} to the base, {heat_map.title}{rows}"
    return f"{title_text}. {'; '.join(parts) or 'No valid result'}."


SECTION = Section("Change to the base", content)
