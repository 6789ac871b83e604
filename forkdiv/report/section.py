"""A section of the report: its title, and the parts it consists of.

A section is a `Section` in a module of its own and a line in `sections.py`. From these two, the
page has its heading and its entry in the navigation, the PNG files of its plots and the CSV files
of its tables. This module imports no matplotlib, so that a section without plots does not either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from markupsafe import Markup

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid
from forkdiv.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from forkdiv.report.plot import Handle, Rows
    from forkdiv.report.svg import Legend as Entries
    from forkdiv.report.svg import Panels


@dataclass(frozen=True)
class Paragraph:
    """Sentences. A text that is not `Markup` is escaped; a note is printed smaller."""

    kind: ClassVar[str] = "paragraph"

    text: str
    is_note: bool = False


@dataclass(frozen=True)
class Legend:
    """Names of lines or areas, each beside a picture of it; `dotted` names the dotted lines."""

    kind: ClassVar[str] = "legend"

    draw: Callable[[], Entries]
    dotted: str = ""


@dataclass(frozen=True)
class Plots:
    """Plots that belong together: on the page as SVG, and in `figures/NAME.png`.

    Nothing is drawn before `draw_panels` or `draw_figure` is called. `layout` is a class of the
    style sheet: "" (three plots in a row), "wide" (two) or "four".
    """

    kind: ClassVar[str] = "plots"

    name: str
    draw_panels: Callable[[], Panels]
    draw_figure: Callable[[], Figure]
    layout: str = ""

    @classmethod
    def of(
        cls, name: str, rows: Rows, handles: Sequence[Handle] = (), layout: str = ""
    ) -> list[Plots]:
        """Rows of plots, and the legend of the PNG file; an empty list where there is no plot."""
        from forkdiv.report.plot import pictures, sheet

        if not any(plots for _, plots in rows):
            return []
        return [cls(name, partial(pictures, name, rows), partial(sheet, rows, handles), layout)]


@dataclass(frozen=True)
class TableView:
    """A table under its caption, with a link to `STUDY-NAME.csv`.

    The page shows the rows to read first (`first_rows.read_first`) and folds away the table of
    all rows; where `is_folded`, it shows no row first. `label` is the line that unfolds the table
    (by default "Table of all N rows"); `is_open` unfolds it from the start. `is_printed` prints
    the whole table with the page.
    """

    kind: ClassVar[str] = "table"

    table: Table
    caption: str
    name: str
    label: str = ""
    is_folded: bool = False
    is_open: bool = False
    is_printed: bool = False


@dataclass(frozen=True)
class Download:
    """A link to `STUDY-NAME.csv` for a table that the page does not show."""

    kind: ClassVar[str] = "download"

    table: Table
    name: str


@dataclass(frozen=True)
class Html:
    """Anything else, as HTML. `draw` is called when the page is rendered."""

    kind: ClassVar[str] = "html"

    draw: Callable[[], Markup]


Part = Paragraph | Legend | Plots | TableView | Download | Html
Content = Sequence[Part]


@dataclass(frozen=True)
class Section:
    """`content` returns the parts of the section in the order of the page, or None where the
    summary has no results for it. The id of its heading is the name it is registered under."""

    title: str
    content: Callable[[Summary, Grid], Content | None] = field(repr=False)


def note(*texts: str) -> Paragraph:
    """A paragraph in smaller print, of the texts that are not empty."""
    return Paragraph(sentences(*texts), is_note=True)


def paragraph(*texts: str) -> Paragraph:
    """A paragraph of the texts that are not empty."""
    return Paragraph(sentences(*texts))


def sentences(*texts: str) -> Markup:
    """The texts that are not empty, one after another. Those that are not `Markup` are escaped."""
    return Markup(" ").join(filter(None, texts))
