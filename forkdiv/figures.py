"""The figures of a study: as matplotlib figures, and as SVG to stand in its page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from forkdiv.grid import SUBSET_TITLES, SUBSETS, Cell, Estimate, Grid, estimate, signed

Panels = list[tuple[str, list[tuple[str, Markup]]]]

MARKERS = "os^DvPX*<>hp"
SUBSET_LOOKS = {"all": ("#222222", "o"), "signed": ("#0072B2", "s"), "unsigned": ("#D55E00", "^")}
DIVERGING = matplotlib.colormaps["RdBu"]  # told apart with any colour blindness
STYLE: Any = {  # Any: releases of matplotlib disagree on the type of its keys
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "savefig.dpi": 160,
}


def figures(summary: dict[str, Any]) -> dict[str, Figure]:
    """The figures of a study by name: `pass_at_k` and `delta_heatmap`."""
    grid = Grid.of(summary)
    return {"pass_at_k": _curves(grid), "delta_heatmap": _heatmaps(grid)}


def curve_figure(cells: list[Cell], title: str) -> Figure:
    """pass@k of one trial with its band, one line per subset; exact values dotted."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = figure.subplots()
        ks = set()
        for cell in sorted(cells, key=lambda cell: SUBSETS.index(cell["subset"])):
            colour, marker = SUBSET_LOOKS[cell["subset"]]
            points = {int(k): estimate(cell, "pass_at", int(k)) for k in cell["pass_at"]}
            ks |= set(points)
            label = SUBSET_TITLES[cell["subset"]]
            _draw_line(axes, points, {"color": colour, "marker": marker, "label": label})
            _draw_exact(axes, [cell], colour)
        _dress_curves(axes, sorted(ks))
        axes.set_title(title, parse_math=False, wrap=True)
        if cells:
            axes.legend(loc="best", frameon=False)
    return figure


def pictures(grid: Grid) -> dict[str, Any]:
    """What the page shows, as SVG: panels of `curves` and of `heat`, their `legend` and `bar`."""
    with matplotlib.rc_context(STYLE):
        return {
            "curves": _merged(_curve_panels(grid)),
            "heat": _merged(_heat_panels(grid)),
            "legend": _legend(grid),
            "bar": _colour_bar(grid),
        }


def _looks(grid: Grid) -> dict[float | None, dict[str, Any]]:
    """Colour, marker and label of each density; the base is black and dashed."""
    looks: dict[float | None, dict[str, Any]] = {
        None: {"color": "#222222", "linestyle": "--", "marker": "x", "label": "base"}
    }
    # the pale end of the map is left out: it cannot be read on white
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(grid.densities)))
    for at, (density, colour) in enumerate(zip(grid.densities, colours, strict=True)):
        marker = MARKERS[at % len(MARKERS)]
        looks[density] = {"color": colour, "marker": marker, "label": f"density {density:g}"}
    return looks


