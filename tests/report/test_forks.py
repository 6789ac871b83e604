"""What a model does at its forks, as the report shows it."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

from forkdiv.report import forks
from forkdiv.report.forks import Forks
from forkdiv.report.grid import Grid
from tests.simulated import a_study
from tests.summaries import a_cell, a_summary, read


def found(**varied: Any) -> Forks:
    made = Forks.of(Grid.of(a_study(epochs=(8,), **varied)))
    assert made
    return made


def test_a_study_without_forks_has_no_such_section() -> None:
    assert Forks.of(Grid.of(a_summary([a_cell(0.5)]))) is None


def test_signed_forks_stand_before_unsigned_ones_and_deeper_ones_below() -> None:
    summary = a_study(densities=(0.5,), temperatures=(1.0,), epochs=(8,))
    plain = summary.as_json()
    for cell in [*plain["base"], *plain["cells"]]:
        if cell["subset"] == "all":
            second = [{**one, "depth": 2} for one in cell["forks"]["depths"]]
            cell["forks"]["depths"] = [*second, *cell["forks"]["depths"]]
    made = Forks.of(Grid.of(read(plain)))
    assert made
    assert made.forks == [(1, True), (1, False), (2, True), (2, False)]
    assert [title for title, _ in forks.plots(made)] == [
        *("signed forks, fork 1", "unsigned forks, fork 1"),
        *("signed forks, fork 2", "unsigned forks, fork 2"),
    ]


def test_the_base_stands_first_and_is_compared_with_chance() -> None:
    made = found(densities=(0.0, 1.0), temperatures=(1.0,))
    axes = Figure().subplots()
    forks.plots(made)[1][1][0].draw(axes)
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *("base", "fork density 0", "fork density 1")
    ]
    assert "chance" in [text.get_text().strip() for text in axes.texts]
    (chance,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(chance.get_xdata()) == pytest.approx([1 / 3, 1 / 3])  # type: ignore[arg-type]


def test_what_went_where_adds_up_to_all_problems() -> None:
    made = found()
    (title, plots), *none = forks.loss_plots(made)
    assert (title, none) == ("Where coverage went, at k=64", [])
    for plot in plots:
        axes = Figure().subplots()
        plot.draw(axes)
        ends: dict[float, float] = {}
        for bar in axes.patches:
            x, y = bar.get_xy()  # type: ignore[attr-defined]
            ends[y] = max(ends.get(y, 0), x + bar.get_width())  # type: ignore[attr-defined]
        assert list(ends.values()) == pytest.approx([1.0] * 4)
        assert len(axes.patches) == 12


def test_parts_are_told_apart_without_colour() -> None:
    looks = [(style["hatch"], style["facecolor"]) for _, style in forks.PARTS]
    assert len({hatch for hatch, _ in looks}) >= 2 and len({face for _, face in looks}) == 3


def test_the_table_holds_every_fork_of_every_cell_that_knows_some() -> None:
    made = forks.table(found(densities=(0.0,), temperatures=(1.0,)))
    assert len(made.rows) == 2 * 4  # base and tuned: two forks of all problems, one of each half
    assert {len(row) for row in made.rows} == {len(made.header)}
    row = next(row for row in made.rows if row[0] == "0" and "unsigned" in row)
    assert "0.333 (0.303 to 0.363)" in row and "1.099" in row


def test_many_models_are_thinned_and_the_base_stays() -> None:
    made = found(densities=[i / 19 for i in range(20)], temperatures=(1.0,))
    assert len(made.drawn_models) == forks.MAX_MODELS and made.drawn_models[0] is None
    assert (
        made.drawn_models[1] == made.grid.settings[0]
        and made.drawn_models[-1] == made.grid.settings[-1]
    )
