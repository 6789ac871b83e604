"""Selects the settings, temperatures and subsets to draw, and assigns them to panels.

Up to MAX_LINES settings share one panel for each temperature. More settings along one axis are
thinned, keeping both ends; along several axes there is one panel for each value of the other axes,
at the temperature nearest 1. The heat map and the table contain all settings.
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

MAX_LINES = 6
MAX_SUBSETS = 8
MAX_TEMPERATURES = 6
MARKERS = "os^DvPX*<>hp"
BASE_LOOK: Look = {"color": "#222222", "linestyle": "--", "marker": "x", "label": "base"}


@dataclass(frozen=True)
class Panel:
    """One pair of axes with the base (None) and some settings, each with its look."""

    caption: str
    subset: str
    temperature: float
    lines: Sequence[tuple[Setting | None, Look]]


def layout(grid: Grid) -> list[list[Panel]]:
    """Returns the panels of curves, one row for each subset."""
    if not grid.temperatures:
        return []
    row = _spread_row if _is_spread(grid) else _plain_row
    return [row(grid, subset) for subset in drawn_subsets(grid)]


def near_rows(grid: Grid) -> list[list[Panel]]:
    """Returns the panels of the layout at the temperature nearest 1."""
    temperature = nearest_1(grid.temperatures) if grid.temperatures else 1.0
    return [[panel for panel in row if panel.temperature == temperature] for row in layout(grid)]


def drawn_subsets(grid: Grid) -> Sequence[str]:
    """Returns the first subsets: a dataset may have too many to draw."""
    return grid.subsets[:MAX_SUBSETS]


def looks(grid: Grid) -> list[Look]:
    """Returns the distinct looks of all lines, the base first."""
    lines = [line for row in layout(grid) for panel in row for line in panel.lines]
    return list({look["label"]: look for _, look in lines}.values())


def curves_omitted(grid: Grid) -> str:
    """Returns a sentence about results without a curve; empty if all have one."""
    drawn = {setting for row in layout(grid) for panel in row for setting, _ in panel.lines}
    shown = len(drawn - {None})
    parts = [f"{shown} of {len(grid.settings)} settings"] if shown < len(grid.settings) else []
    if _is_spread(grid) and len(grid.temperatures) > 1:
        temperature = nearest_1(grid.temperatures)
        parts.append(f"temperature {temperature:g}, of {len(grid.temperatures)} temperatures")
    elif len(grid.temperatures) > MAX_TEMPERATURES:
        parts.append(f"{MAX_TEMPERATURES} of {len(grid.temperatures)} temperatures")
    return _omitted_sentence([*parts, *_subsets_omitted(grid)])


def drawn_temperature(grid: Grid) -> str:
    """Returns a sentence with the temperature that is drawn; empty if there is only one."""
    if len(grid.temperatures) < 2:
        return ""
    return f"Drawn at temperature {nearest_1(grid.temperatures):g}."


def heat_omitted(grid: Grid) -> str:
    """Returns a sentence about results without a heat map; empty if all have one."""
    return _omitted_sentence(_subsets_omitted(grid))


def _subsets_omitted(grid: Grid) -> list[str]:
    shown, all_of_them = len(drawn_subsets(grid)), len(grid.subsets)
    return [f"the first {shown} of {all_of_them} subsets"] if shown < all_of_them else []


def _omitted_sentence(parts: Sequence[str]) -> str:
    return f"Drawn here: {'; '.join(parts)}. The table below has all." if parts else ""


def _is_spread(grid: Grid) -> bool:
    """Returns whether the settings are drawn in several panels of one temperature."""
    return len(grid.axes) > 1 and len(grid.settings) > MAX_LINES


def _plain_row(grid: Grid, subset: str) -> list[Panel]:
    settings = thinned(grid.settings, MAX_LINES)
    lines = [(None, BASE_LOOK), *zip(settings, _line_looks(settings), strict=True)]
    return [
        Panel(f"temperature {temperature:g}", subset, temperature, lines)
        for temperature in _drawn_temperatures(grid)
    ]


def _drawn_temperatures(grid: Grid) -> list[float]:
    """Returns at most MAX_TEMPERATURES: a search may draw one for each trial. The temperature
    nearest 1, which other sections show, is among them."""
    nearest = nearest_1(grid.temperatures)
    others = [temperature for temperature in grid.temperatures if temperature != nearest]
    return sorted([nearest, *thinned(others, MAX_TEMPERATURES - 1)])


def _spread_row(grid: Grid, subset: str) -> list[Panel]:
    values = {
        axis: sorted({setting.along([axis]) for setting in grid.settings}) for axis in grid.axes
    }
    # lines run along the longest axis that one panel can hold
    along = max(grid.axes, key=lambda axis: len(values[axis]) * (len(values[axis]) <= MAX_LINES))
    line_values, other_axes = (
        thinned(values[along], MAX_LINES),
        [axis for axis in grid.axes if axis != along],
    )
    # a value has the same look in every panel
    look_of = dict(zip(line_values, _line_looks(line_values), strict=True))
    temperature = nearest_1(grid.temperatures)
    row = []
    for group in sorted({setting.along(other_axes) for setting in grid.settings}):
        group_settings = [
            setting for setting in grid.settings if setting.along(other_axes) == group
        ]
        lines = [
            (setting, look_of[setting.along([along])])
            for setting in group_settings
            if setting.along([along]) in line_values
        ]
        caption = f"{group.label}, temperature {temperature:g}"
        row.append(Panel(caption, subset, temperature, [(None, BASE_LOOK), *lines]))
    return row


def _line_looks(items: Sequence[Setting]) -> list[Look]:
    # without the light end of the colour map, which is not readable on white
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(items)))
    return [
        {"color": colour, "marker": MARKERS[at % len(MARKERS)], "label": item.label}
        for at, (item, colour) in enumerate(zip(items, colours, strict=True))
    ]
