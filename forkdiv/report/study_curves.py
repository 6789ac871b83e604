"""pass@k of several studies on shared axes, each at its temperature nearest 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from forkdiv.report import lines, plot
from forkdiv.report.grid import ALL, subset_title, thinned
from forkdiv.report.panels import BASE_LOOK, MARKERS, MOST_LINES, MOST_SUBSETS, Look
from forkdiv.report.plot import Plot, Rows
from forkdiv.report.setting import Setting
from forkdiv.report.studies import Study
from forkdiv.report.svg import STYLE, Legend, Panels


def figure(studies: Sequence[Study]) -> Figure:
    return plot.sheet(_rows(studies), lines.handles(list(_looks(studies).values())))


def pictures(studies: Sequence[Study]) -> Panels:
    with matplotlib.rc_context(STYLE):
        return plot.pictures("study", _rows(studies))


def legend(studies: Sequence[Study]) -> Legend:
    with matplotlib.rc_context(STYLE):
        return lines.legend("study-legend", list(_looks(studies).values()))


def _rows(studies: Sequence[Study]) -> Rows:
    """One row per subset, one plot per study that has it."""
    found = dict.fromkeys(subset for one in studies for subset in one.grid.subsets)
    subsets = sorted(found, key=lambda subset: subset != ALL)[:MOST_SUBSETS]
    ks, looks = sorted({k for one in studies for k in one.grid.ks}), _looks(studies)
    return [
        (
            subset_title(subset),
            [
                Plot(
                    f"{one.name}, temperature {one.temperature:g}",
                    _spoken(one, subset),
                    partial(_draw, one, subset, ks, looks),
                )
                for one in studies
                if one.temperature is not None and subset in one.grid.subsets
            ],
        )
        for subset in subsets
    ]


def _drawn(one: Study) -> list[Setting | None]:
    return [None, *thinned(one.grid.settings, MOST_LINES)]


def _looks(studies: Sequence[Study]) -> dict[str, Look]:
    """A name has one look in every study."""
    names = dict.fromkeys(
        setting.label for one in studies for setting in _drawn(one) if setting is not None
    )
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(names)))
    looks = {
        name: {"color": colour, "marker": MARKERS[at % len(MARKERS)], "label": name}
        for at, (name, colour) in enumerate(zip(names, colours, strict=True))
    }
    return {str(BASE_LOOK["label"]): BASE_LOOK, **looks}


def _draw(one: Study, subset: str, ks: Sequence[int], looks: dict[str, Look], axes: Axes) -> None:
    assert one.temperature is not None
    for setting in _drawn(one):
        place = (setting, one.temperature, subset)
        look = looks[setting.label if setting else "base"]
        lines.draw_line(axes, {k: one.grid.pass_at(*place, k) for k in ks}, look)
    lines.dress_k(axes, ks)
    axes.set(ylabel="pass@k", ylim=(-0.03, 1.03))


def _spoken(one: Study, subset: str) -> str:
    assert one.temperature is not None
    said = []
    for setting in _drawn(one):
        found = {k: one.grid.pass_at(setting, one.temperature, subset, k) for k in one.grid.ends}
        values = [f"{value.value:.2f} at k={k}" for k, value in found.items() if value]
        name = setting.label if setting else "base"
        said += [f"{name} {', '.join(values)}"] if values else []
    where = f"{one.name}, {subset_title(subset)}, temperature {one.temperature:g}"
    return f"pass@k against k of {where}. {'; '.join(said) or 'No valid result'}."
