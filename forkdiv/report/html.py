"""HTML from the templates of this package."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from forkdiv.core.config.axis_names import meaning, sentence_title, text_titles
from forkdiv.core.html import environment
from forkdiv.report import tables
from forkdiv.report.csv_text import data_uri


def rendered(template: str, **values: Any) -> Markup:
    """Renders a template with the values. Raises jinja2.UndefinedError for a missing value."""
    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> jinja2.Environment:
    templates = environment(Path(__file__).parent / "templates")
    templates.globals["text_columns"] = tables.TEXT_COLUMNS | text_titles()
    templates.globals["axis_title"] = sentence_title
    templates.globals["axis_meaning"] = meaning
    templates.filters["data_uri"] = data_uri
    return templates
