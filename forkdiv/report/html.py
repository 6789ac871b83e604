"""HTML from the templates of this package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from forkdiv.report import tables
from forkdiv.report.csv_text import data_uri


def rendered(template: str, **values: Any) -> Markup:
    """A template filled with the values. Raises jinja2.UndefinedError where one is missing."""
    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["text_columns"] = tables.TEXT_COLUMNS
    environment.filters["data_uri"] = data_uri
    return environment
