"""Figures show the numbers of the summary."""

from __future__ import annotations

import pytest

from forkdiv.figures import curve_figure, figures
from tests.test_grid import a_cell, grid_summary


def test_heat_map_cells_show_the_numbers_of_the_summary() -> None:
    summary = grid_summary(("unsigned",))
    for number, cell in enumerate(summary["cells"]):
        for entry, sign in ((cell["delta_to_base"]["1"], 1), (cell["delta_to_base"]["16"], -1)):
            value = sign * (number + 1) / 100
            entry.update(value=value, low=value - 0.015, high=value + 0.015)
    panels = [axes for axes in figures(summary)["delta_heatmap"].axes if axes.get_title()]
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
    assert list(lines["density 0.5"].get_xdata()) == [1, 4, 16]  # type: ignore[arg-type]
    expected = [point["value"] for point in summary["cells"][3]["pass_at"].values()]
    assert list(lines["density 0.5"].get_ydata()) == pytest.approx(expected)  # type: ignore[arg-type]
    assert lines["base"].get_linestyle() == "--"
    assert lines["density 0"].get_marker() != lines["density 0.5"].get_marker()


def test_trial_figure_draws_each_subset_on_its_own_line() -> None:
    cells = [a_cell(0.5, subset=subset) for subset in ("unsigned", "signed", "all")]
    (axes,) = curve_figure(cells, "density 0.5").axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        *("all problems", "signed forks", "unsigned forks")
    ]
