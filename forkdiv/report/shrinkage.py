"""Coverage shrinkage: the change to the base by k, and k*, the k from which it is a loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from markupsafe import Markup
from matplotlib.axes import Axes

from forkdiv.core.results import Cell, Shrinkage, Summary
from forkdiv.report.glance import crossing_text
from forkdiv.report.grid import Grid, as_estimate, nearest_1, signed, subset_title, thinned
from forkdiv.report.lines import draw_line, set_k_axis, without_missing
from forkdiv.report.panels import drawn_subsets, looks
from forkdiv.report.plot import Plot, Rows
from forkdiv.report.section import Content, Plots, Section, TableView, note, paragraph
from forkdiv.report.setting import Setting
from forkdiv.report.tables import Table

MAX_SETTINGS, MAX_PLOTS = 12, 24
COLOUR = "#0072B2"


def content(summary: Summary, grid: Grid) -> Content | None:
    crossings = table(grid)
    if not crossings:
        return None
    seed_note = (
        "With several seeds, the light band is widened for the number of k (Bonferroni), which is "
        "conservative; each seed has its own diamond."
    )
    return [
        paragraph(
            Markup(
                "Fine-tuning often gains at small k and loses at large k. <b>k*</b> is the k at "
                "which gain becomes loss: above it, the base solves more problems with the same "
                "number of samples. A diamond on the zero line marks k*, a thick bar its {} "
                "interval."
            ).format(grid.percent)
        ),
        note(
            f"The change to the base at each k: the dark band is its pointwise {grid.percent} "
            "interval, the light band is simultaneous over all k.",
            seed_note if len(grid.seeds) > 1 else "",
            omitted_sentence(grid),
        ),
        *Plots.of("shrinkage", plots(grid)),
        note(
            "“Resamples with a k*” is the share of bootstrap resamples of the problems in which "
            "gain becomes loss within the measured k; near 100%, the existence of k* is certain. "
            "The limits of the largest loss are simultaneous over all k. A problem is lost if the "
            "base solves it in k tries with a probability above 1/2 and the fine-tuned model does "
            "not, and gained in the opposite case."
        ),
        TableView(crossings, "k*, and the largest loss", "shrinkage"),
    ]


def plots(grid: Grid) -> Rows:
    """Returns one row for each subset and one plot for each setting, at the temperature nearest 1;
    empty if no cell has a shrinkage result."""
    if not any(cell.shrinkage for cell in grid.cells):
        return []
    settings = thinned(grid.settings, MAX_SETTINGS)
    subsets = drawn_subsets(grid)[: max(MAX_PLOTS // len(settings), 1)]
    temperature = nearest_1(grid.temperatures)
    limits = _limits(
        grid, [(setting, temperature, subset) for setting in settings for subset in subsets]
    )
    return [
        (
            subset_title(subset),
            [
                Plot(
                    setting.label,
                    _alt_text(grid, setting, temperature, subset),
                    partial(_draw, grid, setting, temperature, subset, limits),
                    left=0.72,
                )
                for setting in settings
            ],
        )
        for subset in subsets
    ]


def omitted_sentence(grid: Grid) -> str:
    """Returns a sentence about results that are not drawn; empty if all are."""
    settings = min(len(grid.settings), MAX_SETTINGS)
    subsets = min(len(drawn_subsets(grid)), max(MAX_PLOTS // max(settings, 1), 1))
    has_several = len(grid.temperatures) > 1
    parts = [f"temperature {nearest_1(grid.temperatures):g}"] if has_several else []
    parts += [f"{settings} of {len(grid.settings)} settings"] * (settings < len(grid.settings))
    parts += [f"the first {subsets} of {len(grid.subsets)} subsets"] * (subsets < len(grid.subsets))
    return f"Drawn here: {'; '.join(parts)}. The table below has all." if parts else ""


def table(grid: Grid) -> Table | None:
    """Returns for each cell k*, the largest loss, and the number of lost and gained problems."""
    cells_with_shrinkage = [(cell, cell.shrinkage) for cell in grid.cells if cell.shrinkage]
    if not cells_with_shrinkage:
        return None
    header = [*grid.columns, "k* (interval)", "resamples with a k*", "largest loss", "at k"]
    ks = {shrinkage.at_k for _, shrinkage in cells_with_shrinkage}
    at = f" at {min(ks)}" if len(ks) == 1 else ""
    header += [f"problems lost{at}", f"gained{at}", *(["both at k"] if len(ks) > 1 else [])]
    rows = [[*grid.row(cell), *_row(cell, shrinkage)] for cell, shrinkage in cells_with_shrinkage]
    return Table(header, [row[: len(header)] for row in rows])


def _row(cell: Cell, shrinkage: Shrinkage) -> list[str]:
    crossing, largest_loss = shrinkage.crossing, as_estimate(shrinkage.largest_loss)
    loss = "{} ({})".format(*largest_loss.parts(3)) if largest_loss else "none"
    return [
        crossing_text(crossing, max(cell.delta_to_base)),
        f"{crossing.share * 100:.0f}%",
        loss,
        str(shrinkage.largest_loss.k) if shrinkage.largest_loss else "",
        *(f"{count:,}" for count in (shrinkage.lost_count, shrinkage.gained_count)),
        str(shrinkage.at_k),
    ]


def _limits(grid: Grid, places: Sequence[tuple[Setting, float, str]]) -> tuple[float, float]:
    """Returns one scale for all plots: not so narrow that noise looks large, and not so wide that
    the simultaneous limits, which are huge for few seeds, dominate the plot."""
    bands = [change for place in places for k in grid.ks if (change := grid.change(*place, k))]
    low, high = min([-0.1, *(b.low for b in bands)]), max([0.1, *(b.high for b in bands)])
    room = 0.15 * (high - low)
    return max(low - room, -1.03), min(high + room, 1.03)


def _draw(
    grid: Grid,
    setting: Setting,
    temperature: float,
    subset: str,
    limits: tuple[float, float],
    axes: Axes,
) -> None:
    place = (setting, temperature, subset)
    points = {k: grid.change(*place, k) for k in grid.ks}
    if not without_missing(points):
        set_k_axis(axes, ())
        return
    look = next(
        (line_look for line_look in looks(grid) if line_look["label"] == setting.label), None
    )
    line_style = {"color": COLOUR, "marker": "o"} if look is None else {**look, "label": None}
    axes.axhline(0, color="#222222", linewidth=1, linestyle="--")
    draw_line(axes, points, line_style, {k: grid.change_simultaneous(*place, k) for k in grid.ks})
    for cell in grid.at(*place):
        _draw_crossing(axes, cell)
    set_k_axis(axes, grid.ks)
    axes.set(ylabel="change in pass@k", ylim=limits)
    for y, alignment, text in ((0.98, "top", "more than the base"), (0.02, "bottom", "fewer")):
        axes.text(
            0.98,
            y,
            text,
            transform=axes.transAxes,
            ha="right",
            va=alignment,
            color="#5b5b60",
            size=7.5,
        )


def _draw_crossing(axes: Axes, cell: Cell) -> None:
    """Draws k* with its interval on the zero line."""
    crossing = cell.shrinkage.crossing if cell.shrinkage else None
    if crossing is None or crossing.k is None:
        return
    edges = axes.get_xlim()
    low, high = crossing.low or edges[0], crossing.high or edges[1]
    axes.hlines(0, low, high, color="#222222", linewidth=3.5, alpha=0.55)
    axes.plot([crossing.k], [0], "D", color="#222222", mfc="white", markersize=6, zorder=5)


def _alt_text(grid: Grid, setting: Setting, temperature: float, subset: str) -> str:
    changes = {k: grid.change(setting, temperature, subset, k) for k in grid.ends}
    values = [f"{signed(change.value, 2)} at k={k}" for k, change in changes.items() if change]
    place = f"Change in pass@k against k, {setting.label}, {subset_title(subset)}"
    return f"{place}. {', '.join(values) or 'No valid result'}."


SECTION = Section("From gain to loss: k*", content)
