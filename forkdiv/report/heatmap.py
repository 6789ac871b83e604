"""The change to the base as heat maps over the temperatures, all on one colour scale."""

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

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid, cut, estimate, signed, subset_title
from forkdiv.report.panels import drawn_subsets, left_out_of_heat
from forkdiv.report.section import Content, Html, Plots, Section, note
from forkdiv.report.setting import Setting, title
from forkdiv.report.svg import STYLE, Panels, hover, merged, svg

DIVERGING = matplotlib.colormaps["RdBu"]  # told apart with any colour blindness


@dataclass(frozen=True)
class HeatMap:
    """What one heat map has in its rows, from the lowest up: each with its name, setting and
    subset. Its columns are the temperatures."""

    title: str
    row_title: str
    rows: Sequence[tuple[str, Setting, str]]


def content(summary: Summary, grid: Grid) -> Content:
    return [
        note(
            "Fine-tuned minus base on the same problems: blue is above the base, red below. A star "
            f"and bold print mark a change whose {grid.percent} interval excludes 0. Each interval "
            "stands alone, so among many cells a few stars come by chance.",
            left_out_of_heat(grid),
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
    """One map per subset with the settings as its rows; of one setting, one map of subsets."""
    subsets = drawn_subsets(grid)
    if len(grid.settings) == 1:
        (only,) = grid.settings
        rows = [(cut(subset_title(subset), 24), only, subset) for subset in reversed(subsets)]
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
    """Every heat map in one figure: a row of them per map of the layout, a column per end of k."""
    maps, ks = layout(grid), grid.ends
    rows, columns = max(len(maps), 1), max(len(ks), 1)
    wide, high = _size(grid)
    with matplotlib.rc_context(STYLE):
        size = (max(wide * columns + 0.9, 4.5), high * rows + 0.3)
        made = Figure(figsize=size, layout="constrained")
        panels = made.subplots(rows, columns, squeeze=False)
        for row, one in zip(panels, maps, strict=False):
            for axes, k in zip(row, ks, strict=False):
                _draw(axes, grid, one, k)
                axes.set_title(f"{cut(one.title)}: pass@{k} against the base", parse_math=False)
        if not ks:
            panels[0, 0].text(0.5, 0.5, "no valid result", ha="center")
        colours = made.colorbar(_scale(grid), ax=panels, shrink=0.8, aspect=40)
        colours.set_label("change to the base (* interval excludes 0)")
        colours.outline.set_visible(False)
        colours.ax.grid(False)
    return made


def pictures(grid: Grid) -> Panels:
    """Each heat map as a picture of its own."""
    out: Panels = []
    for m, one in enumerate(layout(grid)):
        row = []
        for k in grid.ends:
            made = Figure(figsize=_size(grid), layout="constrained")
            _draw(made.subplots(), grid, one, k)
            row.append((f"change in pass@{k}", svg(made, f"heat-{m}-{k}", _spoken(grid, one, k))))
        out.append((one.title, row))
    return merged(out)


def is_wide(grid: Grid) -> bool:
    """Whether three pictures do not fit beside each other on a page."""
    return _size(grid)[0] > 3.5


def colour_bar(grid: Grid) -> Markup:
    made = Figure(figsize=(3.4, 0.72), layout="constrained")
    bar = made.colorbar(_scale(grid), cax=made.subplots(), orientation="horizontal")
    bar.set_label("change in pass@k")
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    return svg(made, "colours", "Colour scale: red below the base, white equal, blue above")


def _size(grid: Grid) -> tuple[float, float]:
    """Width and height in inches of one heat map."""
    rows = [row for one in layout(grid)[:1] for row in one.rows]
    names = max((len(name) for name, _, _ in rows), default=0)
    wide = max(0.62 * len(grid.temperatures) + 0.9 + 0.07 * max(names - 4, 0), 3.4)
    return wide, max(0.32 * len(rows) + 0.9, 1.7)


def _scale(grid: Grid) -> ScalarMappable:
    """One scale for every panel, centred at 0; never so narrow that noise looks large."""
    changes = [
        abs(change.value)
        for cell in grid.cells
        for k in grid.ends
        if (change := estimate(cell.delta_to_base, k))
    ]
    limit = max([0.1, *changes])
    return ScalarMappable(Normalize(-limit, limit), DIVERGING)


def _draw(axes: Axes, grid: Grid, one: HeatMap, k: int) -> None:
    scale = _scale(grid)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for y, (name, setting, subset) in enumerate(one.rows):
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
    across, up = len(grid.temperatures), len(one.rows)
    axes.set(xlabel="temperature", ylabel=one.row_title)
    axes.set(xlim=(-0.5, max(across, 1) - 0.5), ylim=(-0.5, max(up, 1) - 0.5))
    axes.set_xticks(range(across), [f"{each:g}" for each in grid.temperatures])
    axes.set_yticks(range(up), [name for name, _, _ in one.rows], parse_math=False)
    axes.tick_params(length=0)
    for y in _group_starts([setting for _, setting, _ in one.rows]):
        axes.axhline(y - 0.5, color="#222222", linewidth=0.8)


def _group_starts(settings: Sequence[Setting]) -> list[int]:
    """Where the first of several axes takes a new value."""
    return [
        at
        for at, (before, here) in enumerate(pairwise(settings), 1)
        if len(here.axes) > 1 and before.values[0] != here.values[0]
    ]


def _spoken(grid: Grid, one: HeatMap, k: int) -> str:
    """What a screen reader says of a heat map."""
    said = [
        f"{name} at temperature {temperature:g}: {signed(change.value, 2)}"
        for name, setting, subset in one.rows
        for temperature in grid.temperatures
        if (change := grid.change(setting, temperature, subset, k))
    ]
    rows = f", rows by {one.row_title}" if one.row_title else ""
    where = f"Change of pass@{k} to the base, {one.title}{rows}"
    return f"{where}. {'; '.join(said) or 'No valid result'}."


SECTION = Section("Change to the base", content)
