"""Which settings, temperatures and subsets are drawn, and in which panel.

Up to MOST_LINES settings share one panel per temperature. More of them along one axis are
thinned, its ends kept; along several axes they are spread over panels, one per value of the
other axes, at the temperature nearest 1. What is left out is in the heat map and the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np

from forkdiv.report.grid import Grid, nearest_1, thinned
from forkdiv.report.setting import Setting

Look = dict[str, Any]  # colour, marker and label, as matplotlib takes them

MOST_LINES = 6
MOST_SUBSETS = 8
MARKERS = "os^DvPX*<>hp"
BASE_LOOK: Look = {"color": "#222222", "linestyle": "--", "marker": "x", "label": "base"}


@dataclass(frozen=True)
class Panel:
    """One pair of axes: the base (None) and some settings, each with its look."""

    caption: str
    subset: str
    temperature: float
    lines: Sequence[tuple[Setting | None, Look]]


def layout(grid: Grid) -> list[list[Panel]]:
    """The panels of curves, one row per subset."""
    if not grid.temperatures:
        return []
    row = _spread_row if _is_spread(grid) else _plain_row
    return [row(grid, subset) for subset in drawn_subsets(grid)]


def near_rows(grid: Grid) -> list[list[Panel]]:
    """Of the layout, the panels at the temperature nearest 1."""
    near = nearest_1(grid.temperatures) if grid.temperatures else 1.0
    return [[panel for panel in row if panel.temperature == near] for row in layout(grid)]


def drawn_subsets(grid: Grid) -> Sequence[str]:
    """The first ones: a data set may have more than anyone looks at."""
    return grid.subsets[:MOST_SUBSETS]


def looks(grid: Grid) -> list[Look]:
    """The look of every line, each once, the base first."""
    lines = [line for row in layout(grid) for panel in row for line in panel.lines]
    return list({look["label"]: look for _, look in lines}.values())


def left_out_of_curves(grid: Grid) -> str:
    """What has no curve, in a sentence; empty where all have one."""
    drawn = {setting for row in layout(grid) for panel in row for setting, _ in panel.lines}
    shown = len(drawn - {None})
    said = [f"{shown} of {len(grid.settings)} settings"] if shown < len(grid.settings) else []
    if _is_spread(grid) and len(grid.temperatures) > 1:
        near = nearest_1(grid.temperatures)
        said.append(f"temperature {near:g}, of {len(grid.temperatures)} temperatures")
    return _only([*said, *_subsets_said(grid)])


def only_near(grid: Grid) -> str:
    """That one temperature is drawn, in a sentence; empty where there is no other."""
    if len(grid.temperatures) < 2:
        return ""
    return f"Drawn at temperature {nearest_1(grid.temperatures):g}."


def left_out_of_heat(grid: Grid) -> str:
    """What the heat maps leave out, in a sentence; empty where they hold all."""
    return _only(_subsets_said(grid))


def _subsets_said(grid: Grid) -> list[str]:
    shown, all_of_them = len(drawn_subsets(grid)), len(grid.subsets)
    return [f"the first {shown} of {all_of_them} subsets"] if shown < all_of_them else []


def _only(said: Sequence[str]) -> str:
    return f"Drawn here: {'; '.join(said)}. The table below has all." if said else ""


def _is_spread(grid: Grid) -> bool:
    """Whether the settings are spread over several panels of one temperature."""
    return len(grid.axes) > 1 and len(grid.settings) > MOST_LINES


def _plain_row(grid: Grid, subset: str) -> list[Panel]:
    kept = thinned(grid.settings, MOST_LINES)
    lines = [(None, BASE_LOOK), *zip(kept, _line_looks(kept), strict=True)]
    return [
        Panel(f"temperature {temperature:g}", subset, temperature, lines)
        for temperature in grid.temperatures
    ]


def _spread_row(grid: Grid, subset: str) -> list[Panel]:
    values = {axis: sorted({one.along([axis]) for one in grid.settings}) for axis in grid.axes}
    # lines run along the longest axis that one panel can hold
    along = max(grid.axes, key=lambda axis: len(values[axis]) * (len(values[axis]) <= MOST_LINES))
    kept, others = thinned(values[along], MOST_LINES), [axis for axis in grid.axes if axis != along]
    # a look belongs to the value, so that it is the same in every panel
    look_of = dict(zip(kept, _line_looks(kept), strict=True))
    near = nearest_1(grid.temperatures)
    row = []
    for group in sorted({one.along(others) for one in grid.settings}):
        mine = [one for one in grid.settings if one.along(others) == group]
        lines = [(one, look_of[one.along([along])]) for one in mine if one.along([along]) in kept]
        caption = f"{group.label}, temperature {near:g}"
        row.append(Panel(caption, subset, near, [(None, BASE_LOOK), *lines]))
    return row


def _line_looks(named: Sequence[Setting]) -> list[Look]:
    # the pale end of the map is left out: it cannot be read on white
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(named)))
    return [
        {"color": colour, "marker": MARKERS[at % len(MARKERS)], "label": one.label}
        for at, (one, colour) in enumerate(zip(named, colours, strict=True))
    ]
