"""When coverage was lost: pass@k and its change against the epochs of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from matplotlib.axes import Axes

from forkdiv.core.results import Cell, Summary
from forkdiv.report.grid import Estimate, Grid, subset_title
from forkdiv.report.lines import draw_line, handles, legend
from forkdiv.report.panels import Panel, looks, near_rows, only_near
from forkdiv.report.plot import Plot, Rows
from forkdiv.report.section import Content, Legend, Plots, Section, TableView, note, paragraph
from forkdiv.report.setting import Setting
from forkdiv.report.tables import Table, change_said, pass_said

MOST_ROWS = 6  # each has four plots


@dataclass(frozen=True)
class Dynamics:
    """A grid of each saved checkpoint, by its epoch (or step, as `unit` says)."""

    last: Grid
    grids: Mapping[float, Grid]
    unit: str

    @classmethod
    def of(cls, summary: Summary, last: Grid) -> Dynamics | None:
        """None where only the last checkpoint was evaluated."""
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
        """The ends of the k that every checkpoint has."""
        shared = set(self.last.ks).intersection(*(grid.ks for grid in self.grids.values()))
        return tuple(sorted({min(shared), max(shared)})) if shared else ()

    def pass_at(self, panel: Panel, setting: Setting | None, k: int) -> dict[float, Estimate]:
        """By epoch; the base, which is epoch 0, opens the line of every setting."""
        place = (panel.temperature, panel.subset, k)
        at_0 = {0.0: self.last.pass_at(None, *place)}
        if setting is None:
            return _known(dict.fromkeys([0.0, *map(float, self.grids)], at_0[0.0]))
        return _known(at_0 | {at: g.pass_at(setting, *place) for at, g in self.grids.items()})

    def change(self, panel: Panel, setting: Setting | None, k: int) -> dict[float, Estimate]:
        if setting is None:
            return {}
        place = (setting, panel.temperature, panel.subset, k)
        known = _known({at: grid.change(*place) for at, grid in self.grids.items()})
        return {0.0: Estimate(0.0, 0.0, 0.0)} | known if known else {}


def content(summary: Summary, grid: Grid) -> Content | None:
    checkpoints = Dynamics.of(summary, grid)
    if not checkpoints:
        return None
    lines_drawn = looks(grid)
    unit = summary.unit or "epoch"
    return [
        paragraph(f"Every saved checkpoint, judged like the last one; {unit} 0 is the base."),
        Legend(partial(legend, "dynamics-legend", lines_drawn)),
        note(f"Bands are {grid.percent} intervals at each point alone.", only_near(grid)),
        *Plots.of("dynamics", plots(checkpoints), handles(lines_drawn), layout="four"),
        TableView(table(checkpoints), f"pass@k and its change by {unit}", "dynamics"),
    ]


def plots(found: Dynamics) -> Rows:
    """One row per panel of the curves at the temperature nearest 1: pass@k at both ends of k,
    and its changes."""
    panels = [panel for row in near_rows(found.last) for panel in row][:MOST_ROWS]
    limits = _limits(found, panels)
    return [
        (
            f"{subset_title(panel.subset)}, {panel.caption}",
            [
                Plot(
                    f"{'change in ' * is_change}pass@{k}",
                    _spoken(found, panel, k, is_change),
                    partial(_draw, found, panel, k, is_change, limits[is_change]),
                    size=(2.9, 2.5),
                    left=0.72 if is_change else 0.6,
                )
                for is_change in (False, True)
                for k in found.ks
            ],
        )
        for panel in panels
    ]


def table(found: Dynamics) -> Table:
    """One row per saved checkpoint of every cell."""
    header = [*found.last.columns, found.unit]
    for k in found.ks:
        header += [f"pass@{k}", f"change at {k}"]
    placed = []
    for at, grid in found.grids.items():
        for number, cell in enumerate(cell for cell in grid.cells if cell.tuned):
            row = [*grid.row(cell), f"{at:g}"]
            for k in found.ks:
                row += [pass_said(cell, k), change_said(cell, k)]
            placed.append((number, at, row))
    return Table(header, [row for _, _, row in sorted(placed)])


def _known(points: Mapping[float, Estimate | None]) -> dict[float, Estimate]:
    return {float(at): one for at, one in points.items() if one}


def _limits(found: Dynamics, panels: Sequence[Panel]) -> dict[bool, tuple[float, float]]:
    """One scale for every change, and one for every pass@k."""
    bands = [
        one
        for panel in panels
        for setting, _ in panel.lines
        for k in found.ks
        for one in found.change(panel, setting, k).values()
    ]
    low, high = min([-0.1, *(b.low for b in bands)]), max([0.1, *(b.high for b in bands)])
    return {False: (-0.03, 1.03), True: (low - 0.03, high + 0.03)}


def _draw(
    found: Dynamics,
    panel: Panel,
    k: int,
    is_change: bool,
    limits: tuple[float, float],
    axes: Axes,
) -> None:
    for setting, look in panel.lines:
        points = (found.change if is_change else found.pass_at)(panel, setting, k)
        draw_line(axes, points, look if setting else {**look, "marker": ""}, unit=found.unit)
    if is_change:
        axes.axhline(0, color="#222222", linewidth=1, linestyle="--")
    axes.set(xlabel=found.unit, ylabel=f"{'change in ' * is_change}pass@{k}", ylim=limits)
    epochs = [0, *found.grids]
    steps = {later - earlier for earlier, later in pairwise(epochs)}
    if len(steps) > 1:  # doublings would crowd at the left of a plain scale
        axes.set_xscale("symlog", linthresh=min(at for at in epochs if at), base=2, linscale=1)
        axes.set_xlim(-0.25 * epochs[1], epochs[-1] * 1.15)
    shown = epochs if len(epochs) <= 7 else epochs[:: (len(epochs) + 5) // 6]
    axes.set_xticks(shown, [f"{at:g}" for at in shown])
    axes.minorticks_off()


def _spoken(found: Dynamics, panel: Panel, k: int, is_change: bool) -> str:
    said = []
    for setting, look in panel.lines:
        points = (found.change if is_change else found.pass_at)(panel, setting, k)
        values = [f"{one.value:.2f} at {at:g}" for at, one in points.items()]
        said += [f"{look['label']} {', '.join(values)}"] if values and setting else []
    what = f"{'Change in ' * is_change}pass@{k} by {found.unit}"
    where = f"{subset_title(panel.subset)}, {panel.caption}"
    return f"{what}, {where}. {'; '.join(said) or 'No valid result'}."


SECTION = Section("When it was lost", content)
