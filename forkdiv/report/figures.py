"""The figures of a study, as matplotlib figures."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.figure import Figure

from forkdiv.core.results import Summary
from forkdiv.report.curves import curve_figure
from forkdiv.report.grid import Grid
from forkdiv.report.section import Plots
from forkdiv.report.sections import Shown, shown_sections
from forkdiv.report.svg import STYLE

__all__ = ["STYLE", "curve_figure", "figures", "figures_of"]


def figures(summary: Summary) -> dict[str, Figure]:
    """The figures of all sections by name, in the order of the page."""
    return figures_of(shown_sections(summary, Grid.of(summary)))


def figures_of(sections: Iterable[Shown]) -> dict[str, Figure]:
    """The figures of these sections by name."""
    parts = (part for section in sections for part in section.parts)
    return {part.name: part.draw_figure() for part in parts if isinstance(part, Plots)}
