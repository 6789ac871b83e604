"""The figures of a study: as matplotlib figures, and as SVG for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from forkdiv.core.results import Summary
from forkdiv.report import curves, distinct, dynamics, forks, heatmap, lines, shrinkage
from forkdiv.report.curves import curve_figure
from forkdiv.report.dynamics import Dynamics
from forkdiv.report.forks import Forks
from forkdiv.report.grid import Grid
from forkdiv.report.panels import curves_omitted, heat_omitted, looks
from forkdiv.report.plot import Handle, Rows, pictures, sheet
from forkdiv.report.svg import STYLE

__all__ = ["STYLE", "curve_figure", "figures", "page_pictures"]


@dataclass(frozen=True)
class Sheet:
    """Plots of one section, on the page and in one PNG, with the legend of the PNG."""

    rows: Rows
    handles: Sequence[Handle] = ()


def figures(summary: Summary) -> dict[str, Figure]:
    """Returns the figures of a study by name: `pass_at_k` and `delta_heatmap`, and `shrinkage`,
    `dynamics`, `forks`, `where_lost` and `distinct` if the summary has their data."""
    grid = Grid.of(summary)
    by_name = {"pass_at_k": curves.figure(grid), "delta_heatmap": heatmap.figure(grid)}
    return by_name | {
        name: sheet(plots.rows, plots.handles) for name, plots in _sheets(summary, grid)
    }


def page_pictures(summary: Summary, grid: Grid) -> dict[str, Any]:
    """Returns the pictures of the page: SVG panels by section, their legends, and sentences about
    omitted results. Sections without data have no entry."""
    with matplotlib.rc_context(STYLE):
        pictures_by_name: dict[str, Any] = {
            "curves": curves.pictures(grid),
            "curves_without": curves_omitted(grid),
            "legend": lines.legend("legend", looks(grid)),
            "heat": heatmap.pictures(grid),
            "heat_without": heat_omitted(grid),
            "heat_is_wide": heatmap.is_wide(grid),
            "bar": heatmap.colour_bar(grid),
        }
        for name, plots in _sheets(summary, grid):
            pictures_by_name[name] = pictures(name, plots.rows)
            if name in ("dynamics", "distinct"):
                pictures_by_name[f"{name}_legend"] = lines.legend(f"{name}-legend", looks(grid))
        if "where_lost" in pictures_by_name:
            pictures_by_name["where_lost_legend"] = forks.loss_legend()
    return pictures_by_name


def _sheets(summary: Summary, grid: Grid) -> list[tuple[str, Sheet]]:
    """Returns the sections after curves and heat map, in the order of the page."""
    by_line = lines.handles(looks(grid))
    sheets = {"shrinkage": Sheet(shrinkage.plots(grid))}
    if training := Dynamics.of(summary, grid):
        sheets["dynamics"] = Sheet(dynamics.plots(training), by_line)
    if at_forks := Forks.of(grid):
        sheets["forks"] = Sheet(forks.plots(at_forks))
        sheets["where_lost"] = Sheet(forks.loss_plots(at_forks), forks.loss_handles())
    sheets["distinct"] = Sheet(distinct.plots(grid), by_line)
    return [
        (name, entry) for name, entry in sheets.items() if any(plots for _, plots in entry.rows)
    ]
