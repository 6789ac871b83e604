"""The style of the figures, and their conversion to SVG for a page."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# a row of pictures under its title, each with its caption
Panels = list[tuple[str, list[tuple[str, Markup]]]]
Legend = list[tuple[str, Markup]]

STYLE: Any = {  # Any: releases of matplotlib disagree on the type of its keys
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "savefig.dpi": 160,
}


def svg(figure: Figure, prefix: str, label: str) -> Markup:
    """Returns the figure as SVG for a page: with unique ids (`prefix`), scaled by its viewBox.

    `label` is the text alternative for screen readers; with an empty label, they skip the picture.
    """
    buffer = io.StringIO()
    no_metadata = {"Creator": None, "Date": None, "Format": None, "Type": None}
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": prefix}
    with matplotlib.rc_context(style):
        figure.savefig(buffer, format="svg", metadata=no_metadata, transparent=True)
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box, "matplotlib wrote an SVG without a viewBox"
    body = text[text.index(">", box.end()) + 1 :]
    body = re.sub(
        r"<style.*?</style>", "", body, flags=re.DOTALL
    )  # it would apply to the whole page
    body = re.sub(r'<g id="hover\|(\d+)\|([^"]*)">', r'<g id="hover-\1"><title>\2</title>', body)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", body)
    accessibility = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    # a wide figure scrolls instead of shrinking, so that its text remains readable
    min_width = f"min-width: {float(box.group(1).split()[2]):.0f}px"
    return Markup(
        f'<svg viewBox="{box.group(1)}" style="{min_width}" {accessibility}>{body.strip()}'
    )


def hover(axes: Axes, x: float, y: float, text: str) -> None:
    """Shows `text` when the pointer is on this point: an invisible mark, to which `svg` adds a
    title. Works in SVG only."""
    (mark,) = axes.plot([x], [y], "o", markersize=13, alpha=0, label="_hover", zorder=9)
    number = sum(1 for line in axes.lines if str(line.get_gid() or "").startswith("hover|"))
    mark.set_gid(f"hover|{number}|{text}")


def merged(panels: Panels) -> Panels:
    """Merges rows of one picture each into one row."""
    if len(panels) < 2 or any(len(row) != 1 for _, row in panels):
        return panels
    return [(panels[0][1][0][0], [(title, row[0][1]) for title, row in panels])]
