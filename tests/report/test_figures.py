"""Figures show the numbers of the summary."""

from __future__ import annotations

import pytest

from forkdiv.report import curves, heatmap
from forkdiv.report.figures import curve_figure, figures
from forkdiv.report.grid import Grid
from forkdiv.report.panels import (
    MAX_LINES,
    MAX_SUBSETS,
    curves_omitted,
    heat_omitted,
    layout,
)
from tests.simulated import a_study
from tests.summaries import a_cell, a_summary, as_once_written, grid_summary, read, read_cell


def test_heat_map_cells_show_the_numbers_of_the_summary() -> None:
    plain = grid_summary(("unsigned",)).as_json()
    for number, cell in enumerate(plain["cells"]):
        for entry, sign in ((cell["delta_to_base"]["1"], 1), (cell["delta_to_base"]["16"], -1)):
            value = sign * (number + 1) / 100
            entry.update(value=value, low=value - 0.015, high=value + 0.015)
    panels = [axes for axes in figures(read(plain))["delta_heatmap"].axes if axes.get_title()]
    assert [panel.get_title() for panel in panels] == [
        "unsigned forks: pass@1 against the base",
        "unsigned forks: pass@16 against the base",
    ]
    # rows are densities, columns temperatures; 0.01 alone does not exclude 0
    assert [text.get_text() for text in panels[0].texts] == ["+0.01", "+0.02*", "+0.03*", "+0.04*"]
    assert [text.get_text() for text in panels[1].texts] == ["−0.01", "−0.02*", "−0.03*", "−0.04*"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["0", "0.5"]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["0.7", "1"]


def test_curves_pass_through_the_values_of_the_summary() -> None:
    summary = grid_summary(("all",))
    panel = figures(summary)["pass_at_k"].axes[1]
    lines = {str(line.get_label()): line for line in panel.lines}
    assert list(lines["fork density 0.5"].get_xdata()) == [1, 4, 16]  # type: ignore[arg-type]
    expected = [point.value for point in summary.cells[3].pass_at.values() if point]
    assert list(lines["fork density 0.5"].get_ydata()) == pytest.approx(expected)  # type: ignore[arg-type]
    assert lines["base"].get_linestyle() == "--"
    assert lines["fork density 0"].get_marker() != lines["fork density 0.5"].get_marker()


def test_trial_figure_draws_each_subset_on_its_own_line() -> None:
    cells = [read_cell(a_cell(0.5, subset=one)) for one in ("signed", "unsigned", "all")]
    (axes,) = curve_figure(cells, "density 0.5").axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        *("all problems", "signed forks", "unsigned forks")
    ]


TWO_AXES = {"fork_density": (0.0, 0.5, 1.0), "direction": (0.0, 0.5, 1.0)}


def test_few_settings_of_two_axes_share_a_panel_and_are_named_in_full() -> None:
    grid = Grid.of(
        grid_summary(("all",), {"direction": (0.0, 1.0), "branch_coverage": (1, 2)}, (0.7, 1.0))
    )
    (row,) = layout(grid)
    assert [panel.temperature for panel in row] == [0.7, 1.0]
    assert [look["label"] for _, look in row[0].lines] == [
        "base",
        *("direction 0, branch coverage 1", "direction 0, branch coverage 2"),
        *("direction 1, branch coverage 1", "direction 1, branch coverage 2"),
    ]
    looks = [(tuple(look["color"]), look["marker"]) for _, look in row[0].lines]
    assert len(set(looks)) == len({marker for _, marker in looks}) == 5
    assert curves_omitted(grid) == ""


def test_many_settings_of_two_axes_are_spread_over_panels_at_the_temperature_nearest_1() -> None:
    grid = Grid.of(grid_summary(("all", "x"), TWO_AXES, (0.3, 0.9, 2.0)))
    rows = layout(grid)
    assert [[panel.caption for panel in row] for row in rows] == 2 * [
        [f"direction {value}, temperature 0.9" for value in ("0", "0.5", "1")]
    ]
    drawn = [setting for panel in rows[0] for setting, _ in panel.lines if setting]
    assert sorted(drawn) == list(grid.settings)
    for panel in rows[0]:
        labels = [look["label"] for _, look in panel.lines]
        assert labels == ["base", "fork density 0", "fork density 0.5", "fork density 1"]
        assert {setting.values[1] for setting, _ in panel.lines if setting} == {
            float(panel.caption.split()[1].strip(","))
        }
    assert curves_omitted(grid) == (
        "Drawn here: temperature 0.9, of 3 temperatures. The table below has all."
    )


def test_a_long_axis_is_thinned_and_keeps_its_ends() -> None:
    values = [i / 10 for i in range(11)]
    grid = Grid.of(grid_summary(("all",), {"fork_density": values}, (0.7, 1.0)))
    (row,) = layout(grid)
    assert [panel.caption for panel in row] == ["temperature 0.7", "temperature 1"]
    drawn = [setting.values[0] for setting, _ in row[0].lines if setting]
    assert len(drawn) == MAX_LINES and (drawn[0], drawn[-1]) == (0.0, 1.0)
    assert "6 of 11 settings" in curves_omitted(grid)


