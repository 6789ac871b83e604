"""What a reader sees first of a long table is what the study is read at first."""

from __future__ import annotations

from forkdiv.core.results import Summary
from forkdiv.report.first_rows import MOST_FIRST, read_first
from forkdiv.report.grid import Grid
from forkdiv.report.section import Download, TableView
from forkdiv.report.sections import shown_sections
from forkdiv.report.tables import OPEN_ROWS, Table
from tests.simulated import a_study
from tests.summaries import a_cell, a_summary, as_once_written, grid_summary


def a_table(grid: Grid) -> Table:
    return Table(
        [*grid.columns, "n"], [[*grid.row(cell), str(at)] for at, cell in enumerate(grid.cells)]
    )


def test_a_short_table_is_shown_whole_without_columns_that_do_not_differ() -> None:
    grid = Grid.of(grid_summary(("all", "x"), temperatures=(1.0,)))
    first = read_first(grid, a_table(grid)).first
    assert first
    assert (first.header, first.said) == (["fork density", "subset", "n"], ", at temperature 1")
    assert len(first.rows) == len(grid.cells)


def test_of_a_long_table_the_temperature_nearest_1_and_then_all_problems_are_shown() -> None:
    grid = Grid.of(grid_summary(("x", "all"), temperatures=(0.4, 0.9, 1.5)))
    first = read_first(grid, a_table(grid)).first
    assert first
    assert (first.said, len(first.rows)) == (", at temperature 0.9", 6)
    densities = [i / 7 for i in range(8)]
    grid = Grid.of(grid_summary(("x", "all"), {"fork_density": densities}, (0.4, 0.9)))
    first = read_first(grid, a_table(grid)).first
    assert first
    assert first.said == ", at temperature 0.9, on all problems"
    assert first.header == ["fork density", "n"]
    assert len(first.rows) == 9 <= OPEN_ROWS


def test_where_even_these_are_many_none_is_shown_first() -> None:
    densities = [i / MOST_FIRST for i in range(MOST_FIRST + 1)]
    grid = Grid.of(grid_summary(("all",), {"fork_density": densities}, (1.0,)))
    assert read_first(grid, a_table(grid)).first is None


def tables_of(summary: Summary, grid: Grid) -> dict[str, Table]:
    """Every table of the page by the name of its CSV file."""
    parts = [part for section in shown_sections(summary, grid) for part in section.parts]
    return {one.name: one.table for one in parts if isinstance(one, TableView | Download)}


def test_a_summary_of_before_has_the_tables_of_before() -> None:
    summary = as_once_written(a_summary([a_cell(0.5)]))
    made = tables_of(summary, Grid.of(summary))
    assert list(made) == ["numbers", "every-number", "losses", "exact"]


def test_a_whole_study_has_every_table_and_each_row_fits_its_header() -> None:
    summary = a_study(densities=(0.0, 1.0))
    grid = Grid.of(summary)
    made = tables_of(summary, grid)
    assert list(made) == [
        *("shrinkage", "dynamics", "forks", "distinct", "best", "majority", "law"),
        *("numbers", "every-number", "losses", "exact"),
    ]
    for table in made.values():
        first = read_first(grid, table).first
        for one in (table, first) if first else (table,):
            assert {len(row) for row in one.rows} == {len(one.header)}
