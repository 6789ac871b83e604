"""Lines of estimates with their bands, and axes of k."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from forkdiv.report.grid import Estimate
from forkdiv.report.panels import Look
from forkdiv.report.svg import Legend, hover, svg

K_LABEL = "k, samples per problem"
BAND_OPACITY, SIMULTANEOUS_BAND_OPACITY = 0.18, 0.07  # opacity of pointwise and simultaneous limits

Points = Mapping[float, Estimate | None] | Mapping[int, Estimate | None]


def without_missing(points: Points) -> dict[float, Estimate]:
    """Returns the points with a value, in ascending order."""
    return {x: point for x, point in sorted(points.items()) if point}


def draw_line(
    axes: Axes, points: Points, look: Look, simultaneous: Points | None = None, unit: str = "k"
) -> None:
    """Draws values with their limits as a band; `simultaneous` has the limits of a second, lighter
    band. `unit` is the name of the horizontal axis in hover texts."""
    if simultaneous:
        draw_band(axes, simultaneous, look["color"], SIMULTANEOUS_BAND_OPACITY)
    draw_band(axes, points, look["color"], BAND_OPACITY)
    points_with_value = without_missing(points)
    axes.plot(
        list(points_with_value), [point.value for point in points_with_value.values()], **look
    )
    for x, point in points_with_value.items():
        name = f"{look['label']}, " if look.get("label") else ""
        limits = f"{number(point.low)} to {number(point.high)}"
        hover(axes, x, point.value, f"{name}{unit} {x:g}: {number(point.value)} ({limits})")


def number(value: float) -> str:
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def draw_band(axes: Axes, points: Points, colour: Any, opacity: float) -> None:
    """Draws limits as a band, or as a bar for a single point."""
    points_with_value = without_missing(points)
    low, high = (
        [getattr(point, side) for point in points_with_value.values()] for side in ("low", "high")
    )
    if len(points_with_value) == 1:
        axes.vlines(list(points_with_value), low, high, color=colour, linewidth=1)
    axes.fill_between(list(points_with_value), low, high, color=colour, alpha=opacity, linewidth=0)


def set_k_axis(axes: Axes, ks: Sequence[int]) -> None:
    """Sets up a logarithmic axis of k."""
    axes.set(xlabel=K_LABEL)
    if not ks:
        axes.set(xticks=[])
        axes.text(0.5, 0.5, "no valid result", ha="center", transform=axes.transAxes)
        return
    axes.set_xscale("log", base=2)
    axes.set_xlim(ks[0] / 1.25, ks[-1] * 1.25)
    shown = list(ks) if len(ks) <= 6 else [*ks[: -1 : math.ceil(len(ks) / 5)], ks[-1]]
    axes.set_xticks(shown, [str(k) for k in shown])
    axes.minorticks_off()


def legend(name: str, looks: Sequence[Look]) -> Legend:
    """Returns name and picture of every line; `name` is a prefix that makes ids unique."""
    return [
        (look["label"], legend_picture(f"{name}-{at}", partial(_stroke, look)))
        for at, look in enumerate(looks)
    ]


def legend_picture(name: str, draw: Callable[[Axes], None]) -> Any:
    """Returns the picture of a legend entry."""
    key_figure = Figure(figsize=(0.5, 0.2))
    axes = key_figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    draw(axes)
    return svg(key_figure, name, "")


def _stroke(look: Look, axes: Axes) -> None:
    axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **look)


def handles(looks: Sequence[Look]) -> list[Line2D]:
    """Returns the handles for a matplotlib legend."""
    return [Line2D([], [], **look) for look in looks]
