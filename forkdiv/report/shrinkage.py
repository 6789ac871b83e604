"""Coverage shrinkage: the change to the base against k, and the k from which it is a loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from markupsafe import Markup
from matplotlib.axes import Axes

from forkdiv.core.results import Cell, Shrinkage, Summary
from forkdiv.report.glance import crossing_text
from forkdiv.report.grid import Grid, as_estimate, nearest_1, signed, subset_title, thinned
from forkdiv.report.lines import draw_line, dress_k, known
from forkdiv.report.panels import drawn_subsets, looks
from forkdiv.report.plot import Plot, Rows
from forkdiv.report.section import Content, Plots, Section, TableView, note, paragraph
from forkdiv.report.setting import Setting
from forkdiv.report.tables import Table

MOST_SETTINGS, MOST_PLOTS = 12, 24
COLOUR = "#0072B2"


def content(summary: Summary, grid: Grid) -> Content | None:
    crossings = table(grid)
    if not crossings:
        return None
    over_seeds = (
        "Over several seeds the lighter one is widened for the number of k (Bonferroni), which is "
        "cautious; each seed has a diamond of its own."
    )
    return [
        paragraph(
            Markup(
                "Fine-tuning often gains at small k and loses at large k. <b>k*</b> is where the "
                "one turns into the other: from there on the base, sampled as often, solves more. "
                "A diamond on the line of no change marks it, a thick bar its {} interval."
            ).format(grid.percent)
        ),
        note(
            f"The change to the base at each k: the darker band is its {grid.percent} interval at "
            "that k alone, the lighter one holds for all k at once.",
            over_seeds if len(grid.seeds) > 1 else "",
            left_out(grid),
        ),
        *Plots.of("shrinkage", plots(grid)),
        note(
            "“Resamples with a k*” are the bootstrap resamples of the problems in which gain turns "
            "into loss within the k measured: near 100% it is sure that there is a k*. The largest "
            "loss has limits for all k at once. A problem is lost where the base is more likely "
            "than not to solve it in k tries and the fine-tuned model is not; gained the other way "
            "round."
        ),
        TableView(
            crossings, "Where gain turns into loss, and how large the loss gets", "shrinkage"
        ),
    ]


def plots(grid: Grid) -> Rows:
    """One row per subset, one plot per setting, at the temperature nearest 1; none where no cell
    tells where its change crosses 0."""
    if not any(cell.shrinkage for cell in grid.cells):
        return []
    settings = thinned(grid.settings, MOST_SETTINGS)
    subsets = drawn_subsets(grid)[: max(MOST_PLOTS // len(settings), 1)]
    near = nearest_1(grid.temperatures)
    limits = _limits(grid, [(one, near, subset) for one in settings for subset in subsets])
    return [
        (
            subset_title(subset),
            [
                Plot(
                    one.label,
                    _spoken(grid, one, near, subset),
                    partial(_draw, grid, one, near, subset, limits),
                    left=0.72,
                )
                for one in settings
            ],
        )
        for subset in subsets
    ]


def left_out(grid: Grid) -> str:
    """What is not drawn, in a sentence; empty where all is."""
    settings = min(len(grid.settings), MOST_SETTINGS)
    subsets = min(len(drawn_subsets(grid)), max(MOST_PLOTS // max(settings, 1), 1))
    several = len(grid.temperatures) > 1
    said = [f"temperature {nearest_1(grid.temperatures):g}"] if several else []
    said += [f"{settings} of {len(grid.settings)} settings"] * (settings < len(grid.settings))
    said += [f"the first {subsets} of {len(grid.subsets)} subsets"] * (subsets < len(grid.subsets))
    return f"Drawn here: {'; '.join(said)}. The table below has all." if said else ""


def table(grid: Grid) -> Table | None:
    """Where each cell's change crosses 0, its largest loss, and the problems lost and gained."""
    known = [(cell, cell.shrinkage) for cell in grid.cells if cell.shrinkage]
    if not known:
        return None
    header = [*grid.columns, "k* (interval)", "resamples with a k*", "largest loss", "at k"]
    ks = {shrinkage.at_k for _, shrinkage in known}
    at = f" at {min(ks)}" if len(ks) == 1 else ""
    header += [f"problems lost{at}", f"gained{at}", *(["both at k"] if len(ks) > 1 else [])]
    rows = [[*grid.row(cell), *_row(cell, shrinkage)] for cell, shrinkage in known]
    return Table(header, [row[: len(header)] for row in rows])


def _row(cell: Cell, found: Shrinkage) -> list[str]:
    crossing, worst = found.crossing, as_estimate(found.largest_loss)
    loss = "{} ({})".format(*worst.parts(3)) if worst else "none"
    return [
        crossing_text(crossing, max(cell.delta_to_base)),
        f"{crossing.share * 100:.0f}%",
        loss,
        str(found.largest_loss.k) if found.largest_loss else "",
        *(f"{count:,}" for count in (found.lost_count, found.gained_count)),
        str(found.at_k),
    ]


def _limits(grid: Grid, places: Sequence[tuple[Setting, float, str]]) -> tuple[float, float]:
    """One scale for every plot: never so narrow that noise looks large, nor so wide that the
    limits for all k at once, which few seeds make huge, leave no room for the rest."""
    bands = [one for place in places for k in grid.ks if (one := grid.change(*place, k))]
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
    if not known(points):
        dress_k(axes, ())
        return
    look = next((one for one in looks(grid) if one["label"] == setting.label), None)
    own = {"color": COLOUR, "marker": "o"} if look is None else {**look, "label": None}
    axes.axhline(0, color="#222222", linewidth=1, linestyle="--")
    draw_line(axes, points, own, {k: grid.change_at_once(*place, k) for k in grid.ks})
    for cell in grid.at(*place):
        _draw_crossing(axes, cell)
    dress_k(axes, grid.ks)
    axes.set(ylabel="change in pass@k", ylim=limits)
    for y, where, said in ((0.98, "top", "more than the base"), (0.02, "bottom", "fewer")):
        axes.text(
            0.98, y, said, transform=axes.transAxes, ha="right", va=where, color="#5b5b60", size=7.5
        )


def _draw_crossing(axes: Axes, cell: Cell) -> None:
    """k* on the line of no change, with its interval."""
    found = cell.shrinkage.crossing if cell.shrinkage else None
    if found is None or found.k is None:
        return
    edges = axes.get_xlim()
    low, high = found.low or edges[0], found.high or edges[1]
    axes.hlines(0, low, high, color="#222222", linewidth=3.5, alpha=0.55)
    axes.plot([found.k], [0], "D", color="#222222", mfc="white", markersize=6, zorder=5)


def _spoken(grid: Grid, setting: Setting, temperature: float, subset: str) -> str:
    found = {k: grid.change(setting, temperature, subset, k) for k in grid.ends}
    values = [f"{signed(one.value, 2)} at k={k}" for k, one in found.items() if one]
    where = f"Change in pass@k against k, {setting.label}, {subset_title(subset)}"
    return f"{where}. {', '.join(values) or 'No valid result'}."


SECTION = Section("Where gain turns into loss", content)
