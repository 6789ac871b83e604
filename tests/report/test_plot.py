"""Plots stand alone or in a sheet, and nothing of them is cut off."""

from __future__ import annotations

import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from forkdiv.report.plot import MAX_COLUMNS, Plot, pictures, room_for, sheet


def a_plot(caption: str = "c", **how: float) -> Plot:
    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1])
        axes.set(xlabel="x", ylabel="y")

    return Plot(caption, f"alt_text {caption}", draw, **how)  # type: ignore[arg-type]


def test_a_picture_is_spoken_and_has_ids_of_its_own() -> None:
    ((title, row),) = pictures("name", [("title", [a_plot("one"), a_plot("two")])])
    assert (title, [caption for caption, _ in row]) == ("title", ["one", "two"])
    assert 'aria-label="alt_text one"' in row[0][1]
    assert 'id="name-0-0-' in row[0][1] and 'id="name-0-1-' in row[1][1]


@pytest.mark.parametrize("count", [1, MAX_COLUMNS, MAX_COLUMNS + 1, 3 * MAX_COLUMNS])
def test_a_sheet_holds_every_plot_and_no_two_overlap(count: int) -> None:
    handles = [Line2D([], [], label=f"a long name {i}") for i in range(9)]
    made = sheet([("row", [a_plot(str(i)) for i in range(count)]), ("other", [a_plot()])], handles)
    made.canvas.draw()
    boxes = [axes.get_tightbbox() for axes in made.axes]
    assert len(boxes) == count + 1
    for at, one in enumerate(boxes):
        assert one and one.x0 >= 0 and one.x1 <= made.bbox.x1 and one.y1 <= made.bbox.y1
        (legend,) = made.legends
        for other in [*boxes[at + 1 :], legend.get_window_extent()]:
            assert other and not one.overlaps(other)


def test_a_title_may_be_anything() -> None:
    sheet([("$\\frac$" * 40, [a_plot("_x\n$")])]).canvas.draw()


def test_the_longest_name_has_room_beside_its_axis() -> None:
    name = "fork density 0.125, direction 1"

    def draw(axes: Axes) -> None:
        axes.set_yticks([0], [name])

    made = sheet([("", [Plot("", "", draw, left=room_for([name]))])])
    made.canvas.draw()
    box = made.axes[0].get_tightbbox()
    assert box and box.x0 >= 0
