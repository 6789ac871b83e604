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
from forkdiv.report.panels import BASE_LOOK, MARKERS, MAX_LINES, MAX_SUBSETS, Look
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
    """Returns one row for each subset, and one plot for each study that has it."""
    subset_names = dict.fromkeys(subset for study in studies for subset in study.grid.subsets)
    subsets = sorted(subset_names, key=lambda subset: subset != ALL)[:MAX_SUBSETS]
    ks, looks = sorted({k for study in studies for k in study.grid.ks}), _looks(studies)
    return [
        (
            subset_title(subset),
            [
                Plot(
                    f"{study.name}, temperature {study.temperature:g}",
                    _alt_text(study, subset),
                    partial(_draw, study, subset, ks, looks),
                )
                for study in studies
                if study.temperature is not None and subset in study.grid.subsets
            ],
        )
        for subset in subsets
    ]


def _drawn_settings(study: Study) -> list[Setting | None]:
    return [None, *thinned(study.grid.settings, MAX_LINES)]


def _looks(studies: Sequence[Study]) -> dict[str, Look]:
    """Returns the looks by name; a name has the same look in every study."""
    names = dict.fromkeys(
        setting.label
        for study in studies
        for setting in _drawn_settings(study)
        if setting is not None
    )
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(names)))
    looks = {
        name: {"color": colour, "marker": MARKERS[at % len(MARKERS)], "label": name}
        for at, (name, colour) in enumerate(zip(names, colours, strict=True))
    }
    return {str(BASE_LOOK["label"]): BASE_LOOK, **looks}


def _draw(study: Study, subset: str, ks: Sequence[int], looks: dict[str, Look], axes: Axes) -> None:
    assert study.temperature is not None
    for setting in _drawn_settings(study):
        place = (setting, study.temperature, subset)
        look = looks[setting.label if setting else "base"]
        lines.draw_line(axes, {k: study.grid.pass_at(*place, k) for k in ks}, look)
    lines.set_k_axis(axes, ks)
    axes.set(ylabel="pass@k", ylim=(-0.03, 1.03))


def _alt_text(study: Study, subset: str) -> str:
    assert study.temperature is not None
    parts = []
    for setting in _drawn_settings(study):
        values_by_k = {
            k: study.grid.pass_at(setting, study.temperature, subset, k) for k in study.grid.ends
        }
        values = [f"{value.value:.2f} at k={k}" for k, value in values_by_k.items() if value]
        name = setting.label if setting else "base"
        parts += [f"{name} {', '.join(values)}"] if values else []
    place = f"{study.name}, {subset_title(subset)}, temperature {study.temperature:g}"
    return f"pass@k against k of {place}. {'; '.join(parts) or 'No valid result'}."
