"""The page of a study: its summary in, one HTML file and PNG figures out.

Only what draws imports matplotlib, so that a table or a headline costs little.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from forkdiv.artifacts import write_text
from forkdiv.report import tables
from forkdiv.report.grid import Grid
from forkdiv.report.headline import headline, warning


def write(summary: dict[str, Any], folder: Path) -> Path:
    """Write `report.html`, one page that needs no network, and `figures/*.png`.

    Each file is written aside and renamed. Returns the path of the page.
    """
    from forkdiv.report.figures import STYLE, figures

    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(summary).items():
        aside = pictures / f".{name}.{uuid.uuid4().hex[:8]}"
        try:
            figure.savefig(aside, format="png", dpi=STYLE["savefig.dpi"])
            aside.rename(pictures / f"{name}.png")
        finally:
            aside.unlink(missing_ok=True)
    path = folder / "report.html"
    write_text(path, _page(summary))
    return path


def _page(summary: dict[str, Any]) -> str:
    from forkdiv.report.figures import pictures

    grid = Grid.of(summary)
    lines = headline(summary).splitlines()
    warned = lines.pop(0) if warning(summary) else ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        summary=summary,
        warning=warned,
        headline=lines,
        grid=grid,
        pictures=pictures(grid),
        numbers=tables.numbers(grid),
        losses=tables.losses(grid),
        exact=tables.agreements(grid),
        modes=tables.modes(grid),
        text_columns=tables.TEXT_COLUMNS,
        settings=_flat(summary["settings"]),
        has_exact=any(cell["exact_pass_at"] for cell in grid.cells),
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            out += _flat(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", str(value)))
    return out
