"""HTML from the templates of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from forkdiv.core.html import render
from forkdiv.report import tables
from forkdiv.report.csv_text import data_uri

TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, **values: Any) -> Markup:
    """A template filled with the values. Raises jinja2.UndefinedError if one is missing."""
    filled = {"text_columns": tables.TEXT_COLUMNS, **values}
    return render(TEMPLATES, template, filled, {"data_uri": data_uri})
