"""The page of a study: its summary in, one HTML file and PNG figures out.

Only what draws imports matplotlib, so that a table or a headline costs little.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

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
    """A sentence around `text`, which leads to `href`; without one it is shown as it is."""

    before: str
    text: str
    href: str = ""
    after: str = " "


def write(summary: Summary, folder: Path, links: Sequence[Link] = ()) -> Path:
    """Write `report.html`, one page that needs no network, and `figures/*.png`.

    `links` say where more is to be seen, before the sections. Each file is written aside and
    renamed. Returns the path of the page.
    """
    from forkdiv.report.figures import figures

    write_figures(figures(summary), folder)
    path = folder / "report.html"
    write_text(path, _page(summary, links))
    return path


def write_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Each as `figures/NAME.png` in the folder."""
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


def rendered(template: str, **values: Any) -> str:
    """A template of this package, filled; a value that it lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["text_columns"] = tables.TEXT_COLUMNS
    environment.filters["data_uri"] = data_uri
    return environment.get_template(template).render(**values)


def _page(summary: Summary, links: Sequence[Link]) -> str:
    from forkdiv.report.figures import drawn
    from forkdiv.report.panels import only_near
    from forkdiv.report.sections import of_sections
    from forkdiv.report.shrinkage import left_out as shrinkage_left_out

    grid = Grid.of(summary)
    lines = headline(summary).splitlines()
    warned = lines.pop(0) if warning(summary) else ""
    return rendered(
        "report.html.j2",
        summary=summary,
        warning=warned,
        question=QUESTION,
        answer=answer(grid),
        headline=lines,
        glance=Glance.of(grid),
        links=list(links),
        grid=grid,
        seeds=seeds.about(grid),
        pictures=drawn(summary, grid),
        tables=of_sections(summary, grid),
        decoders=decoders_of(summary),
        shrinkage_without=shrinkage_left_out(grid),
        near_only=only_near(grid),
        law_checked=law.worst(grid),
        law_without=law.without(grid),
        problems=problems.models(grid),
        problems_without=problems.left_out(grid),
        settings=flat(summary.settings),
        has_wilson=any(tables.WILSON in text for row in tables.numbers(grid).rows for text in row),
        has_exact=any(cell.exact_pass_at for cell in grid.cells),
    )


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as pairs of a dotted name and a text."""
    out: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            out += flat(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", str(value)))
    return out
