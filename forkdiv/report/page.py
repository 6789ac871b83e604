"""The report of a study: one HTML file and PNG figures from its summary.

matplotlib is imported only for drawing, so that tables and the headline are fast.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forkdiv.core.html import render
from forkdiv.core.results import Summary
from forkdiv.core.store import write_text
from forkdiv.report import law, problems, seeds, tables
from forkdiv.report.answer import QUESTION, answer
from forkdiv.report.csv_text import data_uri
from forkdiv.report.glance import Glance
from forkdiv.report.grid import Grid, decoders_of
from forkdiv.report.headline import headline, warning

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
    from forkdiv.report.figures import figures

    write_figures(figures(summary), folder)
    path = folder / "report.html"
    write_text(path, _page(summary, links))
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


def render_template(template: str, **values: Any) -> str:
    """Renders a template of this package; a missing value is an error."""
    return render(
        Path(__file__).parent / "templates",
        template,
        values,
        filters={"data_uri": data_uri},
        names={"text_columns": tables.TEXT_COLUMNS},
    )


def _page(summary: Summary, links: Sequence[Link]) -> str:
    from forkdiv.report.figures import page_pictures
    from forkdiv.report.panels import drawn_temperature
    from forkdiv.report.sections import section_tables
    from forkdiv.report.shrinkage import omitted_sentence as shrinkage_omitted

    grid = Grid.of(summary)
    sentences = headline(summary).splitlines()
    warning_line = sentences.pop(0) if warning(summary) else ""
    return render_template(
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
        pictures=page_pictures(summary, grid),
        tables=section_tables(summary, grid),
        decoders=decoders_of(summary),
        shrinkage_without=shrinkage_omitted(grid),
        near_only=drawn_temperature(grid),
        law_checked=law.check_sentence(grid),
        law_without=law.missing_sentence(grid),
        problems=problems.models(grid),
        problems_without=problems.omitted_sentence(grid),
        settings=flatten(summary.settings),
        has_wilson=any(tables.WILSON in text for row in tables.numbers(grid).rows for text in row),
        has_exact=any(cell.exact_pass_at for cell in grid.cells),
    )


def flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns nested settings as pairs of a dotted name and a text."""
    out: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            out += flatten(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", str(value)))
    return out
