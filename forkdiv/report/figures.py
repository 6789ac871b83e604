"""The figures of a study: as matplotlib figures, and as SVG to stand in its page."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.figure import Figure

from forkdiv.report import curves, heatmap
from forkdiv.report.curves import curve_figure
from forkdiv.report.grid import Grid
from forkdiv.report.panels import left_out_of_curves, left_out_of_heat
from forkdiv.report.svg import STYLE

__all__ = ["STYLE", "curve_figure", "figures", "pictures"]


def figures(summary: dict[str, Any]) -> dict[str, Figure]:
    """The figures of a study by name: `pass_at_k` and `delta_heatmap`."""
    grid = Grid.of(summary)
    return {"pass_at_k": curves.figure(grid), "delta_heatmap": heatmap.figure(grid)}


def pictures(grid: Grid) -> dict[str, Any]:
    """What the page shows: SVG panels of `curves` and of `heat`, their `legend` and `bar`, and
    in words what each leaves out."""
    with matplotlib.rc_context(STYLE):
        return {
            "curves": curves.pictures(grid),
            "curves_without": left_out_of_curves(grid),
            "legend": curves.legend(grid),
            "heat": heatmap.pictures(grid),
            "heat_without": left_out_of_heat(grid),
            "heat_is_wide": heatmap.is_wide(grid),
            "bar": heatmap.colour_bar(grid),
        }
