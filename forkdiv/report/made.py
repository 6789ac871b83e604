"""Section "How it was made": settings, seeds, seconds, versions and commit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from markupsafe import Markup

from forkdiv.core.results import Summary
from forkdiv.report.grid import Grid
from forkdiv.report.html import rendered
from forkdiv.report.section import Content, Html, Section


def content(summary: Summary, grid: Grid) -> Content:
    return [Html(partial(_html, summary, grid))]


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as pairs of a dotted name and a text."""
    out: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            out += flat(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", str(value)))
    return out


def _html(summary: Summary, grid: Grid) -> Markup:
    return rendered("made.html.j2", summary=summary, grid=grid, settings=flat(summary.settings))


SECTION = Section("How it was made", content)