def test_no_panel_holds_more_lines_than_can_be_told_apart_and_no_setting_is_drawn_twice() -> None:
    axes = {
        "fork_density": [i / 7 for i in range(8)],
        "direction": (0.0, 0.5, 1.0),
        "synthesis": ("none", "enumerator"),
    }
    for row in layout(Grid.of(grid_summary(("all",), axes, (1.0,)))):
        drawn = [setting for panel in row for setting, _ in panel.lines if setting]
        assert len(drawn) == len(set(drawn)) == 48
        assert max(len(panel.lines) for panel in row) <= MAX_LINES + 1


def test_heat_map_of_two_axes_has_every_setting_in_a_row_of_its_own() -> None:
    plain = grid_summary(("all",), TWO_AXES, (1.0,)).as_json()
    for number, cell in enumerate(plain["cells"]):
        cell["delta_to_base"]["16"] = {"value": -number / 10, "low": -1.0, "high": 1.0}
    panel = figures(read(plain))["delta_heatmap"].axes[1]
    ticks = [label.get_text() for label in panel.get_yticklabels()]
    assert ticks == [f"{d}, {v}" for d in ("0", "0.5", "1") for v in ("0", "0.5", "1")]
    assert panel.get_ylabel() == "fork density, direction"
    assert [text.get_text() for text in panel.texts] == [
        *("0.00", "−0.10", "−0.20", "−0.30", "−0.40", "−0.50", "−0.60", "−0.70", "−0.80")
    ]


def test_heat_map_of_kinds_of_data_names_them() -> None:
    axes = {"synthesis": ("samples", "none", "enumerator")}
    panel = figures(grid_summary(("all",), axes))["delta_heatmap"].axes[0]
    ticks = [label.get_text() for label in panel.get_yticklabels()]
    assert (panel.get_ylabel(), ticks) == ("synthesis", ["none", "enumerator", "samples"])


def test_of_one_setting_the_heat_map_compares_the_subsets() -> None:
    grid = Grid.of(grid_summary(("x", "all"), {"fork_density": (0.5,)}))
    (one,) = heatmap.layout(grid)
    assert one.title == "fork density 0.5"
    assert [(name, subset) for name, _, subset in one.rows] == [("x", "x"), ("all problems", "all")]


def test_of_many_subsets_the_first_are_drawn_and_the_rest_are_told() -> None:
    subsets = [*(f"s{i}" for i in range(20)), "all"]
    summary = grid_summary(subsets, temperatures=(1.0,))
    grid = Grid.of(summary)
    assert [row[0].subset for row in layout(grid)] == ["all", *(f"s{i}" for i in range(7))]
    assert "the first 8 of 21 subsets" in curves_omitted(grid)
    assert "the first 8 of 21 subsets" in heat_omitted(grid)
    (axes,) = curve_figure(summary.cells[:21], "t").axes
    legend = axes.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == MAX_SUBSETS
    assert legend.get_title().get_text() == "the first 8 of 21 subsets"


def test_any_subset_name_can_be_drawn() -> None:
    names = ["all", "$\\frac$", "_hidden", "a\nb", "", "long " * 30]
    cells = [a_cell({}, subset=name) for name in names]
    trial = curve_figure([read_cell(one) for one in cells], "$\\frac$")
    legend = trial.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][1:5] == [
        *("$\\frac$", "_hidden", "a b", "(no name)")
    ]
    for figure in (trial, *figures(a_summary(cells)).values()):
        figure.canvas.draw()


def test_panels_that_a_line_does_not_need_are_hidden_and_their_upper_neighbours_tell_the_k() -> (
    None
):
    axes = {"direction": [i / 6 for i in range(7)], "fork_density": (0.0, 0.5, 1.0)}
    made = figures(grid_summary(("all", "x"), axes, (1.0,)))["pass_at_k"]
    made.canvas.draw()
    shown = [one for one in made.axes if one.get_visible()]
    assert (len(made.axes), len(shown)) == (16, 14)
    told = [one.get_xlabel() != "" for one in made.axes if one.get_visible()]
    assert told == [False] * 10 + [True] * 4


def test_every_section_that_the_page_draws_is_a_figure_as_well() -> None:
    summary = a_study(densities=(0.0, 1.0), temperatures=(1.0,), epochs=(1, 4))
    assert list(figures(summary)) == [
        *("pass_at_k", "delta_heatmap", "shrinkage", "dynamics", "forks", "where_lost", "distinct")
    ]


def test_a_summary_of_before_has_the_figures_of_before() -> None:
    summary = as_once_written(grid_summary(("all",)))
    assert list(figures(summary)) == ["pass_at_k", "delta_heatmap"]


def test_limits_for_all_k_at_once_are_a_lighter_band_behind_the_other() -> None:
    grid = Grid.of(a_study(densities=(0.0,), temperatures=(1.0,), epochs=(8,)))
    axes = curves.figure(grid).axes[0]
    light, dark = axes.collections[:2]
    assert (light.get_alpha() or 0) < (dark.get_alpha() or 0)
    assert light.get_datalim(axes.transData).height >= dark.get_datalim(axes.transData).height
