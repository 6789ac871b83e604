"""Shrinkage as the report shows it: the bands, k*, and what was lost."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

from forkdiv.core.results import Crossing
from forkdiv.report import shrinkage
from forkdiv.report.glance import crossing_text
from forkdiv.report.grid import Grid
from tests.simulated import a_study
from tests.summaries import a_cell, a_summary


def crossing(**known: Any) -> Crossing:
    none = {"k": None, "low": None, "high": None, "share": 0.5, "above_at_1": True}
    return Crossing.model_validate({**none, **known})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (crossing(k=3.14159, low=2.0, high=6.5), "3.14 (2 to 6.5)"),
        (crossing(k=3.0, low=None, high=6.5), "3 (below 1 to 6.5)"),
        (crossing(k=3.0, low=2.0, high=None), "3 (2 to beyond 64)"),
        (crossing(), "no loss up to 64"),
        (crossing(above_at_1=False), "no gain at k=1"),
    ],
)
def test_k_star_is_told_with_its_interval_or_why_there_is_none(found: Crossing, said: str) -> None:
    assert crossing_text(found, 64) == said


def test_the_table_holds_the_numbers_of_the_summary() -> None:
    made = shrinkage.table(Grid.of(a_study(densities=(0.0,), temperatures=(1.0,), epochs=(8,))))
    assert made
    assert made.header[4:] == [
        *("k* (interval)", "resamples with a k*", "largest loss", "at k"),
        *("problems lost at 64", "gained at 64"),
    ]
    whole, signed, _ = made.rows
    assert whole[4:] == ["3.08 (2 to 6)", "97%", "−0.279 (−0.366 to −0.192)", "16", "34", "3"]
    assert signed[4:] == ["no loss up to 64", "2%", "none", "", "0", "3"]


def test_a_study_that_was_not_asked_for_shrinkage_has_neither_plots_nor_table() -> None:
    grid = Grid.of(a_summary([a_cell(0.0)]))
    assert (shrinkage.plots(grid), shrinkage.table(grid), shrinkage.omitted_sentence(grid)) == (
        [],
        None,
        "",
    )


def test_a_plot_has_both_bands_and_a_diamond_at_k_star() -> None:
    grid = Grid.of(a_study(temperatures=(1.0,), epochs=(8,)))
    axes = Figure().subplots()
    title, row = shrinkage.plots(grid)[0]
    assert (title, [plot.caption for plot in row]) == (
        "all problems",
        ["fork density 0", "fork density 0.5", "fork density 1"],
    )
    row[0].draw(axes)
    drawn = [tuple(map(float, line.get_xdata())) for line in axes.lines]  # type: ignore[arg-type]
    assert (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0) in drawn
    assert (4 / 1.3,) in drawn
    pointwise, at_once = sorted(
        band.get_datalim(axes.transData).height for band in axes.collections[:2]
    )
    assert at_once > pointwise


def test_many_settings_are_thinned_and_the_page_says_so() -> None:
    study = a_study(densities=[i / 19 for i in range(20)], temperatures=(0.7, 1.0), epochs=(8,))
    grid = Grid.of(study)
    rows = shrinkage.plots(grid)
    assert sum(len(row) for _, row in rows) <= shrinkage.MAX_PLOTS
    assert shrinkage.omitted_sentence(grid) == (
        "Drawn here: temperature 1; 12 of 20 settings; the first 2 of 3 subsets. "
        "The table below has all."
    )
