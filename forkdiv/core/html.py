"""HTML pages from the jinja2 templates of a package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2


@cache
def environment(folder: Path) -> jinja2.Environment:
    """Returns the environment for the templates in `folder`, one for each folder.

    Values are HTML-escaped, and a missing variable raises jinja2.UndefinedError, so that a page
    never has silent gaps.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
