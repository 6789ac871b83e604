"""The figures of a study: as matplotlib figures, and as SVG to stand in its page."""

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
from forkdiv.report.panels import left_out_of_curves, left_out_of_heat, looks
from forkdiv.report.plot import Handle, Rows, pictures, sheet
from forkdiv.report.svg import STYLE

__all__ = ["STYLE", "curve_figure", "drawn", "figures"]


@dataclass(frozen=True)
class Sheet:
    """Plots that stand together, on the page and in one PNG, with the legend of the latter."""

    rows: Rows
    handles: Sequence[Handle] = ()


def figures(summary: Summary) -> dict[str, Figure]:
    """The figures of a study by name: `pass_at_k` and `delta_heatmap`, and of `shrinkage`,
    `dynamics`, `forks`, `where_lost` and `distinct` those that the summary knows of."""
    grid = Grid.of(summary)
    made = {"pass_at_k": curves.figure(grid), "delta_heatmap": heatmap.figure(grid)}
    return made | {name: sheet(one.rows, one.handles) for name, one in _sheets(summary, grid)}


def drawn(summary: Summary, grid: Grid) -> dict[str, Any]:
    """What the page shows: SVG panels by section, their legends, and in words what each leaves
    out. A section that the summary knows nothing of has no entry."""
    with matplotlib.rc_context(STYLE):
        made: dict[str, Any] = {
            "curves": curves.pictures(grid),
            "curves_without": left_out_of_curves(grid),
            "legend": lines.legend("legend", looks(grid)),
            "heat": heatmap.pictures(grid),
            "heat_without": left_out_of_heat(grid),
            "heat_is_wide": heatmap.is_wide(grid),
            "bar": heatmap.colour_bar(grid),
        }
        for name, one in _sheets(summary, grid):
            made[name] = pictures(name, one.rows)
            if name in ("dynamics", "distinct"):
                made[f"{name}_legend"] = lines.legend(f"{name}-legend", looks(grid))
        if "where_lost" in made:
            made["where_lost_legend"] = forks.fate_legend()
    return made


def _sheets(summary: Summary, grid: Grid) -> list[tuple[str, Sheet]]:
    """The sections beyond curves and heat map, in the order of the page."""
    by_line = lines.handles(looks(grid))
    made = {"shrinkage": Sheet(shrinkage.plots(grid))}
    if over := Dynamics.of(summary, grid):
        made["dynamics"] = Sheet(dynamics.plots(over), by_line)
    if at_forks := Forks.of(grid):
        made["forks"] = Sheet(forks.plots(at_forks))
        made["where_lost"] = Sheet(forks.fate_plots(at_forks), forks.fate_handles())
    made["distinct"] = Sheet(distinct.plots(grid), by_line)
    return [(name, one) for name, one in made.items() if any(plots for _, plots in one.rows)]
