"""The report of a study: one HTML file and PNG figures from its summary.

matplotlib is imported only for drawing, so that tables and the headline are fast.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from forkdiv.core.config.axis_names import terms
from forkdiv.core.results import Summary
from forkdiv.core.store import write_text
from forkdiv.report import seeds
from forkdiv.report.answer import QUESTION, answer
from forkdiv.report.first_rows import read_first
from forkdiv.report.glance import Glance
from forkdiv.report.grid import Grid, decoders_of
from forkdiv.report.headline import headline, warning
from forkdiv.report.html import rendered
from forkdiv.report.sections import Shown, shown_sections

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Link:
    """A sentence with the link `text` to `href`; plain text without `href`."""

    before: str
    text: str
    href: str = ""
    after: str = " "


def write(summary: Summary, folder: Path, links: Sequence[Link] = ()) -> Path:
    """Writes `report.html`, a self-contained page, and `figures/*.png`, each atomically.

    `links` are shown before the sections. Returns the path of the page.
    """
    from forkdiv.report.figures import figures_of

    grid = Grid.of(summary)
    sections = shown_sections(summary, grid)
    write_figures(figures_of(sections), folder)
    path = folder / "report.html"
    write_text(path, _page(summary, grid, sections, links))
    return path


def write_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Writes each figure as `figures/NAME.png` in the folder."""
    from forkdiv.report.svg import STYLE

    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        aside = pictures / f".{name}.{uuid.uuid4().hex[:8]}"
        try:
            figure.savefig(aside, format="png", dpi=STYLE["savefig.dpi"])
            aside.rename(pictures / f"{name}.png")
        finally:
            aside.unlink(missing_ok=True)


def _page(summary: Summary, grid: Grid, sections: Sequence[Shown], links: Sequence[Link]) -> str:
    import matplotlib

    from forkdiv.report.svg import STYLE

    sentences = headline(summary).splitlines()
    warning_line = sentences.pop(0) if warning(summary) else ""
    sentences = [sentence for sentence in sentences if sentence != answer(grid)]
    with matplotlib.rc_context(STYLE):
        return rendered(
            "report.html.j2",
            summary=summary,
            warning=warning_line,
            question=QUESTION,
            answer=answer(grid),
            headline=sentences,
            glance=Glance.of(grid),
            links=list(links),
            grid=grid,
            seeds=seeds.seed_note(grid),
            decoders=decoders_of(summary),
            terms=terms(grid.axes),
            sections=sections,
            read_first=partial(read_first, grid),
        )
