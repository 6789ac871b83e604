"""A line of estimates with its bands, and the axes it stands on."""

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
BAND, WIDE_BAND = 0.18, 0.07  # opacity of limits at one point, and at all points at once

Points = Mapping[float, Estimate | None] | Mapping[int, Estimate | None]


def known(points: Points) -> dict[float, Estimate]:
    """The points that have a value, from the left."""
    return {x: point for x, point in sorted(points.items()) if point}


def draw_line(
    axes: Axes, points: Points, look: Look, at_once: Points | None = None, unit: str = "k"
) -> None:
    """Values with their limits as a band; `at_once` holds those of a second, lighter one. `unit`
    is what the horizontal axis counts, for the text that is shown where the pointer rests."""
    if at_once:
        draw_band(axes, at_once, look["color"], WIDE_BAND)
    draw_band(axes, points, look["color"], BAND)
    found = known(points)
    axes.plot(list(found), [point.value for point in found.values()], **look)
    for x, point in found.items():
        name = f"{look['label']}, " if look.get("label") else ""
        limits = f"{number(point.low)} to {number(point.high)}"
        hover(axes, x, point.value, f"{name}{unit} {x:g}: {number(point.value)} ({limits})")


def number(value: float) -> str:
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def draw_band(axes: Axes, points: Points, colour: Any, opacity: float) -> None:
    """Limits as a band, of a single point as a bar."""
    found = known(points)
    low, high = ([getattr(point, side) for point in found.values()] for side in ("low", "high"))
    if len(found) == 1:
        axes.vlines(list(found), low, high, color=colour, linewidth=1)
    axes.fill_between(list(found), low, high, color=colour, alpha=opacity, linewidth=0)


def dress_k(axes: Axes, ks: Sequence[int]) -> None:
    """An axis of k, on a scale of doublings."""
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
    """Name and picture of every line; `name` keeps their ids apart from those of others."""
    return [
        (look["label"], drawn_key(f"{name}-{at}", partial(_stroke, look)))
        for at, look in enumerate(looks)
    ]


def drawn_key(name: str, draw: Callable[[Axes], None]) -> Any:
    """A picture of what stands in a legend before a name."""
    made = Figure(figsize=(0.5, 0.2))
    axes = made.add_axes((0, 0, 1, 1))
    axes.axis("off")
    draw(axes)
    return svg(made, name, "")


def _stroke(look: Look, axes: Axes) -> None:
    axes.plot([0, 1, 2], [0, 0, 0], markevery=[1], **look)


def handles(looks: Sequence[Look]) -> list[Line2D]:
    """The same for a legend of matplotlib's."""
    return [Line2D([], [], **look) for look in looks]
