"""Dynamics start at the base and end at the last checkpoint."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from forkdiv.core.results import Summary
from forkdiv.report import dynamics
from forkdiv.report.dynamics import Dynamics
from forkdiv.report.grid import Grid
from forkdiv.report.panels import near_rows
from tests.simulated import a_study
from tests.summaries import a_cell, a_summary, as_once_written


def study(**varied: object) -> tuple[Summary, Grid, Dynamics]:
    summary = a_study(temperatures=(1.0,), **varied)  # type: ignore[arg-type]
    grid = Grid.of(summary)
    found = Dynamics.of(summary, grid)
    assert found
    return summary, grid, found


def test_without_earlier_checkpoints_there_are_no_dynamics() -> None:
    summary = a_summary([a_cell(0.5, epoch=4)])
    assert Dynamics.of(summary, Grid.of(summary)) is None
    older = as_once_written(summary)
    assert Dynamics.of(older, Grid.of(older)) is None


def test_a_line_opens_at_the_base_and_closes_at_the_last_cells() -> None:
    _, grid, found = study(epochs=(1, 4, 16))
    panel = near_rows(grid)[0][0]
    (_, base), *_ = [(k, found.pass_at(panel, None, k)) for k in found.ks]
    setting = grid.settings[0]
    line = found.pass_at(panel, setting, 1)
    assert list(line) == [0.0, 1.0, 4.0, 16.0]
    assert line[0.0] == base[0.0]
    last = grid.pass_at(setting, 1.0, "all", 1)
    assert line[16.0] == last
    changes = found.change(panel, setting, 64)
    assert changes[0.0].value == changes[0.0].low == 0
    assert changes[16.0] == grid.change(setting, 1.0, "all", 64)


def test_over_several_seeds_the_mean_is_drawn() -> None:
    summary, grid, found = study(epochs=(1, 8), seeds=(0, 1, 2), densities=(0.0,))
    panel = near_rows(grid)[0][0]
    (setting,) = grid.settings
    mine = [
        interval.value
        for cell in summary.dynamics
        if cell.subset == "all" and (interval := cell.pass_at[64])
    ]
    assert len(mine) == 3
    assert found.pass_at(panel, setting, 64)[1.0].value == pytest.approx(sum(mine) / 3)


def test_the_table_has_every_checkpoint_of_every_cell_together() -> None:
    _, _, found = study(epochs=(1, 4), densities=(0.0, 1.0))
    made = dynamics.table(found)
    at = made.header.index("epoch")
    assert len(made.rows) == 2 * 2 * 3
    assert [row[at] for row in made.rows] == ["1", "4"] * 6
    assert [row[0] for row in made.rows] == ["0"] * 6 + ["1"] * 6


@pytest.mark.parametrize(("epochs", "scale"), [((1, 2, 3), "linear"), ((1, 2, 8), "symlog")])
def test_checkpoints_that_double_stand_on_a_scale_of_doublings(
    epochs: tuple[int, ...], scale: str
) -> None:
    _, _, found = study(epochs=epochs)
    axes = Figure().subplots()
    dynamics.plots(found)[0][1][0].draw(axes)
    assert axes.get_xscale() == scale
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", *map(str, epochs)]


def test_steps_are_called_steps() -> None:
    _, _, found = study(epochs=(500, 1000), unit="step")
    axes = Figure().subplots()
    dynamics.plots(found)[0][1][0].draw(axes)
    assert axes.get_xlabel() == "step"
    assert "step" in dynamics.table(found).header
