"""What a person sees: lines and tables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

WORDS = ("subset", "structure", "synthesis", "model", "name")  # columns that hold no numbers
# wide enough for a whole row where output goes to a file: cut numbers are worse than long lines
_console = Console(highlight=False, soft_wrap=True)


def quiet_libraries() -> None:
    """Leave warnings and errors of the libraries, so that progress can be read between them."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def say(message: str) -> None:
    _console.print(message, markup=False)


@contextmanager
def live_line(text: Callable[[], str]) -> Iterator[None]:
    """A line below all others that shows `text()`, twice a second, while the block runs; nothing
    where output does not go to a terminal."""
    if not _console.is_terminal:
        yield
        return

    def shown() -> Text:
        return Text(text(), style="bold", no_wrap=True, overflow="ellipsis")

    with Live(get_renderable=shown, console=_console, refresh_per_second=2, transient=True):
        yield


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for name in header:
        justify: Literal["left", "right"] = "left" if name in WORDS else "right"
        table.add_column(escape(name), justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))  # a name of the user's may look like markup
    wide = _console if _console.is_terminal else Console(width=200, highlight=False)
    wide.print(table)
