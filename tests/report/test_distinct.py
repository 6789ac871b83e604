"""Distinct solutions are shown where they say more than pass@k."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from forkdiv.report import distinct
from forkdiv.report.grid import Grid
from forkdiv.report.setting import Setting
from tests.simulated import a_study
from tests.summaries import a_cell, a_summary, read


def test_they_are_left_out_where_no_problem_has_a_second_solution() -> None:
    summary = a_study(densities=(0.5,), temperatures=(1.0,), epochs=(8,))
    assert distinct.informative_cells(Grid.of(summary))
    plain = summary.as_json()
    for cell in [*plain["base"], *plain["cells"]]:
        cell["distinct_at"] = cell["pass_at"]
    grid = Grid.of(read(plain))
    assert (distinct.informative_cells(grid), distinct.plots(grid), distinct.table(grid).rows) == (
        [],
        [],
        [],
    )


def test_limits_over_seeds_are_not_cut_at_one_solution() -> None:
    at = {"4": {"value": 2.5, "low": 2.3, "high": 2.7}}
    cells = [a_cell(0.5, seed=seed, distinct_at=at) for seed in (0, 1)]
    setting = Setting(("fork_density",), (0.5,))
    found = Grid.of(a_summary(cells)).distinct(setting, 1.0, "all", 4)
    assert found
    assert (found.value, found.low, found.high) == pytest.approx((2.5, 2.3, 2.7))


def test_the_number_of_valid_solutions_is_a_line_where_it_is_known() -> None:
    plain = a_study(densities=(0.5,), temperatures=(1.0,), epochs=(8,)).as_json()

    def words() -> list[str]:
        axes = Figure().subplots()
        distinct.plots(Grid.of(read(plain)))[0][1][0].draw(axes)
        return [text.get_text() for text in axes.texts]

    assert words() == ["valid solutions"]
    for cell in [*plain["base"], *plain["cells"]]:
        cell["valid_solutions"] = None
    assert words() == []


def test_the_table_has_the_smallest_and_the_largest_k() -> None:
    made = distinct.table(Grid.of(a_study(densities=(0.0,), temperatures=(1.0,), epochs=(8,))))
    assert made.header[4:] == [
        *("valid solutions", "distinct among 1", "change at 1"),
        *("distinct among 64", "change at 64"),
    ]
    assert made.rows[0][4:] == ["2", "0.63", "", "2.00", ""]
    assert made.rows[3][4:] == [
        "2",
        "1.26",
        "+0.62 (+0.52 to +0.72)",
        "1.66",
        "−0.34 (−0.44 to −0.24)",
    ]