def _curves(grid: Grid) -> Figure:
    rows, columns = max(len(grid.subsets), 1), max(len(grid.temperatures), 1)
    with matplotlib.rc_context(STYLE):
        size = (max(2.6 * columns + 0.4, 4.5), 2.3 * rows + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for row, subset in zip(panels, grid.subsets, strict=False):
            for axes, temperature in zip(row, grid.temperatures, strict=False):
                _draw_curves(axes, grid, temperature, subset)
                axes.set_title(f"{SUBSET_TITLES[subset]}, temperature {temperature:g}")
                axes.label_outer()
        handles = [Line2D([], [], **look) for look in _looks(grid).values()]
        if any(cell.get("exact_pass_at") for cell in grid.cells):
            handles.append(Line2D([], [], color="#555555", ls=":", lw=0.9, label="exact"))
        across = min(len(handles), max(int(size[0] / 1.15), 2))
        figure.legend(handles=handles, loc="outside lower center", ncols=across, frameon=False)
    return figure


def _draw_curves(axes: Axes, grid: Grid, temperature: float, subset: str) -> None:
    """One panel: base and every density, mean over seeds with its band, each seed faint."""
    for density, look in _looks(grid).items():
        cells = [cell for cell in grid.at(density, temperature, subset) if cell["valid"]]
        ks = sorted({int(k) for cell in cells for k in cell["pass_at"]})
        points = {k: grid.pass_at(density, temperature, subset, k) for k in ks}
        _draw_line(axes, points, look)
        for cell in cells if len(cells) > 1 else []:
            each = {k: one.value for k in ks if (one := estimate(cell, "pass_at", k))}
            axes.plot(list(each), list(each.values()), color=look["color"], lw=0.5, alpha=0.5)
        _draw_exact(axes, cells, look["color"])
    _dress_curves(axes, grid.ks)


def _draw_line(axes: Axes, points: Mapping[int, Estimate | None], look: dict[str, Any]) -> None:
    known = {k: point for k, point in sorted(points.items()) if point}
    low, high = ([getattr(point, side) for point in known.values()] for side in ("low", "high"))
    if len(known) == 1:  # a band needs two points
        axes.vlines(list(known), low, high, color=look["color"], linewidth=1)
    axes.fill_between(list(known), low, high, color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(list(known), [point.value for point in known.values()], **look)


def _draw_exact(axes: Axes, cells: Sequence[Cell], colour: Any) -> None:
    exact: dict[int, list[float]] = {}
    for cell in cells:
        for k, value in (cell.get("exact_pass_at") or {}).items():
            exact.setdefault(int(k), []).append(value)
    means = {k: float(np.mean(values)) for k, values in sorted(exact.items())}
    axes.plot(list(means), list(means.values()), color=colour, linestyle=":", linewidth=0.9)


def _dress_curves(axes: Axes, ks: Sequence[int]) -> None:
    axes.set(xlabel="k, samples per problem", ylabel="pass@k", ylim=(-0.03, 1.03))
    if not ks:
        axes.set(xticks=[])
        axes.text(0.5, 0.5, "no valid result", ha="center", transform=axes.transAxes)
        return
    axes.set_xscale("log", base=2)
    axes.set_xlim(ks[0] / 1.25, ks[-1] * 1.25)
    shown = list(ks) if len(ks) <= 6 else [*ks[: -1 : math.ceil(len(ks) / 5)], ks[-1]]
    axes.set_xticks(shown, [str(k) for k in shown])
    axes.minorticks_off()


def _heatmaps(grid: Grid) -> Figure:
    ks = grid.ends
    rows, columns = max(len(grid.subsets), 1), max(len(ks), 1)
    wide, high = _heat_size(grid)
    with matplotlib.rc_context(STYLE):
        size = (max(wide * columns + 0.9, 4.5), high * rows + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
        for row, subset in zip(panels, grid.subsets, strict=False):
            for axes, k in zip(row, ks, strict=False):
                _draw_heat(axes, grid, subset, k)
                axes.set_title(f"{SUBSET_TITLES[subset]}: pass@{k} against the base")
        if not ks:
            panels[0, 0].text(0.5, 0.5, "no valid result", ha="center")
        bar = figure.colorbar(_scale(grid), ax=panels, shrink=0.8, aspect=40)
        bar.set_label("change to the base (* interval excludes 0)")
        bar.outline.set_visible(False)
        bar.ax.grid(False)
    return figure


def _heat_size(grid: Grid) -> tuple[float, float]:
    columns, rows = len(grid.temperatures), len(grid.densities)
    return max(0.62 * columns + 0.9, 3.4), max(0.32 * rows + 0.9, 1.7)


def _scale(grid: Grid) -> ScalarMappable:
    """One scale for every panel, centred at 0; never so narrow that noise looks large."""
    changes = [
        abs(change.value)
        for cell in grid.cells
        for k in grid.ends
        if (change := estimate(cell, "delta_to_base", k))
    ]
    limit = max([0.1, *changes])
    return ScalarMappable(Normalize(-limit, limit), DIVERGING)


def _draw_heat(axes: Axes, grid: Grid, subset: str, k: int) -> None:
    scale = _scale(grid)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for y, density in enumerate(grid.densities):
        for x, temperature in enumerate(grid.temperatures):
            change = grid.change(density, temperature, subset, k)
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
    across, up = len(grid.temperatures), len(grid.densities)
    axes.set(xlabel="temperature", ylabel="fork density")
    axes.set(xlim=(-0.5, max(across, 1) - 0.5), ylim=(-0.5, max(up, 1) - 0.5))
    axes.set_xticks(range(across), [f"{one:g}" for one in grid.temperatures])
    axes.set_yticks(range(up), [f"{one:g}" for one in grid.densities])
    axes.tick_params(length=0)


# -- SVG for the page --------------------------------------------------------------------------


def _curve_panels(grid: Grid) -> Panels:
    """Per subset, one small picture per temperature, so that a phone can stack them."""
    out: Panels = []
    for s, subset in enumerate(grid.subsets):
        row = []
        for t, temperature in enumerate(grid.temperatures):
            figure = Figure(figsize=(3.5, 2.7), layout="constrained")
            _draw_curves(figure.subplots(), grid, temperature, subset)
            said = [
                f"{look['label']} {', '.join(values)}"
                for density, look in _looks(grid).items()
                if (values := _spoken(grid, density, temperature, subset))
            ]
            label = (
                f"pass@k against k on {SUBSET_TITLES[subset]} at temperature {temperature:g}. "
                f"{'; '.join(said) or 'No valid result'}."
            )
            row.append((f"temperature {temperature:g}", _svg(figure, f"curve-{s}-{t}", label)))
        out.append((SUBSET_TITLES[subset], row))
    return out


def _merged(panels: Panels) -> Panels:
    """Rows of one picture each become one row."""
    if len(panels) < 2 or any(len(row) != 1 for _, row in panels):
        return panels
    return [(panels[0][1][0][0], [(title, row[0][1]) for title, row in panels])]


def _spoken(grid: Grid, density: float | None, temperature: float, subset: str) -> list[str]:
    found = {k: grid.pass_at(density, temperature, subset, k) for k in grid.ends}
    return [f"{one.value:.2f} at k={k}" for k, one in found.items() if one]


def _heat_panels(grid: Grid) -> Panels:
    out: Panels = []
    for s, subset in enumerate(grid.subsets):
        row = []
        for k in grid.ends:
            figure = Figure(figsize=_heat_size(grid), layout="constrained")
            _draw_heat(figure.subplots(), grid, subset, k)
            said = [
                f"density {density:g} at temperature {temperature:g}: {signed(change.value, 2)}"
                for density in grid.densities
                for temperature in grid.temperatures
                if (change := grid.change(density, temperature, subset, k))
            ]
            label = (
                f"Change of pass@{k} to the base on {SUBSET_TITLES[subset]}. "
                f"{'; '.join(said) or 'No valid result'}."
            )
            row.append((f"change in pass@{k}", _svg(figure, f"heat-{s}-{k}", label)))
        out.append((SUBSET_TITLES[subset], row))
    return out


def _legend(grid: Grid) -> list[tuple[str, Markup]]:
    out = []
    for at, look in enumerate(_looks(grid).values()):
        figure = Figure(figsize=(0.5, 0.2))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **look)
        out.append((look["label"], _svg(figure, f"legend-{at}", "")))
    return out


def _colour_bar(grid: Grid) -> Markup:
    figure = Figure(figsize=(3.4, 0.55), layout="constrained")
    bar = figure.colorbar(_scale(grid), cax=figure.subplots(), orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.grid(False)
    return _svg(figure, "colours", "Colour scale: red below the base, white equal, blue above")


def _svg(figure: Figure, prefix: str, label: str) -> Markup:
    """The figure as SVG to stand in a page beside others: own ids, scaled by its viewBox."""
    buffer = io.StringIO()
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": prefix}
    with matplotlib.rc_context(style):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box, "matplotlib wrote an SVG without a viewBox"
    body = text[text.index(">", box.end()) + 1 :]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)  # would rule the whole page
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    spoken = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    # narrower than its points, the text of a wide figure could not be read: it scrolls instead
    least = f"min-width: {float(box.group(1).split()[2]):.0f}px"
    return Markup(f'<svg viewBox="{box.group(1)}" style="{least}" {spoken}>{body.strip()}')
