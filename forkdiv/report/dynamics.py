"""pass@k and its change to the base by epoch of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from matplotlib.axes import Axes

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import Estimate, Grid, subset_title
from forkdiv.report.lines import draw_line, handles, legend
from forkdiv.report.panels import Panel, drawn_temperature, looks, near_rows
from forkdiv.report.plot import Plot, Rows
from forkdiv.report.section import Content, Legend, Plots, Section, TableView, note, paragraph
from forkdiv.report.setting import Setting
from forkdiv.report.tables import Table, change_text, pass_at_text, readable_text

MAX_ROWS = 6  # each has four plots


@dataclass(frozen=True)
class Dynamics:
    """The grids of the saved checkpoints by epoch or step (`unit`)."""

    last: Grid
    grids: Mapping[float, Grid]
    unit: str

    @classmethod
    def of(cls, summary: Summary, last: Grid) -> Dynamics | None:
        """Returns the grids; None if only the last checkpoint was evaluated."""
        if not summary.dynamics:
            return None
        cells: dict[float, list[Cell]] = {}
        for cell in [*summary.dynamics, *summary.cells]:
            if cell.epoch is not None:
                cells.setdefault(cell.epoch, []).append(cell)
        grids = {at: Grid.of(summary.with_cells(cells[at])) for at in sorted(cells)}
        return cls(last, grids, summary.unit)

    @property
    def ks(self) -> tuple[int, ...]:
        """Returns the smallest and the largest k that every checkpoint has."""
        shared = set(self.last.ks).intersection(*(grid.ks for grid in self.grids.values()))
        return tuple(sorted({min(shared), max(shared)})) if shared else ()

    def pass_at(self, panel: Panel, setting: Setting | None, k: int) -> dict[float, Estimate]:
        """Returns pass@k by epoch; every setting begins with the base as epoch 0."""
        place = (panel.temperature, panel.subset, k)
        at_0 = {0.0: self.last.pass_at(None, *place)}
        if setting is None:
            return _without_missing(dict.fromkeys([0.0, *map(float, self.grids)], at_0[0.0]))
        return _without_missing(
            at_0 | {at: g.pass_at(setting, *place) for at, g in self.grids.items()}
        )

    def change(self, panel: Panel, setting: Setting | None, k: int) -> dict[float, Estimate]:
        if setting is None:
            return {}
        place = (setting, panel.temperature, panel.subset, k)
        known = _without_missing({at: grid.change(*place) for at, grid in self.grids.items()})
        return {0.0: Estimate(0.0, 0.0, 0.0)} | known if known else {}


def content(summary: Summary, grid: Grid) -> Content | None:
    checkpoints = Dynamics.of(summary, grid)
    if not checkpoints:
        return None
    lines_drawn = looks(grid)
    unit = summary.unit or "epoch"
    return [
        paragraph(f"Every saved checkpoint, evaluated like the last one; {unit} 0 is the base."),
        Legend(partial(legend, "dynamics-legend", lines_drawn)),
        note(f"Bands are pointwise {grid.percent} intervals.", drawn_temperature(grid)),
        *Plots.of("dynamics", plots(checkpoints), handles(lines_drawn), layout="four"),
        TableView(table(checkpoints), f"pass@k and its change by {unit}", "dynamics"),
    ]


def plots(dynamics: Dynamics) -> Rows:
    """Returns one row for each panel of the curves at the temperature nearest 1: pass@k at the
    smallest and the largest k, and its changes."""
    panels = [panel for row in near_rows(dynamics.last) for panel in row][:MAX_ROWS]
    limits = _limits(dynamics, panels)
    return [
        (
            f"{subset_title(panel.subset)}, {panel.caption}",
            [
                Plot(
                    f"{'change in ' * is_change}pass@{k}",
                    _alt_text(dynamics, panel, k, is_change),
                    partial(_draw, dynamics, panel, k, is_change, limits[is_change]),
                    size=(2.9, 2.5),
                    left=0.72 if is_change else 0.6,
                )
                for is_change in (False, True)
                for k in dynamics.ks
            ],
        )
        for panel in panels
    ]


def table(dynamics: Dynamics) -> Table:
    """Returns one row for each saved checkpoint of every cell."""
    header = [*dynamics.last.columns, dynamics.unit]
    for k in dynamics.ks:
        header += [f"pass@{k}", f"change at {k}"]
    rows_in_order = []
    for at, grid in dynamics.grids.items():
        for number, cell in enumerate(cell for cell in grid.cells if cell.tuned):
            row = [*grid.row(cell), f"{at:g}"]
            for k in dynamics.ks:
                row += [pass_at_text(cell, k), change_text(cell, k)]
            rows_in_order.append((number, at, [*row, readable_text(cell)]))
    return Table([*header, "readable"], [row for _, _, row in sorted(rows_in_order)])


def _without_missing(points: Mapping[float, Estimate | None]) -> dict[float, Estimate]:
    return {float(at): estimate for at, estimate in points.items() if estimate}


def _limits(dynamics: Dynamics, panels: Sequence[Panel]) -> dict[bool, tuple[float, float]]:
    """Returns one scale for all changes, and one for all pass@k."""
    bands = [
        estimate
        for panel in panels
        for setting, _ in panel.lines
        for k in dynamics.ks
        for estimate in dynamics.change(panel, setting, k).values()
    ]
    low, high = min([-0.1, *(b.low for b in bands)]), max([0.1, *(b.high for b in bands)])
    return {False: (-0.03, 1.03), True: (low - 0.03, high + 0.03)}


def _draw(
    dynamics: Dynamics,
    panel: Panel,
    k: int,
    is_change: bool,
    limits: tuple[float, float],
    axes: Axes,
) -> None:
    for setting, look in panel.lines:
        points = (dynamics.change if is_change else dynamics.pass_at)(panel, setting, k)
        draw_line(axes, points, look if setting else {**look, "marker": ""}, unit=dynamics.unit)
    if is_change:
        axes.axhline(0, color="#222222", linewidth=1, linestyle="--")
    axes.set(xlabel=dynamics.unit, ylabel=f"{'change in ' * is_change}pass@{k}", ylim=limits)
    epochs = [0, *dynamics.grids]
    steps = {later - earlier for earlier, later in pairwise(epochs)}
    if len(steps) > 1:  # epochs that double would be crowded on a linear scale
        axes.set_xscale("symlog", linthresh=min(at for at in epochs if at), base=2, linscale=1)
        axes.set_xlim(-0.25 * epochs[1], epochs[-1] * 1.15)
    shown = epochs if len(epochs) <= 7 else epochs[:: (len(epochs) + 5) // 6]
    axes.set_xticks(shown, [f"{at:g}" for at in shown])
    axes.minorticks_off()


def _alt_text(dynamics: Dynamics, panel: Panel, k: int, is_change: bool) -> str:
    parts = []
    for setting, look in panel.lines:
        points = (dynamics.change if is_change else dynamics.pass_at)(panel, setting, k)
        values = [f"{estimate.value:.2f} at {at:g}" for at, estimate in points.items()]
        parts += [f"{look['label']} {', '.join(values)}"] if values and setting else []
    title = f"{'Change in ' * is_change}pass@{k} by {dynamics.unit}"
    place = f"{subset_title(panel.subset)}, {panel.caption}"
    return f"{title}, {place}. {'; '.join(parts) or 'No valid result'}."


SECTION = Section("Change during training", content)
